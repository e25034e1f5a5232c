// Awaiting: handed over, not seen on the SFU yet. No call is made (MSC4195 starts at the connection; the client still looks after
// its event), only the SFU is asked: at once, and when the time to connect is over.
import { isOnTheWayBack, waitMsOf } from '../reasons.ts';
import type { Awaiting, Departure, EventOf, LiveDelegation, LiveState, Session } from '../state.ts';
import { attemptedIn } from './attempted.ts';
import { CLOCKS_MS, inOurTime, isFromBeforeSetBack } from './clocks.ts';
import {
  ask,
  askAgainMs,
  choose,
  connect,
  connectByJoin,
  type Decision,
  depart,
  end,
  FRESH_MS,
  type In,
  isAbandoned,
  isCertain,
  type Moment,
  move,
  owe,
  sessionOf,
  unchanged,
} from './moves.ts';

type Row = In<Awaiting>;

/** Participants who are on the SFU already are found within 2 s; hand-overs of one room that come together share the question. */
export const FIRST_ASK_BATCH_MS = 1_000;
/** The same where a participant may be gone by then, and where several ask already: a crowd costs the room some twenty questions a second. */
export const SOON_ASK_BATCH_MS = 50;

/** After this part of the delay, when a restart would be due, the SFU is asked once more. */
const IN_TIME_PART = 0.8;

export function awaitingDue(row: Row, at: Moment): Decision {
  if (at.nowMs < row.state.nextAskMs) return unchanged(row);
  return unchanged(row, [ask(Math.max(row.state.nextAskMs, at.nowMs - FRESH_MS), { whichRoom: true })]);
}

export function awaitingJoined(row: Row, event: EventOf<'joined'>, at: Moment): Decision {
  const { departed } = row.state;
  // A late word of a session that has gone already.
  if (departed !== null && departed.fence !== null && departed.fence === event.sid) return unchanged(row);
  return connectByJoin(row, event, attemptedIn(row.state), at);
}

/**
 * Whose departure is it? A session that joined after the hand-over is this member's (its join was lost or is late); for certain, if it
 * joined later by more than clocks may differ. An older one may have been gone before the hand-over, as after a reload of the page, and
 * must not end this delegation; or it left right after it, before any list could show it. These two can't be told apart: the member gets
 * the time of an aborted connection to appear again.
 */
export function awaitingLeft(row: Row, event: EventOf<'left'>, at: Moment): Decision {
  const departure: Departure = { cause: event.cause, atMs: at.nowMs, fence: event.sid, certain: true };
  const joinedMs = whenJoinedMs(event, at);
  if (joinedMs >= row.createdAtMs) {
    const certain = isCertain(departure, joinedMs >= row.createdAtMs + CLOCKS_MS);
    return depart(row, sessionThatLeft(event), { ...departure, certain }, attemptedIn(row.state), at);
  }
  const shortenedMs = Math.min(row.state.connectByMs, at.nowMs + waitMsOf('aborted', at.policy));
  const connectByMs = Math.max(shortenedMs, mayReturnUntilMs(departure, at));
  const state: Awaiting = { ...row.state, departed: departure, connectByMs, nextAskMs: at.nowMs };
  return move(row, state, at, [ask(at.nowMs)]);
}

/**
 * By when the member of a newer hand-over comes (Unix ms), if a webhook has just told that they left: it may be the last word of the client that
 * went, which comes in late, or the first of the next one. As with a departure that comes after the hand-over, these two can't be told apart.
 */
export function newerComesByMs(older: LiveState, at: Moment): number {
  const departure = departureIn(older);
  const waitMs = waitMsOf('aborted', at.policy);
  if (departure === null || !isOwnGoing(departure) || at.nowMs - departure.atMs > waitMs) return Number.POSITIVE_INFINITY;
  return Math.max(at.nowMs + waitMs, mayReturnUntilMs(departure, at));
}

function departureIn(state: LiveState): Departure | null {
  if (state.kind === 'awaiting') return state.departed;
  return state.kind === 'settling' || state.kind === 'leaving' ? state.departure : null;
}

function isOwnGoing({ certain, cause }: Departure): boolean {
  return certain && !isOnTheWayBack(cause);
}

/** Who left may be back within the wait for their cause, however near the end of a short delay is. */
function mayReturnUntilMs({ atMs, cause }: Departure, at: Moment): number {
  return atMs + waitMsOf(cause, at.policy);
}

/** In our time; long ago if that is not known, or can't be told any more. */
function whenJoinedMs({ joinedAtMs }: EventOf<'left'>, at: Moment): number {
  return joinedAtMs === null || isFromBeforeSetBack(joinedAtMs, at) ? Number.NEGATIVE_INFINITY : inOurTime(joinedAtMs, at);
}

function sessionThatLeft(event: EventOf<'left'>): Session {
  return { identity: event.identity, sid: event.sid, joinedAtMs: event.joinedAtMs, roomSid: event.roomSid, established: true };
}

/** The client will probably try again, and gets the time for it, but not beyond the delay that it chose. */
export function awaitingAborted(row: Row, at: Moment): Decision {
  const { state } = row;
  const anotherMs = awaitAnotherAttempt(row, at).connectByMs;
  const connectByMs = state.departed === null ? anotherMs : Math.max(anotherMs, mayReturnUntilMs(state.departed, at));
  if (connectByMs === state.connectByMs) return unchanged(row);
  const nextAskMs =
    state.nextAskMs === state.connectByMs ? nextAskAfter(row, connectByMs, at.nowMs) : Math.min(state.nextAskMs, connectByMs);
  return move(row, { ...state, connectByMs, nextAskMs }, at);
}

export function awaitAnotherAttempt(row: LiveDelegation, at: Moment): Awaiting {
  const endMs = Math.max(row.expiry.earliestMs, at.nowMs);
  const connectByMs = Math.min(at.nowMs + waitMsOf('aborted', at.policy), endMs);
  const nextAskMs = nextAskAfter(row, connectByMs, at.nowMs);
  return { kind: 'awaiting', connectByMs, nextAskMs, failures: 0, seenAbsent: true, departed: null };
}

export function awaitingSnapshot(row: Row, event: EventOf<'snapshot'>, at: Moment): Decision {
  const { state } = row;
  const seen = choose(event.present, null);
  if (seen !== null) {
    const session = sessionOf(seen, event.roomSid, null, null);
    const { departed } = state;
    // On a list after the hand-over, and gone by a webhook: it was ours.
    if (departed !== null && departed.fence === seen.sid)
      return depart(row, { ...session, established: true }, departed, attemptedIn(row.state), at);
    return connect(row, session, event.askedAtMs, attemptedIn(row.state), at);
  }
  if (event.askedAtMs >= state.connectByMs) return neverConnected(row, event.askedAtMs, at);
  if (event.askedAtMs < row.createdAtMs) return unchanged(row);
  const nextAskMs = nextAskAfter(row, state.connectByMs, event.askedAtMs);
  if (state.seenAbsent && state.nextAskMs === nextAskMs) return unchanged(row);
  return move(row, { ...state, seenAbsent: true, nextAskMs, failures: 0 }, at);
}

/**
 * With a short delay the time to connect ends when the event expires, and who is found only then can't be kept any more: so the SFU is
 * asked once before, when a restart would be due.
 */
function nextAskAfter({ expiry, delayMs }: LiveDelegation, connectByMs: number, askedAtMs: number): number {
  const inTimeMs = expiry.earliestMs - delayMs + Math.floor(delayMs * IN_TIME_PART);
  return askedAtMs < inTimeMs ? Math.min(inTimeMs, connectByMs) : connectByMs;
}

/**
 * Unknown is not absent: asked again. When the delay ends the homeserver sends the leave by itself, unless the client looks after its
 * event, and then it may well be in the call.
 */
export function awaitingUnreachable(row: Row, at: Moment): Decision {
  const { state } = row;
  if (isAbandoned(row, state.failures, at)) return end(row, 'expired', at, { cause: 'never_connected' });
  const failures = state.failures + 1;
  return move(row, { ...state, failures, nextAskMs: askAgainMs(row, failures, at) }, at);
}

function neverConnected(row: Row, askedAtMs: number, at: Moment): Decision {
  const departure: Departure = { cause: 'never_connected', atMs: at.nowMs, fence: null, certain: false };
  return owe(row, { departure, session: null, attempted: attemptedIn(row.state) }, askedAtMs, at);
}
