// What the engine needs of durable storage. Every implementation passes test/store/contract.ts, also after a kill.
//
// One rule carries the product: when `update` resolves, its writes survive the death of this process at any instruction, and when
// `durable` resolves after it, a power cut as well. So what was decided is acted upon after the one (to act twice does no harm, and the
// decision can be made again), and promised to somebody after the other. When either rejects, nothing was promised: an embedded store's
// `update` has then made none of its writes, one behind a network may have made all of them and lost the answer.
//
// Compare and set: a step decides on rows as the store believes them to be, and what it decides counts only if they still were so at
// the commit; if not, the step runs again on newer rows. So a step must not act, only decide. Of a room's rows, each is judged by
// itself: those that are written must have been as the step saw them, the others at the moment when they were read.
//
// Several processes may share a store. A claim is the right to act on a row, for a lease, as the row was at one revision. The lease
// is a fence as well: whoever acts asks `holds` right before, and a process whose lease has passed to another (it was stopped for too
// long) gets no, for good. That the same one has claimed the row again makes its older claim, which waits its turn, good again. Leases are measured by the store's own time, due times by the callers'.
import type { DelegationId, EventHash, HomeserverUrl, Identity, Owner, RoomName } from '../delegation/ids.ts';
import type { Delegation, State } from '../delegation/state.ts';

/**
 * Which rows a step is about: all of one room, so that stores can be split by rooms. `id` and `owner` include ended rows, the others only
 * live ones. Of an owner's newest rows (OWNER_SEARCHED) those that matter most: the OWNER_ROWS first of those that live, then of those that
 * are to be cancelled, then of those that ended, always the newest first. `events`: and whoever's live rows of any of these.
 */
export type Where =
  | { readonly by: 'id'; readonly room: RoomName; readonly id: DelegationId }
  | { readonly by: 'owner'; readonly room: RoomName; readonly owner: Owner; readonly events?: readonly EventHash[] }
  | { readonly by: 'watched'; readonly room: RoomName; readonly identity: Identity; readonly part: RoomPart }
  | { readonly by: 'room'; readonly room: RoomName; readonly part: RoomPart };

/**
 * Where a part of a room, or of those that watch an identity in it, begins, in words of the store that said so (`Updated`). A part has a
 * bounded number of rows, however many there are: nobody knows how many one user makes. Whoever lives from the first part to the last is in
 * one of them; a row may be in two.
 */
export type RoomPart = string & { readonly _: unique symbol };
export const FIRST_PART = '' as RoomPart;

/** Rows were in a part before this one: a webhook about them is kept in mind, whatever has become of them meanwhile. */
export function isLaterPart(where: Where): boolean {
  return (where.by === 'room' || where.by === 'watched') && where.part !== FIRST_PART;
}

/** Cancellations may pile up while a homeserver is away, and must not crowd out the row that they made room for. */
export const OWNER_ROWS = 8;
/** A hand-over takes the place of its owner's last one, so what lives is among the newest. */
export const OWNER_SEARCHED = 64;

/** Names one webhook; the same key twice is the same webhook. */
export type OnceKey = string;

export interface Write {
  readonly row: Delegation;
  /** Over 0: the writer is about to act on this row; nobody else claims it for so long, or until it is released or written again. */
  readonly leaseMs: number;
}

/** Pure: what the rows become. */
export type Step<T> = (rows: readonly Delegation[]) => Change<T>;

/**
 * `now`: somebody waits for the commit. `soon`: nobody does, and what would be lost in a crash can be found out again; it may wait some
 * milliseconds for the company of other updates, and is found by whoever asks about its room meanwhile.
 */
export type Urgency = 'now' | 'soon';

export interface Change<T> {
  readonly writes: readonly Write[];
  readonly value: T;
}

/** The right to act on a row as it was at one revision; void as soon as the row is written again. */
export interface Claim {
  readonly id: DelegationId;
  readonly rev: number;
}

export interface Claimed {
  readonly row: Delegation;
  readonly claim: Claim;
}

export type Updated<T> =
  | {
      readonly kind: 'done';
      readonly value: T;
      readonly claims: ReadonlyMap<DelegationId, Claim>;
      /** After a part: where the next one begins; undefined: it was the last. */
      readonly next?: RoomPart | undefined;
    }
  /** The once key was known: if the step has run, nothing came of it. */
  | { readonly kind: 'duplicate' };

/** Homeservers that can't be called now; rows that would only wait for them are left unclaimed. */
export interface Excluded {
  readonly restarts: ReadonlySet<HomeserverUrl>;
  readonly leaves: ReadonlySet<HomeserverUrl>;
  /** All restarts are left unclaimed as well. */
  readonly allRestarts?: boolean;
  /** Everything but restarts is. */
  readonly others?: boolean;
}

/** Which restarts come first where more are due: those that are longest overdue, or those that have just come due. */
export type First = 'oldest' | 'newest';

/** What was found out of a homeserver that refuses calls when there are too many; calls in a ms, null: not known yet. */
export interface Limit {
  readonly perMs: number | null;
  readonly refusedAgoMs: number;
}

/** What may be forgotten. */
export interface Old {
  readonly endedBeforeMs: number;
  /** Of ended rows so many are kept at most, or about so many, however young. */
  readonly mostEnded: number;
  /** Once keys may be kept for some time more. */
  readonly onceBeforeMs: number;
  readonly limit: number;
}

/** So long nobody else restarts: short, for nobody does so if the one who should has died. */
export const RESERVED_MS = 1_500;

export interface Store {
  /**
   * Runs `step` on the rows and commits what it writes, rows of that room, as one. The once key is kept with the commit if there
   * were rows at all; of what is in parts, only with the last part: until then nobody has heard that all of it was done.
   * @throws StoreUnavailable when the commit was not made (disk full, read-only, gone): nothing was promised.
   */
  update<T>(where: Where, once: OnceKey | null, step: Step<T>, urgency?: Urgency): Promise<Updated<T>>;
  /**
   * Everything that has been committed until now is as safe as this store can make it, and so is what was read: others may have committed
   * it, and then have refused to promise it. With `room` only that room's is asked about.
   * @throws StoreUnavailable when it may not be: nothing may be promised, though it was committed.
   */
  durable(room?: RoomName): Promise<void>;
  /**
   * Due rows that nobody holds, each claimed for `leaseMs`: owed leaves first, then the longest overdue, but of restarts those that are to
   * be `first`. Where more are due, half of `limit` is for leaves, and half of the rest for restarts.
   */
  claimDue(nowMs: number, leaseMs: number, limit: number, excluded: Excluded, first?: First): Promise<readonly Claimed[]>;
  /**
   * Whether the claim still gives the right to act: not once the row was written by somebody else, or its lease has ended. An answer that is
   * `agoMs` old will do: then a store behind a network need not be asked twice in a row.
   */
  holds(claim: Claim, agoMs?: number): Promise<boolean>;
  /** Gives a claim back before its lease ends; a void claim is ignored. */
  release(claim: Claim): Promise<void>;
  /** The earliest due time after `afterMs`, null if there is none. */
  nextDueMs(afterMs: number): Promise<number | null>;
  /**
   * Rooms with live delegations whose slot (of SLOTS, by a hash of the name) lies in [from, to). With `notWithinMs`, those of a slot are
   * given to only one of several processes in so long a time: to whoever asks first.
   */
  rooms(fromSlot: number, toSlot: number, notWithinMs?: number): Promise<readonly RoomName[]>;
  /** The homeserver wants no calls before then: nobody who shares the store claims rows that would only wait for it. */
  pause(homeserver: HomeserverUrl, untilMs: number): Promise<void>;
  /**
   * The restarts with a homeserver that limits calls are one process's: several would spend what it lets through on too many, and keep nobody.
   * Now they are ours for RESERVED_MS, and true; false: they are somebody else's.
   */
  reserve(homeserver: HomeserverUrl, limit: Limit): Promise<boolean>;
  /** The homeservers whose restarts are somebody else's, and what they found out. */
  reservations(): Promise<ReadonlyMap<HomeserverUrl, Limit>>;
  count(): Promise<Readonly<Record<State['kind'], number>>>;
  /** Forgets what is old, at most `limit` ended rows and as many once keys, the oldest first; returns how many went. */
  purge(old: Old): Promise<number>;
  /** @throws StoreUnavailable when a write can't be made durable now. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** Rooms are spread over so many slots, so that a sweep can take them slice by slice. */
export const SLOTS = 1024;

/** The store can't keep a promise now. Callers get 503 and nothing was done; `cause` has the driver's error. */
export class StoreUnavailable extends Error {
  readonly code = 'STORE_UNAVAILABLE';
  /** Of the cause, for a line of the log. */
  readonly why: string;
  constructor(cause: unknown) {
    super('the store can not make a write durable now', { cause });
    this.why = cause instanceof Error ? cause.message || cause.name : String(cause);
  }
}

/** The data on disk can't be used by this program; it refuses to start rather than to forget. */
export class StoreUnusable extends Error {
  readonly code = 'STORE_UNUSABLE';
}

/** An update that was made. */
export type Done<T> = Extract<Updated<T>, { readonly kind: 'done' }>;

/** All that live in a room from now to the end of the reading, one part after the other. Rejects as `update` does. */
export async function readRoom(store: Pick<Store, 'update'>, room: RoomName): Promise<readonly Delegation[]> {
  const rows = new Map<DelegationId, Delegation>();
  for (let part: RoomPart | undefined = FIRST_PART; part !== undefined; ) {
    const { value, next }: Done<readonly Delegation[]> = await readRows(store, { by: 'room', room, part }, (found) => found);
    for (const row of value) rows.set(row.id, row);
    part = next;
  }
  return [...rows.values()];
}

/** What `of` makes of the rows; nothing is written. Rejects as `update` does. */
export async function readRows<T>(store: Pick<Store, 'update'>, where: Where, of: (rows: readonly Delegation[]) => T): Promise<Done<T>> {
  const read = await store.update(where, null, (rows) => ({ writes: [], value: of(rows) }));
  if (read.kind === 'duplicate') throw new Error('what has no once key is no duplicate');
  return read;
}
