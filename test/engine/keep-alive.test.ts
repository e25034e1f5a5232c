// The store is away: nobody who is there is lost, nobody who went is kept, nothing else is decided, and afterwards the rows know.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { HandOver } from '../../src/delegation/decide.ts';
import type { Answer, LiveDelegation } from '../../src/delegation/state.ts';
import { FIRST_PART, type Store, StoreUnavailable } from '../../src/store/store.ts';
import { handOver as build, identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

const DELAY_MS = 10_000;
const HOUR_MS = 3_600_000;
const ALL = ['update', 'claimDue', 'holds', 'release', 'nextDueMs', 'rooms', 'count', 'purge', 'ping'] as const;
const WRITES = ['update', 'purge', 'ping'] as const;

type Method = (...args: never[]) => Promise<unknown>;

/** Another server's store that is away (all of it), or one on a disk that is full (writes only); the returned function brings it back. */
function takeAway(store: Store, methods: readonly (keyof Store)[] = ALL, instead: Method = refused): () => void {
  const before = Object.fromEntries(methods.map((name) => [name, (store[name] as Method).bind(store)]));
  Object.assign(store, Object.fromEntries(methods.map((name) => [name, instead])));
  return () => void Object.assign(store, before);
}
const refused: Method = () => Promise.reject(new StoreUnavailable(new Error('gone')));
const silent: Method = () => new Promise(() => {});

const shared = (): EngineWorld => new EngineWorld({}, { shared: true });

async function present(world: EngineWorld, n: number, over: Partial<HandOver> = {}): Promise<void> {
  const { id: _, ...rest } = build(n, { delayMs: DELAY_MS, ...over });
  world.join(rest.room, identity(n), sid(n));
  await world.clock.advance(1);
  await world.engine.handOver(rest);
}

/** The longest that an event has been left alone, ms. */
function longestGapMs(world: EngineWorld, target: string): number {
  const times = [...world.actions('restart', target).map(({ atMs }) => atMs), world.clock.nowMs()];
  expect(times.length, `${target} was never restarted`).toBeGreaterThan(1);
  return Math.max(...times.slice(1).map((atMs, index) => atMs - (times[index] ?? 0)));
}

it.each([
  ['a store behind a network', shared, ALL],
  ['a disk that is full', () => new EngineWorld(), WRITES],
] as const)('%s: all who are there are kept alive, and no more often than ever', async (_, create, methods) => {
  const world = create();
  for (let n = 1; n <= 20; n += 1) await present(world, n, { room: room(n % 3) });
  await world.clock.advance(20_000);
  const restore = takeAway(world.store, methods);
  const wentMs = world.clock.nowMs();
  world.looks.length = 0;
  await world.clock.advance(120_000);
  for (let n = 1; n <= 20; n += 1) expect(longestGapMs(world, `delay-secret-${n}`)).toBeLessThan(DELAY_MS);
  const meanwhile = world.calls.filter(({ atMs }) => atMs >= wentMs);
  expect(meanwhile.length).toBeLessThanOrEqual(20 * Math.ceil(120 / 7));
  expect(world.looks.length).toBeLessThanOrEqual(3 * (120 / 5 + 120 / 30 + 2));
  expect(meanwhile.filter(({ action }) => action !== 'restart')).toEqual([]);
  const beforeMs = world.clock.nowMs();
  restore();
  await world.clock.advance(60_000);
  for (let n = 1; n <= 20; n += 1) expect(longestGapMs(world, `delay-secret-${n}`)).toBeLessThan(DELAY_MS);
  // The rows know of the restarts: nobody is restarted anew because the store believes that it is due.
  expect(world.calls.filter(({ atMs }) => atMs >= beforeMs && atMs < beforeMs + 1_500).length).toBeLessThan(8);
  expect(await world.metric('lastwill_false_leaves_total')).toBe(0);
  expect(await world.store.count()).toMatchObject({ connected: 20, ended: 0 });
});

it('a disk that fills up just when a restart is due, and takes a ping in between: it is made soon all the same', async () => {
  const lateMs: number[] = [];
  for (let phaseMs = 0; phaseMs < 1_000; phaseMs += 50) {
    const world = new EngineWorld();
    await world.clock.advance(phaseMs);
    await present(world, 1, { delayMs: 3_000 });
    await world.clock.advance(10_000);
    const dueMs = (await world.store.nextDueMs(world.clock.nowMs())) ?? 0;
    await world.clock.advance(dueMs - 1 - world.clock.nowMs());
    takeAway(world.store, ['update']);
    await world.clock.advance(1_000);
    lateMs.push((world.actions('restart').find(({ atMs }) => atMs >= dueMs)?.atMs ?? Number.POSITIVE_INFINITY) - dueMs);
  }
  expect(Math.max(...lateMs)).toBeLessThan(250);
});

it('a process that is killed while the disk is full could not write its restarts: the next one makes them all the same', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'lastwill-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const world = new EngineWorld({}, { path: path.join(folder, 'lastwill.db') });
  await present(world, 1);
  await world.clock.advance(5_000);
  takeAway(world.store, ['update']);
  await world.clock.advance(30_000);
  await world.restart();
  takeAway(world.store, ['update']);
  await world.clock.advance(60_000);
  expect(longestGapMs(world, 'delay-secret-1')).toBeLessThan(DELAY_MS);
  // Once the event has run out all the same, it is not asked for again and again.
  world.answer = () => ({ kind: 'final', how: 'gone' });
  world.calls.length = 0;
  await world.clock.advance(120_000);
  expect(world.calls).toHaveLength(1);
});

it('who leaves meanwhile is not restarted, nothing is sent, and the leave follows when the store is back', async () => {
  const world = shared();
  await present(world, 1);
  await present(world, 2, { delayMs: HOUR_MS });
  await world.clock.advance(5_000);
  const restore = takeAway(world.store);
  await world.clock.advance(2_000);
  for (const n of [1, 2]) {
    world.leave(room(n), identity(n));
    await expect(world.webhook(room(n), identity(n), sid(n), 'left')).rejects.toBeInstanceOf(StoreUnavailable);
  }
  const goneMs = world.clock.nowMs();
  await world.clock.advance(60_000);
  expect(world.calls.filter(({ atMs }) => atMs > goneMs + DELAY_MS / 2)).toEqual([]);
  restore();
  await world.clock.advance(7_000);
  expect(world.actions('send', 'delay-secret-2')).toHaveLength(1);
  expect(world.actions('restart').filter(({ atMs }) => atMs > goneMs + DELAY_MS / 2)).toEqual([]);
});

it('a leave that was under way when the store went is tried again when it is back, not when its claim ends', async () => {
  const world = shared();
  await present(world, 1, { delayMs: HOUR_MS });
  await world.clock.advance(5_000);
  world.takesMs = () => 500;
  world.answer = () => ({ kind: 'failed', reached: true });
  world.leave(room(1), identity(1));
  await world.webhook(room(1), identity(1), sid(1), 'left', world.clock.nowMs() - 5_000);
  await world.clock.advance(1_100);
  expect(world.actions('send')).toHaveLength(1);
  const restore = takeAway(world.store);
  await world.clock.advance(3_000);
  restore();
  world.answer = () => ({ kind: 'ok' });
  await world.clock.advance(3_000);
  expect(world.actions('send')).toHaveLength(2);
  expect(await world.store.count()).toMatchObject({ ended: 1 });
});

it('who comes while the store is away is found, and kept alive as well', async () => {
  const world = shared();
  const { id: _, ...rest } = build(1, { delayMs: DELAY_MS });
  await world.engine.handOver(rest);
  await world.clock.advance(500);
  const restore = takeAway(world.store);
  world.join(room(1), identity(1), sid(1));
  await world.clock.advance(60_000);
  const times = world.actions('restart').map(({ atMs }) => atMs);
  expect(longestGapMs(world, 'delay-secret-1')).toBeLessThan(DELAY_MS);
  expect(times.length).toBeGreaterThan(5);
  restore();
  await world.clock.advance(5_000);
  expect(await world.store.count()).toMatchObject({ connected: 1 });
});

it('whom another replica restarted last is restarted as well, for it may have gone together with the store', async () => {
  const world = shared();
  const anothers = (n: number) =>
    world.store.update({ by: 'watched', room: room(n), identity: identity(n), part: FIRST_PART }, null, ([row]) => {
      const { state } = row as LiveDelegation;
      if (state.kind !== 'connected') throw new Error(`it is ${state.kind}`);
      const [nowMs, expiresMs] = [world.clock.nowMs(), world.clock.nowMs() + DELAY_MS];
      const next = { ...state, seenAtMs: nowMs, restartDueMs: nowMs + DELAY_MS * 0.8 };
      const expiry = { earliestMs: expiresMs, latestMs: expiresMs };
      return { writes: [{ row: { ...(row as LiveDelegation), state: next, expiry }, leaseMs: 0 }], value: null };
    });
  await present(world, 1);
  await world.clock.advance(1_000);
  for (let n = 0; n < 3; n += 1) {
    await anothers(1);
    await world.clock.advance(7_000);
  }
  const wentMs = world.clock.nowMs();
  const restore = takeAway(world.store);
  await world.clock.advance(2_000);
  expect(world.actions('restart').filter(({ atMs }) => atMs >= wentMs)).toHaveLength(1);
  await world.clock.advance(30_000);
  expect(world.actions('restart').filter(({ atMs }) => atMs >= wentMs).length).toBeLessThan(6);
  restore();
  await world.clock.advance(1_100);
  expect(await world.store.count()).toMatchObject({ connected: 1 });
});

it('a store that says nothing at all is taken to be away before anybody is lost', async () => {
  const world = shared();
  for (let n = 1; n <= 50; n += 1) await present(world, n, { room: room(n % 3) });
  await world.clock.advance(20_000);
  const restore = takeAway(world.store, ALL, silent);
  await world.clock.advance(60_000);
  for (let n = 1; n <= 50; n += 1) expect(longestGapMs(world, `delay-secret-${n}`)).toBeLessThan(DELAY_MS);
  restore();
});

it('no evidence, no restart: the SFU is away as well', async () => {
  const world = shared();
  await present(world, 1);
  await world.clock.advance(5_000);
  takeAway(world.store);
  world.sfuUp = false;
  await world.clock.advance(4_000);
  world.calls.length = 0;
  await world.clock.advance(60_000);
  expect(world.calls).toEqual([]);
});

it.each([
  ['final', { kind: 'final', how: 'gone' }, 1],
  ['limited', { kind: 'limited', retryAfterMs: 2_000 }, 6],
  ['failed', { kind: 'failed', reached: false }, 40],
] as const)('%s is what the homeserver answers: it is asked at most so often', async (_, answer: Answer, most) => {
  const world = shared();
  await present(world, 1);
  await world.clock.advance(5_000);
  takeAway(world.store);
  world.answer = () => answer;
  world.calls.length = 0;
  await world.clock.advance(120_000);
  expect(world.calls.length).toBeGreaterThan(0);
  expect(world.calls.length).toBeLessThanOrEqual(most);
});

it('a restart whose answer could not be written is written later, not made again', async () => {
  const world = new EngineWorld();
  await present(world, 1, { delayMs: HOUR_MS });
  await world.clock.advance(5_000);
  const dueMs = (await world.store.nextDueMs(world.clock.nowMs())) ?? 0;
  // Before a routine look would restart it by the way.
  await world.clock.advance(dueMs - world.clock.nowMs() - 31_000);
  const restore = takeAway(world.store, ['update']);
  world.calls.length = 0;
  await world.clock.advance(120_000);
  restore();
  await world.clock.advance(20_000);
  expect(world.actions('restart')).toHaveLength(1);
  const nextMs = (await world.store.nextDueMs(world.clock.nowMs())) ?? 0;
  expect(nextMs - world.clock.nowMs()).toBeGreaterThan(HOUR_MS / 2);
});

it('asks nothing before it has to', async () => {
  const world = shared();
  for (let n = 1; n <= 500; n += 1) await present(world, n, { room: room(n % 50), delayMs: HOUR_MS });
  await world.clock.advance(60_000);
  takeAway(world.store);
  const calls = world.calls.length;
  world.looks.length = 0;
  await world.clock.advance(HOUR_MS / 2);
  expect([world.calls.length, world.looks.length]).toEqual([calls, 0]);
  await world.clock.advance(HOUR_MS);
  for (let n = 1; n <= 500; n += 25) expect(longestGapMs(world, `delay-secret-${n}`)).toBeLessThan(HOUR_MS);
});

it('what is claimed again and again while a disk is full is given back once', async () => {
  const world = new EngineWorld();
  for (let n = 1; n <= 5; n += 1) await present(world, n, { room: room(n % 3) });
  await world.clock.advance(20_000);
  const restore = takeAway(world.store, WRITES);
  await world.clock.advance(HOUR_MS);
  let released = 0;
  const release = world.store.release.bind(world.store);
  world.store.release = (claim) => {
    released += 1;
    return release(claim);
  };
  restore();
  await world.clock.advance(1_100);
  expect(released).toBeLessThanOrEqual(15);
});

it('does not begin any more once all has ended', async () => {
  const world = shared();
  await present(world, 1);
  await world.clock.advance(5_000);
  takeAway(world.store, ['claimDue'], silent);
  takeAway(world.store, ['update']);
  await world.clock.advance(520);
  const drained = world.engine.drain(1_000);
  await world.clock.advance(1_001);
  await drained;
  const calls = world.calls.length;
  await world.clock.advance(60_000);
  expect(world.calls).toHaveLength(calls);
});
