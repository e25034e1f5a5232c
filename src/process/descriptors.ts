// What is open has descriptors, of which a process may have only so many: connections that strangers make must leave some for our own, those
// to homeservers for those to the SFU, and all of them for files. Calls for which there is no connection wait for one; a call for which
// there is no descriptor fails, and too many of those look like an outage.
import { readFileSync } from 'node:fs';

/** How many connections each may have. */
export interface Connections {
  /** Of all who call us. */
  readonly incoming: number;
  readonly sfu: number;
  /** For delayed events, to all homeservers together. */
  readonly delayedEvents: number;
  /** For all else that homeservers are asked, at the word of strangers, too. */
  readonly lookUps: number;
}

/** Where the system does not tell: what POSIX systems have unless told otherwise. */
const USUAL = 1_024;
/** Some 28 files, pipes and the like of Node's and the store's; looks at addresses, connections to Redis, and what is read for a moment. */
const OWN = 40;
/** Behind a reverse proxy there are never as many; each takes some 20 KB. */
const MOST_INCOMING = 4_096;
/** As many as questions are put to the SFU at once, and put again (engine/presence.ts), and as many for the rooms of tokens. */
const MOST_SFU = 576;

/** `limits`: what the system tells of a process, in Linux' form. */
export function shareConnections(limits: () => string = () => readFileSync('/proc/self/limits', 'utf8')): Connections {
  const free = descriptorsIn(limits) - OWN;
  const part = (of: number, most: number): number => Math.max(1, Math.min(Math.floor(free / of), most));
  return {
    incoming: part(2, MOST_INCOMING),
    sfu: part(6, MOST_SFU),
    delayedEvents: part(6, Number.POSITIVE_INFINITY),
    lookUps: part(6, Number.POSITIVE_INFINITY),
  };
}

function descriptorsIn(limits: () => string): number {
  try {
    const [, soft = ''] = /^Max open files +(\d+|unlimited)/m.exec(limits()) ?? [];
    return soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft) || USUAL;
  } catch {
    return USUAL;
  }
}
