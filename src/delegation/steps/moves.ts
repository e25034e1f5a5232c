// The transitions that more than one state can make, and the arithmetic that they share. Pure, like all of delegation/.

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
import { type Clocks, isFromBeforeSetBack, seenByJoinMs } from './clocks.ts';
import { witnessed } from './sins.ts';
import { restMs, SEND_TIMEOUT_MS } from './timeouts.ts';

/** What a decision may know besides the row and the event. */
export interface Moment extends Clocks {
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

/**
 * An event has surely run out so long after its latest expiry: MSC4140 lets a homeserver be 30 s late, and as much again is for clocks and
 * a restart of its own.
 */
export const SURELY_EXPIRED_MS = 60_000;
/** A leave is on time if it is accepted within the wait of its cause and this; later it is a ghost (README, What it promises). */
const ON_TIME_MS = 1_000;
/**
 * So long beyond an event's expiry, and after so many failures, an SFU or homeserver that is still away is not waited for any more. Both come
 * together where somebody runs all the while; a wall clock that was set forward between two runs makes a day in a moment.
 */
const ABANDONED = { afterMs: 24 * 3_600_000, failures: 100 };
/** How often an SFU that is away is asked about an event that has run out by our count. */
const AFTER_EXPIRY_MS = 300_000;
/** How old a list may be that shows nobody: on the strength of an older one no leave is sent, for the member may be back. */
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
 * Time alone does not show that an event is over, for its client may restart it as well, and be there. So while the SFU can't be asked the
 * delegation is kept, until an answer comes or none can be expected any more.
 */
export function isAbandoned(row: LiveDelegation, failures: number, at: Moment): boolean {
  return failures >= ABANDONED.failures && at.nowMs >= row.expiry.latestMs + ABANDONED.afterMs;
}

/** When the SFU is asked again after `failures` questions without an answer, Unix ms. */
export function askAgainMs(row: LiveDelegation, failures: number, at: Moment): number {
  return at.nowMs + (surelyExpired(row, at) ? AFTER_EXPIRY_MS : backoffMs(failures, at.roll));
}

/** How old evidence of presence may be for a restart to be made upon it, ms: without newer evidence there is no restart. */
export function leaseMs(row: LiveDelegation, policy: Policy): number {
  return Math.max(2_000, Math.min(policy.presenceIntervalMs, row.delayMs / 2));
}

/** Whether a restart may follow from evidence that was asked for at `askedAtMs`: it is too old if this process was stopped meanwhile. */
export function isFresh(row: LiveDelegation, askedAtMs: number, at: Moment): boolean {
  return askedAtMs >= at.nowMs - 2 * leaseMs(row, at.policy);
}

export const RESTART: Effect = { kind: 'restart' };

/**
 * The longest pause before a failed restart is tried again, ms, as long as the event may be alive: also after its expiry by our count, for
 * its client may restart it as well, and a homeserver that was away has not let it run out. Undefined: it is surely over, so there is no
 * hurry.
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

/**
 * Whether the room of the session is gone, or another one has its name. A room outlives its participants, so that is the SFU's doing and no
 * departure.
 */
export function isAnotherRoom({ roomSid }: Session, found: RoomSid | null | undefined): boolean {
  return found === null || (found !== undefined && roomSid !== null && found !== roomSid);
}

/**
 * Seen on the SFU: one restart at once, so that the delay counts from evidence. That may be as old again as for the restarts to come, for
 * the event has run since it was handed over; who was seen before that may be gone, and a list has to tell. In which room, tells later
 * whether the SFU has forgotten.
 */
export function connect(row: LiveDelegation, session: Session, seenAtMs: number, attempted: Action | null, at: Moment): Decision {
  const state: LiveState = { kind: 'connected', session, seenAtMs, restartDueMs: at.nowMs, failures: 0, attempted };
  const whichRoom = session.roomSid === null;
  const which = whichRoom ? [ask(seenAtMs, { whichRoom })] : [];
  const moved = move(sessionOver(row, at), state, at, isFresh(row, seenAtMs, at) ? [RESTART, ...which] : [ask(at.nowMs, { whichRoom })]);
  return row.state.kind === 'connected'
    ? { next: { ...moved.next, history: remember(row.history, at, 'connected', 'another session') } as Delegation, effects: moved.effects }
    : moved;
}

/**
 * Seen on the SFU, by the word of a join. Where that has waited they may have left since, and before the hand-over: they are looked for.
 */
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
  if (departure.certain && decidedAtOnce(departure.cause, at.policy))
    return owe(sessionOver(row, at, seenAtMs), { departure, session, attempted }, at.nowMs, at);
  const untilMs = departure.atMs + waitMs;
  const effects: Effect[] = untilMs <= at.nowMs ? [ask(at.nowMs, { whichRoom: mayBeForgotten({ session, departure }) })] : [];
  if (waitMs >= LONG_WAIT_MS && runsOutBefore(untilMs, row, seenAtMs, at)) effects.push(RESTART);
  const nextAskMs = nextLookMs(row, untilMs, at);
  const state: LiveState = { kind: 'settling', session, departure, untilMs, nextAskMs, failures: 0, attempted };
  return move(sessionOver(row, at, seenAtMs), state, at, effects, { detail: departure.cause });
}

/** Of a session that ends, or that another takes the place of. */
function sessionOver(row: LiveDelegation, at: Moment, seenAtMs: number = Number.NEGATIVE_INFINITY): LiveDelegation {
  return row.state.kind === 'connected' ? witnessed(row, row.state.session, Math.max(row.state.seenAtMs, seenAtMs), at) : row;
}

/** Within less the event hardly runs out, and a call that hangs would keep the leave waiting. */
const LONG_WAIT_MS = 3_000;

/**
 * Who is waited for must not be taken out by their event meanwhile: it is restarted once more, on what was evidence until then. Without
 * that, the last part of a delay was all the time that clients had to come back to an SFU that was started anew.
 */
function runsOutBefore(untilMs: number, row: LiveDelegation, seenAtMs: number, at: Moment): boolean {
  const { state, expiry, delayMs } = row;
  if (state.kind !== 'connected' || expiry.earliestMs <= at.nowMs || expiry.earliestMs >= untilMs + ON_TIME_MS) return false;
  // The last restart was made on evidence that was no older than a lease.
  const restartedOnMs = expiry.earliestMs - delayMs - leaseMs(row, at.policy);
  return isFresh(row, Math.max(seenAtMs, state.seenAtMs, restartedOnMs), at);
}

/**
 * So long before a short delay runs out within the wait, the SFU is asked once more: a member that is back without a webhook is found in
 * time.
 */
const LAST_LOOK_MS = 1_000;

/** When the SFU is asked next about a member that left, with a wait until `untilMs`. */
export function nextLookMs({ expiry, delayMs }: LiveDelegation, untilMs: number, at: Moment): number {
  const lastMs = Math.round(expiry.earliestMs - Math.min(LAST_LOOK_MS, delayMs / 5));
  return lastMs > at.nowMs && lastMs < untilMs ? lastMs : untilMs;
}

/**
 * The departure that a webhook tells of. A session that was replaced while its member was on the way back to an SFU that had forgotten it,
 * and that was never up, was just one more attempt: the member is still on its way.
 */
export function departureTold(event: EventOf<'left'>, fence: Sid | null, onWayBack: boolean, at: Moment): Departure {
  const isAttempt = event.cause === 'replaced' && onWayBack;
  return { cause: isAttempt ? 'sfu_down' : event.cause, atMs: at.nowMs, fence, certain: !isAttempt };
}

/** Whether the session that a webhook tells of is the newest need not be known where its SFU stops: that ends all of them. */
export function isCertain({ cause, certain }: Departure, isOfNewest: boolean): boolean {
  return certain && (isOfNewest || cause === 'sfu_down');
}

/**
 * From here on the leave is owed, by evidence that was asked for at `askedAtMs` (an answer may be old by the time that a stopped process
 * reads it). An ending that was tried earlier is kept to: a group has at most one. The member has had the wait since `waitedSinceMs`.
 */
export function owe(
  row: LiveDelegation,
  { departure, session, attempted }: { departure: Departure; session: Session | null; attempted: Action | null },
  askedAtMs: number,
  at: Moment,
  waitedSinceMs = departure.atMs,
): Decision {
  const action = attempted ?? endingFor(row, departure.cause);
  const onTimeUntilMs = waitedSinceMs + waitMsOf(departure.cause, at.policy) + ON_TIME_MS;
  const due = { nextTryMs: at.nowMs, attempts: 0, last: 'none' } as const;
  const state: LiveState = { kind: 'leaving', action, departure, session, onTimeUntilMs, confirmedAtMs: askedAtMs, ...due };
  return move(row, state, at, [{ kind: 'send', action, timeoutMs: SEND_TIMEOUT_MS }], { detail: departure.cause });
}

function endingFor(row: LiveDelegation, cause: Cause): Action {
  const hasLost = row.handles.kind === 'futures' && row.handles.lost !== null;
  return hasLost ? actionOf(cause) : 'leave';
}

/**
 * The cause of the end of a connection that never came up: lost; or, if its member was on the way back from a departure with a longer wait,
 * that one's.
 */
export function causeOfAborted(after: Cause | undefined, policy: Policy): Cause {
  return after !== undefined && actionOf(after) === 'lost' && waitMsOf(after, policy) >= waitMsOf('lost', policy) ? after : 'lost';
}

/**
 * Whether the end of a connection that never came up is proof enough of a departure where the SFU can't be asked. Not if only a list has
 * told of the end of the one before it: the SFU may have forgotten everybody, and its clients keep trying to come back.
 */
export function provesLoss(cause: Cause, { after }: Session): boolean {
  return cause !== 'sfu_down' && !isUnproven(after);
}

/** The session of a listed participant, with what is known of the delegation's earlier session `before`, which went for `cause`. */
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

/** Whether a join is old news: of the session that is gone, or an earlier one. If that is there all the same, a list will show it. */
export function isLateWord(event: EventOf<'joined'>, gone: Session | null, at: Moment): boolean {
  if (gone === null) return false;
  if (event.sid !== null && event.sid === gone.sid) return true;
  if (event.joinedAtMs === null || gone.joinedAtMs === null) return false;
  return event.joinedAtMs < gone.joinedAtMs && !isFromBeforeSetBack(gone.joinedAtMs, at);
}

/** Of the member's identities that are present the one that was bound, else any; null: none is. */
export function choose(present: readonly Seen[], bound: Session | null): Seen | null {
  return present.find((seen) => seen.identity === bound?.identity) ?? present[0] ?? null;
}

/** When the event expires by a restart's answer, whatever the state. The same object: nothing new. */
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

/** The compiler's proof that a switch is exhaustive; reached only by a broken invariant. */
export function never(value: never): never {
  throw new Error(`unreachable: ${typeof value}`);
}
