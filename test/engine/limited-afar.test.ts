// A homeserver that counts calls, by far not too few for all, and takes a while for each: that it has once refused one costs nobody anything.
import { expect, test } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import { room } from '../support/fixtures.ts';
import { EngineWorld, SEEDS } from './world.ts';

const DELAY_MS = 10_000;

interface How {
  readonly people: number;
  readonly perSecond: number;
  /** What a call takes. */
  readonly tookMs: number;
  /** And one that is refused: half a second with Synapse. */
  readonly refusedMs: number;
  /** For so long somebody else at the same address uses all of it up. */
  readonly usedUpMs: number;
  readonly hint: boolean;
}

async function lost({ people, perSecond, tookMs, refusedMs, usedUpMs, hint }: How, seed: number): Promise<number> {
  const world = new EngineWorld({}, { seed });
  const { clock } = world;
  const expiresMs = new Map<string, number>();
  const gone = new Set<string>();
  let bucket = { calls: perSecond, atMs: clock.nowMs() };
  world.takesMs = ({ kind }) => (kind === 'limited' ? refusedMs : tookMs);
  world.givesUp = true;
  world.answer = (_, call) => {
    if (call.kind !== 'delay') throw new Error('there are no others');
    const nowMs = clock.nowMs();
    const calls = Math.min(bucket.calls + ((nowMs - bucket.atMs) * perSecond) / 1000, perSecond);
    bucket = { calls: calls < 1 ? calls : calls - 1, atMs: nowMs };
    if (calls < 1) return { kind: 'limited', retryAfterMs: hint ? Math.ceil(((1 - calls) / perSecond) * 1000) : null };
    if ((expiresMs.get(call.delayId) ?? 0) <= nowMs) gone.add(call.delayId);
    if (gone.has(call.delayId)) return { kind: 'final', how: 'gone' };
    expiresMs.set(call.delayId, nowMs + DELAY_MS);
    return { kind: 'ok' };
  };
  for (let n = 1; n <= people; n += 1) {
    expiresMs.set(`delay-${n}`, clock.nowMs() + DELAY_MS);
    await world.enter(n, room(n % 10), DELAY_MS, `delay-${n}` as DelayId);
    await clock.advance(Math.floor(DELAY_MS / people));
  }
  await clock.advance(5_000);
  expect(gone.size).toBe(0);
  bucket = { calls: -(usedUpMs * perSecond) / 1000, atMs: clock.nowMs() };
  await clock.advance(30_000);
  return gone.size;
}

test.each([
  { people: 150, perSecond: 50, tookMs: 100, refusedMs: 100, usedUpMs: 500, hint: true },
  { people: 150, perSecond: 50, tookMs: 100, refusedMs: 100, usedUpMs: 500, hint: false },
  { people: 40, perSecond: 20, tookMs: 300, refusedMs: 300, usedUpMs: 500, hint: true },
  { people: 60, perSecond: 10, tookMs: 100, refusedMs: 500, usedUpMs: 1000, hint: true },
  { people: 120, perSecond: 20, tookMs: 50, refusedMs: 500, usedUpMs: 1000, hint: true },
])(
  '$people with delays of 10 s, $perSecond calls a second, each takes $tookMs ms, a refusal $refusedMs (a hint: $hint): nobody runs out',
  async (how) => {
    for (const seed of SEEDS.slice(0, 3)) expect({ seed, lost: await lost(how, seed) }).toEqual({ seed, lost: 0 });
  },
);
