import { expect, it } from 'vitest';
import type { HomeserverUrl } from '../../src/delegation/ids.ts';
import { createLanes } from '../../src/engine/lanes.ts';
import { createScheduler, type Scheduler, type SchedulerDeps } from '../../src/engine/scheduler.ts';
import { MOST_AT_ONCE } from '../../src/engine/width.ts';
import type { Excluded, Store } from '../../src/store/store.ts';
import { HOMESERVER, idOf, row } from '../support/fixtures.ts';
import { createVirtualClock, START_MS } from '../support/virtual-clock.ts';

function schedulerOf(over: Pick<SchedulerDeps, 'store' | 'clock'> & Partial<SchedulerDeps>): Scheduler {
  const nothing = (): void => {};
  const lanes = createLanes({ clock: over.clock, onFree: nothing, onPause: nothing, onGivenUp: nothing, mostAtOnce: MOST_AT_ONCE });
  const basics = { lanes, longestSleepMs: 500, gatherMs: 20, onFailure: nothing, onSilence: nothing, onAnswer: nothing };
  return createScheduler({ ...basics, take: async () => {}, ...over });
}

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
      return found.map((dueMs) => ({ row: row(1, { dueMs }), claim: {} }));
    },
    nextDueMs: async (afterMs: number) => due.find((dueMs) => dueMs > afterMs) ?? null,
  } as unknown as Store;
  const take = async () => void takenMs.push(clock.nowMs());
  const scheduler = schedulerOf({ store, clock, longestSleepMs: 30_000, gatherMs: 0, take });
  scheduler.start();
  await clock.advance(200);
  expect(takenMs).toHaveLength(2);
  expect(Math.max(...takenMs)).toBeLessThanOrEqual(START_MS + 115);
});

it('a lane that was closed calls again, also when its timer fires a moment early', async () => {
  const clock = createVirtualClock();
  const callsMs: number[] = [];
  const pauses: [string, number][] = [];
  const onFree = () => void callsMs.push(clock.nowMs());
  const early = { ...clock, after: (delayMs: number, fire: () => void) => clock.after(Math.max(delayMs - 1, 1), fire) };
  const lanes = createLanes({
    clock: early,
    onFree,
    onPause: (...told) => void pauses.push(told),
    onGivenUp: () => {},
    mostAtOnce: MOST_AT_ONCE,
  });
  const delayMs = 60_000;
  const expiryMs = START_MS + delayMs;
  const errand = {
    id: idOf(),
    createdAtMs: START_MS,
    delayMs,
    expiryMs,
    lostMs: expiryMs,
    proven: true,
    kind: 'restart',
    action: 'restart',
    beginByMs: expiryMs,
  } as const;
  await lanes.run(HOMESERVER, { ...errand, work: async () => ({ kind: 'limited', retryAfterMs: 5_000 }) });
  expect(await lanes.run(HOMESERVER, { ...errand, work: async () => ({ kind: 'ok' }) })).toBeNull();
  await clock.advance(5_100);
  // Once for those who are to gather before the end of the pause, and once at its end.
  expect(callsMs).toEqual([START_MS + 3_000, expect.any(Number)]);
  expect(callsMs[1]).toBeGreaterThanOrEqual(START_MS + 5_000);
  expect(pauses).toEqual([[HOMESERVER, START_MS + 3_000]]);
});

it('a store that answers each look in time is not silent, however many looks it takes', async () => {
  const clock = createVirtualClock();
  let silences = 0;
  let left = 4_096;
  const store = {
    claimDue: async (_nowMs: number, _leaseMs: number, limit: number) => {
      await new Promise<void>((resolve) => void clock.after(60, resolve));
      const found = Math.min(limit, left);
      left -= found;
      return Array.from({ length: found }, () => ({ row: row(), claim: {} }));
    },
    nextDueMs: async () => null,
  } as unknown as Store;
  const onSilence = (): void => {
    silences += 1;
  };
  const scheduler = schedulerOf({ store, clock, onSilence });
  scheduler.start();
  await clock.advance(2_000);
  expect([silences, left]).toEqual([0, 0]);
});

it.each([
  { idle: true, atOnce: 4_096 },
  { idle: false, atOnce: 512 },
])('takes no more restarts than it has time for: $atOnce, and everything else is looked for all the same', async ({ idle, atOnce }) => {
  const virtual = createVirtualClock();
  const clock = idle ? virtual : { ...virtual, idleMs: () => 0 };
  let restarts = 0;
  let others = 0;
  const store = {
    claimDue: async (_nowMs: number, _leaseMs: number, limit: number, { allRestarts = false }: Excluded) => {
      virtual.stall(60);
      others += 1;
      if (allRestarts) return [{ row: row(1, { kind: 'awaiting' }), claim: {} }];
      restarts += limit;
      return Array.from({ length: limit }, () => ({ row: row(1, { kind: 'connected' }), claim: {} }));
    },
    nextDueMs: async () => null,
  } as unknown as Store;
  const scheduler = schedulerOf({
    ...{ store, clock },
    take: async ({ row: { state } }) => (state.kind === 'connected' ? new Promise<void>(() => {}) : undefined),
  });
  scheduler.start();
  await virtual.advance(5_000);
  expect(restarts).toBe(atOnce);
  if (!idle) expect(others).toBeGreaterThan(20);
});

it('begins with the newest where restarts run out before their turn, and does not forget the others', async () => {
  const clock = createVirtualClock();
  const firsts: (string | undefined)[] = [];
  const late = { ...row(1, { kind: 'connected' }), expiry: { earliestMs: START_MS, latestMs: START_MS } };
  const store = {
    claimDue: async (...[, , limit, , first]: Parameters<Store['claimDue']>) => {
      firsts.push(first);
      return Array.from({ length: firsts.length < 10 ? limit : 0 }, () => ({ row: late, claim: {} }));
    },
    nextDueMs: async () => null,
  } as unknown as Store;
  const lanes = createLanes({ clock, onFree: () => {}, onPause: () => {}, onGivenUp: () => {}, mostAtOnce: MOST_AT_ONCE });
  // What ran out before it had to do with the homeserver would not count.
  lanes.missed(HOMESERVER, 0);
  await clock.advance(1);
  const scheduler = schedulerOf({ store, clock, lanes, gatherMs: 0 });
  scheduler.start();
  await clock.advance(20_000);
  expect(firsts.slice(0, 9)).toEqual(['oldest', 'newest', 'newest', 'oldest', 'newest', 'newest', 'newest', 'oldest', 'newest']);
  expect(firsts.slice(-8)).toEqual(Array(8).fill('oldest'));
});

it('rests after a look that took long, while a homeserver takes no more', async () => {
  const clock = createVirtualClock();
  const looksMs: number[] = [];
  const store = {
    claimDue: async () => {
      looksMs.push(clock.nowMs());
      clock.stall(20);
      return [];
    },
    nextDueMs: async (afterMs: number) => afterMs + 1,
  } as unknown as Store;
  const lanes = createLanes({ clock, onFree: () => {}, onPause: () => {}, onGivenUp: () => {}, mostAtOnce: MOST_AT_ONCE });
  const excluded = () => ({ restarts: new Set([HOMESERVER]), leaves: new Set<HomeserverUrl>() });
  const scheduler = schedulerOf({ store, clock, lanes: { ...lanes, excluded } });
  scheduler.start();
  await clock.advance(1_000);
  expect(looksMs.length).toBeGreaterThan(8);
  expect(looksMs.length).toBeLessThanOrEqual(11);
});
