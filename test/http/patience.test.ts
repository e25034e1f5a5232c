import { expect, test } from 'vitest';
import { PATIENCE_MS, patiently } from '../../src/http/patience.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import { createVirtualClock, START_MS } from '../support/virtual-clock.ts';

/** The work of a store that is away for so long, and when that ended. */
async function play(awayMs: number, error: Error = new StoreUnavailable(new Error('told to be'))) {
  const clock = createVirtualClock();
  const done = patiently(clock, async () => {
    if (clock.nowMs() - START_MS < awayMs) throw error;
    return 'done';
  }).then(
    (value) => [value, clock.nowMs() - START_MS],
    (why) => [why, clock.nowMs() - START_MS],
  );
  await clock.advance(2 * PATIENCE_MS);
  return done;
}

test('a store that is back within patience has taken it a moment later', async () => {
  expect(await play(0)).toEqual(['done', 0]);
  expect(await play(2_100)).toEqual(['done', 2_250]);
});

test('one that is away for longer is told, and nothing else is waited for', async () => {
  expect(await play(PATIENCE_MS + 1)).toEqual([expect.any(StoreUnavailable), PATIENCE_MS]);
  const other = new Error('another one');
  expect(await play(PATIENCE_MS + 1, other)).toEqual([other, 0]);
});
