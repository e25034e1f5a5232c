// A crowd leaves a homeserver that lets few calls through, and others with short delays stay: their restarts do not wait for all the leaves.
import { expect, test } from 'vitest';
import { type Crowd, leavingCrowd } from './leaving-crowd.ts';
import { SEEDS } from './world.ts';

/** Synapse's default. */
const LIMIT = { perMs: 0.001, burst: 5 };

/** `hint`: whether a refusal says when the next call is let through. */
function crowd(given: Crowd, hint: boolean, onRefused = () => {}) {
  let bucket = { calls: LIMIT.burst, atMs: Number.POSITIVE_INFINITY };
  return leavingCrowd(given, {
    everyMs: 2_000,
    rooms: 3,
    settleMs: 40_000,
    instead: (nowMs) => {
      const calls = Math.min(LIMIT.burst, bucket.calls + Math.max(nowMs - bucket.atMs, 0) * LIMIT.perMs);
      bucket = { calls: calls < 1 ? calls : calls - 1, atMs: nowMs };
      if (calls < 1) onRefused();
      return calls < 1 ? { kind: 'limited', retryAfterMs: hint ? Math.ceil((1 - calls) / LIMIT.perMs) : null } : undefined;
    },
  });
}

test.each([
  { stay: 4, leave: 15, delayMs: 10_000, hint: true },
  { stay: 5, leave: 30, delayMs: 10_000, hint: true },
  { stay: 5, leave: 30, delayMs: 30_000, hint: true },
  { stay: 5, leave: 30, delayMs: 30_000, hint: false },
])('$leave leave, $stay stay with delays of $delayMs ms (a hint: $hint): nobody runs out', async ({ hint, ...given }) => {
  for (const seed of SEEDS) {
    const { ranOut, lastLeaveMs } = await crowd({ ...given, seed }, hint);
    expect({ seed, ranOut }).toEqual({ seed, ranOut: 0 });
    // The restarts of five take less than half of the calls.
    expect(lastLeaveMs).toBeLessThan((given.leave * 2) / LIMIT.perMs);
  }
});

// Where nobody stays there is no restart by which the limit would show.
test('all leave: the leaves alone show that calls are counted, and few are made in vain', async () => {
  for (const seed of SEEDS) {
    let refused = 0;
    const { lastLeaveMs } = await crowd({ stay: 0, leave: 40, delayMs: 10_000, seed }, true, () => {
      refused += 1;
    });
    expect(lastLeaveMs).toBeLessThan(45 / LIMIT.perMs);
    expect({ seed, few: refused < 120 }).toEqual({ seed, few: true });
  }
});
