// A homeserver that takes fewer calls than its participants need (Synapse's default: 1/s for each address, 5 at once): the budget goes to
// those who can be kept, and never at the cost of who leaves.
import { describe, expect, it } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import type { Answer } from '../../src/delegation/state.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { Call } from '../../src/homeserver/delayed-events.ts';
import { Disk } from '../sim/model-store.ts';
import { handOver, identity, room, sid } from '../support/fixtures.ts';
import { createSeededRandom } from '../support/virtual-clock.ts';
import { EngineWorld } from './world.ts';

const DELAY_MS = 10_000;
const PER_SECOND = 1;
const BURST = 5;

/** Synapse's bucket and timers: what is over the limit is refused before anything is looked at, an expired event is gone. */
class Limited {
  readonly #world: EngineWorld;
  readonly #delayMs: number;
  readonly #expiresMs = new Map<string, number>();
  readonly sentMs = new Map<string, number>();
  /** Until when it refuses what the sender of this event sends: they have sent too much. */
  readonly refusesMs = new Map<string, number>();
  refused = 0;
  #tokens = BURST;
  #atMs: number;

  constructor(world: EngineWorld, delayMs: number, busy: number, longestMs: number) {
    this.#world = world;
    this.#delayMs = delayMs;
    this.#atMs = world.clock.nowMs();
    // Synapse holds a refusal back for half a second; a busy one takes its time now and then.
    const { roll } = createSeededRandom(busy);
    const moreMs = (): number => (busy > 0 && roll() < 0.3 ? Math.floor(roll() * longestMs) : 0);
    world.takesMs = ({ kind }) => (kind === 'limited' ? 508 : 9) + moreMs();
    world.answer = (_, call) => this.#answer(call as Extract<Call, { kind: 'delay' }>);
  }

  schedule(delayId: DelayId): void {
    this.#expiresMs.set(delayId, this.#world.clock.nowMs() + this.#delayMs);
  }

  /** When the leave was in the room: sent, or by its own timer. */
  leftMs(id: string): number {
    return this.sentMs.get(id) ?? this.#expiresMs.get(id) ?? Number.POSITIVE_INFINITY;
  }

  /** Neither run out nor sent. */
  kept(): string[] {
    return [...this.#expiresMs].filter(([id, atMs]) => atMs > this.#world.clock.nowMs() && !this.sentMs.has(id)).map(([id]) => id);
  }

  #answer({ delayId, action }: Extract<Call, { kind: 'delay' }>): Answer {
    const nowMs = this.#world.clock.nowMs();
    this.#tokens = Math.min(BURST, this.#tokens + ((nowMs - this.#atMs) / 1_000) * PER_SECOND);
    this.#atMs = nowMs;
    if (this.#tokens < 1) {
      this.refused += 1;
      return { kind: 'limited', retryAfterMs: Math.ceil(((1 - this.#tokens) / PER_SECOND) * 1_000) };
    }
    this.#tokens -= 1;
    if ((this.#expiresMs.get(delayId) ?? 0) <= nowMs || this.sentMs.has(delayId)) return { kind: 'final', how: 'gone' };
    const ownMs = action === 'send' ? (this.refusesMs.get(delayId) ?? 0) - nowMs : 0;
    if (ownMs > 0) return { kind: 'limited', retryAfterMs: ownMs };
    if (action === 'restart') this.#expiresMs.set(delayId, nowMs + this.#delayMs);
    else this.sentMs.set(delayId, nowMs);
    return { kind: 'ok' };
  }
}

interface Called {
  readonly delayMs?: number;
  readonly busy?: number;
  /** What a busy homeserver takes now and then beyond the usual. */
  readonly longestMs?: number;
  /** They come up to so much later than one every so often. */
  readonly unevenMs?: number;
  readonly world?: EngineWorld;
  /** Who is handed what: one after the other. */
  readonly engines?: readonly Engine[];
}

/** So many come, one every so often, and stay. */
async function call(
  people: number,
  everyMs: number,
  { delayMs = DELAY_MS, busy = 0, longestMs = 200, unevenMs = 0, world = new EngineWorld(), engines = [world.engine] }: Called = {},
): Promise<{ world: EngineWorld; homeserver: Limited }> {
  const homeserver = new Limited(world, delayMs, busy, longestMs);
  const { roll } = createSeededRandom(1_000 + busy);
  for (let n = 1; n <= people; n += 1) {
    world.join(room(), identity(n), sid(n));
    const { id: _, ...rest } = handOver(n, { delayMs, room: room() });
    if (rest.handles.kind === 'delay') homeserver.schedule(rest.handles.delayId);
    const [first, second] = [engines[n % engines.length], engines[(n + 1) % engines.length]] as [Engine, Engine];
    await first.handOver(rest);
    await world.webhook(room(), identity(n), sid(n), 'joined', world.clock.nowMs(), second);
    await world.clock.advance(everyMs + Math.floor(roll() * unevenMs));
  }
  return { world, homeserver };
}

describe('a call of 16 with delays of 10 s, where the homeserver takes a call a second', () => {
  it.each([10, 100, 300, 500, 600, 700, 1_000, 1_200, 3_000])(
    'that come one every %d ms: 9 are kept, minute after minute',
    async (everyMs) => {
      const { world, homeserver } = await call(16, everyMs);
      await world.clock.advance(60_000);
      const kept = homeserver.kept();
      expect(kept.length).toBeGreaterThanOrEqual(9);
      await world.clock.advance(300_000);
      expect(homeserver.kept().length).toBeGreaterThanOrEqual(9);
      expect(homeserver.kept().toSorted()).toEqual(kept.toSorted());
    },
  );

  it.each(Array.from({ length: 24 }, (_, n) => n + 1))('and a homeserver that is busy now and then (%d): 9 are kept', async (busy) => {
    const { world, homeserver } = await call(16, 300 + busy * 50, { busy });
    await world.clock.advance(200_000);
    expect(homeserver.kept().length).toBeGreaterThanOrEqual(9);
  });

  // Synapse takes half a second to refuse: a call that was made too early is back when it is too late.
  it.each(Array.from({ length: 24 }, (_, n) => n + 1))(
    'nor are there fewer as people come, where calls take up to half a second (%d)',
    async (busy) => {
      const { world, homeserver } = await call(16, 700, { busy, longestMs: 500, unevenMs: 550 });
      await world.clock.advance(60_000);
      expect(homeserver.kept().length).toBeGreaterThanOrEqual(9);
    },
  );

  // A leave costs a call at once, and what its participant needs no more is saved only when the next restart would have been.
  it.each([5_300, 7_000, 10_000])(
    'one leaves every %d ms: nobody is made to wait by those who stay, or lost by those who go',
    async (everyMs) => {
      const { world, homeserver } = await call(16, 300);
      await world.clock.advance(60_000);
      const kept = homeserver.kept();
      expect(kept.length).toBeGreaterThanOrEqual(9);
      const tookMs: number[] = [];
      for (const delayId of kept) {
        expect(homeserver.kept()).toContain(delayId);
        const n = Number(delayId.split('-').at(-1));
        world.leave(room(), identity(n));
        const leftMs = world.clock.nowMs();
        await world.webhook(room(), identity(n), sid(n), 'left');
        await world.clock.advance(everyMs);
        tookMs.push(homeserver.leftMs(delayId) - leftMs);
      }
      expect(Math.max(...tookMs)).toBeLessThan(1_000 + 100);
    },
  );

  it('one leaves who has sent too much besides, and whose leave is refused for five seconds: nobody is lost by that', async () => {
    const { world, homeserver } = await call(16, 300);
    await world.clock.advance(60_000);
    const [goes = '', ...stay] = homeserver.kept();
    const n = Number(goes.split('-').at(-1));
    world.leave(room(), identity(n));
    homeserver.refusesMs.set(goes, world.clock.nowMs() + 6_000);
    await world.webhook(room(), identity(n), sid(n), 'left');
    await world.clock.advance(30_000);
    expect(homeserver.kept()).toEqual(expect.arrayContaining(stay));
  });

  it('nobody is lost of 9', async () => {
    const { world, homeserver } = await call(9, 10);
    await world.clock.advance(300_000);
    expect(homeserver.kept()).toHaveLength(9);
  });

  it('long delays are all restarted, as soon as the homeserver takes it', async () => {
    const { world, homeserver } = await call(16, 10, { delayMs: 3_600_000 });
    await world.clock.advance(20_000);
    expect(new Set(world.actions('restart').map(({ target }) => target)).size).toBe(16);
    expect(await world.metric('lastwill_restarts_total')).toBeGreaterThanOrEqual(16);
    await world.clock.advance(2 * 3_600_000);
    expect(homeserver.kept()).toHaveLength(16);
  });

  it('what is refused is asked for again when the homeserver wants it, not before', async () => {
    const { world, homeserver } = await call(16, 10);
    await world.clock.advance(300_000);
    // Between two refusals lies at least one call that is taken.
    expect(homeserver.refused).toBeLessThan(world.calls.length / 2);
  });
});

it('a homeserver that refuses everything for a while, and nothing after: nobody is put off for longer than that', async () => {
  const world = new EngineWorld();
  const begunMs = world.clock.nowMs();
  const refuses = (): boolean => {
    const sinceMs = world.clock.nowMs() - begunMs;
    return sinceMs < 12_000 || (sinceMs > 12_800 && sinceMs < 20_000);
  };
  world.answer = () => (refuses() ? { kind: 'limited', retryAfterMs: 1_000 } : { kind: 'ok' });
  const comes = async (n: number, delayMs: number): Promise<void> => {
    world.join(room(n), identity(n), sid(n));
    const { id: _, ...rest } = handOver(n, { delayMs, room: room(n) });
    await world.engine.handOver(rest);
  };
  for (let n = 1; n <= 5; n += 1) await comes(n, 3_000);
  await world.clock.advance(25_000);
  for (let n = 6; n <= 9; n += 1) await comes(n, 3_000);
  await world.clock.advance(30_000);
  for (let n = 6; n <= 9; n += 1) {
    const times = world.actions('restart', `delay-secret-${n}`).map(({ atMs }) => atMs);
    const gaps = [...times.slice(1), world.clock.nowMs()].map((atMs, nth) => atMs - (times[nth] ?? 0));
    expect(Math.max(...gaps)).toBeLessThan(3_000);
  }
});

it.each([
  ['limits', { kind: 'limited', retryAfterMs: 500 }],
  ['fails', { kind: 'failed', reached: true }],
] as const)(
  'a homeserver that %s calls, so that few are made at once, and lets those hang: nobody with a short delay is lost',
  async (_, answer) => {
    const world = new EngineWorld();
    const comes = async (n: number, delayMs: number): Promise<void> => {
      world.join(room(n), identity(n), sid(n));
      const { id: __, ...rest } = handOver(n, { delayMs, room: room(n) });
      await world.engine.handOver(rest);
    };
    const last = 9;
    world.answer = () => answer;
    for (let n = 1; n < last; n += 1) await comes(n, 3_600_000);
    await world.clock.advance(1_000);
    world.answer = () => null;
    await world.clock.advance(1_000);
    const beganMs = world.clock.nowMs();
    world.answer = (__, call) => (call.kind === 'delay' && call.delayId === `delay-secret-${last}` ? { kind: 'ok' } : null);
    await comes(last, 8_000);
    await world.clock.advance(8_000);
    expect(world.actions('restart', `delay-secret-${last}`)[0]?.atMs).toBeLessThan(beganMs + 4_000);
  },
);

describe('the same, and three replicas', () => {
  function fleet(): { world: EngineWorld; others: ReturnType<EngineWorld['beside']>[]; engines: Engine[] } {
    const world = new EngineWorld({}, { shared: true, disk: new Disk() });
    const others = [world.beside(), world.beside()];
    return { world, others, engines: [world.engine, ...others.map(({ engine }) => engine)] };
  }

  it.each([10, 300, 500, 700, 1_200, 3_000])('that come one every %d ms: 9 are kept, minute after minute', async (everyMs) => {
    const { world, engines } = fleet();
    const { homeserver } = await call(16, everyMs, { world, engines });
    await world.clock.advance(60_000);
    const kept = homeserver.kept();
    expect(kept.length).toBeGreaterThanOrEqual(9);
    await world.clock.advance(300_000);
    expect(homeserver.kept().toSorted()).toEqual(kept.toSorted());
  });

  it.each(Array.from({ length: 24 }, (_, n) => n + 1))(
    'as people come, where calls take up to half a second (%d): 9 are kept',
    async (busy) => {
      const { world, engines } = fleet();
      const { homeserver } = await call(16, 700, { world, engines, busy, longestMs: 500, unevenMs: 550 });
      await world.clock.advance(60_000);
      expect(homeserver.kept().length).toBeGreaterThanOrEqual(9);
    },
  );

  // Who waits for its turn is looked for anew every few seconds, and was while its turn came; or a call was spent on one that had just run out.
  it.each([
    [300, 576],
    [400, 334],
    [400, 762],
    [500, 362],
    [500, 631],
    [500, 744],
    [500, 759],
  ])('that come unevenly (every %d ms, %d): no turn is lost', async (everyMs, busy) => {
    const { world, engines } = fleet();
    const { homeserver } = await call(16, everyMs, { world, engines, busy, longestMs: 100, unevenMs: everyMs * 0.8 });
    await world.clock.advance(45_000);
    expect(homeserver.kept().length).toBeGreaterThanOrEqual(9);
  });

  // Calls of two that did not know yet are in no count: half the rate would be believed, and without a refusal nothing would correct it.
  it('a refusal of a call from before the others knew begins no measurement', async () => {
    const { world, engines } = fleet();
    const { homeserver } = await call(16, 400, { world, engines, busy: 185, longestMs: 1_200, unevenMs: 320 });
    await world.clock.advance(45_000);
    expect(homeserver.kept().length).toBeGreaterThanOrEqual(8);
  });

  it.each([300, 500, 700, 900])('that come one every %d ms, and two of them die: the last one makes the restarts', async (everyMs) => {
    const { world, others, engines } = fleet();
    const { homeserver } = await call(16, everyMs, { world, engines });
    for (const { kill } of others) {
      await world.clock.advance(60_000);
      const before = homeserver.kept().length;
      await kill();
      await world.clock.advance(20_000);
      // Who is due while nobody knows of the death, a second and a half, and nobody else.
      expect(homeserver.kept().length).toBeGreaterThanOrEqual(before - 3);
    }
    const kept = homeserver.kept();
    expect(kept.length).toBeGreaterThanOrEqual(3);
    await world.clock.advance(300_000);
    expect(homeserver.kept().toSorted()).toEqual(kept.toSorted());
  });

  it('who leaves is not made to wait, whoever hears of it', async () => {
    const { world, engines } = fleet();
    const { homeserver } = await call(16, 500, { world, engines });
    await world.clock.advance(60_000);
    const kept = homeserver.kept();
    const tookMs: number[] = [];
    for (const [turn, delayId] of kept.entries()) {
      const n = Number(delayId.split('-').at(-1));
      world.leave(room(), identity(n));
      const leftMs = world.clock.nowMs();
      await world.webhook(room(), identity(n), sid(n), 'left', leftMs - 60_000, engines[turn % 3]);
      await world.clock.advance(10_000);
      tookMs.push(homeserver.leftMs(delayId) - leftMs);
    }
    expect(Math.max(...tookMs)).toBeLessThan(1_000 + 150);
  });
});

describe('whoever may hand over can invent events, and as many as they like', () => {
  const MEMBERS = 6;
  const STRANGER = 50;

  async function hand(world: EngineWorld, nth: number, over: Partial<Parameters<typeof handOver>[1]> & object): Promise<void> {
    const { id: _, ...rest } = handOver(nth, { room: room(), ...over });
    await world.engine.handOver({ ...rest, handles: { kind: 'delay', delayId: `invented-${nth}` as DelayId } });
  }

  async function flooded(flood: (world: EngineWorld) => Promise<void>): Promise<number> {
    const { world, homeserver } = await call(MEMBERS, 300);
    await world.clock.advance(20_000);
    await flood(world);
    await world.clock.advance(120_000);
    return homeserver.kept().length;
  }

  it('of participants who never come: nobody is lost by the leaves that are owed for them', async () => {
    expect(
      await flooded(async (world) => {
        for (let n = 0; n < 60; n += 1) await hand(world, STRANGER + n, { delayMs: 1_000 });
      }),
    ).toBe(MEMBERS);
  });

  it('one after the other for the same participant: nobody is lost by the cancellations', async () => {
    expect(
      await flooded(async (world) => {
        const { owner, identities } = handOver(STRANGER);
        for (let n = 0; n < 60; n += 1) await hand(world, STRANGER + n, { owner, identities, delayMs: 3_600_000 });
      }),
    ).toBe(MEMBERS);
  });

  it('ahead of the older event of one who is not there yet: it is cancelled all the same once they are, before it takes them out', async () => {
    const world = new EngineWorld();
    const stranger = handOver(STRANGER);
    // Three are cancelled at once, the others wait for their turn.
    for (let n = 0; n < 6; n += 1)
      await hand(world, STRANGER + n, { owner: stranger.owner, identities: stranger.identities, delayMs: 4_000 });
    for (const nth of [1, 2]) {
      await hand(world, nth, { owner: handOver(1).owner, identities: [identity(1)], delayMs: DELAY_MS });
      await world.clock.advance(500);
    }
    world.join(room(), identity(1), sid(1));
    await world.webhook(room(), identity(1), sid(1), 'joined');
    await world.clock.advance(DELAY_MS - 1_500);
    expect(world.actions('cancel', 'invented-1')).toHaveLength(1);
  });

  it('and the older event of one who came late was restarted by its client: it is cancelled, though it has run out as far as we know', async () => {
    const world = new EngineWorld({ connectTimeoutMs: 60_000 });
    const stranger = handOver(STRANGER);
    const isReal = (call: Call) => call.kind !== 'delay' || ['invented-1', 'invented-2'].includes(call.delayId);
    world.answer = (_, call) => (isReal(call) ? { kind: 'ok' } : { kind: 'final', how: 'gone' });
    await hand(world, 1, { owner: handOver(1).owner, identities: [identity(1)], delayMs: DELAY_MS });
    await world.clock.advance(DELAY_MS - 1_000);
    for (let n = 0; n < 6; n += 1)
      await hand(world, STRANGER + n, { owner: stranger.owner, identities: stranger.identities, delayMs: 4_000 });
    await world.clock.advance(1_500);
    await hand(world, 2, { owner: handOver(1).owner, identities: [identity(1)], delayMs: DELAY_MS });
    world.join(room(), identity(1), sid(1));
    await world.webhook(room(), identity(1), sid(1), 'joined');
    await world.clock.advance(3_000);
    expect(world.actions('cancel', 'invented-1')).toHaveLength(1);
  });

  it('and whose events have run out by now: they wait for those that have not', async () => {
    const world = new EngineWorld();
    const stranger = handOver(STRANGER);
    for (let n = 0; n < 8; n += 1)
      await hand(world, STRANGER + n, { owner: stranger.owner, identities: stranger.identities, delayMs: 1_000 });
    await world.clock.advance(1_500);
    for (const nth of [1, 2]) await hand(world, nth, { owner: handOver(1).owner, identities: [identity(1)], delayMs: DELAY_MS });
    await world.clock.advance(DELAY_MS - 1_000);
    expect(world.actions('cancel', 'invented-1')).toHaveLength(1);
  });

  it.each([400, 700, 1_000, 1_300, 1_520, 1_800, 2_120])(
    'of one who is there, with delays of an hour, one every %i ms: nobody is lost by their restarts',
    async (everyMs) => {
      expect(
        await flooded(async (world) => {
          world.join(room(), identity(STRANGER), sid(STRANGER));
          for (let n = 0; n < 60; n += 1) {
            await hand(world, STRANGER + n, { identities: [identity(STRANGER)], delayMs: 3_600_000 });
            await world.clock.advance(everyMs);
          }
        }),
      ).toBe(MEMBERS);
    },
  );
});
