// One delayed event that is handed over under two identities, by two APIs: whoever of them is there keeps it alive, and it is sent when
// nobody is.
import { describe, expect, test } from 'vitest';
import type { HandOver } from '../../src/delegation/decide.ts';
import type { HomeserverUrl, Owner, UserId } from '../../src/delegation/ids.ts';
import { Disk } from '../sim/model-store.ts';
import { handOver as build, delayHandles, futureHandles, identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

const HOUR_MS = 3_600_000;

/** By the nth identity, whose owner is another one as well; all of one event, unless told. */
function by(n: number, over: Partial<HandOver> = {}) {
  const { handles, handlesHash } = build(1);
  const { id: _, ...rest } = build(n, { room: room(1), delayMs: HOUR_MS, handles, handlesHash, ...over });
  return rest;
}

async function bothThere(over: Partial<HandOver> = {}, second = over): Promise<EngineWorld> {
  const world = new EngineWorld();
  for (const n of [1, 2]) world.join(room(1), identity(n), sid(n));
  await world.clock.advance(5_000);
  await world.engine.handOver(by(1, over));
  await world.clock.advance(1_000);
  await world.engine.handOver(by(2, second));
  await world.clock.advance(1_000);
  return world;
}

async function leave(world: EngineWorld, n: number): Promise<void> {
  world.leave(room(1), identity(n));
  await world.webhook(room(1), identity(n), sid(n), 'left', world.clock.nowMs() - 7_000);
  await world.clock.advance(10_000);
}

describe('an event that was handed over under two identities', () => {
  test.each([
    [1, 2],
    [2, 1],
  ])('is not sent when %d leaves and %d is there, and is sent when both have left', async (first, last) => {
    const world = await bothThere();
    await leave(world, first);
    expect(world.actions('send')).toEqual([]);
    await leave(world, last);
    expect(world.actions('send')).toHaveLength(1);
    expect(await world.metric('lastwill_false_leaves_total')).toBe(0);
  });

  test('is one delegation: the older one has ended without a call, and the newer one is told apart from a repeated one', async () => {
    const world = await bothThere();
    expect(await world.store.count()).toMatchObject({ connected: 1, ended: 1 });
    expect(world.actions('cancel')).toEqual([]);
    const again = await world.engine.handOver(by(2));
    expect([again.kind, again.row.identities]).toEqual(['repeated', [identity(2), identity(1)]]);
  });

  test('is the older one also where its second hand-over is answered after that of a newer one', async () => {
    const world = new EngineWorld();
    world.join(room(1), identity(1), sid(1));
    await world.engine.handOver(by(1));
    await world.clock.advance(1_000);
    const askedAtMs = world.clock.nowMs();
    await world.clock.advance(1_000);
    const { handles, handlesHash } = build(2);
    const newer = await world.engine.handOver(by(2, { handles, handlesHash }));
    await world.clock.advance(5_000);
    const late = await world.engine.handOver(by(2, { askedAtMs }));
    await world.clock.advance(5_000);
    expect([late.kind, late.row.state.kind]).toEqual(['created', 'cancelling']);
    expect(world.actions('cancel', 'delay-secret-1')).toHaveLength(1);
    expect(world.actions('cancel', 'delay-secret-2')).toEqual([]);
    const now = await world.engine.read(room(1), newer.row.id);
    expect([now?.state.kind, now?.identities]).toEqual(['connected', [identity(2), identity(1)]]);
  });

  test('is kept by whoever has handed it over last', async () => {
    const world = await bothThere();
    const again = await world.engine.handOver(by(1));
    expect(again).toMatchObject({ kind: 'created', superseded: 1 });
    await world.clock.advance(1_000);
    expect(await world.store.count()).toMatchObject({ connected: 1, ended: 2 });
    await leave(world, 1);
    expect(world.actions('send')).toEqual([]);
  });

  test('begins anew by the one once the other has handed it back', async () => {
    const world = await bothThere();
    const { row } = await world.engine.handOver(by(2));
    await world.engine.handBack(row.room, row.id, row.owner);
    const anew = await world.engine.handOver(by(1));
    expect([anew.kind, anew.row.state.kind]).toEqual(['created', 'awaiting']);
  });

  test('is not begun anew by a hand-over that comes while it is being cancelled for a newer one, which stays', async () => {
    const world = await bothThere();
    const newer = { handles: delayHandles(2), handlesHash: 'newer' };
    world.answer = () => null;
    await world.engine.handOver(by(2, newer));
    await world.clock.advance(1_000);
    expect(await world.store.count()).toMatchObject({ cancelling: 1, connected: 1 });
    for (let again = 0; again < 2; again += 1) {
      const late = await world.engine.handOver(by(1));
      expect([late.kind, late.row.state.kind]).toEqual(['repeated', 'cancelling']);
    }
    expect(await world.store.count()).toMatchObject({ cancelling: 1, connected: 1, ended: 1 });
  });

  test('has the leave of who was seen before it was handed over once more, by the word of a webhook alone', async () => {
    const world = new EngineWorld();
    world.join(room(1), identity(1), sid(1));
    await world.engine.handOver(by(1));
    await world.clock.advance(5_000);
    world.sfuUp = false;
    await world.engine.handOver(by(2));
    await world.clock.advance(1_000);
    await world.webhook(room(1), identity(1), sid(1), 'left', world.clock.nowMs() - 7_000);
    await world.clock.advance(10_000);
    expect(world.actions('send')).toHaveLength(1);
  });

  test('keeps the user whose event it is', async () => {
    const userId = '@alice:example.org' as UserId;
    const world = await bothThere({ userId }, { userId: null });
    expect((await world.engine.handOver(by(2, { userId: null }))).row.userId).toBe(userId);
  });

  test('is restarted in time by the new one, whose first call hangs just before the end of the event', async () => {
    const delayMs = 8_000;
    const world = await bothThere({ delayMs });
    let [restartedMs, hangs] = [world.clock.nowMs(), false];
    const ranOut: number[] = [];
    world.answer = () => {
      if (hangs) {
        hangs = false;
        return null;
      }
      if (world.clock.nowMs() - restartedMs > delayMs) ranOut.push(world.clock.nowMs());
      restartedMs = world.clock.nowMs();
      return { kind: 'ok' };
    };
    await world.clock.advance(20_000);
    await world.clock.advance(restartedMs + 0.78 * delayMs - world.clock.nowMs());
    hangs = true;
    await world.engine.handOver(by(1, { delayMs }));
    await world.clock.advance(20_000);
    expect(ranOut).toEqual([]);
  });

  test('as one ending of a group of futures, too', async () => {
    const futures = (lost: boolean) => ({ handles: futureHandles(1, { lost }), handlesHash: `${lost}` });
    const world = await bothThere(futures(true), futures(false));
    await leave(world, 1);
    expect(world.actions('token').filter(({ target }) => !target.startsWith('refresh'))).toEqual([]);
  });

  test('is one delegation also after a kill, and by another process', async () => {
    const disk = new Disk();
    const world = new EngineWorld({}, { disk, shared: true });
    const other = world.beside();
    for (const n of [1, 2]) world.join(room(1), identity(n), sid(n));
    await Promise.all([world.engine.handOver(by(1)), other.engine.handOver(by(2))]);
    await other.kill();
    await world.clock.advance(10_000);
    await leave(world, 1);
    expect(world.actions('send')).toEqual([]);
  });
});

describe('delegations of two owners stay two', () => {
  test.each<[string, Partial<HandOver>]>([
    ['at two homeservers', { homeserver: 'https://matrix.example.net' as HomeserverUrl }],
    ['of two users', { userId: '@bob:example.org' as UserId }],
    ['with two events', { handles: delayHandles(2), handlesHash: 'other' }],
  ])('%s', async (_, over) => {
    const world = await bothThere({ userId: '@alice:example.org' as UserId }, { userId: '@alice:example.org' as UserId, ...over });
    expect(await world.store.count()).toMatchObject({ connected: 2, ended: 0 });
    expect(world.actions('cancel')).toEqual([]);
  });

  test('and a late word of the one that its own newer event has superseded ends none', async () => {
    const world = await bothThere({}, { handles: delayHandles(2), handlesHash: 'other' });
    const owner = by(1).owner as Owner;
    await world.engine.handOver(by(1, { handles: delayHandles(3), handlesHash: 'third' }));
    await world.clock.advance(1_000);
    const late = await world.engine.handOver(by(1));
    expect([late.kind, late.row.owner, late.row.state.kind]).toEqual(['repeated', owner, 'ended']);
    expect(await world.store.count()).toMatchObject({ connected: 2 });
  });
});
