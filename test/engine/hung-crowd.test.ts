// A crowd leaves, and some of the calls get no answer while all others do: those must not keep who stays from being restarted.
import { expect, test } from 'vitest';
import { createSeededRandom } from '../support/virtual-clock.ts';
import { type Crowd, leavingCrowd } from './leaving-crowd.ts';
import { SEEDS } from './world.ts';

/** `hang`: this part of the calls gets no answer, once they have left; nothing is done for them. */
function crowd(given: Crowd, hang: number) {
  const random = createSeededRandom(7 + given.seed);
  return leavingCrowd(given, {
    everyMs: 2,
    rooms: 30,
    settleMs: 10_000,
    instead: (_, hasLeft) => (hasLeft && random.roll() < hang ? null : undefined),
  });
}

test.each([
  { stay: 40, leave: 3_000, delayMs: 10_000, hang: 0.01, lost: 0, most: 15_000 },
  { stay: 200, leave: 3_000, delayMs: 10_000, hang: 0.05, lost: 0, most: 15_000 },
  // All tries in a row hang for some of them.
  { stay: 100, leave: 3_000, delayMs: 10_000, hang: 0.2, lost: 3, most: 90_000 },
  { stay: 40, leave: 3_000, delayMs: 30_000, hang: 0.1, lost: 0, most: 60_000 },
])('$leave leave, $stay stay with delays of $delayMs ms, $hang of the calls hang', async ({ hang, lost, most, ...given }) => {
  for (const seed of SEEDS) {
    const { ranOut, lastLeaveMs } = await crowd({ ...given, seed }, hang);
    expect(ranOut, `seed ${seed}`).toBeLessThanOrEqual(lost);
    expect(lastLeaveMs, `seed ${seed}`).toBeLessThan(most);
  }
});
