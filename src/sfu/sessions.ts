// Whether any node of the SFU still has the sessions that are listed. With a Redis, livekit-server lists what is written there, and
// sessions on a node that was killed stay written, also when others have come back to the room, for as long as that call lasts. A call that
// the session's own node has to answer shows whether it is there. It is made where there is doubt, and once more before the wait for a
// return is over.
import type { Clock } from '../clock.ts';
import type { RoomName, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { LruMap } from '../lru-map.ts';
import { askOwnNode } from './own-node.ts';
import type { RoomService } from './room-service.ts';

export interface Sessions {
  /**
   * Those who are listed in a room, without those whom no node has. `doubtMs`: when the SFU may last have lost sessions (Unix ms). Sessions
   * in doubt are asked for in the background, and count as present until that is answered. `missed`: those whom a list lacked before, or whom
   * another process may have found to be lost; they are in doubt whatever we know.
   */
  ofNodes(room: RoomName, listed: readonly Seen[], doubtMs: number, missed?: readonly Seen[]): OfNodes;
  /** To be told when no node has the room: all who are listed in it are lost. */
  lost(room: RoomName, listed: readonly Seen[]): void;
}

export interface OfNodes {
  readonly present: readonly Seen[];
  /** Some were found to be lost within the last 20 s: others may be on their way back. */
  readonly justLost: boolean;
}

interface Known {
  /** When a node last answered for it, Unix ms. */
  readonly hostedMs: number;
  /** It is not asked for again before then, Unix ms. */
  readonly notBeforeMs: number;
}

interface Lost {
  readonly sinceMs: number;
  readonly pauseMs: number;
  readonly isTold: boolean;
}

const NEVER = Number.NEGATIVE_INFINITY;
const UNKNOWN: Known = { hostedMs: NEVER, notBeforeMs: NEVER };
const MOST_SESSIONS = 50_000;
/** Few at once, because these questions come when the SFU has just come back. */
const MOST_AT_ONCE = 16;
/** However often calls to the SFU fail, the same session is not asked for more often than this. */
const LEAST_PAUSE_MS = 10_000;
/** After a question that failed: the SFU may just have been stopping or starting. */
const FAILED_PAUSE_MS = 3_000;
/** How far the SFU's clock may differ from ours: much where it is judged who may have come since, little for who was there before. */
const CLOCKS_MS = { came: 60_000, before: 2_000 };
/** A lost session is asked for again well before the wait for a return (20 s) is over, and then ever less often until the room ends. */
const LOST_PAUSE_MS = { first: 10_000, most: 300_000 };
/** Clients are back up to 18 s after their SFU has restarted (deploy/reasons.md). */
const JUST_LOST_MS = 20_000;

/** `onLost`: called when sessions are found to be lost: their node has died, and with it perhaps others'. */
export function createSessions(service: RoomService, clock: Clock, onLost: () => void): Sessions {
  const known = new LruMap<Sid, Known>(MOST_SESSIONS);
  /** Sessions that no node has. Nearly always empty, and then no list has to be searched for them. */
  const lostOnes = new LruMap<Sid, Lost>(MOST_SESSIONS);
  const underWay = new Set<Sid>();
  const waiting: (() => Promise<void>)[] = [];
  let atWork = 0;

  const knownOf = ({ sid }: Seen): Known => known.get(sid) ?? UNKNOWN;
  const isLost = ({ sid }: Seen): boolean => lostOnes.get(sid) !== undefined;

  async function ask(room: RoomName, one: Seen): Promise<void> {
    const askedMs = clock.nowMs();
    const called = await askOwnNode(service, room, one.identity);
    switch (called.kind) {
      case 'answered':
        known.set(one.sid, { hostedMs: askedMs, notBeforeMs: askedMs + LEAST_PAUSE_MS });
        lostOnes.delete(one.sid);
        return;
      // It has just left, or a proxy before the SFU lets no such call through.
      case 'not_found':
      case 'failed':
        known.set(one.sid, { ...knownOf(one), notBeforeMs: clock.nowMs() + FAILED_PAUSE_MS });
        return;
      case 'nowhere':
        lose(room, one);
        return;
      default:
        called satisfies never;
    }
  }

  function lose(room: RoomName, one: Seen): void {
    const nowMs = clock.nowMs();
    const before = lostOnes.get(one.sid);
    const pauseMs = before === undefined ? LOST_PAUSE_MS.first : Math.min(before.pauseMs * 2, LOST_PAUSE_MS.most);
    known.set(one.sid, { ...knownOf(one), notBeforeMs: nowMs + pauseMs });
    lostOnes.set(one.sid, { sinceMs: before?.sinceMs ?? nowMs, pauseMs, isTold: before?.isTold ?? false });
    if (before === undefined) clock.after(pauseMs, () => askBeside(room, [one]));
  }

  async function work(): Promise<void> {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await next();
    atWork -= 1;
  }

  /** Nobody, unless somebody has joined since `doubtMs`: else either the room's node never died, or no node has the room at all. */
  function inDoubt(listed: readonly Seen[], doubtMs: number): readonly Seen[] {
    // The SFU goes by the wall clock. If that has been set since our start, it is not known whether before the doubt or after it.
    const wallMs = doubtMs + clock.wallMs() - clock.nowMs();
    const [fromMs, untilMs] = [Math.min(doubtMs, wallMs), Math.max(doubtMs, wallMs)];
    if (!listed.some(({ joinedAtMs }) => joinedAtMs === null || joinedAtMs > fromMs - CLOCKS_MS.came)) return [];
    return listed.filter((one) => {
      if (isLost(one) || knownOf(one).hostedMs > doubtMs) return false;
      return one.joinedAtMs === null || one.joinedAtMs < untilMs + CLOCKS_MS.before;
    });
  }

  function askBeside(room: RoomName, those: readonly Seen[]): void {
    const nowMs = clock.nowMs();
    for (const one of those) {
      const before = knownOf(one);
      if (nowMs < before.notBeforeMs || underWay.has(one.sid)) continue;
      known.set(one.sid, { ...before, notBeforeMs: nowMs + LEAST_PAUSE_MS });
      underWay.add(one.sid);
      waiting.push(() => ask(room, one).finally(() => underWay.delete(one.sid)));
    }
    while (atWork < MOST_AT_ONCE && waiting.length > 0) {
      atWork += 1;
      void work();
    }
  }

  /** Reports a session once, when it was found lost twice and is still listed: it has not just left. */
  function tell(those: readonly Seen[]): void {
    for (const one of those) {
      const lost = lostOnes.get(one.sid);
      if (lost === undefined || lost.isTold || lost.pauseMs === LOST_PAUSE_MS.first) continue;
      lostOnes.set(one.sid, { ...lost, isTold: true });
      onLost();
    }
  }

  return {
    ofNodes: (room, listed, doubtMs, missed = []) => {
      const again = missed.length === 0 ? [] : listed.filter((one) => missed.some(({ sid }) => sid === one.sid));
      askBeside(room, [...inDoubt(listed, doubtMs), ...again]);
      const lost = lostOnes.size === 0 ? [] : listed.filter(isLost);
      if (lost.length === 0) return { present: listed, justLost: false };
      tell(lost);
      askBeside(room, lost);
      const present = listed.filter((one) => !isLost(one));
      const justLost = lost.some(({ sid }) => clock.nowMs() - (lostOnes.get(sid)?.sinceMs ?? NEVER) < JUST_LOST_MS);
      return { present, justLost };
    },
    lost: (room, listed) => {
      const news = listed.filter((one) => !isLost(one));
      for (const one of news) lose(room, one);
      if (news.length > 0) onLost();
    },
  };
}
