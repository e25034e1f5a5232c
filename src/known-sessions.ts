// Who was on the SFU in a room by the last word that is stored, for what judges its lists after a start (sfu/unlisted.ts).
import type { RoomName } from './delegation/ids.ts';
import { lastSeen } from './delegation/last-seen.ts';
import type { Seen } from './delegation/state.ts';
import { type Done, FIRST_PART, type RoomPart, readRows, type Store, StoreUnavailable } from './store/store.ts';

/** Null: the store can't be asked now. */
export async function knownSessions(store: Store, room: RoomName): Promise<readonly Seen[] | null> {
  try {
    const seen: Seen[] = [];
    for (let part: RoomPart | undefined = FIRST_PART; part !== undefined; ) {
      const { value, next }: Done<Seen[]> = await readRows(store, { by: 'room', room, part }, (rows) =>
        rows.flatMap((row) => lastSeen(row) ?? []),
      );
      seen.push(...value);
      part = next;
    }
    return seen;
  } catch (error) {
    if (error instanceof StoreUnavailable) return null;
    throw error;
  }
}
