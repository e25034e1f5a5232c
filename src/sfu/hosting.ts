// Whether any node of the SFU has a room. With a Redis the SFU's lists are what is written there, and of a node that was killed everything
// stays written: its participants would be there for ever. A call that a room's node has to answer tells.
import type { Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import { Remembered } from '../remembered.ts';
import type { RoomService } from './room-service.ts';

export interface Hosting {
  /** False: no node has it. Who can't be told that believes the list. Never throws. */
  isHosted(room: RoomName): Promise<boolean>;
  /** The SFU did not answer, and may have been started anew since; or one of its nodes was. */
  failed(): void;
  /** When whoever was on the SFU may have been lost last. */
  readonly doubtMs: number;
}

/** How long a room is believed in. That the SFU was started anew shows sooner as a rule: it did not answer meanwhile. */
const HOLDS_MS = 300_000;
const MOST_ROOMS = 50_000;
const NEVER = Number.NEGATIVE_INFINITY;
/** Nothing, to nobody; by SIDs as well, for servers that know no identities here. */
const TO_NOBODY = { data: '', kind: 'LOSSY', destinationSids: ['-'], destinationIdentities: ['-'] } as const;

export function createHosting(service: RoomService, clock: Clock): Hosting {
  const underWay = new Map<RoomName, Promise<boolean>>();
  const hostedAtMs = new Remembered<RoomName, number>(MOST_ROOMS);
  /** What became of the SFU before our start is not known. */
  let failedAtMs = clock.nowMs();

  async function ask(room: RoomName): Promise<boolean> {
    const askedAtMs = clock.nowMs();
    const called = await service.call('SendData', { roomAdmin: true, room }, { room, ...TO_NOBODY });
    const isNowhere = called.kind === 'not_found';
    hostedAtMs.set(room, isNowhere ? NEVER : askedAtMs);
    return !isNowhere;
  }

  /** One that is new to us is believed in at first, unless the SFU or we have just been away: most are new to the SFU as well. */
  function sinceMs(room: RoomName): number {
    const nowMs = clock.nowMs();
    const known = hostedAtMs.get(room) ?? (nowMs - failedAtMs < HOLDS_MS ? NEVER : nowMs);
    hostedAtMs.set(room, known);
    return known;
  }

  return {
    isHosted: async (room) => {
      const believedMs = sinceMs(room);
      if (believedMs > failedAtMs && clock.nowMs() - believedMs < HOLDS_MS) return true;
      const running = underWay.get(room) ?? ask(room).finally(() => underWay.delete(room));
      underWay.set(room, running);
      return running;
    },
    failed: () => {
      failedAtMs = clock.nowMs();
    },
    get doubtMs() {
      return failedAtMs;
    },
  };
}
