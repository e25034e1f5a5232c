// Why a participant left decides what happens: LiveKit's DisconnectReason → our cause, and cause → how long to wait for a return, what is
// owed, and whether the webhook alone is enough. How long each wait is, is the operator's setting (Policy).
import type { Action, Cause, Policy } from './state.ts';

/** Every DisconnectReason of the LiveKit protocol by the name it has in webhooks, in the order of their numbers. */
const CAUSE_OF_REASON = {
  // LiveKit up to 1.7 leaves the reason out: nothing says that the connection was lost.
  UNKNOWN_REASON: 'left',
  // A real goodbye, and for a moment also every full reconnect and page reload.
  CLIENT_INITIATED: 'left',
  DUPLICATE_IDENTITY: 'replaced',
  // Clients are about to reconnect, possibly to another node.
  SERVER_SHUTDOWN: 'sfu_down',
  PARTICIPANT_REMOVED: 'removed',
  ROOM_DELETED: 'room_deleted',
  STATE_MISMATCH: 'lost',
  JOIN_FAILURE: 'lost',
  MIGRATION: 'replaced',
  SIGNAL_CLOSE: 'lost',
  ROOM_CLOSED: 'room_deleted',
  USER_UNAVAILABLE: 'left',
  USER_REJECTED: 'left',
  SIP_TRUNK_FAILURE: 'lost',
  CONNECTION_TIMEOUT: 'lost',
  MEDIA_FAILURE: 'lost',
  AGENT_ERROR: 'lost',
} as const satisfies Record<string, Cause>;
const REASONS = Object.keys(CAUSE_OF_REASON);

/** The cause for a webhook's reason, given as name or number. A reason of a newer LiveKit counts as unknown. */
export function causeOfReason(reason: string | number): Cause {
  const name = typeof reason === 'number' ? (REASONS[reason] ?? '') : reason;
  return Object.hasOwn(CAUSE_OF_REASON, name) ? CAUSE_OF_REASON[name as keyof typeof CAUSE_OF_REASON] : 'left';
}

interface Weight {
  /** Which of the waits counts; null: none. */
  readonly wait: keyof Policy['waitMs'] | null;
  readonly action: Action;
  /** Whether the SFU has to be asked before a leave is owed, also with a wait of 0. */
  readonly mustAsk: boolean;
}

const WEIGHTS: Record<Cause, Weight> = {
  left: { wait: 'left', action: 'leave', mustAsk: false },
  lost: { wait: 'lost', action: 'lost', mustAsk: false },
  // Somebody with the right to has ended it, so there is no wait. But the webhook may be late, and the member back: the SFU is asked.
  removed: { wait: null, action: 'leave', mustAsk: true },
  room_deleted: { wait: null, action: 'leave', mustAsk: true },
  // Another session took over, so nothing is owed unless the SFU says that nobody is there.
  replaced: { wait: 'replaced', action: 'lost', mustAsk: true },
  sfu_down: { wait: 'sfuDown', action: 'lost', mustAsk: true },
  // Known from one list only; a second one must confirm it.
  missing: { wait: 'missing', action: 'lost', mustAsk: true },
  aborted: { wait: 'aborted', action: 'lost', mustAsk: true },
  never_connected: { wait: null, action: 'leave', mustAsk: true },
};

/** Another session has taken over, or the SFU has stopped: they are on their way back, for as long as that takes. */
export function isOnTheWayBack(cause: Cause): boolean {
  return cause === 'replaced' || cause === 'sfu_down';
}

/** How long to wait for a return, ms. */
export function waitMsOf(cause: Cause, policy: Policy): number {
  const { wait } = WEIGHTS[cause];
  return wait === null ? 0 : policy.waitMs[wait];
}

/** Which ending is owed, if the group has two. */
export function actionOf(cause: Cause): Action {
  return WEIGHTS[cause].action;
}

/** True: the operator has set this wait to 0, so the webhook alone decides, and the SFU is not asked. */
export function decidedAtOnce(cause: Cause, policy: Policy): boolean {
  return !WEIGHTS[cause].mustAsk && waitMsOf(cause, policy) === 0;
}
