// What no webhook told: every room with live delegations is looked at once an interval, spread over it, and all of them at once
// when there may be a gap (at start, when the SFU or the store is back).
import type { Cancel, Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import type { Delegation } from '../delegation/state.ts';
import { SLOTS, type Store, StoreUnavailable } from '../store/store.ts';
import type { Log } from '../telemetry.ts';
import type { Apply, Todo } from './apply.ts';
import { eventsOf } from './perform.ts';
import type { Presence } from './presence.ts';
import type { QuietRooms } from './quiet-rooms.ts';

export interface Sweep {
  /** To be called every second: looks at the rooms whose turn has come, and forgets what is old. */
  tick(): void;
  /** Looks at every room now. */
  all(): void;
  stop(): void;
}

export interface SweepDeps {
  readonly store: Store;
  readonly presence: Presence;
  /** Null: others write as well. */
  readonly quietRooms: QuietRooms | null;
  readonly apply: Apply;
  readonly clock: Clock;
  readonly intervalMs: number;
  /** So long ended delegations are kept, to explain what happened, and so many of them. */
  readonly kept: { readonly forMs: number; readonly most: number };
  readonly perform: (todo: Todo) => void;
  readonly log: Log;
}

/** Longer than its token holds, so that nobody can repeat it with effect; LiveKit gives it up after 30 s. */
const ONCE_KEPT_MS = 600_000;
/**
 * To read and judge a row takes some 60 µs, and whoever leaves meanwhile waits: so a large room is judged in portions. Where each takes a trip
 * over a network, all at once.
 */
const ROWS_AT_ONCE = 16;
/** Rooms that are looked at together when all are: who is about to run out asks as well. */
const ALL_AT_ONCE = 16;
/** Each portion takes a search for all of the room. */
const MOST_PORTIONS = 32;
/** A little more than an interval, so that no interval has more looks than there are rooms, however late the ticks are. */
const TURN = 1.01;
/** Replicas are at different places of their turns: a room that another has looked at in this part of the interval is passed over. */
const SHARED_TURN = 0.75;
/** What makes one replica look at everything makes the others do so in the same moment. */
const SHARED_GAP_MS = 1_000;
/**
 * The SFU is looked after also when no room gives a reason to ask it: since when it is back, its clients are waited for. So is one that is
 * away.
 */
const TOUCH_MS = 2_000;
const AWAY_TOUCH_MS = 1_000;
/** Whose turn comes with one tick are looked at one after the other: ten rooms at once would keep a webhook waiting for all of them. */
const TICK_MS = 1_000;
/** A look that will soon be done follows the last at once: a process that slept meanwhile finds cold caches, and took a quarter more for it. */
const SHORT_LOOK_MS = 2;
const PURGE_EVERY_MS = 10_000;
/** A portion keeps nobody waiting for more than some ms; as many follow one another as there is to forget. */
const PURGE_PORTION = 250;

export function createSweep(deps: SweepDeps): Sweep {
  const { store, presence, quietRooms, apply, clock, intervalMs, kept, perform, log } = deps;
  const shared = quietRooms === null;
  let position = 0;
  let lastTickMs: number | null = null;
  let lastPurgeMs = Number.NEGATIVE_INFINITY;
  let purging = false;
  let stopped = false;
  /** Looks of the last tick, under way or not begun yet. */
  let inTurn: readonly Cancel[] = [];

  function portions(present: number): number {
    return shared ? 1 : Math.min(Math.max(Math.ceil(present / ROWS_AT_ONCE), 1), MOST_PORTIONS);
  }

  async function look(room: RoomName): Promise<void> {
    const underWay = quietRooms?.beginLook(room);
    try {
      const evidence = await presence.ask(room, clock.nowMs(), 0);
      // An outage says nothing about anyone; rows that need an answer ask for themselves.
      if (evidence.kind === 'unreachable' || quietRooms?.isQuiet(room, evidence)) return;
      const eventOf = eventsOf(evidence);
      const rows: Delegation[] = [];
      let quietSoFar = true;
      const of = portions(evidence.present.length);
      for (let nth = 0; nth < of; nth += 1) {
        const applied = await apply({ by: 'room', room, part: { nth, of } }, null, (row) => {
          rows.push(row);
          return row.handles === null ? null : eventOf(row);
        });
        quietSoFar &&= applied.changed === 0 && applied.todo.length === 0;
        for (const todo of applied.todo) perform(todo);
      }
      if (quietSoFar) underWay?.wasQuiet(evidence, rows);
    } finally {
      underWay?.end();
    }
  }

  /** A store that is away is told of elsewhere, once. */
  function failed(error: unknown): void {
    if (!(error instanceof StoreUnavailable)) log.warn({ err: error }, 'a sweep could not finish');
  }

  async function lookAtAll(): Promise<void> {
    const rooms = [...(await store.rooms(0, SLOTS, SHARED_GAP_MS))].values();
    const lookOn = async (): Promise<void> => {
      for (const room of rooms) await look(room).catch(failed);
    };
    await Promise.all(Array.from({ length: ALL_AT_ONCE }, lookOn));
  }

  function apart(those: readonly RoomName[], mostMs: number): readonly Cancel[] {
    const apartMs = Math.min(mostMs, TICK_MS / those.length);
    return those.map((room, nth) => clock.after(Math.floor(nth * apartMs), () => void look(room).catch(failed)));
  }

  async function lookInTurn(fromSlot: number, toSlot: number): Promise<void> {
    const notWithinMs = intervalMs * SHARED_TURN;
    const rooms = [...(await store.rooms(fromSlot, Math.min(toSlot, SLOTS), notWithinMs))];
    if (toSlot > SLOTS) rooms.push(...(await store.rooms(0, toSlot - SLOTS, notWithinMs)));
    const { short = [], long = [] } = Object.groupBy(rooms, (room) => (quietRooms?.isLikelyQuiet(room) ? 'short' : 'long'));
    inTurn = [...apart(short, SHORT_LOOK_MS), ...apart(long, TICK_MS)];
  }

  /** The slots that have come round since the last tick; after a long stall at most all of them. */
  function turn(nowMs: number): void {
    const elapsedMs = lastTickMs === null ? 0 : Math.min(nowMs - lastTickMs, intervalMs);
    lastTickMs = nowMs;
    // Nothing would be learnt, and other replicas would pass over the rooms that were given to us. When it is back all are looked at.
    if (presence.reachable === false) return;
    const end = position + (elapsedMs / (intervalMs * TURN)) * SLOTS;
    const [from, to] = [Math.floor(position), Math.floor(end)];
    if (to > from) lookInTurn(from, to).catch(failed);
    position = end % SLOTS;
  }

  async function purge(nowMs: number): Promise<void> {
    const old = { endedBeforeMs: nowMs - kept.forMs, mostEnded: kept.most, onceBeforeMs: nowMs - ONCE_KEPT_MS, limit: PURGE_PORTION };
    while (!stopped && (await store.purge(old)) >= PURGE_PORTION);
  }

  function purgeInTurn(nowMs: number): void {
    if (purging || nowMs - lastPurgeMs < PURGE_EVERY_MS) return;
    purging = true;
    lastPurgeMs = nowMs;
    purge(nowMs)
      .catch(failed)
      .finally(() => {
        purging = false;
      });
  }

  return {
    tick: () => {
      const nowMs = clock.nowMs();
      turn(nowMs);
      purgeInTurn(nowMs);
      presence.touch(presence.reachable === false ? AWAY_TOUCH_MS : Math.min(intervalMs, TOUCH_MS));
    },
    all: () => {
      presence.touch(0);
      lookAtAll().catch(failed);
    },
    stop: () => {
      stopped = true;
      for (const cancel of inTurn) cancel();
    },
  };
}
