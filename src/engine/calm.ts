// Rooms in which nothing was to be done at the last look, and nothing is as long as the SFU's list stays the same, no delegation there moves,
// and none is about to be due. Nearly every look finds nearly every room so; to read and judge its rows each time was most of what a service
// that only holds delegations did.
//
// A process that shares its store can't know what others write: it has no such memory.
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { Identity, RoomName, Sid } from '../delegation/ids.ts';
import type { Delegation } from '../delegation/state.ts';
import type { List } from './presence.ts';

export interface Calm {
  /** There is nothing to decide, whatever was asked: all is as it was when that was found. */
  holds(room: RoomName, list: List): boolean;
  /** The next look will as a rule find it so, and is soon done. */
  isLikely(room: RoomName): boolean;
  /** A look at a room begins; it has to be ended. */
  look(room: RoomName): LookUnderWay;
  /** To be called by every step that moves a delegation of the room, in the order of the commits. */
  moved(room: RoomName): void;
}

export interface LookUnderWay {
  /** The list changed nothing about these rows, all of the room, and nothing follows from it. */
  wasCalm(list: List, rows: readonly Delegation[]): void;
  end(): void;
}

interface Known {
  readonly print: string;
  readonly untilMs: number;
}

/** A memory of 200 bytes each. */
const MOST_ROOMS = 50_000;
/** Whatever may have been overlooked is found by then: so many intervals. */
const LOOK_ALL_THE_SAME = 30;

export function createCalm({ clock, intervalMs }: { readonly clock: Clock; readonly intervalMs: number }): Calm {
  const calm = new Map<RoomName, Known>();
  /** Looks under way during which nothing has moved. */
  const undisturbed = new Map<RoomName, LookUnderWay>();
  /** Of lists that are the same in memory, as nearly all are. */
  const prints = new WeakMap<List['present'], string>();

  function printOf({ present, roomSid, afterRestart }: List): string {
    const print = prints.get(present) ?? printOfAll(present);
    prints.set(present, print);
    return `${print} ${roomSid} ${afterRestart}`;
  }

  function knownOf(room: RoomName): Known | null {
    const known = calm.get(room);
    return known !== undefined && clock.nowMs() < known.untilMs ? known : null;
  }

  function note(room: RoomName, list: List, rows: readonly Delegation[]): void {
    const nowMs = clock.nowMs();
    // A routine look restarts those who would be due before the next one.
    const there = { sids: new Set(list.present.map(({ sid }) => sid)), identities: new Set(list.present.map(({ identity }) => identity)) };
    const dueMs = rows.reduce((least, row) => Math.min(least, dueAtMsOfCalm(row, there)), Number.POSITIVE_INFINITY);
    const untilMs = Math.min(dueMs - intervalMs, nowMs + LOOK_ALL_THE_SAME * intervalMs);
    calm.delete(room);
    if (untilMs <= nowMs) return;
    calm.set(room, { print: printOf(list), untilMs });
    const [oldest] = calm.keys();
    if (calm.size > MOST_ROOMS && oldest !== undefined) calm.delete(oldest);
  }

  return {
    holds: (room, list) => {
      const known = knownOf(room);
      return known !== null && known.print === printOf(list);
    },
    isLikely: (room) => knownOf(room) !== null,
    look: (room) => {
      const own: LookUnderWay = {
        wasCalm: (list, rows) => {
          if (undisturbed.get(room) === own) note(room, list, rows);
        },
        end: () => {
          if (undisturbed.get(room) === own) undisturbed.delete(room);
        },
      };
      undisturbed.set(room, own);
      return own;
    },
    moved: (room) => {
      calm.delete(room);
      undisturbed.delete(room);
    },
  };
}

/** Whether a write may change what a list means for the delegation; that a restart was made does not. */
export function moves(before: Delegation | undefined, { state }: Delegation): boolean {
  return before?.state.kind !== 'connected' || state.kind !== 'connected' || before.state.session !== state.session;
}

/** Who is on a list. */
interface There {
  readonly sids: ReadonlySet<Sid>;
  readonly identities: ReadonlySet<Identity>;
}

/** When a row is due of which the same list would say nothing new before: who is connected is on it, who is awaited is not. Of all others: 0. */
function dueAtMsOfCalm({ state, expiry, identities }: Delegation, there: There): number {
  switch (state.kind) {
    case 'connected':
      return state.session.sid !== null && there.sids.has(state.session.sid) ? Math.min(state.restartDueMs, expiry.earliestMs) : 0;
    case 'awaiting':
      return state.seenAbsent && !identities.some((identity) => there.identities.has(identity)) ? state.nextAskMs : 0;
    case 'settling':
    case 'leaving':
    case 'cancelling':
      return 0;
    case 'ended':
      return Number.POSITIVE_INFINITY;
    default:
      return state satisfies never;
  }
}

/** An SFU lists those who are there in any order. */
function printOfAll(present: List['present']): string {
  const lines = present.map(({ identity, sid, joinedAtMs, active }) => JSON.stringify([sid, identity, joinedAtMs, active]));
  return hash('sha256', lines.sort().join(), 'base64');
}
