// The vocabulary, as types. A delegation is one row in the store: its State, the Events that change it, and the Effects that follow.
//
// Glossary: a *participant* is a connection to the SFU, named by identity and SID; a *membership* is the Matrix event that says
// "I am in"; the *leave* is the delayed event that takes it back; a *restart* starts its delay anew; a *delegation* is a leave
// handed to us; *settling* is the moment between a departure and the decision what it means.
import type { DelayId, DelegationId, FutureToken, HomeserverUrl, Identity, Owner, RoomName, RoomSid, Sid, UserId } from './ids.ts';

/** The tokens of one future (MSC4140 of June 2024). Only a timeout future has a refresh token. */
export interface Future {
  readonly send: FutureToken;
  readonly refresh: FutureToken | null;
  readonly cancel: FutureToken | null;
}

/** What a client handed over: one delayed event, or a group of futures with up to two endings, of which at most one may be sent. */
export type Handles =
  | { readonly kind: 'delay'; readonly delayId: DelayId }
  | { readonly kind: 'futures'; readonly leave: Future; readonly lost: Future | null };

/** Which ending of a group is owed: the usual leave, or the one for a lost connection. */
export type Action = 'leave' | 'lost';

/** Why nobody is there any more; reasons.ts maps LiveKit's reasons to these and says what each waits for. */
export type Cause = 'left' | 'lost' | 'removed' | 'room_deleted' | 'replaced' | 'sfu_down' | 'missing' | 'aborted' | 'never_connected';

/** One connection of the participant. `established`: it, or one before it, was ACTIVE on the SFU. */
export interface Session {
  readonly identity: Identity;
  readonly sid: Sid | null;
  /**
   * Unix ms by the SFU's clock: to be compared with other values of that clock, and with ours only by `inOurTime` and roughly (CLOCKS_MS).
   * Null: unknown.
   */
  readonly joinedAtMs: number | null;
  readonly roomSid: RoomSid | null;
  readonly established: boolean;
  /** Only until this session is ACTIVE: why the one before it went, whose room `roomSid` still names. Rows of older versions lack it. */
  readonly after?: Cause;
}

/** A departure that is being weighed. */
export interface Departure {
  readonly cause: Cause;
  /** When we learnt of it, Unix ms. */
  readonly atMs: number;
  /**
   * The session that a webhook told to be gone, so that a list which still shows it is stale. Null: only a list has told of the departure.
   */
  readonly fence: Sid | null;
  /** True: if the SFU can't be asked, the webhook's word is enough. */
  readonly certain: boolean;
}

/** Handed over, and not seen on the SFU yet. Times here and below are Unix ms. */
export interface Awaiting {
  readonly kind: 'awaiting';
  /** When the time to connect is over, and the SFU is asked for the last time. */
  readonly connectByMs: number;
  readonly nextAskMs: number;
  /** Unanswered questions to the SFU in a row. */
  readonly failures: number;
  /** A list that was asked for after the hand-over showed nobody: departures of older sessions can't be this member's any more. */
  readonly seenAbsent: boolean;
  /** A departure that came before we knew whether its session was ours. */
  readonly departed: Departure | null;
  /** As in Connected, by a delegation of the same event before this one; usually there is none. */
  readonly attempted?: Action;
}
/** On the SFU, and kept alive by restarts. */
export interface Connected {
  readonly kind: 'connected';
  readonly session: Session;
  /** How old the newest evidence of presence is: when a list was asked for, or a webhook received. */
  readonly seenAtMs: number;
  /** When the next restart, or the next try of one, is wanted. */
  readonly restartDueMs: number;
  /** Failed restarts, or unanswered questions to the SFU, in a row. */
  readonly failures: number;
  /** The ending that was tried for an earlier departure, and may have been carried out: no other ending of the group may be sent. */
  readonly attempted: Action | null;
  /** When the event was handed over first, Unix ms, if that was by another delegation than this one: its session may have been seen since then. */
  readonly handedOverMs?: number;
}
/** A departure was seen; the member is waited for. */
export interface Settling {
  readonly kind: 'settling';
  readonly session: Session;
  readonly departure: Departure;
  /** When the wait is over. */
  readonly untilMs: number;
  readonly nextAskMs: number;
  /** Unanswered questions to the SFU in a row. */
  readonly failures: number;
  /** As in Connected. */
  readonly attempted: Action | null;
}
/** The leave is owed, and sent until the homeserver takes it. */
export interface Leaving {
  readonly kind: 'leaving';
  readonly action: Action;
  readonly departure: Departure;
  readonly session: Session | null;
  /** The leave is on time up to this moment; later it is a ghost. */
  readonly onTimeUntilMs: number;
  /** When the evidence was asked for that nobody is there. Before a leave is sent much later the SFU is asked again. */
  readonly confirmedAtMs: number;
  readonly nextTryMs: number;
  readonly attempts: number;
  readonly last: 'none' | 'unsure' | 'refused' | 'failed';
}
/** Superseded by a newer delegation: this event is cancelled, or it would take a member out who is there. */
export interface Cancelling {
  readonly kind: 'cancelling';
  /** When it was superseded. */
  readonly sinceMs: number;
  /** Who was there then, and has not been heard to be gone since. Rows of older versions lack it. */
  readonly there?: Session;
  readonly nextTryMs: number;
  readonly attempts: number;
}
export type Outcome = 'sent' | 'already-sent' | 'cancelled' | 'superseded' | 'expired' | 'handed-back' | 'rejected';
export interface Ended {
  readonly kind: 'ended';
  readonly outcome: Outcome;
  readonly cause: Cause | null;
  readonly atMs: number;
  /** Whether the leave came too late or was wrong, as far as we can know; null: neither. */
  readonly sin: 'ghost' | 'false-leave' | null;
  /** Ms from our learning of the departure to the homeserver's acceptance of the leave; null: there was no departure. */
  readonly tookMs: number | null;
}
export type LiveState = Awaiting | Connected | Settling | Leaving | Cancelling;
export type State = LiveState | Ended;

/** One line of what happened, kept to explain an outcome; holds no secret. */
export interface Step {
  readonly atMs: number;
  readonly event: Event['kind'] | 'delegated';
  readonly to: State['kind'];
  readonly detail: string | null;
}

/** What every delegation has, live or ended. */
export interface Common {
  readonly id: DelegationId;
  readonly owner: Owner;
  readonly room: RoomName;
  /** Every identity the member could have on the SFU; the first one seen binds it. */
  readonly identities: readonly Identity[];
  readonly homeserver: HomeserverUrl;
  /** The owner of the event; null: neither the client nor its identity told. Dialect D (homeserver/dialect.ts) needs it. */
  readonly userId: UserId | null;
  /** A hash of the handles, by which the same hand-over is recognised again. */
  readonly handlesHash: string;
  readonly delayMs: number;
  /** When it was asked for: its event was scheduled by then. */
  readonly createdAtMs: number;
  /**
   * When the homeserver sends the event by itself: the earliest counts from the request of the last restart, the latest from its answer (or
   * from a failed request that may have been carried out). Restarts are made before the earliest; nothing is given up before the latest.
   */
  readonly expiry: {
    readonly earliestMs: number;
    readonly latestMs: number;
    /** By all we know it was over while its member was on the SFU: if it is found to be, that was a false leave. */
    readonly ranOutUnder?: true;
  };
  readonly history: readonly Step[];
}
export interface LiveDelegation extends Common {
  readonly state: LiveState;
  readonly handles: Handles;
}
/** The handles are gone with the end: a finished delegation holds no secret. */
export interface EndedDelegation extends Common {
  readonly state: Ended;
  readonly handles: null;
}
export type Delegation = LiveDelegation | EndedDelegation;

/** A homeserver's answer about one delayed event, in whichever dialect of MSC4140, as one of few things that a decision can depend on. */
export type Answer =
  | { readonly kind: 'ok' }
  /** 404/410 (`gone`) or 409 (`conflict`): the event is final, nothing more can be done with it. */
  | { readonly kind: 'final'; readonly how: 'gone' | 'conflict' }
  /** 429; null: no hint was given. */
  | { readonly kind: 'limited'; readonly retryAfterMs: number | null }
  /** 401, 403, or 413 of what was scheduled, by the homeserver itself. */
  | { readonly kind: 'refused' }
  /** 5xx, refused, timed out, garbage. `reached`: the request may have been carried out all the same. */
  | { readonly kind: 'failed'; readonly reached: boolean };

/** One participant in a list of a room. */
export interface Seen {
  readonly identity: Identity;
  readonly sid: Sid;
  readonly joinedAtMs: number | null;
  /** ACTIVE, as opposed to JOINING or JOINED (signalling only); all three count as present. */
  readonly active: boolean;
}

export type Event =
  | { readonly kind: 'due' }
  | {
      readonly kind: 'joined';
      readonly identity: Identity;
      readonly sid: Sid | null;
      readonly joinedAtMs: number | null;
      readonly roomSid: RoomSid | null;
    }
  | {
      readonly kind: 'left';
      readonly identity: Identity;
      readonly sid: Sid | null;
      readonly joinedAtMs: number | null;
      readonly roomSid: RoomSid | null;
      readonly cause: Cause;
      /** When they left, by the SFU's clock in whole seconds: the webhook may come later. Undefined: not told. */
      readonly leftAtMs?: number;
    }
  | { readonly kind: 'aborted'; readonly identity: Identity; readonly sid: Sid | null }
  | { readonly kind: 'room_started'; readonly roomSid: RoomSid | null }
  | {
      readonly kind: 'room_finished';
      readonly roomSid: RoomSid | null;
      /** When it was closed, by the SFU's clock in whole seconds. Undefined: not told. */
      readonly closedAtMs?: number;
    }
  | {
      readonly kind: 'snapshot';
      /** When the SFU was asked: evidence is as old as the question. */
      readonly askedAtMs: number;
      /** Those of the delegation's identities that are in the room. */
      readonly present: readonly Seen[];
      /** Null: the room does not exist. Undefined: not learnt. */
      readonly roomSid: RoomSid | null | undefined;
      /** The SFU was away, or started this room anew, a moment ago: absence proves little. */
      readonly afterRestart: boolean;
      /** Since when the SFU has answered everything, as far as we know: at most since we began. */
      readonly answersSinceMs: number;
      /** When an earlier list last showed the bound session, which this one does not; null: not known. */
      readonly lastSeenMs: number | null;
      /** Whether the session was looked for on the nodes of the SFU as well, if it is not listed: a list may have been lost. */
      readonly lookedFor: boolean;
    }
  | { readonly kind: 'sfu_unreachable'; readonly askedAtMs: number }
  | { readonly kind: 'restart_answered'; readonly askedAtMs: number; readonly answer: Answer }
  | { readonly kind: 'send_answered'; readonly action: Action; readonly answer: Answer }
  | { readonly kind: 'cancel_answered'; readonly answer: Answer }
  /** The member may be on the SFU under these identities, too. */
  | { readonly kind: 'known_as'; readonly identities: readonly Identity[] }
  /** `isSameEvent`: by another word about the very same event, so that what is done to it would be done to the newer delegation. */
  | { readonly kind: 'superseded'; readonly isSameEvent?: boolean }
  | { readonly kind: 'handed_back' };
/** The events of these kinds. */
export type EventOf<K extends Event['kind']> = Extract<Event, { kind: K }>;

export type Effect =
  | { readonly kind: 'restart' }
  | { readonly kind: 'send'; readonly action: Action; readonly timeoutMs: number }
  | { readonly kind: 'cancel'; readonly timeoutMs: number }
  /**
   * Ask the SFU who is in the room: evidence asked for at or after `notBeforeMs` will do; it may be held back by about `batchMs` to share
   * one call. `whichRoom`: its SID as well, which takes another call where somebody is there.
   */
  | { readonly kind: 'check'; readonly notBeforeMs: number; readonly batchMs: number; readonly whichRoom: boolean };

/** The operator's settings that decisions depend on, all in ms. */
export interface Policy {
  readonly waitMs: {
    readonly left: number;
    readonly lost: number;
    readonly replaced: number;
    readonly sfuDown: number;
    readonly aborted: number;
    readonly missing: number;
  };
  readonly connectTimeoutMs: number;
  readonly presenceIntervalMs: number;
}
