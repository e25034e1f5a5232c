// Keeps the log readable where somebody else decides how often a line would be written: a stranger who repeats a bad request, or a server
// that refuses each call.
import type { Clock } from './clock.ts';

const QUIET_MS = 60_000;

/** A gate for one kind of line: true at most once a minute, and whoever gets true is to write the line. */
export function onceAMinute({ nowMs }: Pick<Clock, 'nowMs'>): () => boolean {
  let quietUntilMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (nowMs() < quietUntilMs) return false;
    quietUntilMs = nowMs() + QUIET_MS;
    return true;
  };
}
