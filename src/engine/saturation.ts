// Whether this process is out of processor time. One that is gains nothing by taking up more work at once: what is under way only waits
// longer, in memory that the garbage collector has to go through again and again, and every answer is handled later.
import type { Clock } from '../clock.ts';

/** Each answer holds for so long: over a shorter time the share of idle time says little. */
const MEASURED_MS = 100;
/** With less than this part of the time idle, the process is saturated. */
const LEAST_IDLE_PART = 0.1;

/** Answers whether the event loop had hardly any idle time in the newest measured period (at least 100 ms); false until there is one. */
export function watchSaturation(clock: Pick<Clock, 'nowMs' | 'idleMs'>): () => boolean {
  let since = { nowMs: clock.nowMs(), idleMs: clock.idleMs() };
  let isSaturated = false;

  return () => {
    const tookMs = clock.nowMs() - since.nowMs;
    if (tookMs < MEASURED_MS) return isSaturated;
    isSaturated = clock.idleMs() - since.idleMs < tookMs * LEAST_IDLE_PART;
    since = { nowMs: clock.nowMs(), idleMs: clock.idleMs() };
    return isSaturated;
  };
}
