// Whether a node of the SFU has the sessions that its lists name. With a Redis livekit-server lists what is written there, and who was on a
// node that was killed stays written: also when others have come back to the room, as long as their call lasts. A call that the node of the
// session itself has to answer tells; it is made where there is doubt, and a session that is lost once is asked for again before it counts.
import type { Clock } from '../clock.ts';
import type { RoomName, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { Remembered } from '../remembered.ts';
import type { RoomService } from './room-service.ts';

export interface Sessions {
  /**
   * Who is listed in a room, less those whom no node has. `doubtMs`: when the SFU may have lost whoever was there. Those in doubt are asked
   * for beside it, and are there until that is answered. Never throws.
   */
  ofNodes(room: RoomName, listed: readonly Seen[], doubtMs: number): Promise<OfNodes>;
  /** No node has the room they are in. */
  lost(listed: readonly Seen[]): void;
}

export interface OfNodes {
  readonly present: readonly Seen[];
  /** That somebody is lost has only just shown: others may be on their way back. */
  readonly justLost: boolean;
}

interface Known {
  /** When a node last had it; and when that was last asked, whatever came of it. */
  readonly hostedMs: number;
  readonly askedMs: number;
  /** Null: as far as is known a node has it. */
  readonly lost: { readonly sinceMs: number; readonly pauseMs: number; readonly againMs: number } | null;
}

const NEVER = Number.NEGATIVE_INFINITY;
const UNKNOWN: Known = { hostedMs: NEVER, askedMs: NEVER, lost: null };
const MOST_SESSIONS = 50_000;
/** The SFU has just come back when these are asked. */
const MOST_AT_ONCE = 16;
/** However often the SFU fails, nobody is asked for more often than this. */
const LEAST_PAUSE_MS = 60_000;
/** The SFU's clock is another one. Who may have come since is found with more room than who surely was there before. */
const CLOCKS_MS = { came: 60_000, before: 2_000 };
/** Asked again before the wait for a return is over, and then less and less: it stays on the list until the room ends. */
const LOST_PAUSE_MS = { first: 10_000, most: 300_000 };
/** Clients were back within 4–7 s of an SFU's restart (measured.md). */
const JUST_LOST_MS = 20_000;

/** `onLost`: a node has died, and others were there as well. */
export function createSessions(service: RoomService, clock: Clock, onLost: () => void): Sessions {
  const known = new Remembered<Sid, Known>(MOST_SESSIONS);
  const underWay = new Map<Sid, Promise<void>>();
  const waiting: (() => Promise<void>)[] = [];
  let atWork = 0;

  const knownOf = ({ sid }: Seen): Known => known.get(sid) ?? UNKNOWN;

  /** To subscribe to nothing changes nothing. */
  async function ask(room: RoomName, one: Seen): Promise<void> {
    const askedMs = clock.nowMs();
    known.set(one.sid, { ...knownOf(one), askedMs });
    const request = { room, identity: one.identity, trackSids: [], subscribe: false };
    const called = await service.call('UpdateSubscriptions', { roomAdmin: true, room }, request);
    if (called.kind === 'answered') known.set(one.sid, { hostedMs: askedMs, askedMs, lost: null });
    if (called.kind !== 'not_found') return;
    // Lost and still listed the second time: it has not just left.
    if (knownOf(one).lost?.pauseMs === LOST_PAUSE_MS.first) onLost();
    lose(one);
  }

  function askOnce(room: RoomName, one: Seen): Promise<void> {
    const running = underWay.get(one.sid) ?? ask(room, one).finally(() => underWay.delete(one.sid));
    underWay.set(one.sid, running);
    return running;
  }

  function lose(one: Seen): void {
    const nowMs = clock.nowMs();
    const before = knownOf(one);
    const pauseMs = before.lost === null ? LOST_PAUSE_MS.first : Math.min(before.lost.pauseMs * 2, LOST_PAUSE_MS.most);
    known.set(one.sid, { ...before, lost: { sinceMs: before.lost?.sinceMs ?? nowMs, pauseMs, againMs: nowMs + pauseMs } });
  }

  async function work(): Promise<void> {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await next();
    atWork -= 1;
  }

  /** Only where somebody has come since is anybody lost whose room is not: who lost their node come back, or nobody has the room. */
  function inDoubt(listed: readonly Seen[], doubtMs: number): readonly Seen[] {
    if (!listed.some(({ joinedAtMs }) => joinedAtMs === null || joinedAtMs > doubtMs - CLOCKS_MS.came)) return [];
    return listed.filter((one) => {
      const { hostedMs, askedMs, lost } = knownOf(one);
      if (lost !== null || hostedMs > doubtMs || clock.nowMs() - askedMs < LEAST_PAUSE_MS) return false;
      return one.joinedAtMs === null || one.joinedAtMs < doubtMs + CLOCKS_MS.before;
    });
  }

  function askBeside(room: RoomName, those: readonly Seen[]): void {
    const nowMs = clock.nowMs();
    for (const one of those) {
      known.set(one.sid, { ...knownOf(one), askedMs: nowMs });
      waiting.push(() => askOnce(room, one));
    }
    while (atWork < MOST_AT_ONCE && waiting.length > 0) {
      atWork += 1;
      void work();
    }
  }

  return {
    ofNodes: async (room, listed, doubtMs) => {
      askBeside(room, inDoubt(listed, doubtMs));
      const lost = listed.filter((one) => knownOf(one).lost !== null);
      if (lost.length === 0) return { present: listed, justLost: false };
      const again = lost.filter((one) => (knownOf(one).lost?.againMs ?? NEVER) <= clock.nowMs());
      await Promise.all(again.map((one) => askOnce(room, one)));
      const present = listed.filter((one) => knownOf(one).lost === null);
      const justLost = lost.some((one) => clock.nowMs() - (knownOf(one).lost?.sinceMs ?? NEVER) < JUST_LOST_MS);
      return { present, justLost };
    },
    lost: (listed) => {
      const news = listed.filter((one) => knownOf(one).lost === null);
      for (const one of news) lose(one);
      if (news.length > 0) onLost();
    },
  };
}
