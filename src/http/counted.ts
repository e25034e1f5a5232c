// What becomes of hand-overs, counted: alike for every API by which a leave may be handed over.
import type { HandedOver } from '../engine/hand-over.ts';
import type { Metrics } from '../metrics.ts';
import { MatrixError } from './errors.ts';

/** A hand-over that was taken, and every older delegation that it superseded. */
export function countHandedOver(metrics: Pick<Metrics, 'delegation'>, done: HandedOver): void {
  metrics.delegation(done.kind);
  if (done.kind === 'created') for (let left = done.superseded; left > 0; left -= 1) metrics.delegation('superseded');
}

/** Runs what takes a hand-over, and counts it if the request is refused. Rejects as `work` does. */
export async function countingRefusals<T>(metrics: Pick<Metrics, 'delegation'>, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MatrixError) metrics.delegation('rejected');
    throw error;
  }
}
