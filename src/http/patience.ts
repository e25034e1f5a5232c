// A hand-over while the store is away. Web clients take a 5xx for the last word, and go on with a leave that is an hour away and that nobody
// keeps: so a store that fails over, or starts again, is waited for before that is said.
import type { Clock } from '../clock.ts';
import { StoreUnavailable } from '../store/store.ts';

export const PATIENCE_MS = 5_000;
const AGAIN_MS = 250;

/** The work is done again, so it must mean the same the second time. @throws what the work throws; StoreUnavailable once patience is over. */
export async function patiently<T>(clock: Pick<Clock, 'nowMs' | 'after'>, work: () => Promise<T>): Promise<T> {
  const untilMs = clock.nowMs() + PATIENCE_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof StoreUnavailable) || clock.nowMs() + AGAIN_MS > untilMs) throw error;
      await new Promise<void>((resolve) => void clock.after(AGAIN_MS, resolve));
    }
  }
}
