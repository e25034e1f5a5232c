// Makes rooms before their first participant joins, so that an SFU with `auto_create: false` has rooms for those only whom we vouch for.
import type { RoomName } from '../delegation/ids.ts';
import type { ApiKey } from './keys.ts';
import { createRoomService, type RoomServiceDeps } from './room-service.ts';

export interface RoomCreation {
  /** Makes the room if it does not exist. False: the SFU did not do it. Never rejects. */
  create(room: RoomName): Promise<boolean>;
}

/** How long an empty room is kept: for its first participant, and after its last one has left. */
const EMPTY_SECONDS = 300;
const DEPARTURE_SECONDS = 20;

export function createRoomCreation(apiUrl: string, key: ApiKey, deps: RoomServiceDeps): RoomCreation {
  const service = createRoomService(apiUrl, key, deps);
  return singleFlight(async (name) => {
    const room = { name, emptyTimeout: EMPTY_SECONDS, departureTimeout: DEPARTURE_SECONDS };
    return (await service.call('CreateRoom', { roomCreate: true }, room)).kind === 'answered';
  });
}

/** At most one call for each room at a time, whose answer is everybody's: two at once could race on the SFU. */
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
