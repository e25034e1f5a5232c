// What we ask of the SFU: who is in a room. Three answers are possible, and unknown is never absent.
import { systemClock } from '../clock.ts';
import type { RoomName, RoomSid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { createHosting } from './hosting.ts';
import type { ApiKey } from './keys.ts';
import { partsOf, roomSidOf, seenOf } from './protojson.ts';
import { type Called, createRoomService, type RoomServiceDeps } from './room-service.ts';

export type Look =
  | {
      readonly kind: 'list';
      readonly present: readonly Seen[];
      /** Learnt if it was asked for, or nobody is there: null if the room does not exist, which after a departure may mean a forgetful SFU. */
      readonly roomSid: RoomSid | null | undefined;
    }
  | { readonly kind: 'unreachable'; readonly why: string };

export interface Rooms {
  /** `whichRoom`: with the room's SID, which costs another call where somebody is there. Never throws; answers within its own time limit. */
  look(room: RoomName, whichRoom?: boolean): Promise<Look>;
  /** Whether the SFU answers at all. Never throws. */
  answers(): Promise<boolean>;
}

export function createRooms(apiUrl: string, key: ApiKey, deps?: RoomServiceDeps): Rooms {
  const service = createRoomService(apiUrl, key, deps);
  const hosting = createHosting(service, deps?.clock ?? systemClock());
  const list = async (names: readonly string[]) => noted(await service.call('ListRooms', { roomList: true }, { names }));

  function noted(called: Called): Called {
    if (called.kind === 'failed') hosting.failed();
    return called;
  }

  async function look(room: RoomName, whichRoom: boolean): Promise<Look> {
    const called = noted(await service.call('ListParticipants', { roomAdmin: true, room }, { room }));
    if (called.kind === 'failed') return { kind: 'unreachable', why: called.why };
    const present = called.kind === 'not_found' ? [] : partsOf(called.message, 'participants').flatMap((one) => seenOf(one) ?? []);
    if (present.length > 0 && !(await hosting.isHosted(room))) return { kind: 'list', present: [], roomSid: null };
    if (present.length > 0 && !whichRoom) return { kind: 'list', present, roomSid: undefined };
    if (called.kind === 'not_found') return { kind: 'list', present, roomSid: null };
    const rooms = await list([room]);
    if (rooms.kind === 'failed') return { kind: 'unreachable', why: rooms.why };
    const [found] = rooms.kind === 'not_found' ? [] : partsOf(rooms.message, 'rooms');
    return { kind: 'list', present, roomSid: found === undefined ? null : roomSidOf(found) };
  }

  return {
    look: (room, whichRoom = false) =>
      look(room, whichRoom).catch((): Look => ({ kind: 'unreachable', why: 'what the SFU answered is no list' })),
    // A name that no room has: the answer is empty, and cheap however many rooms there are.
    answers: async () => (await list(['-'])).kind === 'answered',
  };
}
