// Settling: a departure was seen, and may turn out to be a reconnection. After the wait the SFU is asked. Another session of the identity
// is there: connected again. Nobody is there, or only the session that left (a stale list): the leave is owed.
import { lastSeen } from '../last-seen.ts';
import { waitMsOf } from '../reasons.ts';
import type { Departure, EventOf, Session, Settling } from '../state.ts';
import { CLOCKS_MS, inOurTime, leftMs } from './clocks.ts';
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
  FRESH_MS,
  type In,
  isAbandoned,
  isAnotherRoom,
  isCertain,
  isLateWord,
  type Moment,
  mayBeForgotten,
  move,
  nextLookMs,
  owe,
  provesLoss,
  sessionOf,
  unchanged,
} from './moves.ts';
import { falseLeave } from './sins.ts';

type Row = In<Settling>;

/** The SFU tells in whole seconds when somebody left. */
const TOLD_TO_MS = 1_000;

export function settlingDue(row: Row, at: Moment): Decision {
  if (at.nowMs < row.state.nextAskMs) return unchanged(row);
  const { untilMs } = row.state;
  const notBeforeMs = Math.min(Math.max(untilMs, at.nowMs - FRESH_MS), at.nowMs);
  return unchanged(row, [ask(notBeforeMs, { whichRoom: mayBeForgotten(row.state) })]);
}

export function settlingJoined(row: Row, event: EventOf<'joined'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  if (isLateWord(event, session, at)) return unchanged(row);
  return connectByJoin(row, event, attempted, at);
}

/** If a newer session has left as well, its departure is the one that counts. */
export function settlingLeft(row: Row, event: EventOf<'left'>, at: Moment): Decision {
  const { session, departure, attempted } = row.state;
  if (event.identity !== session.identity) return unchanged(row);
  const same = event.sid === null || event.sid === departure.fence;
  const ofOurs = departure.fence === null && (event.sid === null || event.sid === session.sid);
  const newer = event.joinedAtMs !== null && session.joinedAtMs !== null && event.joinedAtMs > session.joinedAtMs;
  if (!ofOurs && (same || !newer)) return unchanged(row);
  const left: Session = ofOurs ? session : { ...session, sid: event.sid, joinedAtMs: event.joinedAtMs, roomSid: event.roomSid };
  const isElsewhere = mayBeForgotten(row.state) && isAnotherRoom(session, event.roomSid ?? undefined);
  const isOfStop = ofOurs && event.sid !== null && departure.cause === 'sfu_down' && event.cause === 'sfu_down';
  if (isOfStop && leftMs(event, at) <= departure.atMs + CLOCKS_MS) return stopKnown(row, left.sid, leftMs(event, at), at);
  const onWayBack = !ofOurs && (departure.cause === 'sfu_down' || isElsewhere);
  const told = departureTold(event, left.sid, onWayBack, at);
  // That a newer session has gone proves nothing where it is not certain that ours has.
  return depart(row, left, ofOurs ? told : { ...told, certain: isCertain(told, departure.certain) }, attempted, at);
}

/**
 * The SFU tells of its stop when it is back, and that was noticed then: nobody has longer to come back for the word of it. But it may only have
 * lost its lists before, and have stopped a moment later.
 */
function stopKnown(row: Row, fence: Session['sid'], stoppedMs: number, at: Moment): Decision {
  const { state } = row;
  const untilMs = Math.max(state.untilMs, stoppedMs + TOLD_TO_MS + waitMsOf('sfu_down', at.policy));
  return move(row, { ...state, departure: { ...state.departure, fence }, untilMs, nextAskMs: nextLookMs(row, untilMs, at) }, at);
}

/** An attempt to come back failed. The member will probably try again, and has the whole wait from now on. */
export function settlingAborted(row: Row, event: EventOf<'aborted'>, at: Moment): Decision {
  const { state } = row;
  const { session, departure, attempted } = state;
  if (event.identity !== session.identity || event.sid === null || event.sid === departure.fence) return unchanged(row);
  // Only a list has told that this session is gone, and not why. If its member was on the way back, the wait is that of its earlier
  // departure.
  const cause = causeOfAborted(session.after, at.policy);
  if (event.sid === session.sid)
    return departure.cause === 'missing' && session.after !== undefined && session.established
      ? depart(row, session, { cause, atMs: at.nowMs, fence: session.sid, certain: provesLoss(cause, session) }, attempted, at)
      : unchanged(row);
  // An SFU that was down is back, for it has told of the attempt.
  const since = { atMs: at.nowMs, certain: departure.certain && departure.cause !== 'sfu_down' };
  const untilMs = Math.max(state.untilMs, at.nowMs + waitMsOf(causeOfAborted(departure.cause, at.policy), at.policy));
  return move(row, { ...state, departure: { ...departure, ...since }, untilMs, nextAskMs: nextLookMs(row, untilMs, at) }, at);
}

/**
 * The room has started anew. If the departure is known from a list only, or the session was taken over by another, the SFU has restarted
 * and forgotten everybody, and its clients are on their way back: they get the longer wait.
 */
export function settlingRoomStarted(row: Row, event: EventOf<'room_started'>, at: Moment): Decision {
  const { session, departure, failures } = row.state;
  if (departure.cause === 'sfu_down' || (departure.fence !== null && !mayBeForgotten(row.state))) return unchanged(row);
  if (isOfClosedRoom(departure) && failures === 0) return unchanged(row);
  if (event.roomSid !== null && event.roomSid === session.roomSid) return unchanged(row);
  return waitForForgotten(row, at);
}

/**
 * The SFU has closed the session's room because nobody was in it any more. So it had not forgotten it, and that the room is gone is no sign of
 * a restart: the session has left, unheard. Of one that was never up the row has the room of the one before it.
 */
export function settlingRoomFinished(row: Row, event: EventOf<'room_finished'>, at: Moment): Decision {
  const { state } = row;
  const { session, departure } = state;
  const isOnlyListed = departure.fence === null && (departure.cause === 'missing' || wasClosedBefore(row, event, at));
  if (!isOnlyListed || session.after !== undefined) return unchanged(row);
  if (event.roomSid === null || event.roomSid !== session.roomSid) return unchanged(row);
  const waitMs = waitMsOf('left', at.policy);
  const untilMs = Math.min(state.untilMs, at.nowMs + waitMs);
  const left = { ...departure, cause: 'left', atMs: Math.max(departure.atMs, untilMs - waitMs) } as const;
  return move(row, { ...state, departure: left, untilMs, nextAskMs: nextLookMs(row, untilMs, at), failures: 0 }, at);
}

/**
 * Whether it can be the closed room that was taken for a restart. With a Redis a room outlives its SFU, and keeps its SID: one that was closed
 * only after the restart, because the SFU was stopped or left by those who were back, says nothing of who is still on the way back to it.
 */
function wasClosedBefore({ state: { departure, untilMs } }: Row, { closedAtMs }: EventOf<'room_finished'>, at: Moment): boolean {
  if (departure.cause !== 'sfu_down' || closedAtMs === undefined) return false;
  return inOurTime(closedAtMs, at) <= untilMs - waitMsOf('sfu_down', at.policy);
}

/** That its room was closed is all that has been told of it. An SFU that can't be asked afterwards may have closed it because it stops. */
function isOfClosedRoom({ cause, fence, certain }: Departure): boolean {
  return cause === 'left' && fence === null && !certain;
}

function waitForForgotten(row: Row, at: Moment, sinceMs = at.nowMs): Decision {
  const { state } = row;
  const untilMs = Math.max(state.untilMs, sinceMs + waitMsOf('sfu_down', at.policy));
  const departure = { ...state.departure, cause: 'sfu_down', certain: false } as const;
  return move(row, { ...state, departure, untilMs, nextAskMs: nextLookMs(row, untilMs, at), failures: 0 }, at);
}

/**
 * Since when clients that the SFU has forgotten can have been coming back (Unix ms), if that is later than the departure: not before the
 * SFU itself was back. If this process was not running when the wait was over, as when the machine of both restarts, that may be just now.
 * Null: the departure counts.
 */
function backSinceMs(row: Row, event: EventOf<'snapshot'>): number | null {
  const { session, departure, failures, untilMs } = row.state;
  const { roomSid, afterRestart, answersSinceMs, askedAtMs } = event;
  if (departure.cause === 'sfu_down' || isOfClosedRoom(departure)) {
    if (failures > 0) return answersSinceMs > untilMs ? answersSinceMs : askedAtMs;
    if (!departure.certain) return null;
    if (isAskedLate(row, event)) return askedAtMs;
    return answersSinceMs > departure.atMs ? answersSinceMs : afterRestart ? askedAtMs : null;
  }
  const isForgotten = (departure.cause === 'missing' && afterRestart) || (mayBeForgotten(row.state) && isAnotherRoom(session, roomSid));
  return isForgotten ? askedAtMs : null;
}

export function settlingSnapshot(row: Row, event: EventOf<'snapshot'>, at: Moment): Decision {
  const { state } = row;
  const seen = choose(event.present, state.session);
  if (seen !== null && seen.sid !== state.departure.fence && event.askedAtMs >= state.departure.atMs) {
    return connect(row, sessionOf(seen, event.roomSid, state.session, state.departure.cause), event.askedAtMs, state.attempted, at);
  }
  if (event.askedAtMs < state.untilMs) return askWhenWaitIsOver(row, at);
  const sinceMs = backSinceMs(row, event);
  if (seen === null && sinceMs === null && isOfWhicheverRoom(row, event))
    return unchanged(row, [ask(event.askedAtMs, { whichRoom: true })]);
  if (sinceMs !== null && at.nowMs < sinceMs + waitMsOf('sfu_down', at.policy)) return waitForForgotten(row, at, sinceMs);
  // An absence that only lists have told of needs a second list in time, and one for which the session was looked for: a routine look at the
  // room may come before the row's own question. After a gap the member may have come meanwhile, and be reconnecting.
  if (!state.departure.certain && isAskedLate(row, event) && !isOnlyBusy(row, event, at)) return lookAgain(row, at);
  return event.lookedFor || lastSeen(row) === null
    ? owe(row, state, event.askedAtMs, at, waitedSinceMs(state, at))
    : unchanged(row, [ask(at.nowMs, { whichRoom: mayBeForgotten(state) })]);
}

/** Of an SFU that was away, or a process, clients have the wait from the return on. */
function waitedSinceMs({ departure, untilMs }: Settling, { policy }: Moment): number {
  return departure.cause === 'sfu_down' ? Math.max(departure.atMs, untilMs - waitMsOf('sfu_down', policy)) : departure.atMs;
}

/** We have looked again before, and were running ever since, with too much to do: each further look would come as late. */
function isOnlyBusy({ state: { departure, untilMs } }: Row, { answersSinceMs }: EventOf<'snapshot'>, { policy }: Moment): boolean {
  const firstUntilMs = departure.atMs + waitMsOf(departure.cause, policy);
  return untilMs - firstUntilMs >= ASKED_LATE_MS + waitMsOf('missing', policy) && answersSinceMs <= untilMs;
}

/** Whether the room's SID is still to be asked for: it may be the only sign that the SFU has restarted, and this list came without it. */
function isOfWhicheverRoom({ state }: Row, { roomSid }: EventOf<'snapshot'>): boolean {
  return roomSid === undefined && state.session.roomSid !== null && mayBeForgotten(state);
}

/**
 * If the SFU is asked so long after the end of the wait, this process was not running, and who came and went meanwhile is not known. A question
 * that waits for the one before it may be put three seconds late, where the SFU looks for a node in vain (sfu/hosting.ts).
 */
const ASKED_LATE_MS = 4_000;

function isAskedLate({ state: { untilMs } }: Row, { askedAtMs }: EventOf<'snapshot'>): boolean {
  return askedAtMs - untilMs > ASKED_LATE_MS;
}

function lookAgain(row: Row, at: Moment): Decision {
  const untilMs = at.nowMs + waitMsOf('missing', at.policy);
  return move(row, { ...row.state, untilMs, nextAskMs: nextLookMs(row, untilMs, at), failures: 0 }, at);
}

function askWhenWaitIsOver(row: Row, at: Moment): Decision {
  const { state } = row;
  const nextAskMs = nextLookMs(row, state.untilMs, at);
  return state.nextAskMs === nextAskMs ? unchanged(row) : move(row, { ...state, nextAskMs }, at);
}

/** An SFU that has shut down is asked for at least so long, and so often, whether it is back with everybody, before its word stands. */
const SFU_DOWN_MS = 300_000;
const SFU_DOWN_FAILURES = 8;

/**
 * Whether the departure counts although the SFU can't be asked: a webhook's word does; what only a list has told, or a takeover, does not.
 * That the SFU has shut down explains why it can't be asked, so that counts only after some minutes.
 */
function stands({ state: { departure, failures, untilMs } }: Row, { nowMs }: Moment): boolean {
  if (!departure.certain || departure.cause === 'replaced') return false;
  return departure.cause !== 'sfu_down' || (failures + 1 >= SFU_DOWN_FAILURES && nowMs - untilMs >= SFU_DOWN_MS);
}

export function settlingUnreachable(row: Row, event: EventOf<'sfu_unreachable'>, at: Moment): Decision {
  const { state } = row;
  if (event.askedAtMs < state.untilMs) return askWhenWaitIsOver(row, at);
  if (stands(row, at)) return owe(row, state, event.askedAtMs, at, waitedSinceMs(state, at));
  if (isAbandoned(row, state.failures, at)) return end(row, 'expired', at, { cause: state.departure.cause, sin: falseLeave(row) });
  const failures = state.failures + 1;
  return move(row, { ...state, failures, nextAskMs: askAgainMs(row, failures, at) }, at);
}
