// Hand-overs of which nobody ever connects, thousands of them: calls about them wait, and nobody else does.
import { describe, expect, test } from 'vitest';
import type { DelayId, HomeserverUrl } from '../../src/delegation/ids.ts';
import { handOver, identity, room, sid } from '../support/fixtures.ts';
import { START_MS } from '../support/virtual-clock.ts';
import { keepTimers } from './own-timers.ts';
import { EngineWorld } from './world.ts';

async function invent(world: EngineWorld, count: number): Promise<void> {
  for (let n = 1; n <= count; n += 1) {
    const handles = { kind: 'delay', delayId: `invented-${n}` as DelayId } as const;
    const { id: _, ...rest } = handOver(1_000 + n, { room: room(100 + (n % 10)), delayMs: 20_000, handles });
    await world.engine.handOver(rest);
  }
}

test.each([2_000, 4_000])(
  '%d of one homeserver: who leaves at another one has their leave, and the next try if it fails',
  async (count) => {
    const world = new EngineWorld();
    const members = 20;
    const homeserver = 'https://other.example.org' as HomeserverUrl;
    for (let n = 1; n <= members; n += 1) {
      const { id: _, ...rest } = handOver(n, { room: room(n), delayMs: 3_600_000, homeserver });
      world.join(room(n), identity(n), sid(n));
      await world.engine.handOver(rest);
      await world.webhook(room(n), identity(n), sid(n), 'joined');
    }
    await world.clock.advance(5_000);
    await invent(world, count);
    await world.clock.advance(25_000);
    let looks = 0;
    const { claimDue } = world.store;
    world.store.claimDue = (...asked) => {
      looks += 1;
      return claimDue.apply(world.store, asked);
    };
    let fails = true;
    world.answer = (_, call) => {
      const failed = fails && call.kind === 'delay' && call.delayId === 'delay-secret-1';
      if (failed) fails = false;
      return failed ? { kind: 'failed', reached: false } : { kind: 'ok' };
    };
    const leftMs = world.clock.nowMs();
    for (let n = 1; n <= members; n += 1) {
      world.leave(room(n), identity(n));
      await world.webhook(room(n), identity(n), sid(n), 'left');
    }
    await world.clock.advance(60_000);
    for (let n = 1; n <= members; n += 1) expect(world.actions('send', `delay-secret-${n}`).at(-1)?.atMs).toBeLessThan(leftMs + 2_500);
    expect(world.actions('send', 'delay-secret-1')).toHaveLength(2);
    expect(looks).toBeLessThan(1_000);
  },
);

test.each([100, 700])('%d of a homeserver that fails for a moment: nobody who is there is lost', async (count) => {
  const world = new EngineWorld();
  const timers = keepTimers(world);
  const answers = world.answer;
  let failing = false;
  world.answer = (homeserver, call) => {
    if (failing) return { kind: 'failed', reached: false };
    return call.kind === 'delay' && call.delayId.startsWith('invented') ? { kind: 'final', how: 'gone' } : answers(homeserver, call);
  };
  for (let n = 1; n <= 5; n += 1) {
    timers.add(`d-${n}`, 10_000);
    await world.enter(n, room(1), 10_000, `d-${n}` as DelayId);
    await world.clock.advance(1_500);
  }
  await world.clock.advance(60_000);
  await invent(world, count);
  await world.clock.advance(19_000);
  failing = true;
  await world.clock.advance(1_200);
  failing = false;
  await world.clock.advance(60_000);
  expect(timers.lost()).toBe(0);
});

test('thirty who never come, to events that there are: the leaves of sixteen come at once, and all others ten seconds later', async () => {
  const world = new EngineWorld();
  await invent(world, 30);
  await world.clock.advance(60_000);
  const times = world.actions('send').map(({ atMs }) => atMs - START_MS);
  expect(times.filter((atMs) => atMs < 21_500).length).toBeGreaterThanOrEqual(16);
  expect(times.filter((atMs) => atMs < 31_500)).toHaveLength(30);
});

/** The pace of calls that nobody would miss (pace.ts). */
const NEXT_MS = 5_000;

describe('a homeserver without a limit: who never comes does not wait behind what has an hour', () => {
  async function again(world: EngineWorld, n: number): Promise<void> {
    const handles = { kind: 'delay', delayId: `second-${n}` as DelayId } as const;
    const { id: _, ...rest } = handOver(n, { room: room(1), delayMs: 3_600_000, handles });
    await world.engine.handOver(rest);
  }
  async function expectLeaveWithin(world: EngineWorld, lateMs: number): Promise<void> {
    const handles = { kind: 'delay', delayId: 'of-nobody' as DelayId } as const;
    const { id: _, ...rest } = handOver(1_000, { room: room(2), delayMs: 18_000, handles });
    await world.engine.handOver(rest);
    const byMs = world.clock.nowMs() + 18_000 + lateMs;
    await world.clock.advance(60_000);
    expect(world.actions('send', 'of-nobody')[0]?.atMs).toBeLessThan(byMs);
  }

  test.each([6, 30])('restarts of %d who are there, and have handed over twice', async (count) => {
    const world = new EngineWorld();
    for (let n = 1; n <= count; n += 1) {
      await world.enter(n, room(1), 3_600_000, `first-${n}` as DelayId);
      await world.clock.advance(300);
      await again(world, n);
    }
    await expectLeaveWithin(world, 1_000);
  });

  test.each([6, 30])('cancellations of %d who hand over twice before they come', async (count) => {
    const world = new EngineWorld();
    for (let n = 1; n <= count; n += 1) {
      const handles = { kind: 'delay', delayId: `first-${n}` as DelayId } as const;
      const { id: _, ...rest } = handOver(n, { room: room(1), delayMs: 3_600_000, handles });
      await world.engine.handOver(rest);
      await again(world, n);
    }
    await expectLeaveWithin(world, NEXT_MS);
  });
});
