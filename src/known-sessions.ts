// Who was on the SFU in a room by the last word that is stored, for what judges its lists after a start (sfu/unlisted.ts).
import type { RoomName } from './delegation/ids.ts';
import type { Delegation, Seen, Session } from './delegation/state.ts';
import { type Store, StoreUnavailable } from './store/store.ts';

/** Null: the store can't be asked now. */
export async function knownSessions(store: Store, room: RoomName): Promise<readonly Seen[] | null> {
  try {
    const read = await store.update({ by: 'room', room }, null, (rows) => ({ writes: [], value: rows.flatMap(seenOf) }));
    return read.kind === 'done' ? read.value : [];
  } catch (error) {
    if (error instanceof StoreUnavailable) return null;
    throw error;
  }
}

function seenOf({ state }: Delegation): readonly Seen[] {
  switch (state.kind) {
    case 'connected':
      return seenBy(state.session);
    case 'settling':
      return state.departure.fence === null ? seenBy(state.session) : [];
    case 'awaiting':
    case 'leaving':
    case 'cancelling':
    case 'ended':
      return [];
    default:
      return state satisfies never;
  }
}

function seenBy({ identity, sid, joinedAtMs, established }: Session): readonly Seen[] {
  return sid === null ? [] : [{ identity, sid, joinedAtMs, active: established }];
}
