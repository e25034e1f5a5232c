// Connected: the participant is on the SFU, so the event is kept alive, but only on fresh evidence of presence: a lease, not a hope.
import { backoffMs, limitedMs } from '../retry.ts';
import type { Cause, Connected, EventOf, LiveDelegation, Session } from '../state.ts';
import { awaitAnotherAttempt } from './awaiting.ts';
import {
  ask,
  askAgainMs,
  CLOCKS_MS,
  causeOfAborted,
  choose,
  connect,
  connectByJoin,
  type Decision,
  depart,
  departureTold,
  end,
  expiryAfter,
  type In,
  isAbandoned,
  isAnotherRoom,
  isFresh,
  LEAST_TIMEOUT_MS,
  leaseMs,
  longestPauseMs,
  type Moment,
  move,
  never,
  provesLoss,
  RESTART,
  seenByJoinMs,
  sessionOf,
  unchanged,
} from './moves.ts';

type Row = In<Connected>;

export function connectedDue(row: Row, at: Moment): Decision {
  const { state } = row;
  if (at.nowMs < state.restartDueMs) return unchanged(row);
  if (state.failures > 0 && isAbandoned(row, at)) return end(row, 'expired', at, { sin: letExpire(row, state.seenAtMs) });
  const oldestMs = at.nowMs - leaseMs(row, at.policy);
  return unchanged(row, [state.seenAtMs >= oldestMs ? RESTART : ask(oldestMs)]);
}

/** The event ran out although its participant was there to the last of our knowledge; one who came later is not to blame on us. */
function letExpire({ state, expiry }: Row, evidenceMs: number): 'false-leave' | null {
  const { joinedAtMs } = state.session;
  return evidenceMs >= expiry.earliestMs && (joinedAtMs === null || joinedAtMs < expiry.earliestMs) ? 'false-leave' : null;
}

export function connectedJoined(row: Row, event: EventOf<'joined'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  const { identity, sid, joinedAtMs, roomSid } = event;
  // The first identity seen binds the delegation; another of the same member is somebody else's connection until the SFU says otherwise.
  if (identity !== session.identity) return unchanged(row, [ask(at.nowMs)]);
  if (sid === session.sid || sid === null || session.sid === null) {
    const known: Session = {
      identity,
      sid: sid ?? session.sid,
      joinedAtMs: joinedAtMs ?? session.joinedAtMs,
      roomSid: roomSid ?? session.roomSid,
      established: true,
    };
    const news = known.sid !== session.sid || known.roomSid !== session.roomSid || !session.established;
    const seenAtMs = Math.max(row.state.seenAtMs, seenByJoinMs(joinedAtMs, at));
    return news ? move(row, { ...row.state, session: known, seenAtMs }, at) : unchanged(row);
  }
  // Late word of an older session, or another node's clock: the SFU knows.
  if (joinedAtMs !== null && session.joinedAtMs !== null && joinedAtMs < session.joinedAtMs) return unchanged(row, [ask(at.nowMs)]);
  return connectByJoin(row, event, attempted, at);
}

export function connectedLeft(row: Row, event: EventOf<'left'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  if (event.identity !== session.identity) return unchanged(row);
  const onWayBack = session.after === 'sfu_down' || isAnotherRoom(session, event.roomSid ?? undefined);
  const departure = departureTold(event, event.sid ?? session.sid, onWayBack, at);
  // A webhook without a SID speaks of the current session.
  if (event.sid === null || session.sid === null || event.sid === session.sid) {
    const certain = departure.certain && isSeenSince(row, row.createdAtMs);
    return depart(row, { ...session, roomSid: event.roomSid ?? session.roomSid }, { ...departure, certain }, attempted, at);
  }
  if (event.joinedAtMs === null || session.joinedAtMs === null) return unchanged(row, [ask(at.nowMs)]);
  if (event.joinedAtMs < session.joinedAtMs) return unchanged(row);
  // A newer session came and went before we heard of it.
  const newer: Session = { ...session, sid: event.sid, joinedAtMs: event.joinedAtMs, roomSid: event.roomSid };
  return depart(row, newer, departure, attempted, at);
}

/**
 * Not so, if all we have is a join's late word of a session that is older than the hand-over: it may have been gone before, and a newer one
 * be there, as when a page was loaded anew.
 */
function isSeenSince({ state }: Row, sinceMs: number): boolean {
  return state.seenAtMs >= sinceMs;
}

export function connectedAborted(row: Row, event: EventOf<'aborted'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  if (event.identity !== session.identity) return unchanged(row);
  if (event.sid !== null && session.sid !== null && event.sid !== session.sid) return unchanged(row, [ask(at.nowMs)]);
  // A session that took over from an established one and never came up: the member is where it was when that one went.
  if (session.established || attempted !== null) {
    const cause = causeOfAborted(session.after, at.policy);
    return depart(row, session, { cause, atMs: at.nowMs, fence: session.sid, certain: provesLoss(cause, session) }, attempted, at);
  }
  return move(row, awaitAnotherAttempt(row, at), at);
}

/** A room that starts while we believe somebody in it: the SFU may have forgotten them; it is asked. */
export function connectedRoomStarted(row: Row, event: EventOf<'room_started'>, at: Moment): Decision {
  return event.roomSid !== null && event.roomSid === row.state.session.roomSid ? unchanged(row) : unchanged(row, [ask(at.nowMs)]);
}

/** Nobody is in a finished room, so a departure was missed; a list decides, since the event may be an older room's. */
export function connectedRoomFinished(row: Row, event: EventOf<'room_finished'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  // Late word of an older room of this name, as far as we know: to wait for a return without restarts would cost a short delay its event.
  if (event.roomSid === null || session.roomSid === null) return unchanged(row, [ask(at.nowMs)]);
  if (event.roomSid !== session.roomSid) return unchanged(row);
  return depart(row, session, { cause: 'left', atMs: at.nowMs, fence: null, certain: false }, attempted, at);
}

export function connectedSnapshot(row: Row, event: EventOf<'snapshot'>, at: Moment): Decision {
  const { state } = row;
  const { session } = state;
  const seen = choose(event.present, session);
  if (seen === null || (session.sid !== null && seen.sid !== session.sid)) {
    // Asked before the newest evidence: the older truth.
    if (event.askedAtMs <= state.seenAtMs) return unchanged(row);
    if (seen === null) return missing(row, event, at);
    const cause = isForgotten(session, event) ? 'sfu_down' : 'replaced';
    return connect(row, sessionOf(seen, event.roomSid, session, cause), event.askedAtMs, state.attempted, at);
  }
  // Nobody could be asked until it was too late by our own count: now the homeserver tells whether somebody else has kept it alive.
  const wanted = at.nowMs >= Math.min(state.restartDueMs - earlyMs(row, at), row.expiry.earliestMs) || isOfALaterClock(row, at);
  const effects = wanted ? [isFresh(row, event.askedAtMs, at) ? RESTART : ask(at.nowMs)] : [];
  const now = sessionOf(seen, event.roomSid, session, null);
  const same =
    now.sid === session.sid && now.established === session.established && now.after === session.after && now.roomSid === session.roomSid;
  const isFirstSight = !isSeenSince(row, row.createdAtMs) && event.askedAtMs >= row.createdAtMs;
  if (same && !isFirstSight && !(wanted && state.failures > 0)) return unchanged(row, effects);
  const which = now.roomSid === null && session.roomSid !== null ? [ask(event.askedAtMs, { whichRoom: true })] : [];
  return move(row, { ...state, session: now, seenAtMs: Math.max(state.seenAtMs, event.askedAtMs) }, at, [...effects, ...which]);
}

/** Restarted in the future: the clock was set back while we were not running, and when the next restart is due says nothing any more. */
function isOfALaterClock({ expiry, delayMs }: LiveDelegation, at: Moment): boolean {
  return expiry.earliestMs - delayMs > at.nowMs + CLOCKS_MS;
}

/** With a long delay a routine list restarts what would soon be due, which saves a question of its own. */
function earlyMs(row: LiveDelegation, at: Moment): number {
  return Math.min(at.policy.presenceIntervalMs, row.delayMs / 20);
}

function isForgotten(session: Session, event: EventOf<'snapshot'>): boolean {
  return event.afterRestart || isAnotherRoom(session, event.roomSid);
}

function missing(row: Row, event: EventOf<'snapshot'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  const cause: Cause = isForgotten(session, event) ? 'sfu_down' : 'missing';
  const seenAtMs = event.lastSeenMs ?? undefined;
  return depart(row, session, { cause, atMs: at.nowMs, fence: null, certain: false }, attempted, at, seenAtMs);
}

/** The SFU away is not the participant gone: nothing is sent, and without evidence nothing is restarted either. */
export function connectedUnreachable(row: Row, at: Moment): Decision {
  const { state } = row;
  if (at.nowMs < state.restartDueMs) return unchanged(row);
  const failures = state.failures + 1;
  return move(row, { ...state, failures, restartDueMs: askAgainMs(row, failures, at) }, at);
}

const USUAL_PART = 0.75;
const EARLIEST_PART = 0.4;
const JITTER = 0.1;
/** Of what the last restart took, so much must be left for the next one: for itself, and for one that takes as long again. */
const TIMES_AS_LONG = 2;

/**
 * Jittered around 80 % of the delay, never later than 90 %; counted from the request, the homeserver's earliest possible start. A
 * homeserver that takes longer than a call has time in any case may do it at the end of that time, so it is asked earlier.
 */
function nextRestartMs({ delayMs }: LiveDelegation, askedAtMs: number, at: Moment): number {
  const jitter = at.roll * JITTER;
  const tookMs = at.nowMs - askedAtMs;
  const inTimePart = tookMs > LEAST_TIMEOUT_MS ? 1 - (TIMES_AS_LONG * tookMs) / delayMs : 1;
  return askedAtMs + Math.floor(delayMs * Math.min(USUAL_PART + jitter, Math.max(EARLIEST_PART + jitter, inTimePart)));
}

export function connectedRestartAnswered(row: Row, event: EventOf<'restart_answered'>, at: Moment): Decision {
  const { state } = row;
  const { answer, askedAtMs } = event;
  const expiry = expiryAfter(row, askedAtMs, answer, at);
  switch (answer.kind) {
    case 'ok':
      return move(row, { ...state, restartDueMs: nextRestartMs(row, askedAtMs, at), failures: 0 }, at, [], { expiry });
    case 'final': {
      // Before its time somebody else has sent or cancelled it, the client itself as a rule; after it, it has run out under a present user.
      const ranOut = at.nowMs >= row.expiry.earliestMs;
      // No restart without fresh evidence, so its answer speaks of somebody who was there.
      if (ranOut) return end(row, 'expired', at, { sin: letExpire(row, at.nowMs) });
      return end(row, answer.how === 'conflict' ? 'cancelled' : 'already-sent', at);
    }
    case 'limited':
    case 'refused':
    case 'failed': {
      const failures = state.failures + 1;
      // This very call may have restarted it.
      const capMs = longestPauseMs(row, expiry, at);
      const pauseMs = answer.kind === 'limited' ? limitedMs(answer.retryAfterMs, failures, at.roll) : backoffMs(failures, at.roll, capMs);
      const seenAtMs = Math.max(state.seenAtMs, askedAtMs - leaseMs(row, at.policy));
      return move(row, { ...state, seenAtMs, failures, restartDueMs: at.nowMs + pauseMs }, at, [], { expiry });
    }
    default:
      return never(answer);
  }
}
