// Who was on the SFU in a room by the last word that is stored, for what judges its lists after a start (sfu/unlisted.ts).
import type { RoomName } from './delegation/ids.ts';
import { lastSeen } from './delegation/last-seen.ts';
import type { Seen } from './delegation/state.ts';
import { FIRST_PART, type RoomPart, type Store, StoreUnavailable, type Updated } from './store/store.ts';

/** Null: the store can't be asked now. */
export async function knownSessions(store: Store, room: RoomName): Promise<readonly Seen[] | null> {
  try {
    const seen: Seen[] = [];
    for (let part: RoomPart | undefined = FIRST_PART; part !== undefined; ) {
      const read: Updated<Seen[]> = await store.update({ by: 'room', room, part }, null, (rows) => ({
        writes: [],
        value: rows.flatMap((row) => lastSeen(row) ?? []),
      }));
      if (read.kind === 'done') seen.push(...read.value);
      part = read.kind === 'done' ? read.next : undefined;
    }
    return seen;
  } catch (error) {
    if (error instanceof StoreUnavailable) return null;
    throw error;
  }
}
