// Whether any node of the SFU still has the sessions that are listed. With a Redis, livekit-server lists what is written there, and
// sessions on a node that was killed stay written, also when others have come back to the room, for as long as that call lasts. A call that
// the session's own node has to answer shows whether it is there. It is made where there is doubt, and once more before the wait for a
// return is over.
import type { Clock } from '../clock.ts';
import type { RoomName, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { isFromBeforeSetBack } from '../delegation/steps/clocks.ts';
import { LruMap } from '../lru-map.ts';
import { askOwnNode } from './own-node.ts';
import type { Called, RoomService } from './room-service.ts';

export interface Sessions {
  /**
   * Those who are listed in a room, without those whom no node has. `doubtMs`: when the SFU may last have lost sessions (Unix ms). Sessions
   * in doubt are asked for in the background, and count as present until that is answered. `missed`: those whom a list lacked before, or whom
   * another process may have found to be lost; they are in doubt whatever we know.
   */
  ofNodes(room: RoomName, listed: readonly Seen[], doubtMs: number, missed?: readonly Seen[]): OfNodes;
  /** Asks for who was there first of those listed who are not lost; null: all are. Nobody is lost by that. */
  askOldest(room: RoomName, listed: readonly Seen[]): Promise<Called['kind'] | null>;
  /** Asks for them again, and for who came next, if no node had them and they have not just left. That is also done ten seconds later. */
  askAgain(room: RoomName, listed: readonly Seen[]): Promise<void>;
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
const MOST_ROOMS = 50_000;
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

/**
 * `onLost`: called when sessions are found to be lost: their node has died, and with it perhaps others'. `onDoubt`: when one was on no node
 * twice, and its room is to be looked at again.
 */
export function createSessions(service: RoomService, clock: Clock, onLost: () => void, onDoubt: (room: RoomName) => void): Sessions {
  const known = new LruMap<Sid, Known>(MOST_SESSIONS);
  /** Sessions that no node has. Nearly always empty, and then no list has to be searched for them. */
  const lostOnes = new LruMap<Sid, Lost>(MOST_SESSIONS);
  /** Of rooms of which no node had who was there first: them, who came next, and when that was asked. */
  const goneOldest = new LruMap<RoomName, { readonly first: readonly Seen[]; readonly askedMs: number }>(MOST_ROOMS);
  /** Rooms that may have been started anew, and when that was asked. */
  const startedAnew = new LruMap<RoomName, number>(MOST_ROOMS);
  const underWay = new Set<Sid>();
  const waiting: (() => Promise<void>)[] = [];
  let atWork = 0;

  const knownOf = ({ sid }: Seen): Known => known.get(sid) ?? UNKNOWN;
  const isLost = ({ sid }: Seen): boolean => lostOnes.get(sid) !== undefined;

  async function ask(room: RoomName, one: Seen): Promise<void> {
    const askedMs = clock.nowMs();
    const { kind } = await askOwnNode(service, room, one.identity);
    if (kind === 'nowhere') lose(room, one);
    else heard(one, kind, askedMs);
  }

  function heard(one: Seen, kind: Exclude<Called['kind'], 'nowhere'>, askedMs: number): void {
    switch (kind) {
      case 'answered':
        known.set(one.sid, { hostedMs: askedMs, notBeforeMs: askedMs + LEAST_PAUSE_MS });
        lostOnes.delete(one.sid);
        return;
      // It has just left, or a proxy before the SFU lets no such call through.
      case 'not_found':
      case 'failed':
        known.set(one.sid, { ...knownOf(one), notBeforeMs: clock.nowMs() + FAILED_PAUSE_MS });
        return;
      default:
        kind satisfies never;
    }
  }

  function lose(room: RoomName, one: Seen): void {
    const nowMs = clock.nowMs();
    const before = lostOnes.get(one.sid);
    const pauseMs = before === undefined ? LOST_PAUSE_MS.first : Math.min(before.pauseMs * 2, LOST_PAUSE_MS.most);
    known.set(one.sid, { ...knownOf(one), notBeforeMs: nowMs + pauseMs });
    lostOnes.set(one.sid, { sinceMs: before?.sinceMs ?? nowMs, pauseMs, isTold: before?.isTold ?? false });
    if (before === undefined) clock.after(pauseMs, () => askBeside(room, [one]));
    else if (before.pauseMs === LOST_PAUSE_MS.first) onDoubt(room);
  }

  async function work(): Promise<void> {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await next();
    atWork -= 1;
  }

  /** Nobody, unless somebody has joined since `doubtMs`: else either the room's node never died, or no node has the room at all. */
  function inDoubt(listed: readonly Seen[], doubtMs: number): readonly Seen[] {
    const { fromMs } = bySfuMs(doubtMs);
    if (!listed.some(({ joinedAtMs }) => joinedAtMs === null || joinedAtMs > fromMs - CLOCKS_MS.came)) return [];
    return notFoundSince(listed, doubtMs);
  }

  /** Who was there before, and is not known to be on a node since then. */
  function notFoundSince(listed: readonly Seen[], sinceMs: number): readonly Seen[] {
    const { untilMs } = bySfuMs(sinceMs);
    return listed.filter((one) => {
      if (isLost(one) || knownOf(one).hostedMs > sinceMs) return false;
      return one.joinedAtMs === null || one.joinedAtMs < untilMs + CLOCKS_MS.before;
    });
  }

  /** The SFU goes by the wall clock. If that has been set since our start, it is not known whether before that time or after it. */
  function bySfuMs(ourMs: number): { readonly fromMs: number; readonly untilMs: number } {
    const wallMs = ourMs + clock.wallMs() - clock.nowMs();
    return { fromMs: Math.min(ourMs, wallMs), untilMs: Math.max(ourMs, wallMs) };
  }

  /** Who is not lost, by when they came; where that is not known, by when a node has last told of them. */
  function byAge(listed: readonly Seen[]): readonly Seen[] {
    const at = { nowMs: clock.nowMs(), wallMs: clock.wallMs() };
    const joinedMs = ({ joinedAtMs }: Seen) => (joinedAtMs === null || isFromBeforeSetBack(joinedAtMs, at) ? 0 : joinedAtMs);
    const hostedMs = (one: Seen) => Math.max(0, knownOf(one).hostedMs);
    return listed.filter((one) => !isLost(one)).sort((one, other) => joinedMs(one) - joinedMs(other) || hostedMs(one) - hostedMs(other));
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

  async function askAgain(room: RoomName, listed: readonly Seen[]): Promise<void> {
    const gone = goneOldest.get(room);
    if (gone === undefined) return;
    goneOldest.delete(room);
    const { first, askedMs } = gone;
    if (!listed.some(({ sid }) => sid === first[0]?.sid)) return;
    startedAnew.set(room, askedMs);
    await Promise.all(first.map((one) => ask(room, one)));
  }

  /** Of each once. */
  function tell(those: readonly Seen[]): void {
    let isNews = false;
    for (const { sid } of those) {
      const lost = lostOnes.get(sid);
      if (lost === undefined || lost.isTold) continue;
      lostOnes.set(sid, { ...lost, isTold: true });
      isNews = true;
    }
    if (isNews) onLost();
  }

  return {
    ofNodes: (room, listed, doubtMs, missed = []) => {
      const again = missed.length === 0 ? [] : listed.filter((one) => missed.some(({ sid }) => sid === one.sid));
      askBeside(room, [...inDoubt(listed, doubtMs), ...again]);
      const lost = lostOnes.size === 0 ? [] : listed.filter(isLost);
      if (lost.length === 0) return { present: listed, justLost: false };
      // They were found lost twice and are still listed: they have not just left.
      tell(lost.filter(({ sid }) => lostOnes.get(sid)?.pauseMs !== LOST_PAUSE_MS.first));
      askBeside(room, lost);
      // Others may have died with who was there first.
      const sinceMs = startedAnew.get(room);
      if (sinceMs !== undefined) askBeside(room, notFoundSince(listed, sinceMs));
      const present = listed.filter((one) => !isLost(one));
      const justLost = lost.some(({ sid }) => clock.nowMs() - (lostOnes.get(sid)?.sinceMs ?? NEVER) < JUST_LOST_MS);
      return { present, justLost };
    },
    askOldest: async (room, listed) => {
      const first = byAge(listed).slice(0, MOST_AT_ONCE);
      const [oldest] = first;
      if (oldest === undefined) return null;
      const askedMs = clock.nowMs();
      const { kind } = await askOwnNode(service, room, oldest.identity);
      if (kind !== 'nowhere') heard(oldest, kind, askedMs);
      else {
        goneOldest.set(room, { first, askedMs });
        clock.after(LOST_PAUSE_MS.first, () => void askAgain(room, first));
      }
      return kind;
    },
    askAgain,
    lost: (room, listed) => {
      for (const one of listed) if (!isLost(one)) lose(room, one);
      tell(listed);
    },
  };
}
