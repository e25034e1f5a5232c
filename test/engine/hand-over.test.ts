// A newer word of a client while the older one still counts: the same event told anew, and another one just before its participant leaves.
import { describe, expect, test } from 'vitest';
import type { HandOver } from '../../src/delegation/decide.ts';
import type { HomeserverUrl, Owner } from '../../src/delegation/ids.ts';
import type { Answer, Cause } from '../../src/delegation/state.ts';
import { Disk } from '../sim/model-store.ts';
import { handOver as build, delayHandles, futureHandles, identity, room, sid } from '../support/fixtures.ts';
import { START_MS } from '../support/virtual-clock.ts';
import { EngineWorld } from './world.ts';

const HOUR_MS = 3_600_000;

function handOver(over: Partial<HandOver> = {}) {
  const { id: _, ...rest } = build(1, over);
  return rest;
}

/** A participant who has been on the SFU for some seconds hands over. */
async function present(over: Partial<HandOver> = {}): Promise<EngineWorld> {
  const world = new EngineWorld();
  world.join(room(1), identity(1), sid(1));
  await world.clock.advance(5_000);
  await world.engine.handOver(handOver(over));
  await world.clock.advance(100);
  return world;
}

/** The webhook of who leaves now and joined `agoMs` ago. */
async function leave(world: EngineWorld, agoMs: number): Promise<void> {
  world.leave(room(1), identity(1));
  await world.webhook(room(1), identity(1), sid(1), 'left', world.clock.nowMs() - agoMs);
}

test.each(['https://synapse.internal:8008', 'https://matrix.example.org/path'])(
  'the same event at another address of its homeserver (%s) is not cancelled, and is sent at the departure',
  async (url) => {
    const world = await present({ delayMs: HOUR_MS });
    const anew = await world.engine.handOver(handOver({ delayMs: HOUR_MS, homeserver: url as HomeserverUrl }));
    expect(anew).toMatchObject({ kind: 'created', superseded: 1 });
    await world.clock.advance(5_000);
    expect(world.actions('cancel')).toEqual([]);
    expect(await world.store.count()).toMatchObject({ connected: 1, ended: 1 });
    await leave(world, 10_100);
    await world.clock.advance(2_000);
    expect(world.actions('send')).toMatchObject([{ homeserver: url }]);
  },
);

test('the same event with another delay is restarted by that one, and not cancelled', async () => {
  const world = await present({ delayMs: HOUR_MS });
  await world.engine.handOver(handOver({ delayMs: 10_000 }));
  world.calls.length = 0;
  await world.clock.advance(60_000);
  expect(world.actions('restart').length).toBeGreaterThanOrEqual(6);
  expect(world.calls.map(({ action }) => action)).not.toContain('cancel');
  const again = await world.engine.handOver(handOver({ delayMs: 10_000 }));
  expect([again.kind, again.row.state.kind]).toEqual(['repeated', 'connected']);
  const longer = await world.engine.handOver(handOver({ delayMs: HOUR_MS }));
  expect([longer.kind, longer.row.state.kind]).toEqual(['created', 'awaiting']);
});

test.each([
  ['without the ending that it had for a lost connection', futureHandles(1), futureHandles(1, { lost: false })],
  ['with an ending for a lost connection as well', futureHandles(1, { lost: false }), futureHandles(1)],
])('a future that is handed over anew, %s, is not cancelled', async (_, before, after) => {
  const world = await present({ delayMs: HOUR_MS, handles: before, handlesHash: 'before' });
  await world.engine.handOver(handOver({ delayMs: HOUR_MS, handles: after, handlesHash: 'after' }));
  await world.clock.advance(5_000);
  await leave(world, 10_100);
  await world.clock.advance(2_000);
  const tokens = world.actions('token').map(({ target }) => target);
  expect(tokens.filter((token) => !token.startsWith('refresh'))).toEqual(['send-secret-leave-1']);
});

test.each([5, 50, 300, 900])('who leaves %d ms after a newer hand-over is not waited for as one who never came', async (ms) => {
  const world = await present({ delayMs: HOUR_MS });
  await world.engine.handOver(handOver({ delayMs: HOUR_MS, handles: delayHandles(2), handlesHash: 'other' }));
  await world.clock.advance(ms);
  await leave(world, 5_100 + ms);
  await world.clock.advance(2_000);
  expect(world.actions('send')).toMatchObject([{ target: 'delay-secret-2' }]);
});

/** A newer hand-over that arrives so long after the webhook of its participant's departure. */
async function handOverAfter(ms: number, cause: Cause = 'left'): Promise<EngineWorld> {
  const world = await present({ delayMs: HOUR_MS });
  world.leave(room(1), identity(1));
  await world.webhook(room(1), identity(1), sid(1), cause, START_MS);
  await world.clock.advance(ms);
  await world.engine.handOver(handOver({ delayMs: HOUR_MS, handles: delayHandles(2), handlesHash: 'other' }));
  return world;
}

describe('a newer hand-over that arrives just after its participant has left', () => {
  test.each([5, 300, 900])('(%d ms) is not waited for as if they were still to come', async (ms) => {
    const world = await handOverAfter(ms);
    await world.clock.advance(29_000);
    expect(world.actions('send', 'delay-secret-2')).toEqual([]);
    await world.clock.advance(2_000);
    expect(world.actions('send', 'delay-secret-2')).toHaveLength(1);
  });

  test('nor if that one was never seen either', async () => {
    const world = new EngineWorld();
    await world.engine.handOver(handOver({ delayMs: HOUR_MS }));
    await world.clock.advance(100);
    await world.webhook(room(1), identity(1), sid(1), 'left', START_MS - 1_000);
    await world.engine.handOver(handOver({ delayMs: HOUR_MS, handles: delayHandles(2), handlesHash: 'other' }));
    await world.clock.advance(31_000);
    expect(world.actions('send', 'delay-secret-2')).toHaveLength(1);
  });

  test('is kept for who comes back', async () => {
    const world = await handOverAfter(300);
    await world.clock.advance(25_000);
    world.join(room(1), identity(1), sid(2));
    await world.clock.advance(300_000);
    expect(world.actions('send')).toEqual([]);
    expect(world.actions('restart', 'delay-secret-2')).not.toEqual([]);
  });

  test.each<Cause>(['sfu_down', 'replaced'])('has the whole time to connect where that was no departure of theirs (%s)', async (cause) => {
    const world = await handOverAfter(300, cause);
    await world.clock.advance(299_000);
    expect(world.actions('send')).toEqual([]);
    await world.clock.advance(2_000);
    expect(world.actions('send', 'delay-secret-2')).toHaveLength(1);
  });

  test('and so it has if the leave of before has been owed for long', async () => {
    const world = await present({ delayMs: HOUR_MS });
    world.answer = () => ({ kind: 'failed', reached: false });
    await leave(world, 5_100);
    await world.clock.advance(60_000);
    world.answer = () => ({ kind: 'ok' });
    await world.engine.handOver(handOver({ delayMs: HOUR_MS, handles: delayHandles(2), handlesHash: 'other' }));
    await world.clock.advance(100_000);
    expect(world.actions('send', 'delay-secret-2')).toEqual([]);
  });
});

test('of a crowd in one room that hands over one after the other, nobody who goes at once is waited for so', async () => {
  const world = new EngineWorld();
  const all = [1, 2, 3, 4, 5];
  for (const n of all) world.join(room(1), identity(n), sid(n));
  await world.clock.advance(5_000);
  for (const n of all) {
    const { id: _, ...rest } = build(n, { room: room(1), delayMs: HOUR_MS });
    await world.engine.handOver(rest);
    await world.clock.advance(20);
    world.leave(room(1), identity(n));
    await world.webhook(room(1), identity(n), sid(n), 'left', START_MS);
    await world.clock.advance(40);
  }
  await world.clock.advance(2_000);
  expect(world.actions('send').map(({ target }) => target)).toEqual(all.map((n) => `delay-secret-${n}`));
});

test.each<Partial<HandOver>>([{ delayMs: HOUR_MS }, { homeserver: 'https://synapse.internal:8008' as HomeserverUrl }])(
  'an event that was first handed over otherwise (%o), then as now, and handed back, begins anew however it is handed over',
  async (otherwise) => {
    const world = await present({ delayMs: 10_000, ...otherwise });
    await world.clock.advance(1_000);
    for (const over of [{ delayMs: 10_000 }, { delayMs: 10_000, ...otherwise }]) {
      const { row } = await world.engine.handOver(handOver({ delayMs: 10_000 }));
      await world.engine.handBack(row.room, row.id, row.owner);
      const anew = await world.engine.handOver(handOver(over));
      expect([anew.kind, anew.row.state.kind]).toEqual(['created', 'awaiting']);
      await world.clock.advance(1_000);
    }
  },
);

test.each(['their first', 'newer'])(
  'a crowd in one room that hands %s leaves over in a second costs a few questions only',
  async (which) => {
    const world = new EngineWorld();
    const all = Array.from({ length: 500 }, (_, n) => n);
    for (const n of all) world.join(room(1), identity(n), sid(n));
    const handAllOver = async (handles: number) => {
      for (const n of all) {
        const { id: _, ...rest } = build(n, {
          room: room(1),
          delayMs: HOUR_MS,
          handles: delayHandles(handles + n),
          handlesHash: `${handles + n}`,
        });
        await world.engine.handOver(rest);
        await world.clock.advance(2);
      }
    };
    // Somebody else's, so that there is a list.
    if (which === 'newer') await handAllOver(0);
    else await world.engine.handOver(handOver({ room: room(1), identities: [identity(1_000)] }));
    await world.clock.advance(2_000);
    const { length } = world.looks;
    await handAllOver(500);
    await world.clock.advance(100);
    expect(world.looks.length - length).toBeLessThanOrEqual(30);
    expect((await world.store.count()).connected).toBe(500);
  },
);

test('who hands a newer leave over right after a look, and goes at once, is not waited for as one who never came', async () => {
  const world = new EngineWorld();
  world.join(room(1), identity(1), sid(1));
  await world.clock.advance(5_000);
  for (const n of [1, 2, 3]) {
    await world.engine.handOver(handOver({ delayMs: HOUR_MS, handles: delayHandles(n), handlesHash: `${n}` }));
    await world.clock.advance(10);
  }
  await leave(world, 5_030);
  await world.clock.advance(2_000);
  expect(world.actions('send')).toMatchObject([{ target: 'delay-secret-3' }]);
});

/** Events that nobody would miss, of which each cancellation waits for the one before. */
async function supersedeInvented(world: EngineWorld): Promise<void> {
  const { answer } = world;
  world.answer = (homeserver, call) =>
    call.kind === 'delay' && /1\d$/.test(call.delayId) ? { kind: 'final', how: 'gone' } : answer(homeserver, call);
  for (const n of [11, 12, 13, 14, 15]) {
    for (const nth of [0, 100]) {
      const { id: _, ...rest } = build(n, { delayMs: HOUR_MS, handles: delayHandles(n + nth), handlesHash: `${n + nth}` });
      await world.engine.handOver(rest);
    }
  }
  await world.clock.advance(1_000);
}

test.each<Answer>([{ kind: 'ok' }, { kind: 'failed', reached: true }])(
  'an event that had run out by our count, and that a call has restarted (%o) as it was superseded, is cancelled in time',
  async (answer) => {
    const world = new EngineWorld();
    world.sfuUp = false;
    await world.engine.handOver(handOver({ delayMs: 3_000 }));
    await supersedeInvented(world);
    await world.clock.advance(9_000);
    world.sfuUp = true;
    world.answer = (_, call) => (call.kind === 'delay' && call.action === 'restart' ? answer : { kind: 'ok' });
    world.takesMs = () => 300;
    world.join(room(1), identity(1), sid(1));
    await world.webhook(room(1), identity(1), sid(1), 'joined');
    await world.clock.advance(150);
    expect(world.actions('restart', 'delay-secret-1')).toHaveLength(1);
    await world.engine.handOver(handOver({ delayMs: 3_000, handles: delayHandles(2), handlesHash: 'other' }));
    await world.clock.advance(1_500);
    expect(world.actions('cancel', 'delay-secret-1')).not.toEqual([]);
  },
);

test('an event that its client has kept alive while the SFU was away is cancelled in time when the next client comes', async () => {
  const world = new EngineWorld();
  world.sfuUp = false;
  await world.engine.handOver(handOver());
  await world.clock.advance(25_000);
  world.sfuUp = true;
  await supersedeInvented(world);
  await world.engine.handOver(handOver({ handles: delayHandles(2), handlesHash: 'other' }));
  await world.clock.advance(800);
  world.join(room(1), identity(1), sid(1));
  await world.webhook(room(1), identity(1), sid(1), 'joined');
  await world.clock.advance(8_000);
  expect(world.actions('cancel', 'delay-secret-1')).not.toEqual([]);
});

/** A world in which somebody has come and gone before anything was handed over, and the webhook of the departure. */
async function goneEarly(): Promise<{ world: EngineWorld; told: Promise<string> }> {
  const world = new EngineWorld();
  const joinedAtMs = world.clock.nowMs();
  world.join(room(), identity(1), sid(1));
  await world.webhook(room(), identity(1), sid(1), 'joined');
  await world.clock.advance(3_000);
  world.leave(room(), identity(1));
  return { world, told: world.webhook(room(), identity(1), sid(1), 'left', joinedAtMs) };
}

test.each([0, 300, 9_000])(
  'who went while the hand-over was on its way, %d ms before it, is not waited for as if they were still to come',
  async (agoMs) => {
    const { world, told } = await goneEarly();
    if (agoMs > 0) await told;
    await world.clock.advance(agoMs);
    const handedMs = world.clock.nowMs();
    const { id: _, ...rest } = build(1, { room: room(), delayMs: 3_600_000 });
    await world.engine.handOver(rest);
    await world.clock.advance(400_000);
    expect(world.actions('send').map(({ atMs }) => atMs - handedMs)).toEqual([expect.closeTo(30_000, -3)]);
  },
);

test('who is back by then stays', async () => {
  const { world, told } = await goneEarly();
  await told;
  await world.clock.advance(1_000);
  const { id: _, ...rest } = build(1, { room: room(), delayMs: 3_600_000 });
  await world.engine.handOver(rest);
  await world.clock.advance(25_000);
  world.join(room(), identity(1), sid(2));
  await world.webhook(room(), identity(1), sid(2), 'joined');
  await world.clock.advance(400_000);
  expect(world.actions('send')).toEqual([]);
});

describe('an event that was scheduled before a look-up of three seconds', () => {
  const delayMs = 10_000;
  /** What the homeserver says of an event that was scheduled now. */
  function scheduled(world: EngineWorld): { ranOut: boolean } {
    const event = { ranOut: false };
    let endsMs = world.clock.nowMs() + delayMs;
    world.answer = () => {
      event.ranOut ||= world.clock.nowMs() >= endsMs;
      endsMs = world.clock.nowMs() + delayMs;
      return event.ranOut ? { kind: 'final', how: 'gone' } : { kind: 'ok' };
    };
    return event;
  }

  test('is restarted in time for who comes without a webhook', async () => {
    const world = new EngineWorld();
    const event = scheduled(world);
    const askedAtMs = world.clock.nowMs();
    await world.clock.advance(3_000);
    const { row } = await world.engine.handOver(handOver({ delayMs, askedAtMs }));
    expect([row.expiry.earliestMs, row.expiry.latestMs]).toEqual([askedAtMs + delayMs, askedAtMs + 3_000 + delayMs]);
    await world.clock.advance(1_000);
    world.join(room(1), identity(1), sid(1));
    await world.clock.advance(60_000);
    expect([event.ranOut, world.actions('send')]).toEqual([false, []]);
    expect(await world.store.count()).toMatchObject({ connected: 1 });
  });

  test('is counted as a false leave where it ran out under who is there', async () => {
    const world = new EngineWorld();
    scheduled(world);
    world.join(room(1), identity(1), sid(1));
    const askedAtMs = world.clock.nowMs();
    await world.clock.advance(delayMs + 1_000);
    await world.engine.handOver(handOver({ delayMs, askedAtMs }));
    await world.clock.advance(2_000);
    expect(await world.metric('lastwill_false_leaves_total')).toBe(1);
  });
});

describe('a hand-over that was asked for first, and is taken last,', () => {
  const newer = { delayMs: HOUR_MS, handles: delayHandles(2), handlesHash: 'other' };

  /** Taken a second after it was asked for, of somebody who is there; what is done in between was asked for later. */
  async function late(world: EngineWorld, meanwhile: (world: EngineWorld) => Promise<unknown>) {
    world.join(room(1), identity(1), sid(1));
    const askedAtMs = world.clock.nowMs();
    await world.clock.advance(1_000);
    await meanwhile(world);
    await world.clock.advance(1_000);
    const done = await world.engine.handOver(handOver({ delayMs: HOUR_MS, askedAtMs }));
    await world.clock.advance(1_000);
    return done;
  }

  test('does not cancel its event where its client has asked again, and has taken it back since', async () => {
    const world = new EngineWorld();
    const done = await late(world, async () => {
      const { row } = await world.engine.handOver(handOver({ delayMs: HOUR_MS, askedAtMs: world.clock.nowMs() }));
      await world.engine.handBack(room(1), row.id, row.owner);
    });
    expect([done.kind, done.row.state]).toMatchObject(['repeated', { outcome: 'handed-back' }]);
    expect(world.actions('cancel')).toEqual([]);
    // Asked for anew, it is kept again.
    expect(await world.engine.handOver(handOver({ delayMs: HOUR_MS, askedAtMs: world.clock.nowMs() }))).toMatchObject({ kind: 'created' });
  });

  test('cancels no newer one where another owner has its event: it is cancelled as if taken in turn, and whom either names is watched', async () => {
    const world = new EngineWorld();
    await world.engine.handOver(handOver({ delayMs: HOUR_MS, owner: 'another' as Owner, identities: [identity(2)] }));
    const done = await late(world, () => world.engine.handOver(handOver({ ...newer, askedAtMs: world.clock.nowMs() })));
    expect([done.kind, done.row.state.kind, done.row.identities]).toEqual(['created', 'cancelling', [identity(1), identity(2)]]);
    expect([world.actions('cancel', 'delay-secret-1').length, world.actions('cancel', 'delay-secret-2')]).toEqual([1, []]);
    expect(await world.store.count()).toMatchObject({ connected: 1, ended: 2 });
  });

  test('is newer than one that another service has looked after, however late that is taken over', async () => {
    const world = new EngineWorld();
    const restartedAtMs = world.clock.nowMs() - 5_000;
    await late(world, () => world.engine.handOver(handOver(newer), { restartedAtMs }));
    expect(world.actions('cancel')).toMatchObject([{ target: 'delay-secret-2' }]);
    expect(await world.store.count()).toMatchObject({ connected: 1, ended: 1 });
  });
});

test.each([
  { of: 'one process', disk: null },
  { of: 'several', disk: new Disk() },
])(
  'of more cancellations than are looked at that are refused, the last is known to be one when it is repeated: in a store of $of',
  async ({ disk }) => {
    const world = new EngineWorld({}, { disk });
    world.answer = (_, call) => (call.kind === 'delay' && call.action === 'cancel' ? { kind: 'refused' } : { kind: 'ok' });
    world.join(room(1), identity(1), sid(1));
    const of = (n: number) => handOver({ delayMs: HOUR_MS, handles: delayHandles(n), handlesHash: `event ${n}` });
    for (let n = 1; n <= 12; n += 1) {
      await world.engine.handOver(of(n));
      await world.clock.advance(100);
    }
    expect(await world.store.count()).toMatchObject({ cancelling: 11 });
    expect(await world.engine.handOver(of(11))).toMatchObject({ kind: 'repeated', row: { state: { kind: 'cancelling' } } });
  },
);
