// Whether any node of the SFU has a room. With a Redis the SFU's lists are what is written there, and of a node that was killed everything
// stays written: its participants would be there for ever. A call that a room's node has to answer tells.
import type { Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import { LruMap } from '../lru-map.ts';
import type { RoomService } from './room-service.ts';

export interface Hosting {
  /** False: no node has it. Who can't be told that believes the list. Never throws. */
  isHosted(room: RoomName): Promise<boolean>;
  /** The SFU did not answer, and may have been started anew since; or one of its nodes was. */
  failed(): void;
  /** When whoever was on the SFU may have been lost last. */
  readonly doubtMs: number;
}

interface Known {
  readonly isHosted: boolean;
  /** When that was asked. */
  readonly atMs: number;
}

/** How long a room is believed in. That the SFU was started anew shows sooner as a rule: it did not answer meanwhile. */
const HOLDS_MS = 300_000;
const MOST_ROOMS = 50_000;
/** Nothing, to nobody; by SIDs as well, for servers that know no identities here. */
const TO_NOBODY = { data: '', kind: 'LOSSY', destinationSids: ['-'], destinationIdentities: ['-'] } as const;

export function createHosting(service: RoomService, clock: Clock): Hosting {
  const underWay = new Map<RoomName, Promise<boolean>>();
  const rooms = new LruMap<RoomName, Known>(MOST_ROOMS);
  /** What became of the SFU before is not known. */
  const startedMs = clock.nowMs();
  let failedMs = startedMs;

  async function ask(room: RoomName): Promise<boolean> {
    const atMs = clock.nowMs();
    const called = await service.call('SendData', { roomAdmin: true, room }, { room, ...TO_NOBODY });
    const isHosted = called.kind !== 'nowhere';
    rooms.set(room, { isHosted, atMs });
    return isHosted;
  }

  /** One that is new to us is believed in at first, unless the SFU or we have just been away: most are new to the SFU as well. */
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
      const running = underWay.get(room) ?? ask(room).finally(() => underWay.delete(room));
      underWay.set(room, running);
      // Where nothing speaks against it the next look will do: this one's answer is not to wait for another.
      return known.isHosted && (isSinceFailure || failedMs === startedMs) ? true : running;
    },
    failed: () => {
      failedMs = clock.nowMs();
    },
    get doubtMs() {
      return failedMs;
    },
  };
}
