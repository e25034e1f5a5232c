// Makes what was committed survive a power cut: SQLite writes its log, this has the disk write it down. That is done beside the event loop
// and for everybody who waits at once, so a slow disk makes nobody wait but those who were promised something; and now and then those who
// would commit (checkpoint.ts).
//
// A commit that is not synced yet is safe from everything that can happen to the process, its death included: the log is in the hands of
// the operating system. SQLite itself syncs nothing, for it would stop the whole process for as long as the disk takes.
import { closeSync, fdatasync, openSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Cancel, Clock } from '../../clock.ts';
import { StoreUnavailable } from '../store.ts';
import { bytesAt, HEADER_BYTES, headerAfter } from './log-format.ts';
import { Place } from './place.ts';
import { Witness } from './witness.ts';

export interface LogSyncDeps {
  /** Of the database; null: it is in memory, and nothing has to be synced. */
  readonly path: string | null;
  readonly clock: Clock;
  /** Copies the whole log into the database, which is synced by that. @throws Error when it can't be done now. */
  readonly copyAll: () => void;
  /** Told about once a second, while there are commits, that the disk has what was committed, in a log of about so many pages. */
  readonly onNoted?: (pages: number) => void;
  readonly onSync: (ok: boolean, tookMs: number) => void;
  readonly sync?: (file: number) => Promise<void>;
}

/** In the pool of threads that Node has for such things; look-ups of names, which may hang for long, have at most half of them (libuv). */
const fdatasyncOf = promisify(fdatasync);
/** What was committed may be unsynced, and unknown to the witness, for so long. */
const NOTE_MS = 1_000;
export const DISTRUSTED = 'the disk has failed to write down what was committed';

export class LogSync {
  readonly #deps: LogSyncDeps;
  #file: number | null = null;
  /** How many commits there were, and up to which of them the disk has all. */
  #written = 0;
  #synced = 0;
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;
  /** What a failed sync has left out may be left out by a later one that succeeds: the log can't be trusted any more. */
  #distrusted = false;
  readonly #witness: Witness | null;
  #place: Place | null = null;
  #stopNoting: Cancel | null = null;

  /**
   * Before SQLite touches anything.
   * @throws StoreUnusable when less is there than there has been.
   */
  constructor(deps: LogSyncDeps) {
    this.#deps = deps;
    this.#witness = deps.path === null ? null : Witness.question(deps.path);
  }

  /** SQLite has synced everything up to here by itself. */
  opened(): void {
    const { path } = this.#deps;
    if (path !== null) this.#place = new Place([path, `${path}-wal`]);
    this.#witness?.look();
    this.#witness?.write();
  }

  /** A transaction was committed that wrote something. What nobody waits for is synced soon as well, and only what is synced is noted. */
  wrote(): void {
    this.#written += 1;
    this.#stopNoting ??= this.#deps.clock.after(NOTE_MS, () => {
      this.#stopNoting = null;
      this.#witness?.look();
      // Who waits for it is told of a failure, and the next commit tries again.
      this.all().then(
        () => this.#note(),
        () => {},
      );
    });
  }

  #note(): void {
    this.#witness?.write();
    if (this.#witness !== null) this.#deps.onNoted?.(this.#witness.pages);
  }

  /** The disk failed, or its files are not in their place, and it has not been seen to work again: what is taken in now may not be kept either. */
  get distrusted(): boolean {
    return this.#distrusted;
  }

  /** @throws StoreUnavailable when something that was committed before is not on the disk. */
  all(): Promise<void> {
    if (this.#deps.path === null || (this.#synced === this.#written && !this.#distrusted)) return Promise.resolve();
    if (this.#next !== null) return this.#next;
    const before = this.#running;
    if (before === null) return this.#run();
    const next = before.catch(() => {}).then(() => this.#run());
    this.#next = next;
    return next;
  }

  /** The same, beside a sync that is under way already: for whom everybody waits. */
  async atOnce(): Promise<void> {
    if (this.#synced !== this.#written || this.#distrusted) await this.#sync();
    // Of two at once only one is told of a failure.
    if (this.#distrusted) throw new StoreUnavailable(DISTRUSTED);
  }

  #run(): Promise<void> {
    this.#next = null;
    const running = this.#sync().finally(() => {
      this.#running = null;
    });
    this.#running = running;
    return running;
  }

  async #sync(): Promise<void> {
    const upTo = this.#written;
    await this.#believed(async () => {
      this.#place?.check();
      if (!this.#distrusted) return this.#writtenDown(this.#log());
      this.#deps.copyAll();
      this.#distrusted = false;
    });
    this.#synced = Math.max(this.#synced, upTo);
  }

  /** Has the disk write the database down as well. @throws StoreUnavailable when it has not: nothing more is taken in then. */
  database(file: number): Promise<void> {
    return this.#believed(() => this.#writtenDown(file));
  }

  /**
   * All of the log is in the database, on the disk: whatever comes next is written over it. Its header goes first. With the older one before
   * some newer pages, a power cut could bring the beginning of the older log back, and with it what pages once were.
   * @throws StoreUnavailable when nothing may be written over it yet.
   */
  emptied(): Promise<void> {
    return this.#believed(() => {
      const log = this.#log();
      writeSync(log, headerAfter(bytesAt(log, 0, HEADER_BYTES)), 0, HEADER_BYTES, 0);
      return this.#writtenDown(log);
    });
  }

  #log(): number {
    this.#file ??= openSync(`${this.#deps.path}-wal`, 'r+');
    return this.#file;
  }

  #writtenDown(file: number): Promise<void> {
    const { sync = fdatasyncOf } = this.#deps;
    return sync(file);
  }

  async #believed(work: () => Promise<void>): Promise<void> {
    const { clock, onSync } = this.#deps;
    const startedMs = clock.nowMs();
    try {
      await work();
      onSync(true, clock.nowMs() - startedMs);
    } catch (error) {
      this.#distrusted = true;
      onSync(false, clock.nowMs() - startedMs);
      throw new StoreUnavailable(error);
    }
  }

  /** Just before SQLite copies the log into the database, and syncs both. */
  async close(): Promise<void> {
    this.#stopNoting?.();
    await this.all().catch(() => {});
    this.#witness?.close();
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }
}
