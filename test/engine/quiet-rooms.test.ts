// What may be left out of a look at a room, and what must not be.
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { decide } from '../../src/delegation/decide.ts';
import type { Identity, Sid } from '../../src/delegation/ids.ts';
import type { Event, LiveDelegation, Seen } from '../../src/delegation/state.ts';
import { createQuietRooms, moves, type QuietRooms } from '../../src/engine/quiet-rooms.ts';
import { DELAY, GROUP, ME, POLICY, ROOM, ROWS, rowIn } from '../delegation/cases.ts';
import { handOver as build, identity, room, sid } from '../support/fixtures.ts';
import { createVirtualClock, type VirtualClock } from '../support/virtual-clock.ts';
import { EngineWorld } from './world.ts';

const HOUR_MS = 3_600_000;
const INTERVAL_MS = POLICY.presenceIntervalMs;
/** Where the rows of cases.ts are at their NOW. */
const NOW_MS = 1_000_000_000;

const seen = (of: Identity, sid: string, active = true): Seen => ({ identity: of, sid: sid as Sid, joinedAtMs: NOW_MS - 60_000, active });
const list = (present: readonly Seen[], more: { readonly afterRestart?: boolean } = {}) => ({
  ...{ kind: 'list' as const, askedAtMs: NOW_MS, present, roomSid: undefined, afterRestart: false, answersSinceMs: 0, gone: null },
  ...more,
});
const OTHER = seen('somebody else' as Identity, 'PA_other');
const A = seen(ME, 'PA_a');
const later = (row: LiveDelegation, ms: number, expiryMs = ms): LiveDelegation => {
  if (row.state.kind !== 'connected') return row;
  const expiry = { earliestMs: row.expiry.earliestMs + expiryMs, latestMs: row.expiry.latestMs + expiryMs };
  return { ...row, expiry, state: { ...row.state, restartDueMs: row.state.restartDueMs + ms } };
};
const CONNECTED = later(rowIn(ROWS['connected, just seen']), HOUR_MS);

let clock: VirtualClock;
let quietRooms: QuietRooms;
beforeEach(() => {
  clock = createVirtualClock(NOW_MS);
  quietRooms = createQuietRooms({ clock, intervalMs: INTERVAL_MS });
});

function found(present: readonly Seen[], rows: readonly LiveDelegation[] = [CONNECTED]): void {
  const look = quietRooms.beginLook(ROOM);
  rows.forEach(look.sawBy(list(present)));
  look.wasQuiet(list(present));
  look.end();
}

describe('a room in which nothing was to be done', () => {
  it('is one again with the same list, in whichever order', () => {
    found([A, OTHER]);
    expect(quietRooms.isQuiet(ROOM, list([A, OTHER]))).toBe(true);
    expect(quietRooms.isQuiet(ROOM, list([OTHER, A]))).toBe(true);
  });

  it('is looked at when the very same list comes with a sign that the SFU has forgotten', () => {
    const present = [A, OTHER];
    found(present);
    expect(quietRooms.isQuiet(ROOM, list(present))).toBe(true);
    expect(quietRooms.isQuiet(ROOM, list(present, { afterRestart: true }))).toBe(false);
  });

  it.each([
    ['somebody less', list([A])],
    ['nobody', list([])],
    ['somebody more', list([A, OTHER, seen('a third' as Identity, 'PA_third')])],
    ['another session of the same one', list([seen(ME, 'PA_b'), OTHER])],
    ['one who is not up yet', list([seen(ME, 'PA_a', false), OTHER])],
    ['a sign that the SFU has forgotten', list([A, OTHER], { afterRestart: true })],
  ])('is looked at when the list has %s', (_, now) => {
    found([A, OTHER]);
    expect(quietRooms.isQuiet(ROOM, now)).toBe(false);
  });

  it('is looked at when somebody has moved, and when somebody did while it was judged', () => {
    found([A]);
    quietRooms.moved(ROOM);
    expect(quietRooms.isQuiet(ROOM, list([A]))).toBe(false);
    const look = quietRooms.beginLook(ROOM);
    quietRooms.moved(ROOM);
    look.sawBy(list([A]))(CONNECTED);
    look.wasQuiet(list([A]));
    expect(quietRooms.isQuiet(ROOM, list([A]))).toBe(false);
  });

  it('is looked at before one of its rows is due, so that a routine look can restart it', () => {
    const dueInMs = 5 * INTERVAL_MS;
    const soon = later(rowIn(ROWS['connected, just seen']), dueInMs - 20_000);
    found([A], [CONNECTED, soon]);
    clock.stall(dueInMs - INTERVAL_MS - 1);
    expect(quietRooms.isQuiet(ROOM, list([A]))).toBe(true);
    clock.stall(1);
    expect(quietRooms.isQuiet(ROOM, list([A]))).toBe(false);
  });

  it('is looked at all the same from time to time', () => {
    found([A]);
    clock.stall(30 * INTERVAL_MS - 1);
    expect([quietRooms.isLikelyQuiet(ROOM), quietRooms.isQuiet(ROOM, list([A]))]).toEqual([true, true]);
    clock.stall(1);
    expect([quietRooms.isLikelyQuiet(ROOM), quietRooms.isQuiet(ROOM, list([A]))]).toEqual([false, false]);
  });

  it('is none whose members are not where their rows have them', () => {
    for (const [present, row] of [
      [[OTHER], CONNECTED],
      [[A], rowIn(ROWS['awaiting, nobody seen'])],
      [[A], rowIn(ROWS['settling, A left'])],
      [[], rowIn(ROWS.leaving)],
    ] as const) {
      found(present, [row]);
      expect(quietRooms.isQuiet(ROOM, list(present))).toBe(false);
    }
  });

  it('is really one: the same list has nothing to say to any of its rows, at any time at which it is believed', () => {
    const rows = Object.values(ROWS).flatMap((state) => [DELAY, GROUP].map((handles) => rowIn(state, handles)));
    const anySeen = fc.subarray([A, OTHER, seen(ME, 'PA_b'), seen(ME, 'PA_old', false)]);
    let held = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...rows),
        fc.tuple(fc.nat(2 * HOUR_MS), fc.nat(2 * HOUR_MS)),
        anySeen,
        fc.nat(2 * HOUR_MS),
        fc.nat(1),
        (row, [longerMs, expiryMs], present, ms, roll) => {
          clock = createVirtualClock(NOW_MS);
          quietRooms = createQuietRooms({ clock, intervalMs: INTERVAL_MS });
          const longer = later({ ...row, delayMs: row.delayMs + longerMs }, longerMs, expiryMs);
          const event = (askedAtMs: number): Event => ({
            ...{
              kind: 'snapshot',
              askedAtMs,
              present: present.filter((one) => one.identity === ME),
              roomSid: undefined,
              afterRestart: false,
              answersSinceMs: 0,
              lastSeenMs: null,
              lookedFor: false,
            },
          });
          const judged = decide(longer, event(NOW_MS), { nowMs: NOW_MS, roll }, POLICY);
          if (judged.next !== longer || judged.effects.length > 0) return;
          found(present, [longer]);
          clock.stall(ms);
          if (!quietRooms.isQuiet(ROOM, list(present))) return;
          held += 1;
          const nowMs = clock.nowMs();
          expect(decide(longer, event(nowMs), { nowMs, roll }, POLICY)).toEqual({ next: longer, effects: [] });
        },
      ),
      { numRuns: 6_000, seed: 1 },
    );
    expect(held).toBeGreaterThan(50);
  });
});

it('a restart moves nobody, whatever else is written does', () => {
  const restarted = decide(
    CONNECTED,
    { kind: 'restart_answered', askedAtMs: NOW_MS, answer: { kind: 'ok' } },
    { nowMs: NOW_MS, roll: 0 },
    POLICY,
  );
  expect(restarted.next).not.toBe(CONNECTED);
  expect(moves(CONNECTED, restarted.next)).toBe(false);
  expect(moves(undefined, CONNECTED)).toBe(true);
  expect(moves(CONNECTED, rowIn(ROWS['settling, A left']))).toBe(true);
  expect(moves(rowIn(ROWS['awaiting, nobody seen']), CONNECTED)).toBe(true);
  expect(
    moves(CONNECTED, { ...CONNECTED, state: { ...ROWS['connected, just seen'], session: { ...ROWS['connected, just seen'].session } } }),
  ).toBe(true);
});

describe('in the engine', () => {
  async function held(count: number): Promise<EngineWorld> {
    const world = new EngineWorld();
    for (let n = 1; n <= count; n += 1) {
      const { id: _, ...handOver } = build(n, { room: room(1), delayMs: 10 * HOUR_MS });
      world.join(room(1), identity(n), sid(n));
      await world.engine.handOver(handOver);
    }
    await world.clock.advance(2 * INTERVAL_MS);
    return world;
  }

  it('reads no rows of a room in which nothing happens, and asks the SFU as before', async () => {
    const world = await held(3);
    const update = world.store.update.bind(world.store);
    const read: string[] = [];
    world.store.update = (where, ...rest) => {
      read.push(where.by);
      return update(where, ...rest);
    };
    world.looks.length = 0;
    await world.clock.advance(8 * INTERVAL_MS);
    expect(world.looks.length).toBeGreaterThanOrEqual(7);
    expect(read.filter((by) => by === 'room').length).toBeLessThanOrEqual(1);
  });

  it('finds who has gone without a word as soon as before', async () => {
    const world = await held(3);
    await world.clock.advance(5 * INTERVAL_MS);
    world.leave(room(1), identity(2));
    await world.clock.advance(INTERVAL_MS + 10_000);
    expect(world.actions('send').map(({ target }) => target)).toEqual(['delay-secret-2']);
  });

  it('finds out that a join was the last that was heard of somebody, though the list is what it was before', async () => {
    const world = await held(3);
    const { id: _, ...handOver } = build(4, { room: room(1), delayMs: 10 * HOUR_MS });
    await world.engine.handOver(handOver);
    await world.clock.advance(5 * INTERVAL_MS);
    // Came and went between two looks; the word of the departure is lost.
    await world.webhook(room(1), identity(4), sid(4), 'joined');
    await world.clock.advance(INTERVAL_MS + 10_000);
    expect(world.actions('send').map(({ target }) => target)).toEqual(['delay-secret-4']);
  });
});
