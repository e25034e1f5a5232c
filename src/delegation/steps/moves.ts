// The moves between states that more than one state can make, and the arithmetic they share. Pure, like all of delegation/.

import type { RoomSid, Sid } from '../ids.ts';
import { actionOf, decidedAtOnce, waitMsOf } from '../reasons.ts';
import { backoffMs } from '../retry.ts';
import type {
  Action,
  Answer,
  Cause,
  Delegation,
  Departure,
  Effect,
  Ended,
  Event,
  EventOf,
  LiveDelegation,
  LiveState,
  Outcome,
  Policy,
  Seen,
  Session,
  Step,
} from '../state.ts';

/** What a decision may know besides the row and the event. */
export interface Moment {
  readonly nowMs: number;
  /** Uniform in [0, 1): the chance of this decision, for jitter. */
  readonly roll: number;
  readonly policy: Policy;
  readonly event: Event['kind'] | 'delegated';
}

/** `next === row`: nothing to write. */
export interface Decision {
  readonly next: Delegation;
  readonly effects: readonly Effect[];
}

/** A live row seen as being in one state. */
export type In<S extends LiveState> = LiveDelegation & { readonly state: S };

/** MSC4140 lets a homeserver be up to 30 s late with an expired event; as much again for clocks and a restart of its own. */
export const SURELY_EXPIRED_MS = 60_000;
/** A leave is on time if it is accepted within the wait of its cause and this; later it is a ghost (README, What it promises). */
const ON_TIME_MS = 1_000;
/** An SFU or a homeserver that has been away for so long after an event's end is not waited for any more. */
const ABANDONED_MS = 24 * 3_600_000;
/** How often one that is away is asked when the event has run out, unless its client looks after it. */
const AFTER_EXPIRY_MS = 300_000;
export const SEND_TIMEOUT_MS = 10_000;
/** A list that says that nobody is there speaks of a moment: older than this, the member may be back. */
export const FRESH_MS = 100;
const HISTORY_KEPT = 16;

export function unchanged(row: Delegation, effects: readonly Effect[] = []): Decision {
  return { next: row, effects };
}

/** The row in another state, or with another expiry, with a line of history where the kind of state changes. */
export function move(
  row: LiveDelegation,
  state: LiveState,
  at: Moment,
  effects: readonly Effect[] = [],
  change: { readonly expiry?: LiveDelegation['expiry']; readonly detail?: string | null } = {},
): Decision {
  const { expiry = row.expiry, detail = null } = change;
  const history = state.kind === row.state.kind ? row.history : remember(row.history, at, state.kind, detail);
  return { next: { ...row, state, expiry, history }, effects };
}

export function remember(history: readonly Step[], at: Moment, to: Step['to'], detail: string | null): readonly Step[] {
  return [...history, { atMs: at.nowMs, event: at.event, to, detail }].slice(-HISTORY_KEPT);
}

export function end(
  row: LiveDelegation,
  outcome: Outcome,
  at: Moment,
  more: { readonly cause?: Cause | null; readonly sin?: Ended['sin']; readonly tookMs?: number | null } = {},
): Decision {
  const { cause = null, sin = null, tookMs = null } = more;
  const state: Ended = { kind: 'ended', outcome, cause, atMs: at.nowMs, sin, tookMs };
  return { next: { ...row, state, handles: null, history: remember(row.history, at, 'ended', outcome) }, effects: [] };
}

export function surelyExpired(row: LiveDelegation, at: Moment): boolean {
  return at.nowMs >= row.expiry.latestMs + SURELY_EXPIRED_MS;
}

/**
 * Time alone does not tell that an event is over: a client may restart it by itself, and be there. So who can't be asked about is kept,
 * for a departure to be acted upon, until an answer comes or nobody can expect one any more.
 */
export function isAbandoned(row: LiveDelegation, at: Moment): boolean {
  return at.nowMs >= row.expiry.latestMs + ABANDONED_MS;
}

/** When somebody who could not be asked is asked again. */
export function askAgainMs(row: LiveDelegation, failures: number, at: Moment): number {
  return at.nowMs + (surelyExpired(row, at) ? AFTER_EXPIRY_MS : backoffMs(failures, at.roll));
}

/** How old evidence of presence may be for a restart: a lease, not a hope. */
export function leaseMs(row: LiveDelegation, policy: Policy): number {
  return Math.max(2_000, Math.min(policy.presenceIntervalMs, row.delayMs / 2));
}

/** Whether a restart may follow from evidence that was asked for then: it may have waited, for us to run again after a stop. */
export function isFresh(row: LiveDelegation, askedAtMs: number, at: Moment): boolean {
  return askedAtMs >= at.nowMs - 2 * leaseMs(row, at.policy);
}

export const RESTART: Effect = { kind: 'restart' };

/** As before, and half as long again. */
const AS_SLOW_AGAIN = 1.5;

/**
 * A hanging restart must leave time for another try before the event expires; but that of a homeserver that is slow for everybody does not
 * hang, and to give it up in the middle would lose them all, and have it do everything twice. By when it is made: it may have waited for its turn.
 */
export function restartTimeoutMs(row: LiveDelegation, nowMs: number, latelyMs: number): number {
  const leftMs = restMs(row.expiry, { nowMs });
  if (leftMs <= 0) return timeoutMsOf(row.delayMs / 4);
  const shareMs = isForNextTry(row, nowMs) ? Math.min(leftMs / 2, row.delayMs / 4) : leftMs / 2;
  return timeoutMsOf(Math.max(shareMs, Math.min(leftMs, Math.max(lastTookMs(row), latelyMs) * AS_SLOW_AGAIN)));
}

/**
 * Of so many tries of a restart one has the time that a homeserver needs who has become slow: its answer gives all others theirs. Not one of
 * those that come just when the event has run out by our count, and three or four have failed: it may have a little longer.
 */
const LONG_TRY = { every: 4, nth: 2 };

/**
 * Whether a call was lost that may have been carried out. What would be left then is not left for sure, and who is not heard of after a part of
 * it hangs, or is asked anew as soon as the homeserver is back.
 */
function isForNextTry({ state, expiry }: LiveDelegation, nowMs: number): boolean {
  return expiry.earliestMs <= nowMs && state.kind === 'connected' && state.failures % LONG_TRY.every !== LONG_TRY.nth;
}

/** A restart is due no sooner after the last one: where the end is not known by more than this of a delay, one has failed since. */
const LONGEST_TOOK_PART = 0.4;

/** How long the last restart took; nothing is known of that once one has failed, in whichever session. */
function lastTookMs({ state, expiry, delayMs }: LiveDelegation): number {
  const tookMs = expiry.latestMs - expiry.earliestMs;
  return state.kind === 'connected' && state.failures === 0 && tookMs < delayMs * LONGEST_TOOK_PART ? tookMs : 0;
}

/** However little is left. */
export const LEAST_TIMEOUT_MS = 500;

/** The time of a call that may take this share of what is left. */
export function timeoutMsOf(shareMs: number): number {
  return Math.round(Math.min(Math.max(shareMs, LEAST_TIMEOUT_MS), SEND_TIMEOUT_MS));
}

/** What is left of an event: until it may have run out, and when that is over until it must have. */
export function restMs({ earliestMs, latestMs }: LiveDelegation['expiry'], { nowMs }: Pick<Moment, 'nowMs'>): number {
  return (earliestMs > nowMs ? earliestMs : latestMs) - nowMs;
}

/**
 * The longest pause before what failed is tried again: there is something to save. Also when it has run out by our count, for its client may
 * restart it, too, and where the homeserver was away it has not run out either. Undefined: there is not.
 */
export function longestPauseMs(row: LiveDelegation, expiry: LiveDelegation['expiry'], at: Moment): number | undefined {
  const leftMs = restMs(expiry, at);
  if (leftMs > 0) return Math.max(leftMs, 1_000) / 4;
  return surelyExpired(row, at) ? undefined : Math.max(row.delayMs / 4, 2_000);
}

export function ask(notBeforeMs: number, { batchMs = 0, whichRoom = false } = {}): Effect {
  return { kind: 'check', notBeforeMs, batchMs, whichRoom };
}

/**
 * What only lists tell is no departure where the SFU has forgotten everybody since. Nor is a takeover: whoever took the session over went
 * with the room, and the word of it with both. That the room is another one shows it, also where an attempt to come back was aborted since.
 */
export function mayBeForgotten({ session, departure }: { readonly session: Session; readonly departure: Departure }): boolean {
  return isUnproven(departure.cause) || isUnproven(session.after);
}

function isUnproven(cause: Cause | undefined): boolean {
  return cause === 'missing' || cause === 'replaced';
}

/** A room outlives its last participant: that it is gone, or another one, with somebody in it as far as we know, is no departure of theirs. */
export function isAnotherRoom({ roomSid }: Session, found: RoomSid | null | undefined): boolean {
  return found === null || (found !== undefined && roomSid !== null && found !== roomSid);
}

/** The SFU's clock is another one, and older SFUs tell whole seconds only. */
export const CLOCKS_MS = 2_000;

/**
 * What the word of a join is evidence of. As a rule it has just been sent; but it may have waited, for an SFU that tries again or for us to run
 * again after a stop, and whoever joined then may be gone.
 */
export function seenByJoinMs(joinedAtMs: number | null, at: Moment): number {
  return joinedAtMs === null || joinedAtMs >= at.nowMs - CLOCKS_MS ? at.nowMs : joinedAtMs;
}

/**
 * Seen on the SFU: one restart at once, so that the delay counts from evidence. That may be as old again as for the restarts to come, for the
 * event has run since it was handed over; who was seen before that may be gone, and a list has to tell. In which room, tells later whether the
 * SFU has forgotten.
 */
export function connect(row: LiveDelegation, session: Session, seenAtMs: number, attempted: Action | null, at: Moment): Decision {
  const state: LiveState = { kind: 'connected', session, seenAtMs, restartDueMs: at.nowMs, failures: 0, attempted };
  const whichRoom = session.roomSid === null;
  const which = whichRoom ? [ask(seenAtMs, { whichRoom })] : [];
  const moved = move(row, state, at, isFresh(row, seenAtMs, at) ? [RESTART, ...which] : [ask(at.nowMs, { whichRoom })]);
  return row.state.kind === 'connected'
    ? { next: { ...moved.next, history: remember(row.history, at, 'connected', 'another session') } as Delegation, effects: moved.effects }
    : moved;
}

/** Seen on the SFU, by the word of a join. Where that has waited they may have left since, and before the hand-over: they are looked for. */
export function connectByJoin(row: LiveDelegation, event: EventOf<'joined'>, attempted: Action | null, at: Moment): Decision {
  const { identity, sid, joinedAtMs, roomSid } = event;
  const seenAtMs = seenByJoinMs(joinedAtMs, at);
  const { next, effects } = connect(row, { identity, sid, joinedAtMs, roomSid, established: true }, seenAtMs, attempted, at);
  const hasWaited = seenAtMs !== at.nowMs && isFresh(row, seenAtMs, at);
  return { next, effects: hasWaited ? [...effects, ask(at.nowMs)] : effects };
}

/** A departure: weighed for as long as its cause says, or owed at once. */
export function depart(
  row: LiveDelegation,
  session: Session,
  departure: Departure,
  attempted: Action | null,
  at: Moment,
  seenAtMs: number = Number.NEGATIVE_INFINITY,
): Decision {
  const waitMs = waitMsOf(departure.cause, at.policy);
  if (departure.certain && decidedAtOnce(departure.cause, at.policy)) return owe(row, { departure, session, attempted }, at.nowMs, at);
  const untilMs = departure.atMs + waitMs;
  const effects: Effect[] = untilMs <= at.nowMs ? [ask(at.nowMs, { whichRoom: mayBeForgotten({ session, departure }) })] : [];
  if (waitMs >= LONG_WAIT_MS && runsOutBefore(untilMs, row, seenAtMs, at)) effects.push(RESTART);
  const nextAskMs = nextLookMs(row, untilMs, at);
  const state: LiveState = { kind: 'settling', session, departure, untilMs, nextAskMs, failures: 0, attempted };
  return move(row, state, at, effects, { detail: departure.cause });
}

/** Within less the event hardly runs out, and a call that hangs would keep the leave waiting. */
const LONG_WAIT_MS = 3_000;

/**
 * Who is waited for must not be taken out by their event meanwhile: it is restarted once more, on what was evidence until then. Without that, the
 * last part of a delay was all the time that clients had to come back to an SFU that was started anew.
 */
function runsOutBefore(untilMs: number, row: LiveDelegation, seenAtMs: number, at: Moment): boolean {
  const { state, expiry, delayMs } = row;
  if (state.kind !== 'connected' || expiry.earliestMs <= at.nowMs || expiry.earliestMs >= untilMs + ON_TIME_MS) return false;
  // The last restart was made on evidence that was no older than a lease.
  const restartedOnMs = expiry.earliestMs - delayMs - leaseMs(row, at.policy);
  return isFresh(row, Math.max(seenAtMs, state.seenAtMs, restartedOnMs), at);
}

/** In time for a restart, if a short delay would run out within the wait: whoever is back without a word of it is found. */
const LAST_LOOK_MS = 1_000;

/** When the SFU is asked about somebody who left. */
export function nextLookMs({ expiry, delayMs }: LiveDelegation, untilMs: number, at: Moment): number {
  const lastMs = Math.round(expiry.earliestMs - Math.min(LAST_LOOK_MS, delayMs / 5));
  return lastMs > at.nowMs && lastMs < untilMs ? lastMs : untilMs;
}

/**
 * What a webhook tells of a session's departure. Who was taken over on the way back to an SFU that had forgotten them, and was never told to
 * be up, is still on that way: it was one more attempt.
 */
export function departureTold(event: EventOf<'left'>, fence: Sid | null, onWayBack: boolean, at: Moment): Departure {
  const isAttempt = event.cause === 'replaced' && onWayBack;
  return { cause: isAttempt ? 'sfu_down' : event.cause, atMs: at.nowMs, fence, certain: !isAttempt };
}

/**
 * The leave is owed from here on, by evidence that was asked for at `askedAtMs`: an answer may be long on its way to a process that was
 * stopped. An ending attempted earlier stays the one: a group has at most one.
 */
export function owe(
  row: LiveDelegation,
  { departure, session, attempted }: { departure: Departure; session: Session | null; attempted: Action | null },
  askedAtMs: number,
  at: Moment,
): Decision {
  const action = attempted ?? endingFor(row, departure.cause);
  const onTimeUntilMs = departure.atMs + waitMsOf(departure.cause, at.policy) + ON_TIME_MS;
  const due = { nextTryMs: at.nowMs, attempts: 0, last: 'none' } as const;
  const state: LiveState = { kind: 'leaving', action, departure, session, onTimeUntilMs, confirmedAtMs: askedAtMs, ...due };
  return move(row, state, at, [{ kind: 'send', action, timeoutMs: SEND_TIMEOUT_MS }], { detail: departure.cause });
}

function endingFor(row: LiveDelegation, cause: Cause): Action {
  const hasLost = row.handles.kind === 'futures' && row.handles.lost !== null;
  return hasLost ? actionOf(cause) : 'leave';
}

/** Why a connection that never came up went: it was lost, or it makes nothing undone of what its member is on the way back from. */
export function causeOfAborted(after: Cause | undefined, policy: Policy): Cause {
  return after !== undefined && actionOf(after) === 'lost' && waitMsOf(after, policy) >= waitMsOf('lost', policy) ? after : 'lost';
}

/**
 * Whether a connection that never came up, and went, is proof enough where the SFU can't be asked. Not if all that told of the one before it was
 * a list: the SFU may have forgotten everybody, and who is on the way back to it tries again.
 */
export function provesLoss(cause: Cause, { after }: Session): boolean {
  return cause !== 'sfu_down' && !isUnproven(after);
}

/** The session of a participant in a list; what is known of an earlier one of this delegation, which went for `cause`, is carried on. */
export function sessionOf(seen: Seen, roomSid: RoomSid | null | undefined, before: Session | null, cause: Cause | null): Session {
  const same = before !== null && before.sid === seen.sid;
  const after = same ? before.after : (cause ?? undefined);
  // Until it is up, the room of the one before it still tells whether the SFU has forgotten that one.
  const isRoomOfBefore = same ? !seen.active || before.after === undefined : before !== null && !seen.active;
  const ofBefore = isRoomOfBefore ? (before?.roomSid ?? null) : null;
  return {
    identity: seen.identity,
    sid: seen.sid,
    joinedAtMs: seen.joinedAtMs ?? (same ? before.joinedAtMs : null),
    roomSid: ofBefore ?? roomSid ?? null,
    established: seen.active || (before?.established ?? false),
    ...(seen.active || after === undefined ? {} : { after }),
  };
}

/** A join that is no news: of the session that is gone, or of one before it. If it is there all the same, a list will show it. */
export function isLateWord(event: EventOf<'joined'>, gone: Session | null): boolean {
  if (gone === null) return false;
  if (event.sid !== null && event.sid === gone.sid) return true;
  return event.joinedAtMs !== null && gone.joinedAtMs !== null && event.joinedAtMs < gone.joinedAtMs;
}

/** Of the identities that the member could have, the bound one; where that one is not there, any other. */
export function choose(present: readonly Seen[], bound: Session | null): Seen | null {
  return present.find((seen) => seen.identity === bound?.identity) ?? present[0] ?? null;
}

/** What a restart's answer says whatever the state: a new expiry, a final event, or nothing. */
export function expiryAfter(row: LiveDelegation, askedAtMs: number, answer: Answer, at: Moment): LiveDelegation['expiry'] {
  switch (answer.kind) {
    case 'ok':
      return { earliestMs: askedAtMs + row.delayMs, latestMs: at.nowMs + row.delayMs };
    case 'failed':
      // It may have been carried out, as late as now.
      return answer.reached ? { ...row.expiry, latestMs: Math.max(row.expiry.latestMs, at.nowMs + row.delayMs) } : row.expiry;
    case 'final':
    case 'limited':
    case 'refused':
      return row.expiry;
    default:
      return never(answer);
  }
}

/** Its homeserver has restarted it, for us or for somebody before us: it is not an invention. */
export function isProven({ expiry, createdAtMs, delayMs }: LiveDelegation): boolean {
  return expiry.earliestMs !== createdAtMs + delayMs;
}

/** The compiler's proof that a switch is exhaustive; reached only by a broken invariant. */
export function never(value: never): never {
  throw new Error(`unreachable: ${typeof value}`);
}
