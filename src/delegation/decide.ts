// The pure core: (row, event, now, chance, policy) → (row, effects). No clock, no I/O, no logger; it may run again on a newer row.
//
//                     seen                       departure                     wait over, nobody there
//   ┌──────────┐ ───────────────▶ ┌───────────┐ ──────────▶ ┌──────────┐ ─────────────────────▶ ┌─────────┐  accepted,
//   │ awaiting │                  │ connected │             │ settling │                        │ leaving │  final, moot
//   └──────────┘ ◀─────────────── └───────────┘ ◀────────── └──────────┘                        └─────────┘ ─────▶ ended
//        │        aborted, never      ▲  │ ▲    back again                                         │ │ ▲
//        │        established         │  └─┼──── removed, room deleted, wait 0 ────────────────────┼─┘ │
//        │                            └────┼─────────────────── back before it was accepted ───────┘   │
//        └───────────────────────────────── never connected ───────────────────────────────────────────┘
//   any live state: handed back ▶ ended; superseded ▶ cancelling ▶ ended (by the same event: ended); it turns out to be final ▶ ended
//
// due                 | awaiting: ask the SFU | connected: restart on fresh evidence, else ask | settling: ask | leaving: send | cancelling: cancel
// joined              | connected             | newer session replaces                         | connected     | connected     | –
// left                | ours? (see there)     | settling or leaving, if of this session        | newer one     | –             | noted
// aborted             | time for another try  | awaiting, or settling if once established      | wait anew     | –             | –
// room_started        | –                     | ask                                            | longer wait   | –             | –
// room_finished       | –                     | settling                                       | shorter wait  | –             | –
// snapshot            | connected / leaving   | evidence, another session, or settling         | decided       | connected     | noted
// sfu_unreachable     | ask again             | try again later, no restart                    | word stands   | –             | –
// restart_answered    | expiry or final       | due again, retry or ended                      | expiry, final | expiry        | expiry
// send_answered       | final?                | final?                                         | final?        | ended / retry | final?
// cancel_answered     | –                     | –                                              | –             | –             | ended / retry
// known_as            | ask the SFU           | watched, too                                   | watched, too  | watched, too  | –
// superseded          | cancelling            | cancelling                                     | cancelling    | cancelling    | –
// handed_back         | ended                 | ended                                          | ended         | ended         | –

import type { Identity } from './ids.ts';
import { waitMsOf } from './reasons.ts';
import type {
  Awaiting,
  Cancelling,
  Common,
  Connected,
  Delegation,
  Event,
  EventOf,
  Handles,
  Leaving,
  LiveDelegation,
  LiveState,
  Policy,
  Settling,
  State,
} from './state.ts';
import {
  awaitingAborted,
  awaitingDue,
  awaitingJoined,
  awaitingLeft,
  awaitingSnapshot,
  awaitingUnreachable,
  FIRST_ASK_BATCH_MS,
  newerComesByMs,
  SOON_ASK_BATCH_MS,
} from './steps/awaiting.ts';
import {
  connectedAborted,
  connectedDue,
  connectedJoined,
  connectedLeft,
  connectedRestartAnswered,
  connectedRoomFinished,
  connectedRoomStarted,
  connectedSnapshot,
  connectedUnreachable,
} from './steps/connected.ts';
import {
  cancellingAnswered,
  cancellingDue,
  cancellingLeft,
  cancellingSnapshot,
  leavingAnswered,
  leavingDue,
  leavingJoined,
  leavingSnapshot,
  supersede,
} from './steps/leaving.ts';
import { ask, type Decision, end, expiryAfter, type In, type Moment, move, never, nextLookMs, remember, unchanged } from './steps/moves.ts';
import { knownOf } from './steps/same-event.ts';
import { inTimeOf } from './steps/set-back.ts';
import {
  settlingAborted,
  settlingDue,
  settlingJoined,
  settlingLeft,
  settlingRoomFinished,
  settlingRoomStarted,
  settlingSnapshot,
  settlingUnreachable,
} from './steps/settling.ts';
import { falseLeave } from './steps/sins.ts';

export type { Decision } from './steps/moves.ts';

/** The longest time that a member may take to connect, whatever the delay. */
const LONGEST_CONNECT_MS = 300_000;

/**
 * What a client hands over, parsed. `delayMs` is the delay of its event. `askedAtMs`: when its request came, Unix ms, if that was not just now:
 * the event runs while we find out who asks.
 */
export type HandOver = Omit<Common, 'createdAtMs' | 'expiry' | 'history'> & { readonly handles: Handles; readonly askedAtMs?: number };

/** The most identities of a member that are watched: each takes a place in the store's index, and more than a few are made up. */
const MOST_IDENTITIES = 8;

/** The identities that are watched, and more of the same member, up to the bound (or as many as there were). */
export function joinedTo(identities: readonly Identity[], more: readonly Identity[]): readonly Identity[] {
  const all = new Set([...identities, ...more]);
  return [...all].slice(0, Math.max(MOST_IDENTITIES, identities.length));
}

export interface FirstDecision {
  readonly next: LiveDelegation;
  readonly effects: Decision['effects'];
}

/**
 * The row of a new delegation. The SFU is asked at once whether its participant is there already. `older`: what it takes the place of, so that
 * they may well be, and hardly a list is waited for that others want as well: who has left by then can't be told from who had left before the
 * hand-over. What is known of the same event stays known.
 */
export function delegate(told: HandOver, nowMs: number, roll: number, policy: Policy, older?: LiveDelegation): FirstDecision {
  const { askedAtMs: createdAtMs = nowMs, ...handOver } = told;
  const at: Moment = { nowMs, wallMs: nowMs, roll, policy, event: 'delegated' };
  const longestMs = nowMs + Math.min(handOver.delayMs, policy.connectTimeoutMs, LONGEST_CONNECT_MS);
  const connectByMs = older === undefined ? longestMs : Math.min(longestMs, newerComesByMs(older.state, at));
  const awaiting: Awaiting = { kind: 'awaiting', connectByMs, nextAskMs: nowMs, failures: 0, seenAbsent: false, departed: null };
  // The client scheduled its event a moment before it asked us; that moment is unknown, and small beside any delay worth delegating. Until it is
  // answered it may restart the event itself.
  const expiry = { earliestMs: createdAtMs + handOver.delayMs, latestMs: nowMs + handOver.delayMs };
  const { state, ...known } = { ...handOver, createdAtMs, ...knownOf(older, handOver, { state: awaiting, expiry }, nowMs) };
  const next = { ...known, history: remember([], at, state.kind, null), state };
  return { next, effects: [ask(nowMs, { batchMs: older === undefined ? FIRST_ASK_BATCH_MS : SOON_ASK_BATCH_MS, whichRoom: true })] };
}

/** What is known of a delegation that another service has looked after until now. */
export interface Adopted {
  /** When that service restarted the event last, Unix ms; null: unknown. */
  readonly restartedAtMs: number | null;
}

/**
 * The row of a delegation whose participant was on the SFU when another service looked last. It counts as missing until a list shows it,
 * and as gone if two lists don't. Its event may run out soon, so the SFU is asked at once.
 */
export function adopt(handOver: HandOver, { restartedAtMs }: Adopted, nowMs: number, roll: number, policy: Policy): FirstDecision {
  const restartedMs = Math.min(restartedAtMs ?? nowMs - handOver.delayMs, nowMs);
  const untilMs = nowMs + waitMsOf('missing', policy);
  const identity = handOver.identities[0];
  if (identity === undefined) throw new Error('a delegation watches at least one identity');
  const state: Settling = {
    kind: 'settling',
    session: { identity, sid: null, joinedAtMs: null, roomSid: null, established: true },
    departure: { cause: 'missing', atMs: nowMs, fence: null, certain: false },
    untilMs,
    nextAskMs: nowMs,
    failures: 0,
    attempted: null,
  };
  const expiry = { earliestMs: restartedMs + handOver.delayMs, latestMs: nowMs + handOver.delayMs };
  const history = remember([], { nowMs, wallMs: nowMs, roll, policy, event: 'delegated' }, 'settling', 'adopted');
  return {
    // Before that restart, which proves the event (`isProven`).
    next: { ...handOver, createdAtMs: restartedMs - 1, expiry, history, state },
    effects: [ask(nowMs)],
  };
}

/** When the row needs attention if nothing else happens, Unix ms; null: never again. */
export function dueAtMs(state: State): number | null {
  switch (state.kind) {
    case 'awaiting':
    case 'settling':
      return state.nextAskMs;
    case 'connected':
      return state.restartDueMs;
    case 'leaving':
    case 'cancelling':
      return state.nextTryMs;
    case 'ended':
      return null;
    default:
      return never(state);
  }
}

/** The only time and chance that a decision knows. */
export interface Now {
  /** Unix ms. */
  readonly nowMs: number;
  /** What the wall clock shows; the same unless told. */
  readonly wallMs?: number;
  /** Uniform in [0, 1). */
  readonly roll: number;
}

/** The decision: a pure function. */
export function decide(row: Delegation, event: Event, { nowMs, wallMs = nowMs, roll }: Now, policy: Policy): Decision {
  const at: Moment = { nowMs, wallMs, roll, policy, event: event.kind };
  return row.handles === null ? unchanged(row) : decideLive(inTimeOf(row, at.nowMs, policy), event, at);
}

function decideLive(row: LiveDelegation, event: Event, at: Moment): Decision {
  if (event.kind === 'known_as') return row.state.kind === 'cancelling' ? unchanged(row) : knownAs(row, event.identities, at);
  if (event.kind === 'superseded') return row.state.kind === 'cancelling' ? unchanged(row) : supersede(row, event, at);
  if (event.kind === 'handed_back') return row.state.kind === 'cancelling' ? unchanged(row) : end(row, 'handed-back', at);
  // TypeScript can't follow that the step of the row's kind takes rows of that kind.
  const step = STEPS[row.state.kind] as (row: LiveDelegation, event: Happening, at: Moment) => Decision;
  return step(row, event, at);
}

/**
 * Of an awaited member the SFU is asked at once, for it may be there under one of these. In other states it is asked before anything is
 * done.
 */
function knownAs(row: LiveDelegation, identities: readonly Identity[], at: Moment): Decision {
  const all = joinedTo(row.identities, identities);
  if (all.length === row.identities.length) return unchanged(row);
  return { next: { ...row, identities: all }, effects: row.state.kind === 'awaiting' ? [ask(at.nowMs, { whichRoom: true })] : [] };
}

/** Events whose meaning depends on the state. */
type Happening = Exclude<Event, { kind: 'known_as' | 'superseded' | 'handed_back' }>;

const STEPS: { readonly [K in LiveState['kind']]: (row: In<Extract<LiveState, { kind: K }>>, event: Happening, at: Moment) => Decision } = {
  awaiting,
  connected,
  settling,
  leaving,
  cancelling,
};

function awaiting(row: In<Awaiting>, event: Happening, at: Moment): Decision {
  switch (event.kind) {
    case 'due':
      return awaitingDue(row, at);
    case 'joined':
      return awaitingJoined(row, event, at);
    case 'left':
      return awaitingLeft(row, event, at);
    case 'aborted':
      return awaitingAborted(row, at);
    case 'snapshot':
      return awaitingSnapshot(row, event, at);
    case 'sfu_unreachable':
      return awaitingUnreachable(row, at);
    case 'restart_answered':
    case 'send_answered':
      return answeredLate(row, event, at);
    case 'room_started':
    case 'room_finished':
    case 'cancel_answered':
      return unchanged(row);
    default:
      return never(event);
  }
}

function connected(row: In<Connected>, event: Happening, at: Moment): Decision {
  switch (event.kind) {
    case 'due':
      return connectedDue(row, at);
    case 'joined':
      return connectedJoined(row, event, at);
    case 'left':
      return connectedLeft(row, event, at);
    case 'aborted':
      return connectedAborted(row, event, at);
    case 'room_started':
      return connectedRoomStarted(row, event, at);
    case 'room_finished':
      return connectedRoomFinished(row, event, at);
    case 'snapshot':
      return connectedSnapshot(row, event, at);
    case 'sfu_unreachable':
      return connectedUnreachable(row, at);
    case 'restart_answered':
      return connectedRestartAnswered(row, event, at);
    case 'send_answered':
      return answeredLate(row, event, at);
    case 'cancel_answered':
      return unchanged(row);
    default:
      return never(event);
  }
}

function settling(row: In<Settling>, event: Happening, at: Moment): Decision {
  switch (event.kind) {
    case 'due':
      return settlingDue(row, at);
    case 'joined':
      return settlingJoined(row, event, at);
    case 'left':
      return settlingLeft(row, event, at);
    case 'room_started':
      return settlingRoomStarted(row, event, at);
    case 'snapshot':
      return settlingSnapshot(row, event, at);
    case 'sfu_unreachable':
      return settlingUnreachable(row, event, at);
    case 'aborted':
      return settlingAborted(row, event, at);
    case 'room_finished':
      return settlingRoomFinished(row, event, at);
    case 'restart_answered':
    case 'send_answered':
      return answeredLate(row, event, at);
    case 'cancel_answered':
      return unchanged(row);
    default:
      return never(event);
  }
}

function leaving(row: In<Leaving>, event: Happening, at: Moment): Decision {
  switch (event.kind) {
    case 'due':
      return leavingDue(row, at);
    case 'joined':
      return leavingJoined(row, event, at);
    case 'snapshot':
      return leavingSnapshot(row, event, at);
    case 'send_answered':
      return leavingAnswered(row, event.answer, at);
    case 'restart_answered':
      // A restart that finds the event final was usually overtaken by our own leave, whose answer tells more.
      return event.answer.kind === 'final' ? unchanged(row) : answeredLate(row, event, at);
    case 'left':
    case 'aborted':
    case 'room_started':
    case 'room_finished':
    case 'sfu_unreachable':
    case 'cancel_answered':
      return unchanged(row);
    default:
      return never(event);
  }
}

function cancelling(row: In<Cancelling>, event: Happening, at: Moment): Decision {
  switch (event.kind) {
    case 'due':
      return cancellingDue(row, at);
    case 'cancel_answered':
      return cancellingAnswered(row, event.answer, at);
    case 'left':
      return cancellingLeft(row, event, at);
    case 'snapshot':
      return cancellingSnapshot(row, event, at);
    case 'send_answered':
      return answeredLate(row, event, at);
    case 'restart_answered':
      // That the event is final is told, and explained, by the answer to our cancellation.
      return event.answer.kind === 'final' ? unchanged(row) : answeredLate(row, event, at);
    case 'joined':
    case 'aborted':
    case 'room_started':
    case 'room_finished':
    case 'sfu_unreachable':
      return unchanged(row);
    default:
      return never(event);
  }
}

/** An answer to a call that was made in an earlier state: what it says of the event itself still holds. */
function answeredLate(row: LiveDelegation, event: EventOf<'restart_answered' | 'send_answered'>, at: Moment): Decision {
  const { answer } = event;
  if (answer.kind === 'final') return end(row, answer.how === 'conflict' ? 'cancelled' : 'already-sent', at, { sin: falseLeave(row) });
  if (event.kind === 'send_answered') return answer.kind === 'ok' ? end(row, 'sent', at) : unchanged(row);
  const expiry = expiryAfter(row, event.askedAtMs, answer, at);
  if (expiry === row.expiry) return unchanged(row);
  return move(row, row.state.kind === 'settling' ? lookingBefore(expiry, row.state, row, at) : row.state, at, [], { expiry });
}

/** Who is waited for is looked for once more before the event runs out, and by a restart that is now later. */
function lookingBefore(expiry: LiveDelegation['expiry'], state: Settling, row: LiveDelegation, at: Moment): Settling {
  return state.failures > 0 ? state : { ...state, nextAskMs: nextLookMs({ ...row, expiry }, state.untilMs, at) };
}
