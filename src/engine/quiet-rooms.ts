// Remembers the rooms in which the last look found nothing to do. There is nothing to do again as long as the SFU's list stays the same, no
// delegation of the room changes, and none is about to be due. Nearly every routine look finds nearly every room like that, and to read and
// judge its rows each time would be most of the work of a service that only holds delegations.
//
// A process that shares its store can't know what others write, and has no such memory.
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { Identity, RoomName, Sid } from '../delegation/ids.ts';
import type { Delegation } from '../delegation/state.ts';
import type { List } from './evidence.ts';

export interface QuietRooms {
  /** True: the list says the same as when the room was found quiet, so its rows need not be read. */
  isQuiet(room: RoomName, list: List): boolean;
  /** Whether the next look will probably find it quiet, and so be short: the list alone is still to be compared. */
  isLikelyQuiet(room: RoomName): boolean;
  /** A look at a room begins. Its `end` must be called, however it went. */
  beginLook(room: RoomName): LookUnderWay;
  /** To be called for every write that `moves` a delegation of the room, in the order of the commits: it is not quiet any more. */
  moved(room: RoomName): void;
}

export interface LookUnderWay {
  /** To be told of each row of the room that is judged by this list. */
  sawBy(list: List): (row: Delegation) => void;
  /** The list changed none of them, and had no effects. Forgotten if a row was written meanwhile. */
  wasQuiet(list: List): void;
  end(): void;
}

interface Known {
  readonly print: string;
  readonly untilMs: number;
}

/** Each takes 200 bytes. */
const MOST_ROOMS = 50_000;
/** A room counts as quiet for so many intervals at most: whatever this memory may have missed is found by then. */
const LOOK_ANYWAY_AFTER = 30;

export function createQuietRooms({ clock, intervalMs }: { readonly clock: Clock; readonly intervalMs: number }): QuietRooms {
  const quiet = new Map<RoomName, Known>();
  /** The newest look under way of each room in which no delegation has moved since that look began. */
  const undisturbed = new Map<RoomName, LookUnderWay>();
  /** Fingerprints of lists by the array: presence.ts hands out the same one while nothing changes. */
  const prints = new WeakMap<List['present'], string>();

  function printOf({ present, roomSid, afterRestart }: List): string {
    const print = prints.get(present) ?? printOfAll(present);
    prints.set(present, print);
    return `${print} ${roomSid} ${afterRestart}`;
  }

  function knownOf(room: RoomName): Known | null {
    const known = quiet.get(room);
    return known !== undefined && clock.nowMs() < known.untilMs ? known : null;
  }

  /** `firstMs`: when the first of its rows is due. */
  function note(room: RoomName, list: List, firstMs: number): void {
    const nowMs = clock.nowMs();
    // A routine look also restarts those who would be due before the next one, so the room is quiet only until an interval before that.
    const untilMs = Math.min(firstMs - intervalMs, nowMs + LOOK_ANYWAY_AFTER * intervalMs);
    quiet.delete(room);
    if (untilMs <= nowMs) return;
    quiet.set(room, { print: printOf(list), untilMs });
    const [oldest] = quiet.keys();
    if (quiet.size > MOST_ROOMS && oldest !== undefined) quiet.delete(oldest);
  }

  return {
    isQuiet: (room, list) => {
      const known = knownOf(room);
      return known !== null && known.print === printOf(list);
    },
    isLikelyQuiet: (room) => knownOf(room) !== null,
    beginLook: (room) => {
      let firstMs = Number.POSITIVE_INFINITY;
      const own: LookUnderWay = {
        sawBy: ({ present }) => {
          const there = { sids: new Set(present.map(({ sid }) => sid)), identities: new Set(present.map(({ identity }) => identity)) };
          return (row) => {
            firstMs = Math.min(firstMs, quietUntilMs(row, there));
          };
        },
        wasQuiet: (list) => {
          if (undisturbed.get(room) === own) note(room, list, firstMs);
        },
        end: () => {
          if (undisturbed.get(room) === own) undisturbed.delete(room);
        },
      };
      undisturbed.set(room, own);
      return own;
    },
    moved: (room) => {
      quiet.delete(room);
      undisturbed.delete(room);
    },
  };
}

/** Whether a write may change what a list means for the delegation. Another restart of the same session does not. */
export function moves(before: Delegation | undefined, { state }: Delegation): boolean {
  return before?.state.kind !== 'connected' || state.kind !== 'connected' || before.state.session !== state.session;
}

/** Who is on a list. */
interface There {
  readonly sids: ReadonlySet<Sid>;
  readonly identities: ReadonlySet<Identity>;
}

/**
 * Until when (Unix ms) the same list says nothing new about a row: who is connected and on it, or awaited and not on it, until it is due.
 * 0 for all others: their rooms are not quiet. Infinity: it has ended.
 */
function quietUntilMs({ state, expiry, identities }: Delegation, there: There): number {
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

/** A fingerprint of who is listed, in whichever order: the SFU has none. */
function printOfAll(present: List['present']): string {
  const lines = present.map(({ identity, sid, joinedAtMs, active }) => JSON.stringify([sid, identity, joinedAtMs, active]));
  return hash('sha256', lines.sort().join(), 'base64');
}
