// What has run out by our count alone, and not where it counts: it is called all the same, however many they are.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import { room } from '../support/fixtures.ts';
import { keepTimers, type OwnTimers } from './own-timers.ts';
import { EngineWorld } from './world.ts';

const DELAY_MS = 10_000;

async function enter(world: EngineWorld, timers: OwnTimers, members: number, withinMs: number): Promise<void> {
  for (let n = 1; n <= members; n += 1) {
    const id = `d-${n}` as DelayId;
    timers.add(id, DELAY_MS);
    await world.enter(n, room(n % 10), DELAY_MS, id);
    await world.clock.advance(Math.floor(withinMs / members));
  }
}

test.each([20, 60, 400])('%d members, kept alive while the disk was full: the next process knows nothing of that', async (members) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'lastwill-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const world = new EngineWorld({}, { path: path.join(folder, 'lastwill.db') });
  const timers = keepTimers(world);
  await enter(world, timers, members, 5_000);
  await world.clock.advance(10_000);
  world.store.update = () => Promise.reject(new StoreUnavailable(new Error('full')));
  await world.clock.advance(30_000);
  expect(timers.lost()).toBe(0);
  await world.restart();
  await world.clock.advance(20_000);
  expect(timers.lost()).toBe(0);
});

test.each([1, 30, 300])('%d members of a homeserver that stands still for longer than they have: so do its timers', async (members) => {
  const world = new EngineWorld();
  const timers = keepTimers(world);
  const answers = world.answer;
  await enter(world, timers, members, 9_000);
  await world.clock.advance(20_000);
  world.answer = () => ({ kind: 'failed', reached: false });
  await world.clock.advance(12_000);
  world.answer = answers;
  for (const event of timers.events.values()) event.expiresMs += 13_500;
  await world.clock.advance(60_000);
  expect(timers.lost()).toBe(0);
});
