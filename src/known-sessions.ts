// Who was on the SFU in a room by the last word that is stored, for what judges its lists after a start (sfu/unlisted.ts).
import type { RoomName } from './delegation/ids.ts';
import { lastSeen } from './delegation/last-seen.ts';
import type { Seen } from './delegation/state.ts';
import { readRoom, type Store, StoreUnavailable } from './store/store.ts';

/** Null: the store can't be asked now. */
export async function knownSessions(store: Store, room: RoomName): Promise<readonly Seen[] | null> {
  try {
    return (await readRoom(store, room)).flatMap((row) => lastSeen(row) ?? []);
  } catch (error) {
    if (error instanceof StoreUnavailable) return null;
    throw error;
  }
}
