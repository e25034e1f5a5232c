// The list of a room, without a wait for one that is none. Newer SFUs may ask the node of the room for it (LiveKit's
// api.enable_psrpc_for_get_list_participants), and of a room that is nowhere they say so after three seconds only. Which rooms there are is
// known to all of its nodes.
import type { Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import { partsOf } from './protojson.ts';
import type { Called, RoomService } from './room-service.ts';

export interface Listing {
  /** What ListParticipants answers, or that there is no such room. */
  list(room: RoomName): Promise<Called>;
}

/** The node of a room answers sooner as a rule, and two looks at a room that is none have to be over within a second. */
const SLOW_LIST_MS = 250;
/** An SFU that was slow with so many lists in a row is slow with all, and has enough to do. */
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

  function isWithin(ms: number, answer: Promise<unknown>): Promise<boolean> {
    return new Promise((resolve) => {
      const stop = clock.after(ms, () => resolve(false));
      void answer.then(() => {
        stop();
        resolve(true);
      });
    });
  }

  return {
    list: async (room) => {
      const listed = timed(service.call('ListParticipants', { roomAdmin: true, room }, { room }));
      if (slowInARow >= ALWAYS_SLOW || (await isWithin(SLOW_LIST_MS, listed))) return listed;
      const unlessThereIsNone = service
        .call('ListRooms', { roomList: true }, { names: [room] })
        .then((rooms) => (rooms.kind === 'answered' && partsOf(rooms.message, 'rooms').length === 0 ? NO_SUCH_ROOM : listed));
      return Promise.race([listed, unlessThereIsNone]);
    },
  };
}
