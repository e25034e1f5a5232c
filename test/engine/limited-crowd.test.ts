// A crowd leaves a homeserver that lets few calls through, and others with short delays stay: their restarts do not wait for all the leaves.
import { expect, test } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import { identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld, SEEDS } from './world.ts';

const HOUR_MS = 3_600_000;
/** Synapse's default. */
const LIMIT = { perMs: 0.001, burst: 5 };

interface Crowd {
  readonly stay: number;
  readonly leave: number;
  readonly delayMs: number;
  /** Whether a refusal says when the next call is let through. */
  readonly hint: boolean;
  readonly seed: number;
}

async function crowd({ stay, leave, delayMs, hint, seed }: Crowd): Promise<{ readonly ranOut: number; readonly lastLeaveMs: number }> {
  const world = new EngineWorld({}, { seed });
  const { clock } = world;
  const expiresMs = new Map<string, number>();
  const lost = new Set<string>();
  const sentMs = new Map<string, number>();
  let bucket = { calls: LIMIT.burst, atMs: clock.nowMs() };
  world.takesMs = () => 20;
  world.answer = (_, call) => {
    if (call.kind !== 'delay') throw new Error('there are no others');
    const nowMs = clock.nowMs();
    const calls = Math.min(LIMIT.burst, bucket.calls + (nowMs - bucket.atMs) * LIMIT.perMs);
    bucket = { calls: calls < 1 ? calls : calls - 1, atMs: nowMs };
    if (calls < 1) return { kind: 'limited', retryAfterMs: hint ? Math.ceil((1 - calls) / LIMIT.perMs) : null };
    if (call.action === 'send') sentMs.set(call.delayId, nowMs);
    else if ((expiresMs.get(call.delayId) ?? 0) <= nowMs) lost.add(call.delayId);
    else expiresMs.set(call.delayId, nowMs + (call.delayId.startsWith('stays') ? delayMs : HOUR_MS));
    return lost.has(call.delayId) ? { kind: 'final', how: 'gone' } : { kind: 'ok' };
  };
  for (let n = 1; n <= stay + leave; n += 1) {
    const [id, lastsMs] = n <= stay ? [`stays-${n}`, delayMs] : [`leaves-${n}`, HOUR_MS];
    expiresMs.set(id, clock.nowMs() + lastsMs);
    await world.enter(n, room(n % 3), lastsMs, id as DelayId);
    await clock.advance(2_000);
  }
  await clock.advance(40_000);
  const startMs = clock.nowMs();
  for (let n = stay + 1; n <= stay + leave; n += 1) {
    world.leave(room(n % 3), identity(n));
    await world.webhook(room(n % 3), identity(n), sid(n), 'left');
  }
  await clock.advance(120_000);
  for (const [id, ms] of expiresMs) if (!sentMs.has(id) && ms <= clock.nowMs()) lost.add(id);
  expect(sentMs.size).toBe(leave);
  return { ranOut: lost.size, lastLeaveMs: Math.max(...sentMs.values()) - startMs };
}

test.each([
  { stay: 4, leave: 15, delayMs: 10_000, hint: true },
  { stay: 5, leave: 30, delayMs: 10_000, hint: true },
  { stay: 5, leave: 30, delayMs: 30_000, hint: true },
  { stay: 5, leave: 30, delayMs: 30_000, hint: false },
])('$leave leave, $stay stay with delays of $delayMs ms (a hint: $hint): nobody runs out', async (given) => {
  for (const seed of SEEDS) {
    const { ranOut, lastLeaveMs } = await crowd({ ...given, seed });
    expect({ seed, ranOut }).toEqual({ seed, ranOut: 0 });
    // The restarts of five take less than half of the calls.
    expect(lastLeaveMs).toBeLessThan((given.leave * 2) / LIMIT.perMs);
  }
});
