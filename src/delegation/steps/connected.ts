// Connected: the participant is on the SFU, so its event is kept alive by restarts. Each needs fresh evidence of presence; if there is
// none, the SFU is asked first.
import { backoffMs, limitedMs } from '../retry.ts';
import type { Cause, Connected, EventOf, LiveDelegation, Seen, Session } from '../state.ts';
import { awaitAnotherAttempt } from './awaiting.ts';
import { isFromBeforeSetBack, isTakenOver, leftMs, seenByJoinMs } from './clocks.ts';
import {
  ask,
  askAgainMs,
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
  isCertain,
  isFresh,
  leaseMs,
  longestPauseMs,
  type Moment,
  move,
  never,
  provesLoss,
  RESTART,
  sessionOf,
  unchanged,
} from './moves.ts';
import { falseLeave, ranOutUnder, witnessed } from './sins.ts';
import { LEAST_TIMEOUT_MS } from './timeouts.ts';

type Row = In<Connected>;

export function connectedDue(row: Row, at: Moment): Decision {
  const { state } = row;
  if (at.nowMs < state.restartDueMs) return unchanged(row);
  if (isAbandoned(row, state.failures, at))
    return end(row, 'expired', at, { sin: falseLeave(row, ranOutUnder(row, state.session, state.seenAtMs, at)) });
  const oldestMs = at.nowMs - leaseMs(row, at.policy);
  return unchanged(row, [state.seenAtMs >= oldestMs ? RESTART : ask(oldestMs)]);
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
  // The late webhook of an older session, or of a node with another clock: the SFU knows which.
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
    const certain = isCertain(departure, isSeenSinceHandOver(row));
    const known = witnessed(row, session, leftMs(event, at), at);
    return depart(known, { ...session, roomSid: event.roomSid ?? session.roomSid }, { ...departure, certain }, attempted, at);
  }
  if (event.joinedAtMs === null || session.joinedAtMs === null) return unchanged(row, [ask(at.nowMs)]);
  // Which one came later can't be told if one of them joined by a clock that was set back since.
  if (isFromBeforeSetBack(Math.max(event.joinedAtMs, session.joinedAtMs), at)) return unchanged(row, [ask(at.nowMs)]);
  if (event.joinedAtMs < session.joinedAtMs) return unchanged(row);
  // A newer session came and went before we heard of it; so it seems, by a clock that may have been wrong for a moment.
  const newer: Session = { ...session, sid: event.sid, joinedAtMs: event.joinedAtMs, roomSid: event.roomSid };
  return depart(row, newer, { ...departure, certain: isCertain(departure, false) }, attempted, at);
}

/**
 * Whether there is evidence of the session since the hand-over. There is none if all we have is the late webhook of an older join: that
 * session may have been gone before, and a newer one be there, as after a reload of the page.
 */
function isSeenSinceHandOver({ state, createdAtMs }: Row): boolean {
  return state.seenAtMs >= (state.handedOverMs ?? createdAtMs);
}

export function connectedAborted(row: Row, event: EventOf<'aborted'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  if (event.identity !== session.identity) return unchanged(row);
  if (event.sid !== null && session.sid !== null && event.sid !== session.sid) return unchanged(row, [ask(at.nowMs)]);
  // This session took over from an established one, and never came up: the member has been gone since that one went.
  if (session.established || attempted !== null) {
    const cause = causeOfAborted(session.after, at.policy);
    return depart(row, session, { cause, atMs: at.nowMs, fence: session.sid, certain: provesLoss(cause, session) }, attempted, at);
  }
  return move(row, awaitAnotherAttempt(row, at), at);
}

/** The room starts although we believe somebody in it: the SFU may have restarted and forgotten them, so it is asked. */
export function connectedRoomStarted(row: Row, event: EventOf<'room_started'>, at: Moment): Decision {
  return event.roomSid !== null && event.roomSid === row.state.session.roomSid ? unchanged(row) : unchanged(row, [ask(at.nowMs)]);
}

/** Nobody is in a finished room, so a departure was missed. Where it can't be told whether it is this session's room, the SFU is asked. */
export function connectedRoomFinished(row: Row, event: EventOf<'room_finished'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  // It may be the late webhook of an older room of this name; to wait for a return, without restarts, could cost a short delay its event.
  if (event.roomSid === null || session.roomSid === null) return unchanged(row, [ask(at.nowMs)]);
  if (event.roomSid !== session.roomSid) return unchanged(row);
  // Of one that was never up the row has the room of the one before it.
  if (session.after !== undefined) return unchanged(row, [ask(at.nowMs)]);
  return depart(row, session, { cause: 'left', atMs: at.nowMs, fence: null, certain: false }, attempted, at);
}

export function connectedSnapshot(row: Row, event: EventOf<'snapshot'>, at: Moment): Decision {
  const { state } = row;
  const { session } = state;
  const seen = newestOf(choose(event.present, session), session, at);
  if (seen === null || (session.sid !== null && seen.sid !== session.sid)) {
    // It was asked for before the newest evidence.
    if (event.askedAtMs <= state.seenAtMs) return unchanged(row);
    if (seen === null) return missing(row, event, at);
    const cause = isForgotten(session, event) ? 'sfu_down' : 'replaced';
    return connect(row, sessionOf(seen, event.roomSid, session, cause), event.askedAtMs, state.attempted, at);
  }
  // Also when the event has run out by our count, because nobody could be asked in time: its client may have kept it alive.
  const wanted = at.nowMs >= Math.min(state.restartDueMs - earlyMs(row, at), row.expiry.earliestMs);
  const effects = wanted ? [isFresh(row, event.askedAtMs, at) ? RESTART : ask(at.nowMs)] : [];
  const now = sessionOf(seen, event.roomSid, session, null);
  const isFirstSight = !isSeenSinceHandOver(row) && event.askedAtMs >= row.createdAtMs;
  if (isSame(now, session) && !isFirstSight && !(wanted && state.failures > 0)) return unchanged(row, effects);
  const which = now.roomSid === null && session.roomSid !== null ? [ask(event.askedAtMs, { whichRoom: true })] : [];
  return move(row, { ...state, session: now, seenAtMs: Math.max(state.seenAtMs, event.askedAtMs) }, at, [...effects, ...which]);
}

/** A node that still has the session before this one knows nothing of this one. It tells of that one's end later, which must not count for this one. */
function newestOf(seen: Seen | null, session: Session, at: Moment): Seen | null {
  const { sid, joinedAtMs, established: active } = session;
  return seen !== null && sid !== null && isTakenOver(seen, session, at) ? { ...seen, sid, joinedAtMs, active } : seen;
}

function isSame(one: Session, other: Session): boolean {
  return one.sid === other.sid && one.established === other.established && one.after === other.after && one.roomSid === other.roomSid;
}

/** How long before it is due a restart is made when a routine list comes, ms: that saves a question to the SFU. */
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

/** That the SFU is away does not mean that the participant is gone: nothing is sent. Without evidence there is no restart either. */
export function connectedUnreachable(row: Row, at: Moment): Decision {
  const { state } = row;
  if (at.nowMs < state.restartDueMs) return unchanged(row);
  const failures = state.failures + 1;
  return move(row, { ...state, failures, restartDueMs: askAgainMs(row, failures, at) }, at);
}

const USUAL_PART = 0.75;
const EARLIEST_PART = 0.4;
const JITTER = 0.1;
/** The next restart begins when at least so many times what the last one took is left: for itself, and for another try. */
const TIMES_AS_LONG = 2;

/**
 * When the next restart is due, Unix ms: at 75 to 85 % of the delay, by chance. It counts from the request of the last one, the earliest
 * moment at which the homeserver can have restarted the event. Where that took more than half a second the next one is due earlier, from 40
 * % on.
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
      // Before its expiry somebody else, usually the client, has sent or cancelled it; after it, it has run out.
      const ranOut = at.nowMs >= row.expiry.earliestMs;
      // With its participant there: a restart is made on fresh evidence only.
      if (ranOut) return end(row, 'expired', at, { sin: falseLeave(row, ranOutUnder(row, state.session, at.nowMs, at)) });
      return end(row, answer.how === 'conflict' ? 'cancelled' : 'already-sent', at, { sin: falseLeave(row) });
    }
    case 'limited':
    case 'refused':
    case 'failed': {
      const failures = state.failures + 1;
      // By the new expiry: a failed call may have restarted the event all the same.
      const capMs = longestPauseMs(row, expiry, at);
      const pauseMs = answer.kind === 'limited' ? limitedMs(answer.retryAfterMs, failures, at.roll) : backoffMs(failures, at.roll, capMs);
      const seenAtMs = Math.max(state.seenAtMs, askedAtMs - leaseMs(row, at.policy));
      return move(row, { ...state, seenAtMs, failures, restartDueMs: at.nowMs + pauseMs }, at, [], { expiry });
    }
    default:
      return never(answer);
  }
}
