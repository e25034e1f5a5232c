// Whether any node of the SFU still has a room. With a Redis, LiveKit's lists are what is written there, and what a killed node had written
// stays: its participants would be listed for ever. A call that the room's own node has to answer shows whether there is one.
import type { Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import { LruMap } from '../lru-map.ts';
import type { RoomService } from './room-service.ts';

export interface Hosting {
  /**
   * False: no node has the room, whatever the SFU has just listed. True also where that can't be found out. Never rejects. For a look that
   * lists the room later a question counts no longer that is still under way: whoever is listed may have come since it was put.
   */
  isHosted(room: RoomName): Promise<boolean>;
  /** To be called when the SFU did not answer, or has lost a session: it, or one of its nodes, may have restarted. */
  failed(): void;
  /** When `failed` was called last, or when we started (Unix ms): whoever was on the SFU before may have been lost. */
  readonly doubtMs: number;
}

interface Known {
  readonly isHosted: boolean;
  /** When that was asked. */
  readonly atMs: number;
}

/** For how long an answer is believed. A restart of the SFU usually shows sooner, by a call that fails. */
const HOLDS_MS = 300_000;
const MOST_ROOMS = 50_000;
/** An empty message to nobody: by SIDs as well, for servers that do not know `destinationIdentities` yet. */
const TO_NOBODY = { data: '', kind: 'LOSSY', destinationSids: ['-'], destinationIdentities: ['-'] } as const;

export function createHosting(service: RoomService, clock: Clock): Hosting {
  /** The newest question about each room, and when it was put. */
  const underWay = new Map<RoomName, { readonly atMs: number; readonly answer: Promise<boolean> }>();
  const rooms = new LruMap<RoomName, Known>(MOST_ROOMS);
  const startedMs = clock.nowMs();
  // What happened to the SFU before we started is not known.
  let failedMs = startedMs;

  async function ask(room: RoomName, atMs: number): Promise<boolean> {
    const called = await service.call('SendData', { roomAdmin: true, room }, { room, ...TO_NOBODY });
    const isHosted = called.kind !== 'nowhere';
    if ((rooms.get(room)?.atMs ?? Number.NEGATIVE_INFINITY) <= atMs) rooms.set(room, { isHosted, atMs });
    return isHosted;
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
    const known = rooms.get(room) ?? { isHosted: true, atMs: nowMs - failedMs < HOLDS_MS ? Number.NEGATIVE_INFINITY : nowMs };
    rooms.set(room, known);
    return known;
  }

  return {
    isHosted: async (room) => {
      const known = knownOf(room);
      const isSinceFailure = known.atMs > failedMs;
      if (known.isHosted && isSinceFailure && clock.nowMs() - known.atMs < HOLDS_MS) return true;
      const answer = askOnce(room);
      // Without a sign against the room this look need not wait for the answer: the next one will know it.
      return known.isHosted && (isSinceFailure || failedMs === startedMs) ? true : answer;
    },
    failed: () => {
      failedMs = clock.nowMs();
    },
    get doubtMs() {
      return failedMs;
    },
  };
}
