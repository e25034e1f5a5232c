// Removes a participant from the SFU, or closes a room.
import type { Identity, RoomName } from '../delegation/ids.ts';
import type { ApiKey } from './keys.ts';
import { createRoomService, type RoomServiceDeps } from './room-service.ts';

/** Resolves with false if the SFU did not do it. Neither of these rejects. */
export interface Evictions {
  remove(room: RoomName, identity: Identity): Promise<boolean>;
  close(room: RoomName): Promise<boolean>;
}

export function createEvictions(apiUrl: string, key: ApiKey, deps: RoomServiceDeps): Evictions {
  const service = createRoomService(apiUrl, key, deps);
  const done = async (called: ReturnType<typeof service.call>): Promise<boolean> => (await called).kind === 'answered';
  return {
    remove: (room, identity) => done(service.call('RemoveParticipant', { roomAdmin: true, room }, { room, identity })),
    close: (room) => done(service.call('DeleteRoom', { roomCreate: true }, { room })),
  };
}
