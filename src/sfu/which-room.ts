// Which room it is that is listed: its SID, which is another one when an SFU that has restarted makes the room anew. A session belongs to one
// such room. So as long as one is listed that was on the list when the SID was asked for, it is the same room, and is not asked for again:
// where many come into a room, each of their hand-overs would cost that call.
import type { Clock } from '../clock.ts';
import type { RoomName, RoomSid, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { LruMap } from '../lru-map.ts';
import { partsOf, roomSidOf } from './protojson.ts';
import type { Called } from './room-service.ts';

/** Null: the SFU does not know the room. */
export type Named = { readonly kind: 'named'; readonly roomSid: RoomSid | null } | Extract<Called, { readonly kind: 'failed' }>;

export interface WhichRoom {
  /**
   * The SID of the room with those who were listed a moment ago. An answer from before `sinceMs` (Unix ms), when the SFU may have made the
   * room anew, does not count. Rejects only where the answer is no list.
   */
  ask(room: RoomName, listed: readonly Seen[], sinceMs: number): Promise<Named>;
}

interface Known {
  readonly roomSid: RoomSid;
  /** Some of those who were listed. */
  readonly witnesses: readonly Sid[];
  /** When it was asked for, Unix ms. */
  readonly atMs: number;
}

const MOST_ROOMS = 5_000;
const MOST_WITNESSES = 8;

export function createWhichRoom(listRooms: (names: readonly RoomName[]) => Promise<Called>, clock: Clock): WhichRoom {
  const rooms = new LruMap<RoomName, Known>(MOST_ROOMS);

  return {
    ask: async (room, listed, sinceMs) => {
      const known = rooms.get(room);
      if (known !== undefined && known.atMs > sinceMs && listed.some(({ sid }) => known.witnesses.includes(sid))) {
        return { kind: 'named', roomSid: known.roomSid };
      }
      const atMs = clock.nowMs();
      const called = await listRooms([room]);
      if (called.kind === 'failed') return called;
      const [found] = called.kind === 'answered' ? partsOf(called.message, 'rooms') : [];
      const roomSid = found === undefined ? null : roomSidOf(found);
      const witnesses = listed.slice(0, MOST_WITNESSES).map(({ sid }) => sid);
      if (roomSid !== null && witnesses.length > 0) rooms.set(room, { roomSid, witnesses, atMs });
      return { kind: 'named', roomSid };
    },
  };
}
