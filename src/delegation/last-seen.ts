// The session of a delegation that was on the SFU by the last word of it.
import type { Delegation, Seen, Session } from './state.ts';

/** Null: there is none, or a webhook has told of its departure. */
export function lastSeen({ state }: Pick<Delegation, 'state'>): Seen | null {
  switch (state.kind) {
    case 'connected':
      return seenBy(state.session);
    case 'settling':
      return state.departure.fence === null ? seenBy(state.session) : null;
    case 'awaiting':
    case 'leaving':
    case 'cancelling':
    case 'ended':
      return null;
    default:
      return state satisfies never;
  }
}

function seenBy({ identity, sid, joinedAtMs, established }: Session): Seen | null {
  return sid === null ? null : { identity, sid, joinedAtMs, active: established };
}
