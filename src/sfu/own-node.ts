// A question that only the node with the session can answer, whatever is listed.
import type { Identity, RoomName } from '../delegation/ids.ts';
import type { Called, RoomService } from './room-service.ts';

/** Asks it to change its subscriptions to no tracks, which changes nothing. Where no node has the session that takes the SFU three seconds. */
export function askOwnNode(service: RoomService, room: RoomName, identity: Identity): Promise<Called> {
  return service.call('UpdateSubscriptions', { roomAdmin: true, room }, { room, identity, trackSids: [], subscribe: false });
}
