// Why someone left decides what happens: LiveKit's reason → our cause, and cause → how long to wait for a return, what is owed,
// and whether the webhook's word is enough. The waits themselves are the operator's (Policy); this table says which one counts.
import type { Action, Cause, Policy } from './state.ts';

/** Every DisconnectReason of the LiveKit protocol by the name it has in webhooks, in the order of their numbers. */
const CAUSE_OF_REASON = {
  // Older servers and other senders leave the reason out; nothing says that the connection was lost.
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

/** The cause behind a webhook's reason, a name or its number; one that a newer LiveKit invents is weighed like an unknown one. */
export function causeOfReason(reason: string | number): Cause {
  const name = typeof reason === 'number' ? (REASONS[reason] ?? '') : reason;
  return Object.hasOwn(CAUSE_OF_REASON, name) ? CAUSE_OF_REASON[name as keyof typeof CAUSE_OF_REASON] : 'left';
}

interface Weight {
  readonly wait: keyof Policy['waitMs'] | null;
  readonly action: Action;
  /** The SFU's answer is needed before a leave is owed, whatever the wait. */
  readonly mustAsk: boolean;
}

const WEIGHTS: Record<Cause, Weight> = {
  left: { wait: 'left', action: 'leave', mustAsk: false },
  lost: { wait: 'lost', action: 'lost', mustAsk: false },
  // Somebody with authority ended it: nobody is waited for. But the news may be late, and the member back meanwhile: the SFU is asked.
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

export function waitMsOf(cause: Cause, policy: Policy): number {
  const { wait } = WEIGHTS[cause];
  return wait === null ? 0 : policy.waitMs[wait];
}

export function actionOf(cause: Cause): Action {
  return WEIGHTS[cause].action;
}

/** True: the operator wants no wait (0), so the webhook alone decides and the SFU is not asked. */
export function decidedAtOnce(cause: Cause, policy: Policy): boolean {
  return !WEIGHTS[cause].mustAsk && waitMsOf(cause, policy) === 0;
}
