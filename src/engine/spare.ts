// Whether this process has time to spare. One that has none gains nothing by taking up more at once: what is under way only waits for it, in
// memory that has to be gone through again and again, and each answer is seen to later.
import type { Clock } from '../clock.ts';

const MEASURED_MS = 100;
const LEAST_PART = 0.1;

/** Whether it had none of late. */
export function createSpare(clock: Pick<Clock, 'nowMs' | 'idleMs'>): () => boolean {
  let since = { nowMs: clock.nowMs(), idleMs: clock.idleMs() };
  let swamped = false;

  return () => {
    const tookMs = clock.nowMs() - since.nowMs;
    if (tookMs < MEASURED_MS) return swamped;
    swamped = clock.idleMs() - since.idleMs < tookMs * LEAST_PART;
    since = { nowMs: clock.nowMs(), idleMs: clock.idleMs() };
    return swamped;
  };
}
