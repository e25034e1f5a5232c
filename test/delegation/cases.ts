// One row for each situation and one event for each thing that can happen: their product is the table that decide.test.ts holds.
import type {
  DelayId,
  DelegationId,
  FutureToken,
  HomeserverUrl,
  Identity,
  Owner,
  RoomName,
  RoomSid,
  Sid,
} from '../../src/delegation/ids.ts';
import type {
  Answer,
  Departure,
  Event,
  Handles,
  Leaving,
  LiveDelegation,
  LiveState,
  Policy,
  Seen,
  Session,
} from '../../src/delegation/state.ts';

export const NOW = 1_000_000_000;
export const ME = '@me:example.org:PHONE' as Identity;
export const ROOM = 'room' as RoomName;
const A = 'PA_a' as Sid;
const B = 'PA_b' as Sid;
const OLD = 'PA_old' as Sid;
const ROOM_A = 'RM_a' as RoomSid;
const ROOM_B = 'RM_b' as RoomSid;

export const POLICY: Policy = {
  waitMs: { left: 1_000, lost: 1_000, replaced: 1_000, sfuDown: 15_000, aborted: 30_000, missing: 4_000 },
  connectTimeoutMs: 300_000,
  presenceIntervalMs: 30_000,
};

export const DELAY: Handles = { kind: 'delay', delayId: 'delay-id' as DelayId };
const token = (name: string) => name as FutureToken;
export const GROUP: Handles = {
  kind: 'futures',
  leave: { send: token('leave-send'), refresh: null, cancel: token('leave-cancel') },
  lost: { send: token('lost-send'), refresh: token('lost-refresh'), cancel: token('lost-cancel') },
};

const session = (sid: Sid, joinedAtMs: number, established = true): Session => ({
  identity: ME,
  sid,
  joinedAtMs,
  roomSid: ROOM_A,
  established,
});
/** Session A joined 60 s ago; B, its successor, half a second ago. */
const inA = session(A, NOW - 60_000);
const byWebhook: Departure = { cause: 'left', atMs: NOW - 200, fence: A, certain: true };
const byList: Departure = { cause: 'missing', atMs: NOW - 200, fence: null, certain: false };

/** A delegation of 100 s, handed over 61 s ago, in the given state; its event was restarted when A was seen. */
export function rowIn(state: LiveState, handles: Handles = DELAY): LiveDelegation {
  return {
    id: 'dg_0123456789012345678901' as DelegationId,
    owner: 'owner' as Owner,
    room: ROOM,
    identities: [ME],
    homeserver: 'https://hs.example.org' as HomeserverUrl,
    userId: null,
    handles,
    handlesHash: 'hash',
    delayMs: 100_000,
    createdAtMs: NOW - 61_000,
    expiry: { earliestMs: NOW + 40_000, latestMs: NOW + 40_010 },
    history: [],
    state,
  };
}

const awaiting = {
  kind: 'awaiting',
  connectByMs: NOW + 39_000,
  nextAskMs: NOW + 39_000,
  failures: 0,
  seenAbsent: true,
  departed: null,
} as const;
const connected = {
  kind: 'connected',
  session: inA,
  seenAtMs: NOW - 1_000,
  restartDueMs: NOW + 20_000,
  failures: 0,
  attempted: null,
} as const;
const settling = {
  kind: 'settling',
  session: inA,
  departure: byWebhook,
  untilMs: NOW + 800,
  nextAskMs: NOW + 800,
  failures: 0,
  attempted: null,
} as const;
const leaving: Leaving = {
  kind: 'leaving',
  action: 'leave',
  departure: byWebhook,
  session: inA,
  onTimeUntilMs: NOW + 1_800,
  confirmedAtMs: NOW - 200,
  nextTryMs: NOW + 500,
  attempts: 1,
  last: 'unsure',
};

export const ROWS = {
  'awaiting, not asked yet': { ...awaiting, nextAskMs: NOW, seenAbsent: false },
  'awaiting, nobody seen': awaiting,
  'awaiting, time is up': { ...awaiting, connectByMs: NOW, nextAskMs: NOW },
  'awaiting, A has left': { ...awaiting, nextAskMs: NOW, seenAbsent: false, departed: byWebhook },
  'connected, just seen': connected,
  'connected, restart due, fresh': { ...connected, restartDueMs: NOW, seenAtMs: NOW - 1_000 },
  'connected, restart due, stale': { ...connected, restartDueMs: NOW, seenAtMs: NOW - 60_500 },
  'connected, never established': { ...connected, session: session(A, NOW - 60_000, false) },
  'settling, A left': settling,
  'settling, wait over': { ...settling, untilMs: NOW, nextAskMs: NOW },
  'settling, A replaced': { ...settling, departure: { ...byWebhook, cause: 'replaced' }, untilMs: NOW, nextAskMs: NOW },
  'settling, A missing': { ...settling, departure: byList, untilMs: NOW, nextAskMs: NOW },
  leaving,
  'leaving, try due': { ...leaving, nextTryMs: NOW },
  'leaving, never connected': { ...leaving, session: null, departure: { ...byList, cause: 'never_connected' }, nextTryMs: NOW },
  cancelling: { kind: 'cancelling', sinceMs: NOW - 1_000, nextTryMs: NOW, attempts: 1 },
} as const satisfies Record<string, LiveState>;
export type RowName = keyof typeof ROWS;

const seen = (sid: Sid, joinedAtMs: number, active = true): Seen => ({ identity: ME, sid, joinedAtMs, active });
const list = (present: readonly Seen[], askedAtMs = NOW - 5, more: Partial<Extract<Event, { kind: 'snapshot' }>> = {}): Event => ({
  ...{
    kind: 'snapshot',
    askedAtMs,
    present,
    roomSid: undefined,
    afterRestart: false,
    answersSinceMs: 0,
    lastSeenMs: null,
    lookedFor: true,
  },
  ...more,
});
const joined = (sid: Sid | null, joinedAtMs: number | null, roomSid = ROOM_A): Event => ({
  kind: 'joined',
  identity: ME,
  sid,
  joinedAtMs,
  roomSid,
});
const left = (sid: Sid | null, joinedAtMs: number | null, cause: Departure['cause'] = 'left'): Event => ({
  kind: 'left',
  identity: ME,
  sid,
  joinedAtMs,
  roomSid: ROOM_A,
  cause,
});
const restarted = (answer: Answer): Event => ({ kind: 'restart_answered', askedAtMs: NOW - 10, answer });
const sent = (answer: Answer): Event => ({ kind: 'send_answered', action: 'leave', answer });

export const EVENTS = {
  due: { kind: 'due' },
  'A joined': joined(A, NOW - 60_000),
  'B joined': joined(B, NOW - 500),
  'an older session joined': joined(OLD, NOW - 90_000),
  'somebody joined, no SID': joined(null, null),
  'A left': left(A, NOW - 60_000),
  'A lost': left(A, NOW - 60_000, 'lost'),
  'A replaced': left(A, NOW - 60_000, 'replaced'),
  'A removed': left(A, NOW - 60_000, 'removed'),
  'B left': left(B, NOW - 500),
  'an older session left': left(OLD, NOW - 90_000),
  'an unknown session left': left(OLD, null),
  'left, no SID': left(null, null),
  'A aborted': { kind: 'aborted', identity: ME, sid: A },
  'B aborted': { kind: 'aborted', identity: ME, sid: B },
  'our room started': { kind: 'room_started', roomSid: ROOM_A },
  'the room started anew': { kind: 'room_started', roomSid: ROOM_B },
  'our room finished': { kind: 'room_finished', roomSid: ROOM_A },
  'another room finished': { kind: 'room_finished', roomSid: ROOM_B },
  'list: A': list([seen(A, NOW - 60_000)], NOW),
  'list: B': list([seen(B, NOW - 500)], NOW),
  'list: B joining': list([seen(B, NOW - 500, false)], NOW),
  'list: nobody': list([], NOW),
  'list: nobody, asked long ago': list([], NOW - 30_000),
  'list: nobody, after a restart': list([], NOW, { afterRestart: true }),
  'list: nobody, our room': list([], NOW, { roomSid: ROOM_A }),
  'list: nobody, another room': list([], NOW, { roomSid: ROOM_B }),
  unreachable: { kind: 'sfu_unreachable', askedAtMs: NOW },
  'restart: ok': restarted({ kind: 'ok' }),
  'restart: gone': restarted({ kind: 'final', how: 'gone' }),
  'restart: conflict': restarted({ kind: 'final', how: 'conflict' }),
  'restart: limited': restarted({ kind: 'limited', retryAfterMs: 2_000 }),
  'restart: refused': restarted({ kind: 'refused' }),
  'restart: failed': restarted({ kind: 'failed', reached: true }),
  'send: ok': sent({ kind: 'ok' }),
  'send: gone': sent({ kind: 'final', how: 'gone' }),
  'send: conflict': sent({ kind: 'final', how: 'conflict' }),
  'send: limited': sent({ kind: 'limited', retryAfterMs: 2_000 }),
  'send: refused': sent({ kind: 'refused' }),
  'send: failed': sent({ kind: 'failed', reached: false }),
  'cancel: ok': { kind: 'cancel_answered', answer: { kind: 'ok' } },
  'cancel: failed': { kind: 'cancel_answered', answer: { kind: 'failed', reached: false } },
  'known by another name': { kind: 'known_as', identities: ['me too' as Identity] },
  'known by its name': { kind: 'known_as', identities: [ME] },
  superseded: { kind: 'superseded' },
  'handed back': { kind: 'handed_back' },
} as const satisfies Record<string, Event>;
export type EventName = keyof typeof EVENTS;
