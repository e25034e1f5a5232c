// A crowd whose leaves may come an hour late goes all at once, and others with short delays stay.
import { expect } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import type { Answer } from '../../src/delegation/state.ts';
import { identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

const HOUR_MS = 3_600_000;

export interface Crowd {
  readonly stay: number;
  readonly leave: number;
  readonly delayMs: number;
  readonly seed: number;
}

interface How {
  /** Between one who comes and the next. */
  readonly everyMs: number;
  readonly rooms: number;
  /** Until the crowd leaves. */
  readonly settleMs: number;
  /** What the homeserver does with a call instead of carrying it out: an answer, or null for none at all. Undefined: nothing. */
  readonly instead: (nowMs: number, hasLeft: boolean) => Answer | null | undefined;
}

/** Who ran out of those who stayed, and when the last leave of the others was sent, ms after they went. */
export async function leavingCrowd(
  { stay, leave, delayMs, seed }: Crowd,
  { everyMs, rooms, settleMs, instead }: How,
): Promise<{ readonly ranOut: number; readonly lastLeaveMs: number }> {
  const world = new EngineWorld({}, { seed });
  const { clock } = world;
  const expiresMs = new Map<string, number>();
  const lost = new Set<string>();
  const sentMs = new Map<string, number>();
  let hasLeft = false;
  world.givesUp = true;
  world.answer = (_, call) => {
    if (call.kind !== 'delay') throw new Error('there are no others');
    const nowMs = clock.nowMs();
    const other = instead(nowMs, hasLeft);
    if (other !== undefined) return other;
    if (call.action === 'send') sentMs.set(call.delayId, nowMs);
    else if ((expiresMs.get(call.delayId) ?? 0) <= nowMs) lost.add(call.delayId);
    else expiresMs.set(call.delayId, nowMs + (call.delayId.startsWith('stays') ? delayMs : HOUR_MS));
    return lost.has(call.delayId) ? { kind: 'final', how: 'gone' } : { kind: 'ok' };
  };
  for (let n = 1; n <= stay + leave; n += 1) {
    const [id, lastsMs] = n <= stay ? [`stays-${n}`, delayMs] : [`leaves-${n}`, HOUR_MS];
    expiresMs.set(id, clock.nowMs() + lastsMs);
    await world.enter(n, room(n % rooms), lastsMs, id as DelayId);
    await clock.advance(everyMs);
  }
  await clock.advance(settleMs);
  const startMs = clock.nowMs();
  hasLeft = true;
  for (let n = stay + 1; n <= stay + leave; n += 1) {
    world.leave(room(n % rooms), identity(n));
    void world.webhook(room(n % rooms), identity(n), sid(n), 'left');
  }
  await clock.advance(120_000);
  for (const [id, ms] of expiresMs) if (!sentMs.has(id) && ms <= clock.nowMs()) lost.add(id);
  expect(sentMs.size).toBe(leave);
  return { ranOut: lost.size, lastLeaveMs: Math.max(...sentMs.values()) - startMs };
}
