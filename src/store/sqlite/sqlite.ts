// The embedded store: one SQLite file, WAL, one process. Commits are grouped: all updates of one turn of the event loop go into one
// transaction. Its log is synced beside the event loop (log-sync.ts), for all that were committed meanwhile at once, and is copied into the
// database there as well (log-copy.ts).
//
// Claims live in memory. The file is locked by its one process, so a claim that dies with the process comes free exactly when it
// should, and claiming costs no write.
import type { DatabaseSync } from 'node:sqlite';
import type { Clock } from '../../clock.ts';
import { dueAtMs } from '../../delegation/decide.ts';
import type { DelegationId, HomeserverUrl, RoomName } from '../../delegation/ids.ts';
import type { State } from '../../delegation/state.ts';
import type { Attendance, MovableGiven } from '../attendance.ts';
import { SEALED, type Seal } from '../seal.ts';
import { sharedOut } from '../shares.ts';
import {
  type Claim,
  type Claimed,
  type Excluded,
  type First,
  isLaterPart,
  type Limit,
  type Old,
  type OnceKey,
  type Step,
  type Store,
  StoreUnavailable,
  StoreUnusable,
  type Updated,
  type Urgency,
  type Where,
} from '../store.ts';
import { createSqliteAttendance, purgeGiven } from './attendance.ts';
import { Claims } from './claims.ts';
import { openFile, prepareFile } from './file.ts';
import { LogCopy } from './log-copy.ts';
import { LogSync } from './log-sync.ts';
import { EVENTS_SINCE, migrate } from './migrations.ts';
import { Once } from './once.ts';
import { isOutage, isSqliteError } from './outage.ts';
import { SqliteRows } from './rows.ts';
import { prepareAll } from './statements.ts';
import { anew, unopened } from './unusable.ts';
import { type Pending, soonMsAfter, Waiting } from './waiting.ts';

export interface SqliteOptions {
  /** A file's path, or `:memory:`. */
  readonly path: string;
  readonly clock: Clock;
  readonly seal: Seal | null;
  /** Told of each commit: how many updates it carried and how long it took. */
  readonly onCommit?: (ok: boolean, updates: number, tookMs: number) => void;
  /** Told of each time that the disk was to write all of it down. */
  readonly onSync?: (ok: boolean, tookMs: number) => void;
  /** Told of a row that can't be read; it is kept and left alone. */
  readonly onUnreadable?: (id: string, why: Error) => void;
}

/** A row that is due, but for what it says: most that are found are claimed already. */
interface Due {
  readonly id: DelegationId;
  readonly rev: number;
  readonly due_at: number;
}

/**
 * Opens the store, creating or migrating it.
 * @throws StoreUnusable when the file is damaged, of a newer version, locked by another process, or sealed with another key.
 */
export function openSqliteStore(options: SqliteOptions): Store & Attendance & MovableGiven {
  try {
    return new SqliteStore(options);
  } catch (error) {
    throw error instanceof StoreUnusable ? error : unopened(options.path, error);
  }
}

class SqliteStore implements Store, Attendance, MovableGiven {
  readonly #db: DatabaseSync;
  readonly #options: SqliteOptions;
  readonly #sql: ReturnType<typeof prepareAll>;
  readonly #claims = new Claims();
  readonly #rows: SqliteRows;
  readonly #once: Once;
  readonly #waiting = new Waiting();
  #soonMs = soonMsAfter(0);
  #inTransaction = false;
  #closed = false;
  readonly #log: LogSync;
  /** Null: it is in memory. */
  readonly #copy: LogCopy | null;
  readonly track: Attendance['track'];
  readonly untrack: Attendance['untrack'];
  readonly trackedRooms: Attendance['trackedRooms'];
  readonly trackedIn: Attendance['trackedIn'];
  readonly give: Attendance['give'];
  readonly givenTo: Attendance['givenTo'];
  readonly allGiven: MovableGiven['allGiven'];
  readonly takeGiven: MovableGiven['takeGiven'];

  constructor(options: SqliteOptions) {
    this.#options = options;
    const path = options.path === ':memory:' ? null : options.path;
    const { clock, onSync = () => {} } = options;
    this.#log = new LogSync({ path, clock, copyAll: () => this.#copyLog(), onSync });
    this.#db = openFile(path);
    try {
      prepareFile(this.#db, options.path);
      const { before, commit } = migrate(this.#db);
      this.#sql = prepareAll(this.#db);
      this.#rows = new SqliteRows(this.#sql, options);
      this.#once = new Once(this.#sql);
      this.#sql.beat.run();
      this.#refuseForeignSeal();
      if (before < EVENTS_SINCE) this.#rows.nameEvents();
      commit();
      this.#log.opened();
      this.#copy = path === null ? null : new LogCopy(this.#db, path, clock, () => this.#flushAll());
      // All that was written up to here is synced, the folder's entries included; from here on we see to it.
      this.#db.exec('PRAGMA synchronous = NORMAL');
    } catch (error) {
      this.#db.close();
      this.#log.refused();
      throw error;
    }
    const commit = (plan: () => (() => void) | null) => this.#commitOne(plan);
    const attendance = createSqliteAttendance({ sql: this.#sql, commit, durable: () => this.durable(), nowMs: () => clock.nowMs() });
    ({ track: this.track, untrack: this.untrack, give: this.give, givenTo: this.givenTo } = attendance);
    ({ trackedRooms: this.trackedRooms, trackedIn: this.trackedIn } = attendance);
    ({ allGiven: this.allGiven, takeGiven: this.takeGiven } = attendance);
  }

  /** All sealed rows have one key, this one, or else none could be acted upon. A single row that is damaged keeps nobody from starting. */
  #refuseForeignSeal(): void {
    const { seal } = this.#options;
    const isThere = (prefix: string) => this.#sql.anySealed.get(prefix) !== undefined;
    if (!isThere(SEALED) || (seal !== null && isThere(`${SEALED}${seal.keyName}.`))) return;
    const why = seal === null ? 'they are sealed, and LASTWILL_STORE_KEY is not set' : 'they are sealed with another LASTWILL_STORE_KEY';
    const { path } = this.#options;
    throw new StoreUnusable(
      `the delegations in ${path} can not be read: ${why}. Set the key that they were sealed with; or, ${anew(path)}`,
    );
  }

  update<T>(where: Where, once: OnceKey | null, step: Step<T>, urgency: Urgency = 'now'): Promise<Updated<T>> {
    let result: Updated<T> | undefined;
    let leases: readonly { id: string; rev: number; untilMs: number; dueMs: number | null }[] = [];
    const plan = () => {
      const { rows: found, next } = this.#rows.find(where);
      if (once !== null && found.length > 0 && this.#once.knows(once, this.#options.clock.nowMs())) {
        result = { kind: 'duplicate' };
        return () => {};
      }
      const change = step(found.map(({ row }) => row));
      const nowMs = this.#options.clock.nowMs();
      // All are encoded before the first is written: a row that breaks an invariant takes its whole update out, and only that.
      const drafts = change.writes.map(({ row }) => this.#rows.draft(row, found.find((one) => one.row.id === row.id) ?? null));
      leases = change.writes.map(({ row, leaseMs }, nth) => {
        const rev = drafts[nth]?.rev ?? 0;
        return { id: row.id, rev, untilMs: leaseMs > 0 ? nowMs + leaseMs : 0, dueMs: dueAtMs(row.state) };
      });
      const held = leases.filter(({ untilMs }) => untilMs > 0);
      const claims = new Map(held.map(({ id, rev }) => [id as DelegationId, { id, rev } as Claim]));
      result = { kind: 'done', value: change.value, claims, next };
      return () => {
        const keeps = once !== null && (found.length > 0 || isLaterPart(where)) && next === undefined;
        if (!keeps && drafts.length === 0) return;
        this.#begin();
        if (keeps) this.#once.keep(once, nowMs);
        for (const draft of drafts) this.#rows.write(draft);
      };
    };
    const committed = () => {
      for (const { id, dueMs, ...held } of leases) {
        if (held.untilMs > 0) this.#claims.hold(id, { ...held, dueMs });
        else this.#claims.written(id, dueMs);
      }
    };
    return this.#enqueue(plan, { room: where.room, committed, urgency }).then(() => result as Updated<T>);
  }

  #begin(): void {
    if (this.#inTransaction) return;
    this.#sql.begin.run();
    this.#inTransaction = true;
  }

  #enqueue(plan: () => () => void, how: { room?: RoomName; committed?: () => void; urgency?: Urgency } = {}): Promise<void> {
    if (this.#closed || this.#waiting.isFull) {
      return Promise.reject(new StoreUnavailable(this.#closed ? 'closed' : 'too many updates are waiting'));
    }
    if (this.#log.distrusted) return Promise.reject(new StoreUnavailable('the disk has failed to write down what was committed'));
    const { room = null, committed = () => {}, urgency = 'now' } = how;
    const { clock } = this.#options;
    return new Promise((resolve, reject) => {
      if (!this.#waiting.add(urgency, { room, plan, committed, resolve, reject })) return;
      if (urgency === 'now') clock.endOfTurn(() => this.#flush('now'));
      else clock.after(this.#soonMs, () => this.#flush('soon'));
    });
  }

  #flushAll(): void {
    this.#flush('now');
    this.#flush('soon');
  }

  #flush(urgency: Urgency): void {
    if (this.#copy?.holds === true) return;
    this.#commit(this.#waiting.take(urgency));
  }

  /** One transaction for all of them. A step that throws takes only itself out, and before it wrote anything; a failing write takes all out. */
  #commit(batch: readonly Pending[]): void {
    const startedMs = this.#options.clock.nowMs();
    const told = (ok: boolean, updates: number) => this.#options.onCommit?.(ok, updates, this.#options.clock.nowMs() - startedMs);
    const waiting = new Set(batch);
    let wrote = false;
    try {
      for (const one of batch) {
        const write = this.#planned(one);
        if (write === null) waiting.delete(one);
        else write();
      }
      wrote = this.#inTransaction;
      if (wrote) this.#sql.commit.run();
      this.#inTransaction = false;
    } catch (error) {
      this.#rollBack();
      told(false, waiting.size);
      // One update that can never be written must not cost the others their commit.
      const alone = batch.length > 1 && !isOutage(error);
      for (const one of waiting) {
        if (alone) this.#commit([one]);
        else one.reject(new StoreUnavailable(error));
      }
      return;
    }
    if (wrote) this.#log.wrote();
    if (wrote) this.#soonMs = soonMsAfter(this.#options.clock.nowMs() - startedMs);
    for (const one of waiting) one.committed();
    for (const one of waiting) one.resolve();
    if (wrote) told(true, waiting.size);
    if (wrote) this.#copy?.wrote();
  }

  #copyLog(): void {
    const { busy } = this.#db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get() as { busy: number };
    if (busy !== 0) throw new Error('the log could not be copied into the database');
  }

  durable(): Promise<void> {
    return this.#log.all();
  }

  /** Null: its step threw, and its caller knows. */
  #planned(one: Pending): (() => void) | null {
    try {
      return one.plan();
    } catch (error) {
      if (isSqliteError(error)) throw error;
      one.reject(error as Error);
      return null;
    }
  }

  #rollBack(): void {
    this.#inTransaction = false;
    this.#rows.forget();
    try {
      this.#sql.rollback.run();
    } catch {
      // SQLite has rolled back by itself (disk full does that).
    }
  }

  async claimDue(nowMs: number, leaseMs: number, limit: number, excluded: Excluded, first: First = 'oldest'): Promise<readonly Claimed[]> {
    const claimed: Claimed[] = [];
    for (let full = true; full && claimed.length < limit; ) {
      const wanted = limit - claimed.length;
      const due = this.#due(nowMs, wanted, excluded, first);
      claimed.push(...due.flatMap((one) => this.#claim(one, nowMs + leaseMs) ?? []));
      full = due.length === wanted;
    }
    const { leaves, restarts, allRestarts = false, others = false } = excluded;
    const excludes = leaves.size + restarts.size > 0 || allRestarts || others;
    if (claimed.length < limit && !excludes) this.#claims.allClaimedUpTo(nowMs);
    return claimed;
  }

  #due(nowMs: number, limit: number, excluded: Excluded, first: First): readonly Due[] {
    const fromMs = this.#claims.searchFromMs(nowMs);
    // Those that are claimed already are looked at as well.
    const look = limit + this.#claims.size;
    const without = (homeservers: ReadonlySet<HomeserverUrl>): string => JSON.stringify([...homeservers]);
    const [leaves, restarts] = [without(excluded.leaves), without(excluded.restarts)];
    const free = (dues: unknown[]): Due[] => (dues as Due[]).filter(({ id, rev }) => !this.#claims.isHeld(id, rev, nowMs));
    const due = {
      leaves: excluded.others === true ? [] : free(this.#sql.dueLeaves.all(fromMs, nowMs, leaves, look)),
      restarts: excluded.allRestarts === true ? [] : free(this.#sql.dueRestarts[first].all(fromMs, nowMs, restarts, look)),
      others: excluded.others === true ? [] : free(this.#sql.dueOthers.all(fromMs, nowMs, leaves, look)),
    };
    return sharedOut(due, limit, ({ due_at: dueMs }) => dueMs);
  }

  /** Null: it can't be read, and is not looked at again before its lease ends. */
  #claim({ id, rev, due_at: dueMs }: Due, untilMs: number): Claimed | null {
    this.#claims.hold(id, { rev, untilMs, dueMs });
    const found = this.#rows.named(id);
    if (found === null) return null;
    this.#rows.keepAtHand(found);
    return { row: found.row, claim: { id, rev } };
  }

  async holds({ id, rev }: Claim): Promise<boolean> {
    return this.#claims.isHeld(id, rev, this.#options.clock.nowMs());
  }

  async release(claim: Claim): Promise<void> {
    this.#claims.release(claim);
  }

  async nextDueMs(afterMs: number): Promise<number | null> {
    return (this.#sql.nextDue.get(afterMs) as { due: number | null }).due;
  }

  async rooms(fromSlot: number, toSlot: number): Promise<readonly RoomName[]> {
    return (this.#sql.rooms.all(fromSlot, toSlot) as unknown as { room: RoomName }[]).map(({ room }) => room);
  }

  /** Nobody else has this file, and the caller knows it already. */
  async pause(): Promise<void> {}

  async reserve(): Promise<boolean> {
    return true;
  }

  async reservations(): Promise<ReadonlyMap<HomeserverUrl, Limit>> {
    return new Map();
  }

  async count(): Promise<Readonly<Record<State['kind'], number>>> {
    const counts = { awaiting: 0, connected: 0, settling: 0, leaving: 0, cancelling: 0, ended: 0 };
    for (const { kind, n } of this.#sql.count.all() as unknown as { kind: State['kind']; n: number }[]) counts[kind] = n;
    return counts;
  }

  async purge({ endedBeforeMs, mostEnded, onceBeforeMs, limit }: Old): Promise<number> {
    let gone = 0;
    await this.#enqueue(() => () => {
      this.#begin();
      gone = this.#rows.purge(endedBeforeMs, mostEnded, limit);
      gone += this.#once.purge(onceBeforeMs, limit);
      gone += purgeGiven(this.#sql, this.#options.clock.nowMs(), limit);
    });
    return gone;
  }

  /** What is written for one caller, in the transaction of this turn. */
  #commitOne(plan: () => (() => void) | null): Promise<void> {
    return this.#enqueue(() => {
      const write = plan();
      if (write === null) return () => {};
      return () => {
        this.#begin();
        write();
      };
    });
  }

  async ping(): Promise<void> {
    await this.durable();
    await this.#enqueue(() => () => {
      this.#begin();
      this.#sql.beat.run();
    });
    await this.durable();
  }

  async close(): Promise<void> {
    await this.#copy?.close();
    if (this.#closed) return;
    this.#flushAll();
    this.#closed = true;
    await this.#log.close();
    this.#db.close();
  }
}
