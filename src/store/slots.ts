// Rooms are spread over slots by a hash of the name: the same in every process and version, since slots are stored.
import { hash } from 'node:crypto';
import type { RoomName } from '../delegation/ids.ts';
import { SLOTS } from './store.ts';

export function slotOf(room: RoomName): number {
  return hash('sha256', room, 'buffer').readUInt16BE(0) % SLOTS;
}
