// A store in memory that keeps the contract of src/store/store.ts, for simulated worlds: what was committed outlives every process that
// works on it, and several may. It is tried by the same contract tests as the real ones.
import type { Clock } from '../../src/clock.ts';
import { dueAtMs } from '../../src/delegation/decide.ts';
import { eventHashesOf } from '../../src/delegation/handles.ts';
import type { DelegationId, EventHash, HomeserverUrl, Identity, Owner, RoomName } from '../../src/delegation/ids.ts';
import type { Delegation, State } from '../../src/delegation/state.ts';
import { type Attendance, MOST_GIVEN, type Tracked } from '../../src/store/attendance.ts';
import { encode } from '../../src/store/codec.ts';
import { sharedOut } from '../../src/store/shares.ts';
import type { Sighting, Sightings } from '../../src/store/sightings.ts';
import { slotOf } from '../../src/store/slots.ts';
import {
  type Change,
  type Claim,
  type Claimed,
  type Excluded,
  type First,
  isLaterPart,
  type Limit,
  type Old,
  type OnceKey,
  OWNER_ROWS,
  OWNER_SEARCHED,
  RESERVED_MS,
  type RoomPart,
  type Store,
  StoreUnavailable,
  type Updated,
  type Where,
} from '../../src/store/store.ts';

interface Kept {
  readonly row: Delegation;
  readonly rev: number;
}

/** Few, so that rooms of a simulation have more than one part. */
const PART_ROWS = 2;
/** What a failover may lose. */
export const LONGEST_TAIL_MS = 1_000;
/** As long as Redis is told that a replica holds a row; the replica renews it while it lives (src/store/redis/leases.ts). */
const LONGEST_LEASE_MS = { owed: 1_500, other: 700 };
const RENEW_EVERY_MS = 250;

/** What is on disk. */
export class Disk {
  readonly rows = new Map<DelegationId, Kept>();
  /** No two writes give the same revision, whatever is taken back. */
  lastRev = 0;
  readonly once = new Map<OnceKey, number>();
  readonly tracked = new Map<string, Tracked>();
  readonly given = new Map<string, readonly Identity[]>();
  /** By the store's own time. */
  readonly sightings = new Map<RoomName, Sighting>();
  /** When the rooms of a slot were last given to somebody. */
  readonly givenAtMs = new Map<number, number>();
  /** Whose the restarts with a homeserver are. */
  readonly limits = new Map<
    HomeserverUrl,
    { readonly owner: ModelStore; readonly untilMs: number; readonly perMs: number | null; readonly refusedAtMs: number }
  >();
  /** Claims of a store with one process die with it; those of a shared one live here, by the store's own time. */
  readonly claims = new Map<DelegationId, { readonly rev: number; readonly untilMs: number }>();
  /** How the newest writes of a shared store are taken back. */
  readonly newest: { readonly atMs: number; readonly what: string; readonly undo: () => void }[] = [];

  /** A failover to a replica that had not received what was written since then; the rows that are now as they were before. */
  forget(sinceMs: number): ReadonlySet<string> {
    const forgotten = new Set<string>();
    for (let last = this.newest.at(-1); last !== undefined && last.atMs >= sinceMs; last = this.newest.at(-1)) {
      forgotten.add(last.what);
      last.undo();
      this.newest.pop();
    }
    this.claims.clear();
    return forgotten;
  }

  written(atMs: number, what: string, undo: () => void): void {
    this.newest.push({ atMs, what, undo });
    while ((this.newest[0]?.atMs ?? atMs) < atMs - LONGEST_TAIL_MS) this.newest.shift();
  }
}

/** What a process whose clock is ahead by `skewMs` hears of the others, as often as the store is there. */
export function createModelSightings(disk: Disk, skewMs = 0, isAway: () => boolean = () => false): Sightings {
  const away = () => Promise.reject(new StoreUnavailable('away'));
  return {
    tell: async (room, { askedAtMs, present }) => {
      if (isAway()) return away();
      disk.sightings.set(room, { askedAtMs: askedAtMs - skewMs, present });
    },
    last: async (room) => {
      if (isAway()) return away();
      const seen = disk.sightings.get(room);
      return seen === undefined ? null : { askedAtMs: seen.askedAtMs + skewMs, present: seen.present };
    },
  };
}

export interface ModelStoreOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  /** Told of each row that was committed. */
  readonly onWrite?: (row: Delegation) => void;
  readonly claims?: Disk['claims'];
}

export class ModelStore implements Store, Attendance {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #onWrite: (row: Delegation) => void;
  readonly #claims: Disk['claims'];
  /** Several processes work on it, each on what it was given; one alone is given everything. */
  readonly #shared: boolean;
  readonly #slots = new Map<RoomName, number>();
  /** What is held here, and until when at most. */
  readonly #ours = new Map<DelegationId, { readonly rev: number; readonly wantedUntilMs: number }>();
  #renews = false;
  #closed = false;

  constructor({ disk, clock, onWrite = () => {}, claims = new Map() }: ModelStoreOptions) {
    this.#disk = disk;
    this.#clock = clock;
    this.#onWrite = onWrite;
    this.#claims = claims;
    this.#shared = claims === disk.claims;
  }

  async update<T>(where: Where, once: OnceKey | null, step: (rows: readonly Delegation[]) => Change<T>): Promise<Updated<T>> {
    if (this.#closed) throw new StoreUnavailable('closed');
    const all = this.#find(where);
    const isPart = where.by === 'room' || where.by === 'watched';
    const found = isPart ? all.slice(0, PART_ROWS) : all;
    const next = found.length < all.length ? (found.at(-1)?.id as unknown as RoomPart) : undefined;
    if (once !== null && found.length > 0 && this.#disk.once.has(once)) return { kind: 'duplicate' };
    const { writes, value } = step(found);
    for (const { row } of writes) encode(row, null);
    if (once !== null && (found.length > 0 || isLaterPart(where)) && next === undefined) {
      this.#disk.once.set(once, this.#clock.nowMs());
      this.#disk.written(this.#clock.nowMs(), once, () => this.#disk.once.delete(once));
    }
    const claims = new Map<DelegationId, Claim>();
    for (const { row, leaseMs } of writes) {
      const before = this.#disk.rows.get(row.id);
      this.#disk.lastRev += 1;
      const rev = this.#disk.lastRev;
      this.#disk.rows.set(row.id, { row, rev });
      this.#disk.written(this.#clock.nowMs(), row.id, () =>
        before === undefined ? this.#disk.rows.delete(row.id) : this.#disk.rows.set(row.id, before),
      );
      if (leaseMs > 0) {
        this.#hold(row.id, rev, this.#clock.nowMs() + leaseMs);
        claims.set(row.id, { id: row.id, rev });
      } else this.#claims.delete(row.id);
      this.#onWrite(row);
    }
    return { kind: 'done', value, claims, next };
  }

  #find(where: Where): Delegation[] {
    const rows = [...this.#disk.rows.values()].map(({ row }) => row);
    const live = rows.filter(({ state }) => state.kind !== 'ended');
    const from = (part: string) => live.filter(({ id, room }) => room === where.room && id > part).sort((a, b) => (a.id < b.id ? -1 : 1));
    switch (where.by) {
      case 'id':
        return rows.filter(({ id, room }) => id === where.id && room === where.room);
      case 'owner':
        return rows
          .filter(({ owner, room }) => owner === where.owner && room === where.room)
          .slice(-OWNER_SEARCHED)
          .reverse()
          .sort(byNearness)
          .slice(0, OWNER_ROWS)
          .concat(live.filter((row) => row.room === where.room && row.owner !== where.owner && isOfAny(row, where.events)));
      case 'watched':
        return from(where.part).filter(({ identities }) => identities.includes(where.identity));
      case 'room':
        return from(where.part);
      default:
        return where satisfies never;
    }
  }

  async claimDue(nowMs: number, leaseMs: number, limit: number, excluded: Excluded, first: First = 'oldest'): Promise<readonly Claimed[]> {
    if (this.#closed) throw new StoreUnavailable('closed');
    const all = [...this.#disk.rows.values()]
      .filter(({ row, rev }) => {
        const dueMs = dueAtMs(row.state);
        return dueMs !== null && dueMs <= nowMs && !isExcluded(row, excluded) && !this.#isHeld(row.id, rev, nowMs);
      })
      .sort((a, b) => dueOf(a) - dueOf(b));
    const of = (...kinds: readonly State['kind'][]) => all.filter(({ row }) => kinds.includes(row.state.kind));
    const others = of('awaiting', 'settling', 'cancelling');
    const restarts = first === 'newest' ? of('connected').reverse() : of('connected');
    const due = sharedOut({ leaves: of('leaving'), restarts, others }, limit, dueOf);
    for (const { row, rev } of due) this.#hold(row.id, rev, nowMs + leaseMs);
    return due.map(({ row, rev }) => ({ row, claim: { id: row.id, rev } }));
  }

  /** A store of one process lets its claims die with it; of several, each renews short ones. */
  #hold(id: DelegationId, rev: number, wantedUntilMs: number): void {
    const untilMs = this.#shared ? Math.min(wantedUntilMs, this.#clock.nowMs() + this.#longestLeaseMs(id)) : wantedUntilMs;
    this.#claims.set(id, { rev, untilMs });
    if (!this.#shared) return;
    this.#ours.set(id, { rev, wantedUntilMs });
    if (!this.#renews) this.#renewLater();
  }

  #longestLeaseMs(id: DelegationId): number {
    const kind = this.#disk.rows.get(id)?.row.state.kind;
    return kind === 'leaving' || kind === 'cancelling' ? LONGEST_LEASE_MS.owed : LONGEST_LEASE_MS.other;
  }

  #renewLater(): void {
    this.#renews = true;
    this.#clock.after(RENEW_EVERY_MS, () => {
      this.#renews = false;
      const nowMs = this.#clock.nowMs();
      for (const [id, { rev, wantedUntilMs }] of this.#ours) {
        const isOurs = this.#claims.get(id)?.rev === rev && this.#isHeld(id, rev, nowMs) && wantedUntilMs > nowMs;
        if (isOurs) this.#claims.set(id, { rev, untilMs: Math.min(wantedUntilMs, nowMs + this.#longestLeaseMs(id)) });
        else this.#ours.delete(id);
      }
      if (this.#ours.size > 0) this.#renewLater();
    });
  }

  #isHeld(id: DelegationId, rev: number, nowMs: number): boolean {
    const claim = this.#claims.get(id);
    return claim !== undefined && claim.rev === rev && claim.untilMs > nowMs;
  }

  async holds({ id, rev }: Claim): Promise<boolean> {
    return this.#isHeld(id, rev, this.#clock.nowMs());
  }

  async release({ id, rev }: Claim): Promise<void> {
    if (this.#claims.get(id)?.rev === rev) this.#claims.delete(id);
    this.#ours.delete(id);
  }

  async nextDueMs(afterMs: number): Promise<number | null> {
    const later = [...this.#disk.rows.values()].map(dueOf).filter((dueMs) => dueMs > afterMs && dueMs !== Number.POSITIVE_INFINITY);
    return later.length === 0 ? null : Math.min(...later);
  }

  async rooms(fromSlot: number, toSlot: number, notWithinMs = 0): Promise<readonly RoomName[]> {
    const nowMs = this.#clock.nowMs();
    const { givenAtMs } = this.#disk;
    const live = [...this.#disk.rows.values()].filter(({ row }) => row.state.kind !== 'ended').map(({ row }) => row.room);
    const isFree = (slot: number): boolean => !this.#shared || nowMs - (givenAtMs.get(slot) ?? Number.NEGATIVE_INFINITY) >= notWithinMs;
    const given = [...new Set(live)].filter((room) => {
      const slot = this.#slotOf(room);
      return slot >= fromSlot && slot < toSlot && isFree(slot);
    });
    for (const room of given) givenAtMs.set(this.#slotOf(room), nowMs);
    return given;
  }

  #slotOf(room: RoomName): number {
    const slot = this.#slots.get(room) ?? slotOf(room);
    this.#slots.set(room, slot);
    return slot;
  }

  /** The simulation gives homeservers no pauses beyond what each process knows. */
  async pause(): Promise<void> {}

  async reserve(homeserver: HomeserverUrl, limit: Limit): Promise<boolean> {
    if (this.#closed) throw new StoreUnavailable('closed');
    const nowMs = this.#clock.nowMs();
    if (!this.#shared) return true;
    const before = this.#disk.limits.get(homeserver);
    if (before !== undefined && before.owner !== this && before.untilMs > nowMs) return false;
    const refusedAtMs = nowMs - limit.refusedAgoMs;
    this.#disk.limits.set(homeserver, { owner: this, untilMs: nowMs + RESERVED_MS, perMs: limit.perMs, refusedAtMs });
    return true;
  }

  async reservations(): Promise<ReadonlyMap<HomeserverUrl, Limit>> {
    if (this.#closed) throw new StoreUnavailable('closed');
    const nowMs = this.#clock.nowMs();
    const theirs = [...this.#disk.limits].filter(([, { owner, untilMs }]) => owner !== this && untilMs > nowMs);
    return new Map(theirs.map(([homeserver, { perMs, refusedAtMs }]) => [homeserver, { perMs, refusedAgoMs: nowMs - refusedAtMs }]));
  }

  async count(): Promise<Readonly<Record<State['kind'], number>>> {
    const counts = { awaiting: 0, connected: 0, settling: 0, leaving: 0, cancelling: 0, ended: 0 };
    for (const { row } of this.#disk.rows.values()) counts[row.state.kind] += 1;
    return counts;
  }

  async purge({ endedBeforeMs, mostEnded, onceBeforeMs, limit }: Old): Promise<number> {
    const { rows, once } = this.#disk;
    const ended = [...rows.values()]
      .flatMap(({ row }) => (row.state.kind === 'ended' ? [{ id: row.id, atMs: row.state.atMs }] : []))
      .sort((a, b) => a.atMs - b.atMs);
    const old = ended.filter(({ atMs }, nth) => atMs < endedBeforeMs || nth < ended.length - mostEnded).slice(0, limit);
    for (const { id } of old) rows.delete(id);
    const known = [...once].filter(([, atMs]) => atMs < onceBeforeMs).slice(0, limit);
    for (const [key] of known) once.delete(key);
    return old.length + known.length;
  }

  async track(participant: Tracked): Promise<void> {
    if (this.#closed) throw new StoreUnavailable('closed');
    this.#disk.tracked.set(keyOf(participant), participant);
  }

  async untrack(participant: Tracked): Promise<void> {
    const known = this.#disk.tracked.get(keyOf(participant));
    if (known?.grantedAtMs === participant.grantedAtMs) this.#disk.tracked.delete(keyOf(participant));
  }

  async trackedRooms(): Promise<readonly string[]> {
    return [...new Set([...this.#disk.tracked.values()].map(({ roomId }) => roomId))];
  }

  async trackedIn(roomId: string): Promise<readonly Tracked[]> {
    return [...this.#disk.tracked.values()].filter((one) => one.roomId === roomId);
  }

  async give(room: RoomName, owner: Owner, identity: Identity): Promise<void> {
    if (this.#closed) throw new StoreUnavailable('closed');
    const key = JSON.stringify([room, owner]);
    const before = this.#disk.given.get(key) ?? [];
    if (!before.includes(identity) && before.length < MOST_GIVEN) this.#disk.given.set(key, [...before, identity]);
  }

  async givenTo(room: RoomName, owner: Owner): Promise<readonly Identity[]> {
    if (this.#closed) throw new StoreUnavailable('closed');
    return this.#disk.given.get(JSON.stringify([room, owner])) ?? [];
  }

  async durable(): Promise<void> {}

  async ping(): Promise<void> {
    if (this.#closed) throw new StoreUnavailable('closed');
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}

const dueOf = ({ row }: Kept): number => dueAtMs(row.state) ?? Number.POSITIVE_INFINITY;
const keyOf = ({ roomId, room, identity }: Tracked): string => JSON.stringify([roomId, room, identity]);

const isOfAny = (row: Delegation, events: readonly EventHash[] = []): boolean => eventHashesOf(row).some((one) => events.includes(one));

/** Those that live first, cancellations after the others, then the newest that ended. */
function byNearness(a: Delegation, b: Delegation): number {
  const rank = ({ state }: Delegation): number => (state.kind === 'ended' ? 2 : state.kind === 'cancelling' ? 1 : 0);
  const endedMs = ({ state }: Delegation): number => (state.kind === 'ended' ? state.atMs : 0);
  return rank(a) - rank(b) || endedMs(b) - endedMs(a);
}

function isExcluded({ homeserver, state }: Delegation, { restarts, leaves, allRestarts = false, others = false }: Excluded): boolean {
  if (state.kind === 'connected') return allRestarts || restarts.has(homeserver);
  return others || ((state.kind === 'leaving' || state.kind === 'cancelling') && leaves.has(homeserver));
}
