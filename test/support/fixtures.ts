// One builder for each thing that tests hand around. Numbers name things: the same number gives the same name, another one another.
import type { HandOver } from '../../src/delegation/decide.ts';
import {
  type DelayId,
  type DelegationId,
  delegationId,
  type FutureToken,
  type HomeserverUrl,
  type Identity,
  participantOwner,
  type RoomName,
  type RoomSid,
  type Sid,
  sha256,
} from '../../src/delegation/ids.ts';
import type {
  Departure,
  Ended,
  EndedDelegation,
  Future,
  Handles,
  LiveDelegation,
  LiveState,
  Policy,
  Session,
  State,
} from '../../src/delegation/state.ts';
import { START_MS } from './virtual-clock.ts';

export const HOMESERVER = 'https://matrix.example.org' as HomeserverUrl;
export const DELAY_MS = 10_000;

export const room = (n = 1): RoomName => `room-${n}` as RoomName;
export const identity = (n = 1): Identity => `identity-${n}` as Identity;
export const sid = (n = 1): Sid => `PA_${n}` as Sid;
export const idOf = (n = 1): DelegationId => {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32BE(n, 12);
  return delegationId(bytes);
};

/** The waits are those of the defaults, but no two alike. */
export function policy(over: Partial<Policy> = {}): Policy {
  return {
    waitMs: { left: 1_000, lost: 1_100, replaced: 1_200, sfuDown: 15_000, aborted: 30_000, missing: 4_000, ...over.waitMs },
    connectTimeoutMs: over.connectTimeoutMs ?? 300_000,
    presenceIntervalMs: over.presenceIntervalMs ?? 30_000,
  };
}

export function delayHandles(n = 1): Handles {
  return { kind: 'delay', delayId: `delay-secret-${n}` as DelayId };
}

export function futureHandles(n = 1, endings: { readonly lost: boolean } = { lost: true }): Handles {
  return { kind: 'futures', leave: future(`leave-${n}`), lost: endings.lost ? { ...future(`lost-${n}`), refresh: null } : null };
}

function future(name: string): Future {
  const token = (what: string) => `${what}-secret-${name}` as FutureToken;
  return { send: token('send'), refresh: token('refresh'), cancel: token('cancel') };
}

export function handOver(n = 1, over: Partial<HandOver> = {}): HandOver {
  const handles = over.handles ?? delayHandles(n);
  const [inRoom, identities] = [over.room ?? room(n), over.identities ?? [identity(n)]];
  return {
    id: idOf(n),
    owner: participantOwner(inRoom, identities[0] ?? identity(n)),
    room: inRoom,
    identities,
    homeserver: HOMESERVER,
    userId: null,
    handles,
    handlesHash: sha256(JSON.stringify(handles)),
    delayMs: DELAY_MS,
    ...over,
  };
}

export function session(n = 1, over: Partial<Session> = {}): Session {
  return { identity: identity(n), sid: sid(n), joinedAtMs: START_MS, roomSid: `RM_${n}` as RoomSid, established: true, ...over };
}

export function departure(n = 1, over: Partial<Departure> = {}): Departure {
  return { cause: 'left', atMs: START_MS, fence: sid(n), certain: true, ...over };
}

type StateOf<K extends State['kind']> = Extract<State, { kind: K }>;

/** A state of each kind, due at `dueMs`. */
const STATES: { readonly [K in LiveState['kind']]: (n: number, dueMs: number) => StateOf<K> } = {
  awaiting: (_n, dueMs) => ({ kind: 'awaiting', connectByMs: dueMs, nextAskMs: dueMs, failures: 0, seenAbsent: false, departed: null }),
  connected: (n, dueMs) => ({
    kind: 'connected',
    session: session(n),
    seenAtMs: START_MS,
    restartDueMs: dueMs,
    failures: 0,
    attempted: null,
  }),
  settling: (n, dueMs) => ({
    kind: 'settling',
    session: session(n),
    departure: departure(n),
    untilMs: dueMs,
    nextAskMs: dueMs,
    failures: 0,
    attempted: null,
  }),
  leaving: (n, dueMs) => ({
    kind: 'leaving',
    action: 'leave',
    departure: departure(n),
    session: session(n),
    onTimeUntilMs: START_MS + 2_000,
    confirmedAtMs: START_MS,
    nextTryMs: dueMs,
    attempts: 0,
    last: 'none',
  }),
  cancelling: (_n, dueMs) => ({ kind: 'cancelling', sinceMs: START_MS, nextTryMs: dueMs, attempts: 0 }),
};

export const LIVE_KINDS = Object.keys(STATES) as LiveState['kind'][];

export interface RowOptions {
  readonly kind?: LiveState['kind'];
  readonly dueMs?: number;
  readonly over?: Partial<HandOver>;
}

/** A live row; `awaiting` unless another kind is named. */
export function row(n = 1, { kind = 'awaiting', dueMs = START_MS, over = {} }: RowOptions = {}): LiveDelegation {
  const expiry = { earliestMs: START_MS + DELAY_MS, latestMs: START_MS + DELAY_MS };
  const history = [{ atMs: START_MS, event: 'delegated', to: 'awaiting', detail: null }] as const;
  return { ...handOver(n, over), createdAtMs: START_MS, expiry, history, state: STATES[kind](n, dueMs) };
}

export function ended(before: LiveDelegation, over: Partial<Ended> = {}): EndedDelegation {
  const state: Ended = { kind: 'ended', outcome: 'sent', cause: 'left', atMs: START_MS, sin: null, tookMs: 1_000, ...over };
  return { ...before, state, handles: null };
}
