// A crowd leaves at once, and its homeserver takes a while for all the leaves: nobody who stays runs out meanwhile.
import { expect, test } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import type { Call } from '../../src/homeserver/delayed-events.ts';
import { identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

const SHORT_MS = 10_000;
const HOUR_MS = 3_600_000;
const STAY = 60;

/** How many of those who stayed ran out, and how long it took until all who left were gone. */
async function crowd(leaving: number, eachMs: number): Promise<{ ranOut: number; goneAfterMs: number }> {
  const world = new EngineWorld();
  const { clock } = world;
  const expiresMs = new Map<string, number>();
  const [lost, sent] = [new Set<string>(), new Set<string>()];
  let freeMs = 0;
  let perCallMs = 0;
  const done = (id: string, action: Extract<Call, { kind: 'delay' }>['action']): void => {
    if ((expiresMs.get(id) ?? 0) <= clock.nowMs()) lost.add(id);
    else if (action === 'restart') expiresMs.set(id, clock.nowMs() + (id.endsWith('-short') ? SHORT_MS : HOUR_MS));
    else sent.add(id);
  };
  // One after the other.
  world.takesMs = () => freeMs - clock.nowMs();
  world.answer = (_, call) => {
    if (call.kind !== 'delay') throw new Error('there are no others');
    freeMs = Math.max(freeMs, clock.nowMs()) + perCallMs;
    clock.after(freeMs - clock.nowMs(), () => done(call.delayId, call.action));
    return { kind: 'ok' };
  };
  for (let n = 1; n <= STAY + leaving; n += 1) {
    const [where, delayMs] = [room(n % 10), n <= STAY ? SHORT_MS : HOUR_MS];
    const delayId = `d-${n}${n <= STAY ? '-short' : ''}`;
    expiresMs.set(delayId, clock.nowMs() + delayMs);
    await world.enter(n, where, delayMs, delayId as DelayId);
    await clock.advance(2);
  }
  await clock.advance(SHORT_MS);
  perCallMs = eachMs;
  const startMs = clock.nowMs();
  for (let n = STAY + 1; n <= STAY + leaving; n += 1) {
    world.leave(room(n % 10), identity(n));
    await world.webhook(room(n % 10), identity(n), sid(n), 'left');
  }
  while (sent.size < leaving && clock.nowMs() - startMs < 10 * SHORT_MS) await clock.advance(100);
  const goneAfterMs = clock.nowMs() - startMs;
  await clock.advance(2 * SHORT_MS);
  for (let n = 1; n <= STAY; n += 1) if ((expiresMs.get(`d-${n}-short`) ?? 0) <= clock.nowMs()) lost.add(`d-${n}-short`);
  return { ranOut: lost.size, goneAfterMs };
}

test.each([
  [1_000, 20],
  [6_000, 5],
])('%d leave, %d ms for each of them', async (leaving, eachMs) => {
  const { ranOut, goneAfterMs } = await crowd(leaving, eachMs);
  expect(ranOut).toBe(0);
  // And as soon as they can be: those who stay need three calls in ten at most.
  expect(goneAfterMs).toBeLessThan((leaving * eachMs) / 0.7 + 3_000);
});

test('who waits for longer than a claim lasts is claimed anew once in a while, and not all the time', async () => {
  const [members, takesMs] = [3_000, 700];
  const world = new EngineWorld();
  const { clock } = world;
  for (let n = 1; n <= members; n += 1) await world.enter(n, room(n % 50), 24 * 3_600_000, `d-${n}` as DelayId);
  await clock.advance(60_000);
  world.takesMs = () => takesMs;
  let claimed = 0;
  const { claimDue } = world.store;
  world.store.claimDue = async (...asked) => {
    const rows = await claimDue.apply(world.store, asked);
    claimed += rows.length;
    if (claimed > 100 * members) throw new Error('time stands still');
    return rows;
  };
  for (let n = 1; n <= members; n += 1) {
    world.leave(room(n % 50), identity(n));
    await world.webhook(room(n % 50), identity(n), sid(n), 'left');
  }
  await clock.advance(150_000);
  expect(new Set(world.actions('send').map(({ target }) => target)).size).toBe(members);
  expect(claimed).toBeLessThan(8 * members);
});
