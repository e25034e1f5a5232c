// Whether a node of the SFU has the sessions that its lists name. With a Redis livekit-server lists what is written there, and who was on a
// node that was killed stays written: also when others have come back to the room, as long as their call lasts. A call that the node of the
// session itself has to answer tells; it is made where there is doubt, and who is lost is asked for once more within the wait for a return.
import type { Clock } from '../clock.ts';
import type { RoomName, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { LruMap } from '../lru-map.ts';
import type { RoomService } from './room-service.ts';

export interface Sessions {
  /**
   * Who is listed in a room, less those whom no node has. `doubtMs`: when the SFU may have lost whoever was there. Those in doubt are asked
   * for beside it, and are there until that is answered: nobody else is to wait for it.
   */
  ofNodes(room: RoomName, listed: readonly Seen[], doubtMs: number): OfNodes;
  /** No node has the room. */
  lost(room: RoomName, listed: readonly Seen[]): void;
}

export interface OfNodes {
  readonly present: readonly Seen[];
  /** That somebody is lost has only just shown: others may be on their way back. */
  readonly justLost: boolean;
}

interface Known {
  /** When a node last had it. */
  readonly hostedMs: number;
  /** It is not asked for before then. */
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
/** The SFU has just come back when these are asked. */
const MOST_AT_ONCE = 16;
/** However often the SFU fails, whom it has answered for is asked for no more often than this. */
const LEAST_PAUSE_MS = 10_000;
/** After one that failed: the SFU may have been about to end, or to begin. */
const FAILED_PAUSE_MS = 3_000;
/** The SFU's clock is another one. Who may have come since is found with more room than who surely was there before. */
const CLOCKS_MS = { came: 60_000, before: 2_000 };
/** Asked again well before the wait for a return is over, and then less and less: it stays on the list until the room ends. */
const LOST_PAUSE_MS = { first: 10_000, most: 300_000 };
/** Clients were back within 4–7 s of an SFU's restart (measured.md). */
const JUST_LOST_MS = 20_000;

/** `onLost`: a node has died, and others were there as well. */
export function createSessions(service: RoomService, clock: Clock, onLost: () => void): Sessions {
  const known = new LruMap<Sid, Known>(MOST_SESSIONS);
  /** Nearly always nobody, and then no look has to go through its list for them. */
  const lostOnes = new LruMap<Sid, Lost>(MOST_SESSIONS);
  const underWay = new Set<Sid>();
  const waiting: (() => Promise<void>)[] = [];
  let atWork = 0;

  const knownOf = ({ sid }: Seen): Known => known.get(sid) ?? UNKNOWN;
  const isLost = ({ sid }: Seen): boolean => lostOnes.get(sid) !== undefined;

  /** To subscribe to nothing changes nothing. */
  async function ask(room: RoomName, one: Seen): Promise<void> {
    const askedMs = clock.nowMs();
    const request = { room, identity: one.identity, trackSids: [], subscribe: false };
    const called = await service.call('UpdateSubscriptions', { roomAdmin: true, room }, request);
    switch (called.kind) {
      case 'answered':
        known.set(one.sid, { hostedMs: askedMs, notBeforeMs: askedMs + LEAST_PAUSE_MS });
        lostOnes.delete(one.sid);
        return;
      // It has left just now, or what stands before the SFU knows no such call.
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

  /** Only where somebody has come since is anybody lost whose room is not: who lost their node come back, or nobody has the room. */
  function inDoubt(listed: readonly Seen[], doubtMs: number): readonly Seen[] {
    if (!listed.some(({ joinedAtMs }) => joinedAtMs === null || joinedAtMs > doubtMs - CLOCKS_MS.came)) return [];
    return listed.filter((one) => {
      if (isLost(one) || knownOf(one).hostedMs > doubtMs) return false;
      return one.joinedAtMs === null || one.joinedAtMs < doubtMs + CLOCKS_MS.before;
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

  /** Lost twice, and still on a list: it has not just left. */
  function tell(those: readonly Seen[]): void {
    for (const one of those) {
      const lost = lostOnes.get(one.sid);
      if (lost === undefined || lost.isTold || lost.pauseMs === LOST_PAUSE_MS.first) continue;
      lostOnes.set(one.sid, { ...lost, isTold: true });
      onLost();
    }
  }

  return {
    ofNodes: (room, listed, doubtMs) => {
      askBeside(room, inDoubt(listed, doubtMs));
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
