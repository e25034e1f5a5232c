// Told to end while something hangs: who is there must outlast that, and the start of whoever comes next.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { DelayId, HomeserverUrl } from '../../src/delegation/ids.ts';
import { handOver, identity, room, sid } from '../support/fixtures.ts';
import { keepTimers } from './own-timers.ts';
import { EngineWorld } from './world.ts';

const MEMBERS = 100;
const DELAY_MS = 10_000;
const GRACE_MS = 9_000;
const HANGS = 'https://hangs.example.org' as HomeserverUrl;

async function populated() {
  const folder = mkdtempSync(path.join(tmpdir(), 'lastwill-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const world = new EngineWorld({}, { path: path.join(folder, 'lastwill.db') });
  const timers = keepTimers(world);
  const answers = world.answer;
  world.answer = (homeserver, call) => (homeserver === HANGS ? null : answers(homeserver, call));
  for (let n = 1; n <= MEMBERS; n += 1) {
    timers.add(`d-${n}`, DELAY_MS);
    await world.enter(n, room(n % 10), DELAY_MS, `d-${n}` as DelayId);
    await world.clock.advance(DELAY_MS / MEMBERS);
  }
  await world.clock.advance(20_000);
  return { world, timers };
}

/** How long it takes until it has ended; half a second later another one has started. */
async function replaced(world: EngineWorld, lastly?: () => Promise<void>): Promise<number> {
  const beganMs = world.clock.nowMs();
  let tookMs: number | null = null;
  void world.engine.drain(GRACE_MS, lastly).then(() => {
    tookMs = world.clock.nowMs() - beganMs;
  });
  while (tookMs === null) await world.clock.advance(10);
  await world.clock.advance(500);
  world.engine = { ...world.engine, drain: async () => {} };
  await world.restart();
  await world.clock.advance(20_000);
  return tookMs;
}

test('a leave hangs with another homeserver: nobody who is there runs out', async () => {
  const { world, timers } = await populated();
  const { id: _, ...rest } = handOver(5_000, { room: room(500), delayMs: 3_600_000, homeserver: HANGS });
  world.join(room(500), identity(5_000), sid(5_000));
  await world.engine.handOver(rest);
  await world.webhook(room(500), identity(5_000), sid(5_000), 'joined');
  await world.clock.advance(30_000);
  world.leave(room(500), identity(5_000));
  await world.webhook(room(500), identity(5_000), sid(5_000), 'left');
  await world.clock.advance(2_000);
  expect(await replaced(world)).toBe(GRACE_MS);
  expect(timers.lost()).toBe(0);
});

test('nor does anybody while an answer is waited for', async () => {
  const { world, timers } = await populated();
  expect(await replaced(world, () => new Promise((answered) => void world.clock.after(8_000, answered)))).toBeLessThan(8_100);
  expect(timers.lost()).toBe(0);
});

test('with nothing to wait for it ends at once', async () => {
  const { world, timers } = await populated();
  expect(await replaced(world)).toBeLessThan(100);
  expect(timers.lost()).toBe(0);
});
