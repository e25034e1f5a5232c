// What a stranger can have said as often as he likes is said once a minute, for all that he does.
import type { Clock } from '../clock.ts';

const QUIET_MS = 60_000;

/** True when it may be said now, which then was the last time for a minute. */
export function createSeldom({ nowMs }: Pick<Clock, 'nowMs'>): () => boolean {
  let quietUntilMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (nowMs() < quietUntilMs) return false;
    quietUntilMs = nowMs() + QUIET_MS;
    return true;
  };
}
