// Which sin an end was, as far as we can know: a false leave, where the event ran out while its member was there. Of that the homeserver often
// tells only later, when the session is another one or the member has left; so it is remembered in the row.
import type { Ended, LiveDelegation, Session } from '../state.ts';
import { type Clocks, inOurTime } from './clocks.ts';

/** Whether the event ran out while the member of this session was there by evidence of `seenMs`; not if the session began only after that. */
export function ranOutUnder({ expiry }: LiveDelegation, { joinedAtMs }: Session, seenMs: number, at: Clocks): boolean {
  return seenMs >= expiry.earliestMs && (joinedAtMs === null || inOurTime(joinedAtMs, at) < expiry.earliestMs);
}

/**
 * The row at the end of a session that was there until `seenMs` by the newest evidence. A failed restart that may have been carried out has
 * put off the end of the event, so only the latest expiry counts.
 */
export function witnessed<R extends LiveDelegation>(row: R, session: Session, seenMs: number, at: Clocks): R {
  if (row.expiry.ranOutUnder === true || seenMs < row.expiry.latestMs || !ranOutUnder(row, session, seenMs, at)) return row;
  return { ...row, expiry: { ...row.expiry, ranOutUnder: true } };
}

/** What it was that the event is found to be over, or has surely run out; `isThere`: it ran out under the session of now. */
export function falseLeave({ expiry }: LiveDelegation, isThere = false): Extract<Ended['sin'], 'false-leave'> | null {
  return isThere || expiry.ranOutUnder === true ? 'false-leave' : null;
}
