// Connections that strangers make must leave descriptors for everything else that is opened: files, and our own connections.
import { readFileSync } from 'node:fs';

/** Where the system does not tell: what POSIX systems have unless told otherwise. */
const USUAL = 1_024;
/** Behind a reverse proxy there are never as many; each takes some 20 KB. */
const MOST_CONNECTIONS = 4_096;

/** `limits`: what the system tells of a process, in Linux' form. */
export function mostConnections(limits: () => string = () => readFileSync('/proc/self/limits', 'utf8')): number {
  return Math.min(Math.floor(descriptorsIn(limits) / 2), MOST_CONNECTIONS);
}

function descriptorsIn(limits: () => string): number {
  try {
    const [, soft = ''] = /^Max open files +(\d+|unlimited)/m.exec(limits()) ?? [];
    return soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft) || USUAL;
  } catch {
    return USUAL;
  }
}
