// Divides up the file descriptors that this process may have open. Connections that strangers make to us must leave some for our own calls,
// calls to homeservers some for the SFU, and all of them some for files. A call for which there is no connection waits for one; a call for
// which there is no descriptor fails, and many of those would look like an outage.
import { readFileSync } from 'node:fs';

/** How many connections may be open at once. */
export interface Connections {
  /** To our own server, from everybody. */
  readonly incoming: number;
  readonly sfu: number;
  /** For delayed events, to all homeservers together. */
  readonly delayedEvents: number;
  /** For everything else that homeservers are asked (.well-known, OpenID). */
  readonly lookUps: number;
  /** The same of those that the operator did not name: anyone may name them, and have them answer slowly. */
  readonly strangersLookUps: number;
}

/** Where the system does not tell its limit: the usual one. */
const USUAL = 1_024;
/** Some 28 files and pipes of Node and the store; the rest for DNS, connections to Redis, and files that are read for a moment. */
const OWN = 40;
/** Behind a reverse proxy there are never as many; each takes some 20 KB. */
const MOST_INCOMING = 4_096;
/** As many questions as engine/presence.ts puts to the SFU at once (256, and 32 again), and as many calls that make rooms for tokens. */
const MOST_SFU = 576;
/** Each takes a millisecond or two of ours to be made; a stranger can have all of them made at once. */
const MOST_STRANGERS_LOOK_UPS = 512;

/** `limits` answers in the form of Linux' /proc/self/limits; it may throw. */
export function shareConnections(limits: () => string = () => readFileSync('/proc/self/limits', 'utf8')): Connections {
  const free = descriptorsIn(limits) - OWN;
  const part = (of: number, most: number): number => Math.max(1, Math.min(Math.floor(free / of), most));
  return {
    incoming: part(2, MOST_INCOMING),
    sfu: part(6, MOST_SFU),
    delayedEvents: part(6, Number.POSITIVE_INFINITY),
    lookUps: part(12, Number.POSITIVE_INFINITY),
    strangersLookUps: part(12, MOST_STRANGERS_LOOK_UPS),
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
