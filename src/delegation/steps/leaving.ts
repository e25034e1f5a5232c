// Leaving: the leave is owed until the homeserver accepts it, says that it is final, or has surely sent it by itself.
// Cancelling: superseded, and the older event owes its cancellation, so that it can't fire under a present user.
import { backoffMs, limitedMs } from '../retry.ts';
import type { Answer, Cancelling, Connected, Effect, Ended, EventOf, Leaving, LiveDelegation, Outcome } from '../state.ts';
import { leftMs } from './clocks.ts';
import {
  choose,
  connect,
  connectByJoin,
  type Decision,
  end,
  type In,
  isAbandoned,
  isLateWord,
  longestPauseMs,
  type Moment,
  move,
  never,
  SURELY_EXPIRED_MS,
  sessionOf,
  surelyExpired,
  unchanged,
} from './moves.ts';
import { falseLeave, ranOutUnder, witnessed } from './sins.ts';
import { restMs, SEND_TIMEOUT_MS, timeoutMsOf } from './timeouts.ts';

type Row = In<Leaving>;

/** The pause between tries once the homeserver has most probably sent the leave by itself. */
const AFTER_END_MS = 60_000;

export function leavingDue(row: Row, at: Moment): Decision {
  const { state } = row;
  if (at.nowMs < state.nextTryMs) return unchanged(row);
  if (isAbandoned(row, state.attempts, at)) {
    return finish(row, state.last === 'refused' ? 'rejected' : 'expired', row.expiry.latestMs, at);
  }
  return unchanged(row, [{ kind: 'send', action: state.action, timeoutMs: SEND_TIMEOUT_MS }]);
}

/**
 * Whether the event is over most probably: neither our last restart nor one by its client, made up to `clientEndedMs`, can have kept it
 * alive.
 */
function isMoot(row: LiveDelegation, clientEndedMs: number, at: Moment): boolean {
  return surelyExpired(row, at) && at.nowMs >= clientEndedMs + row.delayMs + SURELY_EXPIRED_MS;
}

/** `reachedRoomMs`: when the leave did; null: not known. `over`: what it was if the event was over before the departure. */
function finish(row: Row, outcome: Outcome, reachedRoomMs: number | null, at: Moment, over: Ended['sin'] = falseLeave(row)): Decision {
  const { departure, onTimeUntilMs } = row.state;
  const sin: Ended['sin'] = over ?? (reachedRoomMs !== null && reachedRoomMs > onTimeUntilMs ? 'ghost' : null);
  return end(row, outcome, at, { cause: departure.cause, sin, tookMs: at.nowMs - departure.atMs });
}

export function leavingAnswered(row: Row, answer: Answer, at: Moment): Decision {
  const { state } = row;
  switch (answer.kind) {
    case 'ok':
      return finish(row, 'sent', at.nowMs, at, null);
    case 'final':
      if (answer.how === 'conflict') return finish(row, 'cancelled', null, at);
      return finish(row, GONE_AFTER[state.last], goneSinceMs(row, at), at);
    case 'limited':
    case 'refused':
    case 'failed': {
      const attempts = state.attempts + 1;
      const usualMs = answer.kind === 'limited' ? limitedMs(answer.retryAfterMs, attempts, at.roll) : backoffMs(attempts, at.roll);
      // A client that is off the SFU but still runs may keep its event alive as long as it likes, so it is tried until there is an answer.
      const pauseMs = isMoot(row, state.departure.atMs, at) ? Math.max(usualMs, AFTER_END_MS) : usualMs;
      return move(row, { ...state, attempts, nextTryMs: at.nowMs + pauseMs, last: fateOf(answer, state.last) }, at);
    }
    default:
      return never(answer);
  }
}

/** When the leave of an event that is gone reached the room, Unix ms: at the latest, if it was perhaps by a try of ours. Null: not known. */
function goneSinceMs({ state, expiry }: Row, at: Moment): number | null {
  switch (GONE_AFTER[state.last]) {
    case 'sent':
      return Math.min(at.nowMs, expiry.latestMs);
    case 'already-sent':
      // It has run out. Before that only its client can have ended it, who knows when.
      return at.nowMs >= expiry.earliestMs ? expiry.earliestMs : null;
    default:
      return at.nowMs;
  }
}

/** The outcome when the homeserver says that the event is gone, by how our last try went. */
const GONE_AFTER: Record<Leaving['last'], Outcome> = {
  none: 'already-sent',
  failed: 'already-sent',
  // A try whose answer was lost was carried out.
  unsure: 'sent',
  // Synapse drops an event that it refuses to send.
  refused: 'rejected',
};

function fateOf(answer: Answer, before: Leaving['last']): Leaving['last'] {
  if (before === 'unsure' || (answer.kind === 'failed' && answer.reached)) return 'unsure';
  return answer.kind === 'refused' ? 'refused' : 'failed';
}

/** The member is back before the leave was accepted, so it must not be sent any more. Whether it was, the next restart shows. */
export function leavingJoined(row: Row, event: EventOf<'joined'>, at: Moment): Decision {
  const { departure, session, action } = row.state;
  // Without a SID it may be the late join of the session that left; a list will tell.
  if ((departure.fence !== null && event.sid === null) || isLateWord(event, session, at)) return unchanged(row);
  return connectByJoin(row, event, action, at);
}

export function leavingSnapshot(row: Row, event: EventOf<'snapshot'>, at: Moment): Decision {
  const { departure, session, action, confirmedAtMs } = row.state;
  const seen = choose(event.present, session);
  // A list that was asked for before the one that confirmed the departure: a process that was stopped may read it only now.
  if (seen === null || seen.sid === departure.fence || event.askedAtMs <= confirmedAtMs) return unchanged(row);
  return connect(row, sessionOf(seen, event.roomSid, session, departure.cause), event.askedAtMs, action, at);
}

/** The same event told anew, of a homeserver that goes by another address now, or with another delay, lives on: it is not cancelled. */
export function supersede(row: LiveDelegation, { isSameEvent = false }: EventOf<'superseded'>, at: Moment): Decision {
  if (isSameEvent) return end(row, 'superseded', at);
  const cancellable = row.handles.kind === 'delay' || row.handles.leave.cancel !== null || (row.handles.lost?.cancel ?? null) !== null;
  if (!cancellable) return end(row, 'superseded', at);
  const there = isThere(row, at) ? { there: row.state.session } : {};
  return move(row, { kind: 'cancelling', sinceMs: at.nowMs, nextTryMs: at.nowMs, attempts: 0, ...there }, at, [cancelEffect(row, at)]);
}

/** By evidence as new as the end of the event, if that is over. Not where our own leave was tried, for then that may have ended it. */
function isThere(row: LiveDelegation, at: Moment): row is In<Connected> {
  const { state, expiry } = row;
  return state.kind === 'connected' && state.attempted === null && (at.nowMs < expiry.latestMs || state.seenAtMs >= expiry.latestMs);
}

/** A cancellation that hangs must leave time for another try, as a restart must: if the event runs out, a leave is in the room. */
function cancelEffect(row: LiveDelegation, at: Moment): Effect {
  const leftMs = restMs(row.expiry, at);
  return { kind: 'cancel', timeoutMs: timeoutMsOf(leftMs > 0 ? leftMs / 2 : row.delayMs / 4) };
}

export function cancellingDue(row: In<Cancelling>, at: Moment): Decision {
  const { state } = row;
  if (at.nowMs < state.nextTryMs) return unchanged(row);
  if (state.attempts > 0 && isMoot(row, state.sinceMs, at)) return notCancelled(row, at);
  return unchanged(row, [cancelEffect(row, at)]);
}

export function cancellingAnswered(row: In<Cancelling>, answer: Answer, at: Moment): Decision {
  if (answer.kind === 'ok') return end(row, 'superseded', at);
  if (answer.kind === 'final') return notCancelled(row, at);
  const attempts = row.state.attempts + 1;
  const capMs = longestPauseMs(row, row.expiry, at);
  const pauseMs = answer.kind === 'limited' ? limitedMs(answer.retryAfterMs, attempts, at.roll) : backoffMs(attempts, at.roll, capMs);
  return move(row, { ...row.state, attempts, nextTryMs: at.nowMs + pauseMs }, at);
}

/** The event was over before it could be cancelled: if it has run out, it took out who was there. */
function notCancelled(row: In<Cancelling>, at: Moment): Decision {
  const { there } = row.state;
  return end(row, 'superseded', at, { sin: falseLeave(row, there !== undefined && ranOutUnder(row, there, at.nowMs, at)) });
}

/** Who is replaced is there by another session. */
export function cancellingLeft(row: In<Cancelling>, event: EventOf<'left'>, at: Moment): Decision {
  const { there } = row.state;
  if (event.identity !== there?.identity || event.cause === 'replaced') return unchanged(row);
  if (event.sid !== null && there.sid !== null && event.sid !== there.sid) return unchanged(row);
  return nobodyThere(witnessed(row, there, leftMs(event, at), at), at);
}

export function cancellingSnapshot(row: In<Cancelling>, event: EventOf<'snapshot'>, at: Moment): Decision {
  const { there, sinceMs } = row.state;
  const says = there !== undefined && event.askedAtMs >= sinceMs && choose(event.present, there) === null;
  return says ? nobodyThere(row, at) : unchanged(row);
}

function nobodyThere(row: In<Cancelling>, at: Moment): Decision {
  const { there: _, ...state } = row.state;
  return move(row, state, at);
}
