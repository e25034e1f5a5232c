// What no webhook told: every room with live delegations is looked at once an interval, spread over it, and all of them at once
// when there may be a gap (at start, when the SFU or the store is back).
import type { Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import type { Delegation } from '../delegation/state.ts';
import { SLOTS, type Store, StoreUnavailable } from '../store/store.ts';
import type { Log } from '../telemetry.ts';
import type { Apply, Todo } from './apply.ts';
import type { Calm } from './calm.ts';
import { eventOf } from './perform.ts';
import type { Presence } from './presence.ts';

export interface Sweep {
  /** To be called every second: looks at the rooms whose turn has come, and forgets what is old. */
  tick(): void;
  /** Looks at every room now. */
  all(): void;
}

export interface SweepDeps {
  readonly store: Store;
  readonly presence: Presence;
  /** Null: others write as well. */
  readonly calm: Calm | null;
  readonly apply: Apply;
  readonly clock: Clock;
  readonly intervalMs: number;
  /** So long ended delegations are kept, to explain what happened. */
  readonly keptMs: number;
  readonly perform: (todo: Todo) => void;
  readonly log: Log;
}

/** LiveKit gives a webhook up after 30 s; an hour also covers a sender's clock and an operator's replay. */
const ONCE_KEPT_MS = 3_600_000;
/** A little more than an interval, so that no interval has more looks than there are rooms, however late the ticks are. */
const TURN = 1.01;
/** Replicas are at different places of their turns: a room that another has looked at in this part of the interval is passed over. */
const SHARED_TURN = 0.75;
/** What makes one replica look at everything makes the others do so in the same moment. */
const SHARED_GAP_MS = 1_000;
/** An SFU that is away is looked after, also when no room gives a reason to ask it. */
const AWAY_TOUCH_MS = 1_000;
const PURGE_EVERY_MS = 60_000;
const PURGE_BATCH = 5_000;

export function createSweep(deps: SweepDeps): Sweep {
  const { store, presence, calm, apply, clock, intervalMs, keptMs, perform, log } = deps;
  let position = 0;
  let lastTickMs: number | null = null;
  let lastPurgeMs = Number.NEGATIVE_INFINITY;

  async function look(room: RoomName): Promise<void> {
    const underWay = calm?.look(room);
    try {
      const evidence = await presence.ask(room, clock.nowMs(), 0);
      // An outage says nothing about anyone; rows that need an answer ask for themselves.
      if (evidence.kind === 'unreachable' || calm?.holds(room, evidence)) return;
      const rows: Delegation[] = [];
      const applied = await apply({ by: 'room', room }, null, (row) => {
        rows.push(row);
        return row.handles === null ? null : eventOf(evidence, row);
      });
      if (applied.changed === 0 && applied.todo.length === 0) underWay?.wasCalm(evidence, rows);
      for (const todo of applied.todo) perform(todo);
    } finally {
      underWay?.end();
    }
  }

  function lookAt(fromSlot: number, toSlot: number, notWithinMs: number): void {
    store
      .rooms(fromSlot, toSlot, notWithinMs)
      .then((rooms) => Promise.all(rooms.map(look)))
      .catch((error) => {
        // A store that is away is told of elsewhere, once.
        if (!(error instanceof StoreUnavailable)) log.warn({ err: error }, 'a sweep could not finish');
      });
  }

  /** The slots that have come round since the last tick; after a long stall at most all of them. */
  function turn(nowMs: number): void {
    const elapsedMs = lastTickMs === null ? 0 : Math.min(nowMs - lastTickMs, intervalMs);
    lastTickMs = nowMs;
    const end = position + (elapsedMs / (intervalMs * TURN)) * SLOTS;
    const [from, to] = [Math.floor(position), Math.floor(end)];
    const notWithinMs = intervalMs * SHARED_TURN;
    if (to > from) lookAt(from, Math.min(to, SLOTS), notWithinMs);
    if (to > SLOTS) lookAt(0, to - SLOTS, notWithinMs);
    position = end % SLOTS;
  }

  function purge(nowMs: number): void {
    if (nowMs - lastPurgeMs < PURGE_EVERY_MS) return;
    lastPurgeMs = nowMs;
    store
      .purge(nowMs - keptMs, nowMs - ONCE_KEPT_MS, PURGE_BATCH)
      .catch((error) => log.warn({ err: error }, 'old rows could not be purged'));
  }

  return {
    tick: () => {
      const nowMs = clock.nowMs();
      turn(nowMs);
      purge(nowMs);
      presence.touch(presence.reachable === false ? AWAY_TOUCH_MS : intervalMs);
    },
    all: () => {
      presence.touch(0);
      lookAt(0, SLOTS, SHARED_GAP_MS);
    },
  };
}
