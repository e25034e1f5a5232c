// Makes what was committed survive a power cut: SQLite writes its log, this has the disk write it down. That is done beside the event loop
// and for everybody who waits at once, so a slow disk makes nobody wait but those who were promised something.
//
// A commit that is not synced yet is safe from everything that can happen to the process, its death included: the log is in the hands of
// the operating system. It is not with `synchronous = FULL`, where each commit stops the whole process for as long as the disk takes.
import { closeSync, fdatasync, openSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Cancel, Clock } from '../../clock.ts';
import { StoreUnavailable } from '../store.ts';
import { Place } from './place.ts';
import { Witness } from './witness.ts';

export interface LogSyncDeps {
  /** Of the database; null: it is in memory, and nothing has to be synced. */
  readonly path: string | null;
  readonly clock: Clock;
  /** Copies the whole log into the database, which is synced by that. @throws Error when it can't be done now. */
  readonly copyAll: () => void;
  readonly onSync: (ok: boolean, tookMs: number) => void;
  readonly sync?: (file: number) => Promise<void>;
}

/** In the pool of threads that Node has for such things; look-ups of names, which may hang for long, have at most half of them (libuv). */
const fdatasyncOf = promisify(fdatasync);
/** What was committed may be unsynced, and unknown to the witness, for so long. */
const NOTE_MS = 1_000;

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
      // The thread that copies the log writes to it as well, and is not counted.
      this.#written += 1;
      // Who waits for it is told of a failure, and the next commit tries again.
      this.all().then(
        () => this.#witness?.write(),
        () => {},
      );
    });
  }

  /** The disk failed, or its files are not in their place, and it has not been seen to work again: what is taken in now may not be kept either. */
  get distrusted(): boolean {
    return this.#distrusted;
  }

  /** @throws StoreUnavailable when something that was committed before is not on the disk. */
  all(): Promise<void> {
    if (this.#deps.path === null || this.#synced === this.#written) return Promise.resolve();
    if (this.#next !== null) return this.#next;
    const before = this.#running;
    if (before === null) return this.#run();
    const next = before.catch(() => {}).then(() => this.#run());
    this.#next = next;
    return next;
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
    const { path, clock, copyAll, onSync, sync = fdatasyncOf } = this.#deps;
    const upTo = this.#written;
    const startedMs = clock.nowMs();
    try {
      this.#place?.check();
      if (this.#distrusted) copyAll();
      else {
        this.#file ??= openSync(`${path}-wal`, 'r');
        await sync(this.#file);
      }
      this.#distrusted = false;
      this.#synced = Math.max(this.#synced, upTo);
      onSync(true, clock.nowMs() - startedMs);
    } catch (error) {
      this.#distrusted = true;
      onSync(false, clock.nowMs() - startedMs);
      throw new StoreUnavailable(error);
    }
  }

  /** Just after SQLite was closed, because the start is refused. */
  refused(): void {
    this.#witness?.refused();
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
