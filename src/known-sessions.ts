// Who was on the SFU in a room by the last word that is stored, for what judges its lists after a start (sfu/unlisted.ts).
import type { RoomName } from './delegation/ids.ts';
import { lastSeen } from './delegation/last-seen.ts';
import type { Seen } from './delegation/state.ts';
import { type Store, StoreUnavailable } from './store/store.ts';

/** Null: the store can't be asked now. */
export async function knownSessions(store: Store, room: RoomName): Promise<readonly Seen[] | null> {
  try {
    const read = await store.update({ by: 'room', room }, null, (rows) => ({
      writes: [],
      value: rows.flatMap((row) => lastSeen(row) ?? []),
    }));
    return read.kind === 'done' ? read.value : [];
  } catch (error) {
    if (error instanceof StoreUnavailable) return null;
    throw error;
  }
}
