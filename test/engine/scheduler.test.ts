import { expect, it } from 'vitest';
import { createLanes } from '../../src/engine/lanes.ts';
import { createScheduler } from '../../src/engine/scheduler.ts';
import type { Store } from '../../src/store/store.ts';
import { HOMESERVER, idOf } from '../support/fixtures.ts';
import { createVirtualClock, START_MS } from '../support/virtual-clock.ts';

it('takes what becomes due while it is looking', async () => {
  const clock = createVirtualClock();
  const due = [START_MS + 100, START_MS + 102];
  const takenMs: number[] = [];
  const store = {
    // The look itself takes time, in which the second row becomes due.
    claimDue: async (nowMs: number) => {
      const found = due.filter((dueMs) => dueMs <= nowMs);
      due.splice(0, found.length);
      clock.stall(5);
      return found.map((dueMs) => ({ row: { dueMs }, claim: {} }));
    },
    nextDueMs: async (afterMs: number) => due.find((dueMs) => dueMs > afterMs) ?? null,
  } as unknown as Store;
  const take = async () => void takenMs.push(clock.nowMs());
  const scheduler = createScheduler({
    store,
    lanes: createLanes({ clock, onFree: () => {}, onPause: () => {} }),
    onFailure: () => {},
    onSilence: () => {},
    onAnswer: () => {},
    clock,
    longestSleepMs: 30_000,
    gatherMs: 0,
    take,
  });
  scheduler.start();
  await clock.advance(200);
  expect(takenMs).toHaveLength(2);
  expect(Math.max(...takenMs)).toBeLessThanOrEqual(START_MS + 115);
});

it('a lane that was closed calls again, also when its timer fires a moment early', async () => {
  const clock = createVirtualClock();
  let calls = 0;
  const pauses: [string, number][] = [];
  const onFree = () => {
    calls += 1;
  };
  const early = { ...clock, after: (delayMs: number, fire: () => void) => clock.after(Math.max(delayMs - 1, 1), fire) };
  const lanes = createLanes({ clock: early, onFree, onPause: (...told) => void pauses.push(told) });
  const delayMs = 60_000;
  const expiryMs = START_MS + delayMs;
  const errand = { id: idOf(), createdAtMs: START_MS, delayMs, expiryMs, lostMs: expiryMs, owed: false, beginByMs: expiryMs };
  await lanes.run(HOMESERVER, { ...errand, work: async () => ({ kind: 'limited', retryAfterMs: 5_000 }) });
  expect(await lanes.run(HOMESERVER, { ...errand, work: async () => ({ kind: 'ok' }) })).toBeNull();
  await clock.advance(5_100);
  expect(calls).toBe(1);
  expect(pauses).toEqual([[HOMESERVER, START_MS + 3_000]]);
});
