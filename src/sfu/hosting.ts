// Whether any node of the SFU still has a room. With a Redis, LiveKit's lists are what is written there, and what a killed node had written
// stays: its participants would be listed for ever. A call that the room's own node has to answer shows whether there is one. While nothing
// speaks against the room that is the question for whoever was there first: somebody may have come back to it, or have come, and then the
// room is on another node, by the same SID, beside the list of those who died. Its webhooks may have been lost.
import type { Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import { LruMap } from '../lru-map.ts';
import type { Called, RoomService } from './room-service.ts';

export interface Hosting {
  /**
   * False: no node has the room, whatever the SFU has just listed. True also where that can't be found out. Never rejects. For a look that
   * lists the room later a question counts no longer that is still under way: whoever is listed may have come since it was put.
   * `askOldest`: asks a node for who was there first, of those who are listed; null: nobody is left to ask for.
   */
  isHosted(room: RoomName, askOldest: () => Promise<Called['kind'] | null>): Promise<boolean>;
  /** To be called when the SFU did not answer, or has lost a session: it, or one of its nodes, may have restarted. */
  failed(): void;
  /** When `failed` was called last, or when we started (Unix ms): whoever was on the SFU before may have been lost. */
  readonly doubtMs: number;
}

interface Known {
  readonly isHosted: boolean;
  /** When that was asked. */
  readonly atMs: number;
  /** When who was there first was asked for; never, if that is to be asked now. */
  readonly oldestMs: number;
}

const NEVER = Number.NEGATIVE_INFINITY;
/** For how long it is believed that who was there first is on a node. A restart of the SFU usually shows sooner, by a call that fails. */
const HOLDS_MS = 300_000;
const UNKNOWN: Known = { isHosted: true, atMs: NEVER, oldestMs: NEVER };
const MOST_ROOMS = 50_000;
/** An empty message to nobody: by SIDs as well, for servers that do not know `destinationIdentities` yet. */
const TO_NOBODY = { data: '', kind: 'LOSSY', destinationSids: ['-'], destinationIdentities: ['-'] } as const;

/** `onDoubt`: called when no node has who was there first, and the room is to be looked at again. */
export function createHosting(service: RoomService, clock: Clock, onDoubt: (room: RoomName) => void): Hosting {
  /** The newest question about each room, and when it was put. */
  const underWay = new Map<RoomName, { readonly atMs: number; readonly answer: Promise<boolean> }>();
  const rooms = new LruMap<RoomName, Known>(MOST_ROOMS);
  const startedMs = clock.nowMs();
  // What happened to the SFU before we started is not known.
  let failedMs = startedMs;

  async function ask(room: RoomName, atMs: number): Promise<boolean> {
    const called = await service.call('SendData', { roomAdmin: true, room }, { room, ...TO_NOBODY });
    const isHosted = called.kind !== 'nowhere';
    learn(room, isHosted, atMs);
    return isHosted;
  }

  function learn(room: RoomName, isHosted: boolean, atMs: number): void {
    const known = rooms.get(room) ?? UNKNOWN;
    if (known.atMs <= atMs) rooms.set(room, { ...known, isHosted, atMs });
  }

  async function askForOldest(room: RoomName, askOldest: () => Promise<Called['kind'] | null>): Promise<void> {
    const atMs = clock.nowMs();
    rooms.set(room, { ...knownOf(room), oldestMs: atMs });
    const kind = await askOldest();
    if (kind === 'answered') learn(room, true, atMs);
    else if (kind === 'nowhere') {
      // They may have just left. Else the next look asks again.
      learn(room, false, atMs);
      rooms.set(room, { ...knownOf(room), oldestMs: NEVER });
      onDoubt(room);
    } else await askOnce(room);
  }

  function askOnce(room: RoomName): Promise<boolean> {
    const [atMs, running] = [clock.nowMs(), underWay.get(room)];
    if (running !== undefined && running.atMs >= atMs) return running.answer;
    const answer = ask(room, atMs).finally(() => {
      if (underWay.get(room)?.answer === answer) underWay.delete(room);
    });
    underWay.set(room, { atMs, answer });
    return answer;
  }

  /** A room that is new to us counts as hosted at first, for most are new to the SFU as well; unless the SFU or we have just been away. */
  function knownOf(room: RoomName): Known {
    const nowMs = clock.nowMs();
    const sinceMs = nowMs - failedMs < HOLDS_MS ? NEVER : nowMs;
    const known = rooms.get(room) ?? { isHosted: true, atMs: sinceMs, oldestMs: sinceMs };
    rooms.set(room, known);
    return known;
  }

  return {
    isHosted: async (room, askOldest) => {
      const { isHosted, atMs, oldestMs } = knownOf(room);
      if (!isHosted || (atMs <= failedMs && failedMs !== startedMs)) return askOnce(room);
      // Without a sign against the room this look need not wait for the answer: the next one will know it.
      if (clock.nowMs() - oldestMs >= HOLDS_MS) void askForOldest(room, askOldest);
      return true;
    },
    failed: () => {
      failedMs = clock.nowMs();
    },
    get doubtMs() {
      return failedMs;
    },
  };
}
