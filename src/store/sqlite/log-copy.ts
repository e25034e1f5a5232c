// Copies the log into the database and begins it anew, in a thread of its own. SQLite by itself does it within a commit, and the whole
// process stands still for as long as the disk takes to write all of that down: on a slow one that costs whoever has little time left.
//
// Commits go on while most of it is copied. Without a pause it would never end: the log begins anew only when all of it is copied and
// nothing comes after. So for the little that is left commits wait, and nothing else does.
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import type { Cancel, Clock } from '../../clock.ts';
import { addressOf } from './file.ts';

/** Of the log, in pages. */
interface Length {
  readonly log: number;
  /** Of these in the database. */
  readonly checkpointed: number;
}

/** What the thread is told to do; it answers each, but for the last. */
type Order = 'copy' | 'renew' | 'close';

interface Answer {
  readonly resolve: () => void;
  readonly reject: (why: Error) => void;
}

/** Of 4 KiB. What is written again and again while the log grows is copied once. */
const LONG_PAGES = 4_000;
/** Copied while commits wait: some milliseconds, and three times what the disk takes for a sync. */
const SHORT_PAGES = 500;
/** Commits wait no longer, or nobody who is there could be looked after: the log stays long for this time. */
const LONGEST_HOLD_MS = 2_000;
/** Where more is written than is copied, commits wait in the end: 64 MB, of a disk that may be small. */
const MOST_PAGES = 16_000;
/** A thread takes some 10 MB, so where little is written there is none most of the time. */
const IDLE_MS = 10_000;
const MEMORY = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 };

export class LogCopy {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #onFree: () => void;
  readonly #length: StatementSync;
  readonly #here: StatementSync;
  #thread: Worker | null = null;
  #awaited: Answer | null = null;
  #running: Promise<void> | null = null;
  #holds = false;
  #long = LONG_PAGES;
  #stopWaiting: Cancel = () => {};
  #closed = false;

  /** Of an open database and its path; `onFree` is told when commits may go on. */
  constructor(db: DatabaseSync, path: string, clock: Clock, onFree: () => void) {
    this.#path = path;
    this.#clock = clock;
    this.#onFree = onFree;
    this.#length = db.prepare('PRAGMA wal_checkpoint(NOOP)');
    this.#here = db.prepare('PRAGMA wal_checkpoint(PASSIVE)');
  }

  /** Nothing may be committed. */
  get holds(): boolean {
    return this.#holds;
  }

  /** Something was committed. */
  wrote(): void {
    if (this.#closed || this.#running !== null || this.#pages().log < this.#long) return;
    this.#stopWaiting();
    void this.#goOn(this.#run()).then(() => {
      this.#stopWaiting = this.#clock.after(IDLE_MS, () => void this.#goOn(this.#endThread()));
    });
  }

  /** Nothing else is begun until it is done. */
  #goOn(running: Promise<void>): Promise<void> {
    this.#running = running.finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #run(): Promise<void> {
    try {
      // However long it is, once at least without a hold: a kill may have left it, or copies that failed.
      for (let first = true; this.#isWorthCopying(this.#pages(), first); first = false) await this.#ask('copy');
      this.#hold();
      await this.#ask('renew');
      this.#long = LONG_PAGES;
    } catch {
      // A disk that fails fails others too, who are told. Not again with each commit.
      this.#long = this.#pages().log + LONG_PAGES;
      if (this.#thread === null) this.#copyHere();
    } finally {
      this.#free();
    }
  }

  #hold(): void {
    this.#holds = true;
    this.#stopWaiting = this.#clock.after(LONGEST_HOLD_MS, () => this.#free());
  }

  #free(): void {
    this.#stopWaiting();
    if (!this.#holds) return;
    this.#holds = false;
    this.#onFree();
  }

  #pages(): Length {
    return this.#length.get() as unknown as Length;
  }

  #isWorthCopying({ log, checkpointed }: Length, isFirst: boolean): boolean {
    return log - checkpointed > SHORT_PAGES && (isFirst || log < MOST_PAGES);
  }

  #copyHere(): void {
    try {
      this.#here.get();
    } catch {
      // The disk: the next commit tells.
    }
  }

  /** @throws Error what SQLite said, or that there is no thread. */
  #ask(order: Order): Promise<void> {
    const thread = this.#thread ?? this.#begin();
    const answered = new Promise<void>((resolve, reject) => {
      this.#awaited = { resolve, reject };
    });
    // Whoever waits for a commit keeps the process going; a thread that has nothing to do does not.
    thread.ref();
    thread.postMessage(order);
    return answered.finally(() => thread.unref());
  }

  #begin(): Worker {
    const how = { workerData: addressOf(this.#path).href, resourceLimits: MEMORY, execArgv: [] };
    const thread = new Worker(new URL('./copy-thread.js', import.meta.url), how);
    const ended = (why: Error): void => {
      if (this.#thread !== thread) return;
      this.#thread = null;
      this.#awaited?.reject(why);
    };
    thread.on('error', ended).on('exit', () => ended(new Error('the thread has ended')));
    thread.on('message', (error: Error | null) => {
      if (error === null) this.#awaited?.resolve();
      else this.#awaited?.reject(error);
    });
    this.#thread = thread;
    return thread;
  }

  /** Just before the database is closed, which then copies all that is left. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
    this.#stopWaiting();
    await this.#endThread();
  }

  async #endThread(): Promise<void> {
    if (this.#thread !== null) await this.#ask('close').catch(() => {});
  }
}
