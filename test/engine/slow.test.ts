// A homeserver that takes its time for every call, and does what it is asked at the end of it: as long as it answers, nobody runs out.
import { expect, test } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import { room } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

const DELAY_MS = 10_000;
const FOR_MS = 120_000;
const EVERY_MS = 20;

interface Slow {
  readonly members: number;
  readonly takesMs: number;
  /** So quick it is until all have come. */
  readonly beforeMs?: number;
  readonly seed?: number;
}

/** How many ran out of so many who came and stayed, and how many restarts it took. */
async function ranOut({ members, takesMs, beforeMs = takesMs, seed = 0 }: Slow): Promise<{ ranOut: number; restarts: number }> {
  const world = new EngineWorld({}, { seed });
  const { clock } = world;
  const expiresMs = new Map<string, number>();
  const lost = new Set<string>();
  let nowTakesMs = beforeMs;
  const isOver = (id: string): boolean => {
    if ((expiresMs.get(id) ?? 0) <= clock.nowMs()) lost.add(id);
    return lost.has(id);
  };
  world.givesUp = true;
  world.takesMs = () => nowTakesMs;
  world.answer = (_, call) => {
    if (call.kind !== 'delay' || call.action !== 'restart') throw new Error('only restarts are to be made');
    if (isOver(call.delayId)) return { kind: 'final', how: 'gone' };
    clock.after(nowTakesMs, () => isOver(call.delayId) || expiresMs.set(call.delayId, clock.nowMs() + DELAY_MS));
    return { kind: 'ok' };
  };
  for (let n = 1; n <= members; n += 1) {
    const delayId = `d-${n}` as DelayId;
    expiresMs.set(delayId, clock.nowMs() + DELAY_MS);
    await world.enter(n, room(n % 20), DELAY_MS, delayId);
    await clock.advance(EVERY_MS);
  }
  await clock.advance(DELAY_MS);
  nowTakesMs = takesMs;
  await clock.advance(FOR_MS);
  for (const id of expiresMs.keys()) isOver(id);
  return { ranOut: lost.size, restarts: world.actions('restart').length };
}

test.each([
  { members: 1, takesMs: 3_000 },
  { members: 60, takesMs: 1_500 },
  { members: 60, takesMs: 3_000 },
])('$members members, $takesMs ms a call: nobody', async (slow) => {
  expect((await ranOut(slow)).ranOut).toBe(0);
});

test('many more of them are called at once, where that makes it no slower', async () => {
  expect((await ranOut({ members: 600, takesMs: 1_500 })).ranOut).toBe(0);
});

test('it is not called more often than it takes to have another try', async () => {
  const { restarts } = await ranOut({ members: 20, takesMs: 1_000 });
  expect(restarts / (20 * (FOR_MS + DELAY_MS))).toBeLessThan(1 / (0.7 * DELAY_MS));
});

test.each([
  { members: 30, beforeMs: 10, takesMs: 1_500 },
  { members: 200, beforeMs: 10, takesMs: 500 },
  { members: 600, beforeMs: 10, takesMs: 800 },
])('$members who have come while it took $beforeMs ms are kept when it takes $takesMs ms', async (slow) => {
  expect((await ranOut(slow)).ranOut).toBe(0);
});

test('one that hung is called again soon after it is back, also where the event has run out by our count', async () => {
  const world = new EngineWorld();
  const { clock } = world;
  const delayMs = 18_000;
  await world.enter(1, room(1), delayMs, 'd-1' as DelayId);
  // Its client restarts it as well, of which nobody tells us.
  const startMs = clock.nowMs();
  const [restartedMs, hangsFromMs, hangsUntilMs] = [startMs + 8_000, startMs + 14_000, startMs + 20_000];
  const answered: number[] = [];
  world.answer = () => {
    if (clock.nowMs() >= hangsFromMs && clock.nowMs() < hangsUntilMs) return null;
    answered.push(clock.nowMs());
    return { kind: 'ok' };
  };
  await clock.advance(30_000);
  expect(answered.find((ms) => ms >= hangsFromMs)).toBeLessThan(restartedMs + delayMs);
});
