// Rooms are made by us before their first participant comes: an SFU that lets nobody make rooms by joining serves those we vouch for.
import type { RoomName } from '../delegation/ids.ts';
import type { ApiKey } from './keys.ts';
import { createRoomService, type RoomServiceDeps } from './room-service.ts';

export interface RoomCreation {
  /** Makes the room, or leaves it as it is. False: the SFU did not do it. Never throws. */
  create(room: RoomName): Promise<boolean>;
}

/** How long an empty room waits for its first participant, and for the next one after its last. */
const EMPTY_SECONDS = 300;
const DEPARTURE_SECONDS = 20;

export function createRoomCreation(apiUrl: string, key: ApiKey, deps?: RoomServiceDeps): RoomCreation {
  const service = createRoomService(apiUrl, key, deps);
  return singleFlight(async (name) => {
    const room = { name, emptyTimeout: EMPTY_SECONDS, departureTimeout: DEPARTURE_SECONDS };
    return (await service.call('CreateRoom', { roomCreate: true }, room)).kind === 'answered';
  });
}

/** Who asks for a room that is being made waits for that answer: two calls for one room at once could race on the SFU. */
export function singleFlight(create: RoomCreation['create']): RoomCreation {
  const underWay = new Map<RoomName, Promise<boolean>>();
  return {
    create: (room) => {
      const running = underWay.get(room);
      if (running !== undefined) return running;
      const started = create(room).finally(() => underWay.delete(room));
      underWay.set(room, started);
      return started;
    },
  };
}
