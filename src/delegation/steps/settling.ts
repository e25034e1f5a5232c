// Settling: a departure was seen, and for a moment it may be a reconnection. After the wait the SFU is asked: another session of the
// identity is there, nobody is there, or the very session that left (a stale list).
import { waitMsOf } from '../reasons.ts';
import type { EventOf, Session, Settling } from '../state.ts';
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

type Row = In<Settling>;

export function settlingDue(row: Row, at: Moment): Decision {
  if (at.nowMs < row.state.nextAskMs) return unchanged(row);
  const { untilMs } = row.state;
  const notBeforeMs = Math.min(Math.max(untilMs, at.nowMs - FRESH_MS), at.nowMs);
  return unchanged(row, [ask(notBeforeMs, { whichRoom: mayBeForgotten(row.state) })]);
}

export function settlingJoined(row: Row, event: EventOf<'joined'>, at: Moment): Decision {
  const { session, attempted } = row.state;
  if (isLateWord(event, session)) return unchanged(row);
  return connectByJoin(row, event, attempted, at);
}

/** A newer session left as well: its departure is the one to weigh. */
export function settlingLeft(row: Row, event: EventOf<'left'>, at: Moment): Decision {
  const { session, departure, attempted } = row.state;
  if (event.identity !== session.identity) return unchanged(row);
  const same = event.sid === null || event.sid === departure.fence;
  const ofOurs = departure.fence === null && (event.sid === null || event.sid === session.sid);
  const newer = event.joinedAtMs !== null && session.joinedAtMs !== null && event.joinedAtMs > session.joinedAtMs;
  if (!ofOurs && (same || !newer)) return unchanged(row);
  const left: Session = ofOurs ? session : { ...session, sid: event.sid, joinedAtMs: event.joinedAtMs, roomSid: event.roomSid };
  const isElsewhere = mayBeForgotten(row.state) && isAnotherRoom(session, event.roomSid ?? undefined);
  const onWayBack = !ofOurs && (departure.cause === 'sfu_down' || isElsewhere);
  return depart(row, left, departureTold(event, left.sid, onWayBack, at), attempted, at);
}

/** The member was on its way back, and is likely to try again: it has the wait anew, from the end of that attempt. */
export function settlingAborted(row: Row, event: EventOf<'aborted'>, at: Moment): Decision {
  const { state } = row;
  const { session, departure, attempted } = state;
  if (event.identity !== session.identity || event.sid === null || event.sid === departure.fence) return unchanged(row);
  // A list has told before that it is gone, and not why: of one that was on its way back, it makes a difference.
  const cause = causeOfAborted(session.after, at.policy);
  if (event.sid === session.sid)
    return departure.cause === 'missing' && session.after !== undefined && session.established
      ? depart(row, session, { cause, atMs: at.nowMs, fence: session.sid, certain: provesLoss(cause, session) }, attempted, at)
      : unchanged(row);
  // An SFU that was down is back by now.
  const since = { atMs: at.nowMs, certain: departure.certain && departure.cause !== 'sfu_down' };
  const untilMs = Math.max(state.untilMs, at.nowMs + waitMsOf(causeOfAborted(departure.cause, at.policy), at.policy));
  return move(row, { ...state, departure: { ...departure, ...since }, untilMs, nextAskMs: nextLookMs(row, untilMs, at) }, at);
}

/**
 * The room started anew under a departure that we know from a list only, or under a session that another had taken over: the SFU forgot
 * it, and its clients are on their way back.
 */
export function settlingRoomStarted(row: Row, event: EventOf<'room_started'>, at: Moment): Decision {
  const { session, departure } = row.state;
  if (departure.cause === 'sfu_down' || (departure.fence !== null && !mayBeForgotten(row.state))) return unchanged(row);
  if (event.roomSid !== null && event.roomSid === session.roomSid) return unchanged(row);
  return waitForForgotten(row, at);
}

function waitForForgotten(row: Row, at: Moment, sinceMs = at.nowMs): Decision {
  const { state } = row;
  const untilMs = Math.max(state.untilMs, sinceMs + waitMsOf('sfu_down', at.policy));
  const departure = { ...state.departure, cause: 'sfu_down', certain: false } as const;
  return move(row, { ...state, departure, untilMs, nextAskMs: nextLookMs(row, untilMs, at), failures: 0 }, at);
}

/**
 * Since when clients that an SFU has forgotten can be back, where that is later than the departure: they can't be before the SFU is. Where
 * we were away ourselves when the wait was over, as when the machine of both is started anew, its return may have been just now.
 */
function backSinceMs(row: Row, event: EventOf<'snapshot'>): number | null {
  const { session, departure, failures, untilMs } = row.state;
  const { roomSid, afterRestart, answersSinceMs, askedAtMs } = event;
  if (departure.cause === 'sfu_down') {
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
  // An absence that only lists told, and one list after a gap in which they may have come, and be reconnecting just now, is no second one.
  return !state.departure.certain && isAskedLate(row, event) && !isOnlyBusy(row, event, at)
    ? lookAgain(row, at)
    : owe(row, state, event.askedAtMs, at);
}

/** We have looked again before, and were there ever since, with too much to do: each look would be as late as the one before. */
function isOnlyBusy({ state: { departure, untilMs } }: Row, { answersSinceMs }: EventOf<'snapshot'>, { policy }: Moment): boolean {
  const firstUntilMs = departure.atMs + waitMsOf(departure.cause, policy);
  return untilMs - firstUntilMs >= ASKED_LATE_MS + waitMsOf('missing', policy) && answersSinceMs <= untilMs;
}

/**
 * Where nobody saw the SFU away, that it has forgotten everybody shows in the room alone, and a list that was asked for others does not
 * say.
 */
function isOfWhicheverRoom({ state }: Row, { roomSid }: EventOf<'snapshot'>): boolean {
  return roomSid === undefined && state.session.roomSid !== null && mayBeForgotten(state);
}

/** Asked so long after the wait, we were away ourselves, and what came and went meanwhile is not known. */
const ASKED_LATE_MS = 2_000;

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

/** An SFU that went down is asked for so long whether it is back with its participants, and so often, for we may have been away as well. */
const SFU_DOWN_MS = 300_000;
const SFU_DOWN_FAILURES = 8;

/**
 * A webhook's word stands when nobody can be asked; an absence that only a list told, or a takeover, proves nothing by itself. That the SFU
 * went down tells why it can't be asked, and not for how long.
 */
function stands({ state: { departure, failures, untilMs } }: Row, { nowMs }: Moment): boolean {
  if (!departure.certain || departure.cause === 'replaced') return false;
  return departure.cause !== 'sfu_down' || (failures + 1 >= SFU_DOWN_FAILURES && nowMs - untilMs >= SFU_DOWN_MS);
}

export function settlingUnreachable(row: Row, event: EventOf<'sfu_unreachable'>, at: Moment): Decision {
  const { state } = row;
  if (event.askedAtMs < state.untilMs) return askWhenWaitIsOver(row, at);
  if (stands(row, at)) return owe(row, state, event.askedAtMs, at);
  if (isAbandoned(row, at)) return end(row, 'expired', at, { cause: state.departure.cause });
  const failures = state.failures + 1;
  return move(row, { ...state, failures, nextAskMs: askAgainMs(row, failures, at) }, at);
}
