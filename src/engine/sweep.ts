// Finds what no webhook has told: every room with live delegations is looked at once an interval, evenly spread, and all rooms at once when
// webhooks may have been missed (at the start, and when the SFU or the store is back). Also purges what is old.
import type { Cancel, Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import { lastSeen } from '../delegation/last-seen.ts';
import type { Seen } from '../delegation/state.ts';
import type { Log } from '../log.ts';
import { SLOTS, type Store, StoreUnavailable } from '../store/store.ts';
import { type Apply, applyInParts, type Todo } from './apply.ts';
import { type List, lackedBy } from './evidence.ts';
import { eventsOf } from './perform.ts';
import type { Presence } from './presence.ts';
import type { LookUnderWay, QuietRooms } from './quiet-rooms.ts';

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
  /** Null: other processes write to the store as well. */
  readonly quietRooms: QuietRooms | null;
  readonly apply: Apply;
  /** False: another process may have heard of that session, and this one of nothing. */
  readonly isSought: (room: RoomName, session: Seen) => boolean;
  /** Rooms that are to be looked at whoever's turn it is: up to so many, each once. */
  readonly doubted: (most: number) => readonly RoomName[];
  readonly clock: Clock;
  readonly intervalMs: number;
  /** How long ended delegations are kept, and how many at most. */
  readonly kept: { readonly forMs: number; readonly most: number };
  readonly perform: (todo: Todo) => void;
  readonly log: Log;
}

/** How the rows of a room fared by one list. */
interface Judged {
  /** Nothing came of it. */
  readonly isQuiet: boolean;
  /** Sessions that it lacks, and that are to be looked for. */
  readonly missing: readonly Seen[];
  /** Sessions that it has, and that another process may have found to be on no node. */
  readonly doubtful: readonly Seen[];
}

/** How long the key of a webhook is remembered: longer than its token is valid (sfu/jwt.ts), so that nobody can replay it with effect. */
const ONCE_KEPT_MS = 600_000;
/** How many rooms are looked at together when all are; restarts have questions for the SFU as well. */
const ALL_AT_ONCE = 16;
/** A round takes so many intervals: a little more than one, so that no interval has more looks than rooms, however late the ticks are. */
const TURN = 1.01;
/** A room that another replica has looked at in this part of the interval is passed over: each is at another place of its round. */
const SHARED_TURN = 0.75;
/** The same when all rooms are looked at: what makes one replica do that makes the others do it in the same moment. */
const SHARED_GAP_MS = 1_000;
/**
 * How often the SFU is asked for a sign of life when no room is asked about, and while it is away: the wait for clients to come back begins
 * when the SFU itself is back, so that moment has to be known.
 */
const TOUCH_MS = 2_000;
const AWAY_TOUCH_MS = 1_000;
/** The rooms of one tick are spread over this time: ten at once would keep a webhook waiting for all of them. */
const TICK_MS = 1_000;
/**
 * Short looks (quiet-rooms.ts) follow one another closely: after a sleep in between caches are cold, and each took a quarter longer. They come
 * last, or while rooms fall quiet they would all be looked at sooner than their turn is.
 */
const SHORT_LOOK_MS = 2;
const PURGE_EVERY_MS = 10_000;
/** Rows that are purged in one transaction, which takes a few ms; the next one follows until there are no more. */
const PURGE_PORTION = 250;

export function createSweep(deps: SweepDeps): Sweep {
  const { store, presence, quietRooms, apply, isSought, doubted, clock, intervalMs, kept, perform, log } = deps;
  const shared = quietRooms === null;
  let position = 0;
  let lastTickMs: number | null = null;
  let lastPurgeMs = Number.NEGATIVE_INFINITY;
  let purging = false;
  let stopped = false;
  /** Cancels the looks of the last tick that have not begun. */
  let inTurn: readonly Cancel[] = [];

  async function look(room: RoomName): Promise<void> {
    const underWay = quietRooms?.beginLook(room);
    try {
      const evidence = await presence.ask(room, clock.nowMs(), 0);
      // An outage says nothing about anyone; rows that need an answer ask for themselves.
      if (evidence.kind === 'unreachable' || quietRooms?.isQuiet(room, evidence)) return;
      const { isQuiet, missing, doubtful } = await judge(room, evidence, shared, underWay);
      if (isQuiet) underWay?.wasQuiet(evidence);
      if (missing.length + doubtful.length === 0) return;
      const again = await presence.ask(room, clock.nowMs(), 0, { expected: [...missing, ...doubtful] });
      if (again.kind === 'list' && missing.length > 0) await judge(room, again, false);
    } finally {
      underWay?.end();
    }
  }

  /**
   * What a list means for all rows of its room. `isFirst`: not for those whose session it lacks and this process does not know, for another one
   * may have heard of that. They are to be looked for first: else each list of this process would have them wait, until another one finds them.
   * Nor does it say that somebody is there whom another process waits for, because none of the nodes had them: that is found out here as well, and
   * when the wait is over whoever asks then goes by it.
   */
  async function judge(room: RoomName, evidence: List, isFirst: boolean, underWay?: LookUnderWay): Promise<Judged> {
    const [eventOf, isLacked] = [eventsOf(evidence), isFirst ? lackedBy(evidence) : () => false];
    const saw = underWay?.sawBy(evidence);
    const missing: Seen[] = [];
    const doubtful: Seen[] = [];
    const applied = await applyInParts({ apply, perform }, { by: 'room', room }, null, (row) => {
      saw?.(row);
      if (row.handles === null) return null;
      const session = lastSeen(row);
      if (session === null) return eventOf(row);
      const isThoughtLost = row.state.kind === 'settling';
      if (isThoughtLost ? !shared || !isOn(evidence, session) : !isLacked(session) || isSought(room, session)) return eventOf(row);
      (isThoughtLost ? doubtful : missing).push(session);
      return null;
    });
    return { isQuiet: applied.changed === 0 && applied.begun === 0, missing, doubtful };
  }

  /** That the store is away is logged elsewhere, once. */
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
    const firstMs = TICK_MS - those.length * apartMs;
    return those.map((room, nth) => clock.after(Math.floor(firstMs + nth * apartMs), () => void look(room).catch(failed)));
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
    // Nothing would be learnt, and other replicas would pass over the rooms that the store has given to us. When the SFU is back all rooms
    // are looked at anyway.
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
      for (const room of doubted(ALL_AT_ONCE)) look(room).catch(failed);
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

const isOn = ({ present }: List, session: Seen): boolean => present.some(({ sid }) => sid === session.sid);
