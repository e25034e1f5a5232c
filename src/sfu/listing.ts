// Lists a room without a long wait where there is no such room. Newer versions of LiveKit may ask the room's own node for the list
// (api.enable_psrpc_for_get_list_participants), and take three seconds to find out that no node has the room. Which rooms exist, every node
// knows at once.
import { type Clock, within } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import { partsOf } from './protojson.ts';
import type { Called, RoomService } from './room-service.ts';

export interface Listing {
  /** The answer of ListParticipants; or `not_found`, if that is slow and ListRooms does not know the room. Never rejects. */
  list(room: RoomName): Promise<Called>;
}

/**
 * After this, ListRooms is asked as well. A room's node usually answers sooner, and two looks at a missing room must take less than 1 s.
 */
const SLOW_LIST_MS = 250;
/** After so many slow lists in a row the SFU is slow with all of them, and is not asked for more. */
const ALWAYS_SLOW = 4;
const NO_SUCH_ROOM: Called = { kind: 'not_found' };

export function createListing(service: RoomService, clock: Clock): Listing {
  let slowInARow = 0;

  async function timed(asking: Promise<Called>): Promise<Called> {
    const askedMs = clock.nowMs();
    const called = await asking;
    if (called.kind === 'answered') slowInARow = clock.nowMs() - askedMs < SLOW_LIST_MS ? 0 : slowInARow + 1;
    return called;
  }

  return {
    list: async (room) => {
      const listed = timed(service.call('ListParticipants', { roomAdmin: true, room }, { room }));
      if (slowInARow >= ALWAYS_SLOW || (await within(clock, SLOW_LIST_MS, listed)) !== null) return listed;
      const unlessThereIsNone = service
        .call('ListRooms', { roomList: true }, { names: [room] })
        .then((rooms) => (rooms.kind === 'answered' && partsOf(rooms.message, 'rooms').length === 0 ? NO_SUCH_ROOM : listed));
      return Promise.race([listed, unlessThereIsNone]);
    },
  };
}
