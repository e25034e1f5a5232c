// A crowd leaves, and some of the calls get no answer while all others do: those must not keep who stays from being restarted.
import { expect, test } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import { identity, room, sid } from '../support/fixtures.ts';
import { createSeededRandom } from '../support/virtual-clock.ts';
import { EngineWorld, SEEDS } from './world.ts';

const HOUR_MS = 3_600_000;
const TAKES_MS = 10;

interface Crowd {
  readonly stay: number;
  readonly leave: number;
  readonly delayMs: number;
  /** This part of the calls gets no answer; nothing is done for them. */
  readonly hang: number;
  readonly seed: number;
}

async function crowd({ stay, leave, delayMs, hang, seed }: Crowd): Promise<{ readonly ranOut: number; readonly lastLeaveMs: number }> {
  const world = new EngineWorld({}, { seed });
  const { clock } = world;
  const random = createSeededRandom(7 + seed);
  const expiresMs = new Map<string, number>();
  const lost = new Set<string>();
  const sentMs = new Map<string, number>();
  let hanging = 0;
  world.givesUp = true;
  world.takesMs = () => TAKES_MS;
  world.answer = (_, call) => {
    if (call.kind !== 'delay') throw new Error('there are no others');
    if (random.roll() < hanging) return null;
    const nowMs = clock.nowMs();
    if (call.action === 'send') sentMs.set(call.delayId, nowMs);
    else if ((expiresMs.get(call.delayId) ?? 0) <= nowMs) lost.add(call.delayId);
    else expiresMs.set(call.delayId, nowMs + (call.delayId.startsWith('stays') ? delayMs : HOUR_MS));
    return lost.has(call.delayId) ? { kind: 'final', how: 'gone' } : { kind: 'ok' };
  };
  for (let n = 1; n <= stay + leave; n += 1) {
    const [id, lastsMs] = n <= stay ? [`stays-${n}`, delayMs] : [`leaves-${n}`, HOUR_MS];
    expiresMs.set(id, clock.nowMs() + lastsMs);
    await world.enter(n, room(n % 30), lastsMs, id as DelayId);
    if (n % 10 === 0) await clock.advance(20);
  }
  await clock.advance(10_000);
  const startMs = clock.nowMs();
  hanging = hang;
  for (let n = stay + 1; n <= stay + leave; n += 1) {
    world.leave(room(n % 30), identity(n));
    void world.webhook(room(n % 30), identity(n), sid(n), 'left');
  }
  await clock.advance(120_000);
  for (const [id, ms] of expiresMs) if (!sentMs.has(id) && ms <= clock.nowMs()) lost.add(id);
  expect(sentMs.size).toBe(leave);
  return { ranOut: lost.size, lastLeaveMs: Math.max(...sentMs.values()) - startMs };
}

test.each([
  { stay: 40, leave: 3_000, delayMs: 10_000, hang: 0.01, most: 25_000 },
  { stay: 200, leave: 3_000, delayMs: 10_000, hang: 0.05, most: 35_000 },
  { stay: 40, leave: 3_000, delayMs: 30_000, hang: 0.1, most: 60_000 },
])('$leave leave, $stay stay with delays of $delayMs ms, $hang of the calls hang', async ({ most, ...given }) => {
  for (const seed of SEEDS) {
    const { ranOut, lastLeaveMs } = await crowd({ ...given, seed });
    expect({ seed, ranOut }).toEqual({ seed, ranOut: 0 });
    expect(lastLeaveMs).toBeLessThan(most);
  }
});
