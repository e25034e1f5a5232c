import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { HandOver } from '../../src/delegation/decide.ts';
import type { DelayId, HomeserverUrl, Identity, Owner } from '../../src/delegation/ids.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import { handOver as build, delayHandles, futureHandles, identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

const HOUR_MS = 3_600_000;
const TARGET = 'delay-secret-1';

function handOver(n = 1, over: Partial<HandOver> = {}) {
  const { id: _, ...rest } = build(n, over);
  return rest;
}

/** Hands delegation n over for a participant who is on the SFU, and lets it be found. */
async function present(world: EngineWorld, n = 1, over: Partial<HandOver> = {}): Promise<void> {
  world.join(over.room ?? room(n), identity(n), sid(n));
  await world.clock.advance(1);
  await world.engine.handOver(handOver(n, over));
}

describe('keeping alive', () => {
  it.each([
    [1_500, 60_000],
    [10_000, 600_000],
    [10 * HOUR_MS, 100 * HOUR_MS],
  ])('holds a delay of %d ms for %d ms: never late, never more often than wanted', async (delayMs, holdMs) => {
    const world = new EngineWorld(delayMs > HOUR_MS ? { presenceIntervalMs: HOUR_MS } : {});
    await present(world, 1, { delayMs });
    await world.clock.advance(holdMs);
    const restarts = world.actions('restart').map(({ atMs }) => atMs);
    const gaps = restarts.slice(1).map((atMs, index) => atMs - (restarts[index] ?? 0));
    expect(Math.max(...gaps)).toBeLessThanOrEqual(delayMs * 0.9);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(delayMs * 0.7);
    expect(await world.metric('lastwill_late_restarts_total')).toBe(0);
  });

  it('restarts within a second of waking what came due while the machine was asleep', async () => {
    const world = new EngineWorld({ presenceIntervalMs: HOUR_MS });
    await present(world, 1, { delayMs: 60_000 });
    await world.clock.advance(10_000);
    world.clock.sleep(44_000);
    await world.clock.advance(1_100);
    expect(world.actions('restart')).toHaveLength(2);
  });

  it('finds a participant who is there already within 2 s, and restarts at once', async () => {
    const world = new EngineWorld();
    await world.clock.advance(5_000);
    const beganMs = world.clock.nowMs();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(2_000);
    expect(world.actions('restart')).toHaveLength(1);
    expect((world.actions('restart')[0]?.atMs ?? 0) - beganMs).toBeLessThan(100);
  });

  it('asks the SFU once a room, however many are in it', async () => {
    const world = new EngineWorld();
    for (let n = 1; n <= 60; n += 1) await present(world, n, { room: room(n % 3), delayMs: 10_000 });
    await world.clock.advance(10_000);
    world.looks.length = 0;
    await world.clock.advance(60_000);
    // Each evidence serves for 5 s with a delay of 10 s.
    expect(world.looks.length).toBeLessThanOrEqual(3 * (60 / 5 + 60 / 30 + 1));
    expect(await world.store.count()).toMatchObject({ connected: 60 });
  });

  it('restarts nothing without evidence, and sends nothing either: the SFU is away', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: 60_000 });
    await world.clock.advance(10_000);
    world.sfuUp = false;
    world.calls.length = 0;
    await world.clock.advance(600_000);
    expect(world.calls).toEqual([]);
    expect(world.engine.sfuReachable).toBe(false);
  });

  it('looks at every room at once when the SFU is back', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(10_000);
    world.sfuUp = false;
    await world.clock.advance(60_000);
    world.sfuUp = true;
    world.leave(room(1), identity(1));
    // One second until the SFU is asked again, fifteen for clients of an SFU that was away, and a second list.
    await world.clock.advance(17_500);
    expect(world.actions('send', TARGET)).toHaveLength(1);
  });
});

describe('leaving', () => {
  it('sends the leave when the wait is over and the SFU has confirmed it', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(5_000);
    world.leave(room(1), identity(1));
    const leftMs = world.clock.nowMs();
    expect(await world.webhook(room(1), identity(1), sid(1), 'left', leftMs - 5_000)).toBe('applied');
    await world.clock.advance(3_000);
    const sends = world.actions('send', TARGET);
    expect(sends).toHaveLength(1);
    expect((sends[0]?.atMs ?? 0) - leftMs).toBeLessThanOrEqual(1_000 + 20);
    expect(await world.metric('lastwill_ghosts_avoided_total')).toBe(1);
    expect(await world.metric('lastwill_ghosts_total')).toBe(0);
  });

  it('sends nothing for one who is back in time', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(5_000);
    world.leave(room(1), identity(1));
    await world.webhook(room(1), identity(1), sid(1), 'left', world.clock.nowMs() - 5_000);
    await world.clock.advance(400);
    // The news of the return is lost: the list tells.
    world.join(room(1), identity(1), sid(2));
    await world.clock.advance(60_000);
    expect(world.actions('send')).toEqual([]);
    expect(await world.store.count()).toMatchObject({ connected: 1 });
  });

  it('asks in time about one who is waited for, also while the restart for that time is refused', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: 60_000 });
    await world.clock.advance(44_500);
    world.answer = () => ({ kind: 'limited', retryAfterMs: 1_900 });
    world.leave(room(1), identity(1));
    const leftMs = world.clock.nowMs();
    await world.webhook(room(1), identity(1), sid(1), 'sfu_down', leftMs - 44_500);
    await world.clock.advance(15_300);
    expect(world.actions('restart').filter(({ atMs }) => atMs > leftMs).length).toBeGreaterThan(0);
    expect(world.looks.filter(({ atMs }) => atMs >= leftMs + 15_000)).not.toEqual([]);
  });

  it('sends another for one who came back while the first hung, and is gone again', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(5_000);
    const leaves = async (nth: number): Promise<void> => {
      world.leave(room(1), identity(1));
      await world.webhook(room(1), identity(1), sid(nth), 'left', world.clock.nowMs() - 500);
      await world.clock.advance(1_100);
    };
    world.answer = () => null;
    await leaves(1);
    expect(world.actions('send', TARGET)).toHaveLength(1);
    world.join(room(1), identity(1), sid(2));
    await world.webhook(room(1), identity(1), sid(2), 'joined');
    await world.clock.advance(1_000);
    world.answer = () => ({ kind: 'ok' });
    await leaves(2);
    expect(world.actions('send', TARGET)).toHaveLength(2);
  });

  it('finds by a list whom no webhook reported, and confirms it by a second one', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(35_000);
    world.leave(room(1), identity(1));
    const leftMs = world.clock.nowMs();
    await world.clock.advance(36_000);
    const [sent] = world.actions('send', TARGET);
    expect((sent?.atMs ?? Number.POSITIVE_INFINITY) - leftMs).toBeLessThanOrEqual(30_000 + 4_000 + 1_100);
  });

  it('tries until it is accepted, at most ten seconds apart', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(5_000);
    world.answer = () => ({ kind: 'failed', reached: false });
    world.leave(room(1), identity(1));
    await world.webhook(room(1), identity(1), sid(1), 'removed', world.clock.nowMs() - 5_000);
    await world.clock.advance(120_000);
    const tries = world.actions('send').map(({ atMs }) => atMs);
    expect(Math.max(...tries.slice(1).map((atMs, index) => atMs - (tries[index] ?? 0)))).toBeLessThanOrEqual(10_050);
    world.answer = () => ({ kind: 'ok' });
    await world.clock.advance(10_100);
    expect(await world.store.count()).toMatchObject({ leaving: 0, ended: 1 });
    expect(await world.metric('lastwill_ghosts_total')).toBe(1);
  });

  it('sends each of a burst exactly once', async () => {
    const world = new EngineWorld({ waitMs: { left: 0, lost: 0, replaced: 0, sfuDown: 0, aborted: 0, missing: 0 } });
    for (let n = 1; n <= 1_500; n += 1) await present(world, n, { delayMs: HOUR_MS, room: room(n % 20) });
    await world.clock.advance(5_000);
    expect(await world.store.count()).toMatchObject({ connected: 1_500 });
    const gone = Array.from({ length: 1_500 }, (_, index) => index + 1);
    for (const n of gone) world.leave(room(n % 20), identity(n));
    await Promise.all(gone.map((n) => world.webhook(room(n % 20), identity(n), sid(n), 'left', world.clock.nowMs() - 5_000)));
    await world.clock.advance(30_000);
    expect(world.actions('send')).toHaveLength(1_500);
    expect(new Set(world.actions('send').map(({ target }) => target)).size).toBe(1_500);
    expect(await world.store.count()).toMatchObject({ ended: 1_500, leaving: 0 });
  });

  it('keeps a never connected one until its time, then sends its leave', async () => {
    const world = new EngineWorld();
    await world.engine.handOver(handOver(1, { delayMs: 8_000 }));
    await world.clock.advance(7_900);
    expect(world.calls).toEqual([]);
    await world.clock.advance(200);
    expect(world.actions('send', TARGET)).toHaveLength(1);
  });
});

describe('homeservers', () => {
  const DEAD = 'https://dead.example.org' as HomeserverUrl;

  it('one that hangs holds up no other', async () => {
    const world = new EngineWorld();
    world.answer = (homeserver) => (homeserver === DEAD ? null : { kind: 'ok' });
    for (let n = 1; n <= 400; n += 1) await present(world, n, { delayMs: 60_000, homeserver: DEAD, room: room(1) });
    await world.clock.advance(30_000);
    await present(world, 500, { delayMs: HOUR_MS });
    await world.clock.advance(1_000);
    world.leave(room(500), identity(500));
    const leftMs = world.clock.nowMs();
    await world.webhook(room(500), identity(500), sid(500), 'left', leftMs - 1_000);
    await world.clock.advance(3_000);
    const [sent] = world.actions('send', 'delay-secret-500');
    expect((sent?.atMs ?? Number.POSITIVE_INFINITY) - leftMs).toBeLessThan(1_100);
  });

  it('one that limits is left alone for as long as it wants, and gets the leave before the restarts', async () => {
    const world = new EngineWorld();
    let limited = false;
    world.answer = () => (limited ? { kind: 'limited', retryAfterMs: 3_000 } : { kind: 'ok' });
    for (let n = 1; n <= 20; n += 1) await present(world, n, { delayMs: 30_000, room: room(1) });
    await world.clock.advance(20_000);
    limited = true;
    await world.clock.advance(3_500);
    world.calls.length = 0;
    await world.clock.advance(2_000);
    // Every call while it limits is one that was allowed again.
    expect(world.calls.length).toBeLessThanOrEqual(2);
    world.leave(room(1), identity(7));
    await world.webhook(room(1), identity(7), sid(7), 'left', world.clock.nowMs() - 25_000);
    await world.clock.advance(1_000);
    limited = false;
    world.calls.length = 0;
    await world.clock.advance(4_000);
    expect(world.calls[0]).toMatchObject({ action: 'send', target: 'delay-secret-7' });
    await world.clock.advance(30_000);
    expect(await world.store.count()).toMatchObject({ connected: 19, ended: 1 });
  });
});

describe('hand-overs', () => {
  it('are found again by the same handles, superseded by others, and given back', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(1_000);
    const again = await world.engine.handOver(handOver(1, { delayMs: HOUR_MS }));
    expect(again.kind).toBe('repeated');
    const other = await world.engine.handOver(handOver(1, { delayMs: HOUR_MS, handles: delayHandles(2), handlesHash: 'other' }));
    expect(other).toMatchObject({ kind: 'created', superseded: 1 });
    await world.clock.advance(1_000);
    expect(world.actions('cancel')).toMatchObject([{ target: TARGET }]);
    expect((await world.engine.read(room(1), again.row.id))?.state).toMatchObject({ kind: 'ended', outcome: 'superseded' });
    const back = await world.engine.handBack(room(1), other.row.id, other.row.owner);
    expect(back?.state).toMatchObject({ kind: 'ended', outcome: 'handed-back' });
    await world.clock.advance(2 * HOUR_MS);
    expect(world.actions('send')).toEqual([]);
  });

  describe('whose member goes by another name on the SFU', () => {
    const other = identity(2);
    const watches = (...identities: readonly Identity[]) => handOver(1, { delayMs: HOUR_MS, owner: 'owner' as Owner, identities });

    it('is found by it from the moment that it is known', async () => {
      const world = new EngineWorld();
      const { row } = await world.engine.handOver(watches(identity(1)));
      world.join(room(1), other, sid(2));
      await world.clock.advance(5_000);
      expect((await world.engine.read(room(1), row.id))?.state.kind).toBe('awaiting');
      await world.engine.knownAs(room(1), row.owner, [other]);
      await world.clock.advance(2_000);
      expect([(await world.engine.read(room(1), row.id))?.state.kind, world.actions('restart').length]).toEqual(['connected', 1]);
      world.leave(room(1), other);
      await world.webhook(room(1), other, sid(2), 'left', world.clock.nowMs() - 1_001);
      await world.clock.advance(3_000);
      expect(world.actions('send')).toMatchObject([{ target: TARGET }]);
    });

    it('is told so by a hand-over that comes again', async () => {
      const world = new EngineWorld();
      await world.engine.handOver(watches(identity(1)));
      await world.clock.advance(5_000);
      world.join(room(1), other, sid(2));
      const again = await world.engine.handOver(watches(identity(1), other));
      expect([again.kind, again.row.identities]).toEqual(['repeated', [identity(1), other]]);
      await world.clock.advance(2_000);
      expect(world.actions('restart')).toHaveLength(1);
    });

    it('keeps it when the next hand-over does not say it', async () => {
      const world = new EngineWorld();
      await world.engine.handOver(watches(identity(1), other));
      const next = await world.engine.handOver({ ...watches(identity(1)), handles: delayHandles(2), handlesHash: 'other' });
      expect([next.kind, next.row.identities]).toEqual(['created', [identity(1), other]]);
    });
  });

  it('of a futures group refresh every timer, and send one ending', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS, handles: futureHandles(1) });
    await world.clock.advance(1_000);
    expect(world.calls.map(({ target }) => target)).toEqual(['refresh-secret-leave-1']);
    world.leave(room(1), identity(1));
    await world.webhook(room(1), identity(1), sid(1), 'lost', world.clock.nowMs() - 1_001);
    await world.clock.advance(3_000);
    expect(world.calls.slice(1).map(({ target }) => target)).toEqual(['send-secret-lost-1']);
  });
});

describe('after a kill', () => {
  it('does what was owed, and notices who left meanwhile', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lastwill-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const world = new EngineWorld({}, { path: join(folder, 'store.sqlite') });
    await present(world, 1, { delayMs: HOUR_MS });
    await present(world, 2, { delayMs: HOUR_MS });
    await world.clock.advance(5_000);
    world.answer = () => null;
    world.leave(room(1), identity(1));
    await world.webhook(room(1), identity(1), sid(1), 'removed', world.clock.nowMs() - 5_000);
    await world.clock.advance(100);
    world.leave(room(2), identity(2));
    world.answer = () => ({ kind: 'ok' });
    world.calls.length = 0;
    await world.restart();
    // What was claimed comes free with the process; an absence known from a list only needs a second one.
    await world.clock.advance(100);
    expect(world.actions('send').map(({ target }) => target)).toEqual([TARGET]);
    await world.clock.advance(5_000);
    expect(world.actions('send').map(({ target }) => target)).toEqual([TARGET, 'delay-secret-2']);
  });
});

describe('the store', () => {
  it('commits a burst of webhooks together', async () => {
    const world = new EngineWorld();
    for (let n = 1; n <= 200; n += 1) await world.engine.handOver(handOver(n, { delayMs: HOUR_MS }));
    await world.clock.advance(5_000);
    world.commits = 0;
    await Promise.all(
      Array.from({ length: 200 }, (_, index) => world.webhook(room(index + 1), identity(index + 1), sid(index + 1), 'joined')),
    );
    expect(world.commits).toBe(1);
  });

  it('that can not commit promises nothing, and what was due is done later', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(5_000);
    const { update, ping } = world.store;
    const fail = () => Promise.reject(new StoreUnavailable(new Error('disk full')));
    Object.assign(world.store, { update: fail, ping: fail });
    await expect(world.webhook(room(1), identity(1), sid(1), 'left')).rejects.toBeInstanceOf(StoreUnavailable);
    await expect(world.engine.handOver(handOver(2))).rejects.toBeInstanceOf(StoreUnavailable);
    world.leave(room(1), identity(1));
    await world.clock.advance(60_000);
    Object.assign(world.store, { update, ping });
    expect(world.lines.filter((line) => line.includes('"why":"disk full"'))).toHaveLength(1);
    // Noticed within a second, then a list, the wait for an absence without a webhook, and a second list.
    await world.clock.advance(6_500);
    expect(world.actions('send', TARGET)).toHaveLength(1);
  });
});

it('an update that writes nothing does not show that the store can write', async () => {
  const world = new EngineWorld();
  await present(world, 1, { delayMs: HOUR_MS });
  await world.clock.advance(5_000);
  const { update } = world.store;
  Object.assign(world.store, {
    update: (...args: Parameters<typeof update>) =>
      args[0].by === 'owner' ? Promise.reject(new StoreUnavailable('full')) : update.apply(world.store, args),
    ping: () => Promise.reject(new StoreUnavailable('full')),
  });
  world.looks.length = 0;
  for (let n = 10; n < 15; n += 1) {
    await expect(world.engine.handOver(handOver(n))).rejects.toBeInstanceOf(StoreUnavailable);
    expect(await world.webhook(room(n), identity(n), sid(n), 'joined')).toBe('irrelevant');
  }
  expect(world.lines.filter((line) => line.includes('writable again'))).toEqual([]);
  expect(world.looks).toEqual([]);
});

describe('draining', () => {
  it('and is over, what the store refuses is no outage: it was closed', async () => {
    const world = new EngineWorld();
    await present(world, 1, { delayMs: HOUR_MS });
    const drained = world.engine.drain(0);
    await world.clock.advance(1);
    await drained;
    await world.store.close();
    await expect(world.webhook(room(1), identity(1), sid(1), 'left')).rejects.toBeInstanceOf(StoreUnavailable);
    expect(world.lines.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  });

  it('waits for what is under way, but not for ever', async () => {
    const world = new EngineWorld();
    world.answer = () => null;
    await present(world, 1, { delayMs: HOUR_MS });
    await world.clock.advance(100);
    let drained = false;
    void world.engine.drain(5_000).then(() => {
      drained = true;
    });
    await world.clock.advance(4_000);
    expect(drained).toBe(false);
    await world.clock.advance(1_500);
    expect(drained).toBe(true);
  });
});

it('logs one line a transition, with no secret in it', async () => {
  const world = new EngineWorld();
  await present(world, 1, { delayMs: HOUR_MS });
  await world.clock.advance(1_000);
  const moved = world.lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'delegation moved');
  expect(moved).toMatchObject([{ from: 'awaiting', to: 'connected', event: 'snapshot', sid: 'PA_1' }]);
  expect(world.lines.join()).not.toContain('secret');
});

it('tells a list whom it should show: who is missing without a webhook, and not who has gone', async () => {
  const world = new EngineWorld();
  for (const n of [1, 2]) await world.enter(n, room(1), 600_000, `event-${n}` as DelayId);
  await world.clock.advance(2_000);
  for (const n of [1, 2]) world.leave(room(1), identity(n));
  await world.webhook(room(1), identity(2), sid(2), 'left');
  await world.clock.advance(40_000);
  expect(world.actions('send')).toHaveLength(2);
  const expected = world.looks.flatMap((look) => look.expected.map((one) => one.sid));
  expect(new Set(expected)).toEqual(new Set([sid(1)]));
});
