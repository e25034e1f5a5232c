// Homeservers limit how much each of their users sends (Synapse: rc_message). Who has used that up and leaves has their leave refused with 429,
// in the words in which the calls of an address are refused that makes too many; but nobody else's call is.
import { expect, it } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import { identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld, SEEDS } from './world.ts';

const DELAY_MS = 10_000;
/** From the departure: the wait for a return, and five seconds more. */
const REFUSED_MS = 6_000;

const delayIdOf = (n: number): DelayId => `delay-${n}` as DelayId;

/** A homeserver that counts no calls, and everybody's messages. */
class Counting {
  readonly #world: EngineWorld;
  readonly #expiresMs = new Map<string, number>();
  readonly refusesMs = new Map<string, number>();
  /** Until then it refuses all calls, whosesoever. */
  refusesAllMs = 0;
  readonly sentMs = new Map<string, number>();

  constructor(world: EngineWorld) {
    this.#world = world;
    world.answer = (_, call) => {
      if (call.kind !== 'delay') throw new Error('tokens are not known here');
      const { delayId, action } = call;
      const nowMs = world.clock.nowMs();
      if (nowMs < this.refusesAllMs) return { kind: 'limited', retryAfterMs: this.refusesAllMs - nowMs };
      if (!this.isAlive(delayId)) return { kind: 'final', how: 'gone' };
      const restMs = (this.refusesMs.get(delayId) ?? 0) - nowMs;
      if (action === 'send' && restMs > 0) return { kind: 'limited', retryAfterMs: restMs };
      if (action === 'restart') this.schedule(delayId);
      else this.sentMs.set(delayId, nowMs);
      return { kind: 'ok' };
    };
  }

  schedule(delayId: DelayId): void {
    this.#expiresMs.set(delayId, this.#world.clock.nowMs() + DELAY_MS);
  }

  isAlive(delayId: DelayId): boolean {
    return (this.#expiresMs.get(delayId) ?? 0) > this.#world.clock.nowMs() && !this.sentMs.has(delayId);
  }
}

it.each([
  [1, 40, 2],
  [2, 40, 2],
  [5, 40, 2],
  // So many that it is doubtful whether all calls are counted: they are few at once then, and tried sooner.
  [12, 16, 5],
])(
  '%i of %i leave who have sent too much: nobody else runs out or leaves late, and they are tried as they are told',
  async (count, people, mostTries) => {
    for (const seed of SEEDS) {
      const world = new EngineWorld({}, { seed });
      const { clock } = world;
      const homeserver = new Counting(world);
      for (let n = 1; n <= people; n += 1) {
        homeserver.schedule(delayIdOf(n));
        await world.enter(n, room(), DELAY_MS, delayIdOf(n));
        await clock.advance(250);
      }
      await clock.advance(20_000);
      const last = count + 1;
      const leftMs = clock.nowMs();
      for (let n = 1; n <= last; n += 1) {
        if (n !== last) homeserver.refusesMs.set(delayIdOf(n), leftMs + REFUSED_MS);
        world.leave(room(), identity(n));
        await world.webhook(room(), identity(n), sid(n), 'left');
      }
      await clock.advance(30_000);
      const lost = Array.from({ length: people - last }, (_, n) => delayIdOf(last + 1 + n)).filter((id) => !homeserver.isAlive(id));
      expect({ seed, lost }).toEqual({ seed, lost: [] });
      expect((homeserver.sentMs.get(delayIdOf(last)) ?? 0) - leftMs).toBeLessThan(2_000);
      for (let n = 1; n <= count; n += 1) expect(world.actions('send', delayIdOf(n)).length).toBeLessThanOrEqual(mostTries);
    }
  },
);

it('nor does anybody run out where all calls were refused for a moment, and many have been let through since', async () => {
  for (const seed of SEEDS) {
    const world = new EngineWorld({}, { seed });
    const { clock } = world;
    const homeserver = new Counting(world);
    const people = 12;
    for (let n = 1; n <= people; n += 1) {
      homeserver.schedule(delayIdOf(n));
      await world.enter(n, room(), DELAY_MS, delayIdOf(n));
      await clock.advance(700);
    }
    homeserver.refusesAllMs = clock.nowMs() + 1_000;
    await clock.advance(30_000);
    homeserver.refusesMs.set(delayIdOf(1), clock.nowMs() + REFUSED_MS);
    world.leave(room(), identity(1));
    await world.webhook(room(), identity(1), sid(1), 'left');
    await clock.advance(20_000);
    const lost = Array.from({ length: people - 1 }, (_, n) => delayIdOf(n + 2)).filter((id) => !homeserver.isAlive(id));
    expect({ seed, lost }).toEqual({ seed, lost: [] });
  }
});

it('a leave that is refused without a hint after one that was is not tried again and again', async () => {
  const world = new EngineWorld();
  for (const n of [1, 2]) await world.enter(n, room(), DELAY_MS, delayIdOf(n));
  let refused = 0;
  world.answer = (_, call) => {
    if (call.kind !== 'delay' || call.action !== 'send') return { kind: 'ok' };
    refused += 1;
    if (refused > 100) return { kind: 'ok' };
    return { kind: 'limited', retryAfterMs: call.delayId === delayIdOf(1) ? 4_000 : null };
  };
  for (const n of [1, 2]) {
    world.leave(room(), identity(n));
    await world.webhook(room(), identity(n), sid(n), 'left');
  }
  await world.clock.advance(3_000);
  expect(refused).toBeGreaterThan(1);
  expect(refused).toBeLessThan(10);
});
