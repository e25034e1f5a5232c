// A look at a room is work, and whoever leaves meanwhile waits for it: looks are spread over time, and large rooms are judged in portions.
import { expect, it } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import { ended, handOver, identity, policy, room, row, sid } from '../support/fixtures.ts';
import { EngineWorld, ROOM_SID } from './world.ts';

const HOUR_MS = 3_600_000;
const INTERVAL_MS = 10_000;
const SHORT_MS = 10_000;

async function held(rooms: number, each: number, shared = false): Promise<EngineWorld> {
  const world = new EngineWorld({ presenceIntervalMs: INTERVAL_MS }, { shared });
  for (let n = 1; n <= rooms * each; n += 1) {
    const where = room((n % rooms) + 1);
    const { id: _, ...rest } = handOver(n, { room: where, delayMs: HOUR_MS });
    world.join(where, identity(n), sid(n));
    await world.engine.handOver(rest);
  }
  await world.clock.advance(INTERVAL_MS);
  return world;
}

function mostWithin(ms: number, { looks }: EngineWorld): number {
  return Math.max(
    ...Map.groupBy(looks, ({ atMs }) => Math.floor(atMs / ms))
      .values()
      .map(({ length }) => length),
  );
}

it.each([
  { what: 'spread over the tick where each may have to be judged', shared: true, within: { ms: 100, most: 3 } },
  { what: 'soon after one another where nothing has moved', shared: false, within: { ms: 1, most: 2 } },
])('rooms whose turn comes together are looked at one after the other: $what', async ({ shared, within }) => {
  const world = await held(100, 1, shared);
  await world.clock.advance(INTERVAL_MS);
  world.looks.length = 0;
  await world.clock.advance(3 * INTERVAL_MS);
  expect(world.looks.length).toBeGreaterThanOrEqual(290);
  expect(world.looks.length).toBeLessThanOrEqual(300);
  expect(mostWithin(within.ms, world)).toBeLessThanOrEqual(within.most);
});

it.each([true, false])(
  'a room that lists somebody whom no node has is looked at whoever looks at it in turn (several: %s)',
  async (shared) => {
    const world = await held(20, 1, shared);
    await world.clock.advance(3 * INTERVAL_MS);
    world.looks.length = 0;
    world.doubted.push(...Array.from({ length: 20 }, (_, n) => room(n + 1)));
    await world.clock.advance(1_000);
    expect(new Set(world.looks.map(({ room: where }) => where)).size).toBeGreaterThanOrEqual(16);
    await world.clock.advance(1_000);
    expect(new Set(world.looks.map(({ room: where }) => where)).size).toBe(20);
  },
);

it('in no two intervals are there more looks than rooms, not even while the rooms fall quiet', async () => {
  const world = await held(100, 1);
  await world.clock.advance(5 * INTERVAL_MS);
  const times = world.looks.map(({ atMs }) => atMs).filter((atMs) => atMs >= world.clock.nowMs() - 5 * INTERVAL_MS);
  const most = Math.max(...times.map((fromMs) => times.filter((atMs) => atMs >= fromMs && atMs < fromMs + 2 * INTERVAL_MS).length));
  expect(most).toBeLessThanOrEqual(200);
  expect(times.length).toBeGreaterThanOrEqual(480);
});

it('while the SFU is away none is taken from a process that may be able to ask, and all are looked at once it is back', async () => {
  const world = await held(10, 1);
  let taken = 0;
  const rooms = world.store.rooms.bind(world.store);
  world.store.rooms = (...asked) => {
    taken += 1;
    return rooms(...asked);
  };
  world.sfuUp = false;
  await world.clock.advance(5_000);
  taken = 0;
  await world.clock.advance(2 * INTERVAL_MS);
  expect(taken).toBe(0);
  world.looks.length = 0;
  world.sfuUp = true;
  await world.clock.advance(2_000);
  expect(new Set(world.looks.map((look) => look.room)).size).toBe(10);
});

it('and no more of them once all is to end', async () => {
  const world = await held(100, 1);
  await world.engine.drain(0);
  world.looks.length = 0;
  await world.clock.advance(2 * INTERVAL_MS);
  expect(world.looks).toEqual([]);
});

/** How many rows each update of a whole room is about from now on. */
function judgedIn(world: EngineWorld): readonly number[] {
  const update = world.store.update.bind(world.store);
  const judged: number[] = [];
  world.store.update = (where, once, step, ...rest) =>
    update(
      where,
      once,
      (rows) => {
        if (where.by === 'room' || where.by === 'watched') judged.push(rows.length);
        return step(rows);
      },
      ...rest,
    );
  return judged;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0);

it('a large room is judged in portions, all of it, and whoever is missing from it is found', async () => {
  const world = await held(1, 100);
  const judged = judgedIn(world);
  world.leave(room(1), identity(7));
  await world.clock.advance(1.2 * INTERVAL_MS);
  expect(Math.max(...judged)).toBeLessThanOrEqual(32);
  expect(sum(judged)).toBeGreaterThanOrEqual(100);
  await world.clock.advance(2 * INTERVAL_MS);
  expect(world.actions('send')).toHaveLength(1);
});

/** Somebody hands over so many, whose participants never come; and one who is there. */
async function crowded(rows: number): Promise<EngineWorld> {
  const world = new EngineWorld({ presenceIntervalMs: INTERVAL_MS });
  for (let n = 2; n <= rows; n += 1) {
    const { id: _, ...rest } = handOver(n, { room: room(1), delayMs: HOUR_MS });
    await world.engine.handOver(rest);
  }
  await world.enter(1, room(1), HOUR_MS, 'event' as DelayId);
  return world;
}

it('a room that one user has made many rows of is judged in portions, however few are there', async () => {
  const world = await crowded(600);
  const judged = judgedIn(world);
  await world.clock.advance(3 * INTERVAL_MS);
  expect(Math.max(...judged)).toBeLessThanOrEqual(32);
  expect(sum(judged)).toBeGreaterThanOrEqual(600);
  world.leave(room(1), identity(1));
  await world.clock.advance(3 * INTERVAL_MS);
  expect(world.actions('send')).toHaveLength(1);
});

it.each(['room_started', 'room_finished'] as const)('so it is by %s', async (event) => {
  const world = await crowded(600);
  const judged = judgedIn(world);
  const told = world.webhookOfRoom(room(1), event, null);
  await world.clock.advance(1_000);
  expect(await told).toBe('applied');
  expect(Math.max(...judged)).toBeLessThanOrEqual(32);
  expect(sum(judged)).toBeGreaterThanOrEqual(600);
});

it('so are those who watch one identity, by what is told of it', async () => {
  const world = new EngineWorld({ presenceIntervalMs: HOUR_MS });
  for (let n = 1; n <= 600; n += 1) {
    const { id: _, ...rest } = handOver(n, { room: room(1), identities: [identity(n), identity(9_999)], delayMs: HOUR_MS });
    await world.engine.handOver(rest);
  }
  const judged = judgedIn(world);
  expect(await world.webhook(room(1), identity(9_999), sid(9_999), 'joined')).toBe('applied');
  expect(await world.webhook(room(1), identity(9_999), sid(9_999), 'left')).toBe('applied');
  expect(Math.max(...judged)).toBeLessThanOrEqual(32);
  expect(sum(judged)).toBeGreaterThanOrEqual(1_200);
  await world.clock.advance(INTERVAL_MS);
  expect(world.actions('send')).toHaveLength(600);
});

it('what a webhook means for a room is done in all its parts before it is answered, and all of it again where it was not', async () => {
  const world = new EngineWorld({ presenceIntervalMs: HOUR_MS });
  for (let n = 1; n <= 100; n += 1) await world.enter(n, room(1), HOUR_MS, `event-${n}` as DelayId);
  await world.clock.advance(INTERVAL_MS);
  const update = world.store.update.bind(world.store);
  let parts = 0;
  world.store.update = (where, ...rest) => {
    if (where.by === 'room') parts += 1;
    return where.by === 'room' && parts === 3 ? Promise.reject(new StoreUnavailable('full')) : update(where, ...rest);
  };
  for (let n = 1; n <= 100; n += 1) world.leave(room(1), identity(n));
  const finished = () => world.webhookOfRoom(room(1), 'room_finished', ROOM_SID, 'the same webhook');
  await expect(finished()).rejects.toThrow(StoreUnavailable);
  const { settling } = await world.store.count();
  expect(settling).toBeGreaterThan(0);
  expect(settling).toBeLessThan(100);
  expect(await finished()).toBe('applied');
  expect(await world.store.count()).toMatchObject({ connected: 0 });
  expect(await finished()).toBe('duplicate');
  await world.clock.advance(INTERVAL_MS);
  expect(world.actions('send')).toHaveLength(100);
});

it('an SFU that takes its time for a list is asked for a thousand rooms all the same: nobody there runs out', async () => {
  const world = new EngineWorld();
  world.sfuMs = 500;
  const expiresMs = new Map<string, number>();
  let ranOut = 0;
  world.answer = (_, call) => {
    if (call.kind !== 'delay') return { kind: 'ok' };
    const nowMs = world.clock.nowMs();
    if ((expiresMs.get(call.delayId) ?? 0) <= nowMs) ranOut += 1;
    expiresMs.set(call.delayId, nowMs + SHORT_MS);
    return { kind: 'ok' };
  };
  for (let n = 1; n <= 1_000; n += 1) {
    const { id: _, ...rest } = handOver(n, { room: room(n), delayMs: SHORT_MS });
    if (rest.handles.kind === 'delay') expiresMs.set(rest.handles.delayId, world.clock.nowMs() + SHORT_MS);
    world.join(room(n), identity(n), sid(n));
    await world.engine.handOver(rest);
    await world.clock.advance(4);
  }
  await world.clock.advance(6 * SHORT_MS);
  expect(ranOut).toBe(0);
  expect(world.actions('restart').length).toBeGreaterThan(6_000);
  expect(await world.store.count()).toMatchObject({ connected: 1_000 });
});

/** They ended so long ago, one a ms. */
async function endedAgo(world: EngineWorld, count: number, agoMs: number): Promise<void> {
  for (let n = 1; n <= count; n += 1) {
    const one = ended(row(n, { over: { room: room() } }), { atMs: world.clock.nowMs() - agoMs + n });
    await world.store.update({ by: 'id', room: room(), id: one.id }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null }));
  }
}

it('what ended long ago is forgotten as fast as it comes', async () => {
  const world = new EngineWorld();
  await endedAgo(world, 8_000, 25 * HOUR_MS);
  await world.clock.advance(12_000);
  expect(await world.store.count()).toMatchObject({ ended: 0 });
});

it('of what has just ended the newest 50,000 are kept', async () => {
  const world = new EngineWorld();
  await endedAgo(world, 50_600, HOUR_MS);
  await world.clock.advance(12_000);
  expect(await world.store.count()).toMatchObject({ ended: 50_000 });
  expect(await world.engine.read(room(), row(600).id)).toBeNull();
  expect(await world.engine.read(room(), row(601).id)).not.toBeNull();
});

it('the SFU is looked after also where no room is to be asked about: its clients have the wait from its return on', async () => {
  const world = new EngineWorld({ presenceIntervalMs: 300_000 });
  const { id: _, ...rest } = handOver(1, { room: room(1), delayMs: HOUR_MS });
  world.join(room(1), identity(1), sid(1));
  await world.engine.handOver(rest);
  await world.clock.advance(INTERVAL_MS);
  world.leave(room(1), identity(1));
  world.sfuUp = false;
  await world.webhook(room(1), identity(1), sid(1), 'sfu_down');
  await world.clock.advance(10_000);
  world.sfuUp = true;
  await world.clock.advance(policy().waitMs.sfuDown);
  expect(world.actions('send')).toEqual([]);
  await world.clock.advance(3_000);
  expect(world.actions('send')).toHaveLength(1);
});

it('who is missing from a list is looked for on the nodes of the SFU before a routine look takes them out', async () => {
  const world = new EngineWorld({ presenceIntervalMs: SHORT_MS / 2 }, { shared: true });
  await world.enter(1, room(1), HOUR_MS, 'event' as DelayId);
  await world.clock.advance(SHORT_MS);
  world.listLost = true;
  // A process that has too much to do puts no question of a row's own.
  const claimDue = world.store.claimDue.bind(world.store);
  world.store.claimDue = async () => [];
  await world.clock.advance(2 * SHORT_MS);
  expect(world.actions('send')).toEqual([]);
  world.store.claimDue = claimDue;
  world.leave(room(1), identity(1));
  await world.clock.advance(2 * SHORT_MS);
  expect(world.actions('send')).toHaveLength(1);
});

it.each([
  { what: 'by a look at their room', delayMs: HOUR_MS },
  { what: 'when they are to be restarted', delayMs: SHORT_MS },
])('who is sought on the nodes by each look anyway costs no second one where replicas share a store: $what', async ({ delayMs }) => {
  const world = new EngineWorld({ presenceIntervalMs: delayMs === SHORT_MS ? HOUR_MS : INTERVAL_MS }, { shared: true });
  await world.enter(1, room(1), delayMs, 'event-1' as DelayId);
  world.sought.add(sid(1));
  await world.clock.advance(3_000);
  world.listLost = true;
  world.looks.length = 0;
  while (world.looks.length === 0) await world.clock.advance(10);
  await world.clock.advance(1_000);
  expect(world.looks.map(({ expected }) => expected)).toEqual([[]]);
  expect(await world.store.count()).toMatchObject({ settling: 1 });
});

it.each([
  { what: 'by a look at their room', delayMs: HOUR_MS },
  { what: 'when they are to be restarted', delayMs: SHORT_MS },
])('of whom this process may never have heard, and whom the SFU has lost from its list, stay: $what', async ({ delayMs }) => {
  const world = new EngineWorld({ presenceIntervalMs: INTERVAL_MS }, { shared: true });
  for (const n of [1, 2]) await world.enter(n, room(1), delayMs, `event-${n}` as DelayId);
  await world.clock.advance(INTERVAL_MS);
  world.listLost = true;
  world.lines.length = 0;
  await world.clock.advance(10 * INTERVAL_MS);
  expect(world.lines).toEqual([]);
  expect(world.actions('restart').length).toBeLessThanOrEqual(2 * (1 + (11 * INTERVAL_MS) / (0.7 * delayMs)) + 2);
  world.leave(room(1), identity(1));
  await world.clock.advance(2 * INTERVAL_MS);
  expect(world.actions('send')).toMatchObject([{ target: 'event-1' }]);
});

it.each([
  { shared: true, kind: 'settling' },
  { shared: false, kind: 'connected' },
])(
  'a list that shows again whom lists alone had told to be gone: of several processes ($shared) another may have asked the nodes',
  async ({ shared, kind }) => {
    const waitMs = policy({}).waitMs;
    const world = new EngineWorld({ presenceIntervalMs: INTERVAL_MS, waitMs: { ...waitMs, missing: 3 * INTERVAL_MS } }, { shared });
    const { id: _, ...rest } = handOver(1, { room: room(1), delayMs: HOUR_MS });
    world.join(room(1), identity(1), sid(1));
    world.join(room(1), identity(2), sid(2));
    world.sought.add(sid(1));
    await world.engine.handOver(rest);
    await world.clock.advance(2 * INTERVAL_MS);
    world.leave(room(1), identity(1));
    await world.clock.advance(1.1 * INTERVAL_MS);
    expect(await world.store.count()).toMatchObject({ settling: 1 });
    world.join(room(1), identity(1), sid(1));
    world.looks.length = 0;
    await world.clock.advance(1.1 * INTERVAL_MS);
    expect(await world.store.count()).toMatchObject({ [kind]: 1 });
    expect(world.looks.some(({ expected }) => expected.some((one) => one.sid === sid(1)))).toBe(shared);
    await world.clock.advance(2 * INTERVAL_MS);
    expect(await world.store.count(), 'when the wait is over whoever is found is there').toMatchObject({ connected: 1 });
  },
);
