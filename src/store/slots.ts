// Rooms are spread over slots by a hash of the name: the same in every process and version, since slots are stored.
import { hash } from 'node:crypto';
import type { RoomName } from '../delegation/ids.ts';
import { SLOTS } from './store.ts';

/** Each event of a room asks several times. */
const known = new Map<RoomName, number>();
const MOST_KNOWN = 2_000;

export function slotOf(room: RoomName): number {
  const before = known.get(room);
  if (before !== undefined) return before;
  const slot = hash('sha256', room, 'buffer').readUInt16BE(0) % SLOTS;
  if (known.size >= MOST_KNOWN) known.clear();
  known.set(room, slot);
  return slot;
}
