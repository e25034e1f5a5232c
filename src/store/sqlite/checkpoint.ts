// Copies the log into the database when it has become long, so that it can be begun anew. SQLite would do so within a commit, and stop the
// whole process for as long as the disk takes to write down both. Here it copies only, which takes some milliseconds; the disk is waited for
// beside the event loop, and meanwhile nothing but commits is held back.
//
// A power cut may come at any moment, and the disk may have written anything that it was given since it last said so. Hence the order: the
// log is on the disk before a page of it is copied, the database before the log is declared empty, and that before anything is written
// over the log. Commits are held back all that time, for SQLite begins the log anew with the first one after it has copied all.
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { pagesOf, soundFrames } from './log-format.ts';
import type { LogSync } from './log-sync.ts';

export interface CheckpointDeps {
  readonly path: string;
  readonly db: DatabaseSync;
  readonly log: LogSync;
  /** A commit of one row. */
  readonly beat: StatementSync;
  /** Commits may be made again; or, with an error, those that wait may not: nothing of them was written. */
  readonly onEnd: (failed: unknown) => void;
}

/** Of the log; each is read again at a start after a crash. */
const LONG_PAGES = 4_000;

export class Checkpoint {
  readonly #deps: CheckpointDeps;
  /** Closed after SQLite has closed its own: with the first of a process that is closed, all of its locks on a file are gone (POSIX). */
  readonly #database: number;
  #running: Promise<void> | null = null;
  #copied = false;
  /** So many pages of the log are in the database, and the disk may lack them there. SQLite does not know that, and would not copy them again. */
  #unsure = 0;
  #stopped = false;

  constructor(deps: CheckpointDeps) {
    this.#deps = deps;
    this.#database = openSync(deps.path, 'r+');
  }

  /** No commit may be made now. */
  get holds(): boolean {
    return this.#running !== null;
  }

  /** The log has come so far, and the disk has it. */
  noted(pages: number): void {
    if (pages < LONG_PAGES || this.#stopped || this.#running !== null) return;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    const { log, onEnd } = this.#deps;
    let failed: unknown = null;
    try {
      // What was committed since it was noted.
      await log.atOnce();
      this.#unsure = this.#copy('PASSIVE');
      this.#copied = true;
      await log.database(this.#database);
      this.#unsure = 0;
      await log.emptied();
    } catch (error) {
      // What can't be copied stays in the log, which goes on, and is copied another time.
      if (this.#copied) failed = error;
    }
    this.#copied = false;
    this.#running = null;
    onEnd(failed);
  }

  /** How many pages there are in the log; all of them are in the database now, with PASSIVE as far as the operating system is concerned. */
  #copy(mode: 'PASSIVE' | 'TRUNCATE'): number {
    const { busy, log, checkpointed } = this.#deps.db.prepare(`PRAGMA wal_checkpoint(${mode})`).get() as Record<string, number>;
    if (busy !== 0 || log === undefined || log !== checkpointed) throw new Error('the log could not be copied into the database');
    return log;
  }

  /**
   * For a disk that has failed: copies the log and has it all written down, and stops the process meanwhile.
   * @throws Error when it can't be done now.
   */
  mend(): void {
    const { db, beat } = this.#deps;
    if (this.#copied) throw new Error('the log is being copied into the database');
    db.exec('PRAGMA synchronous = FULL');
    try {
      if (this.#unsure > 0) this.#copyAgain();
      this.#copy('TRUNCATE');
      // The header of the next log is on the disk before anything is behind it.
      beat.run();
    } finally {
      db.exec('PRAGMA synchronous = OFF');
    }
  }

  /** A disk tells of a failure once, and then may hold for written what it has dropped: all of it is written again. */
  #copyAgain(): void {
    const log = readFileSync(`${this.#deps.path}-wal`);
    if (soundFrames(log) < this.#unsure) throw new Error('the log is damaged, and was not copied into the database');
    for (const { number, bytes } of pagesOf(log, this.#unsure)) {
      writeSync(this.#database, bytes, 0, bytes.length, (number - 1) * bytes.length);
    }
    fsyncSync(this.#database);
    this.#unsure = 0;
  }

  /** Begins no other one; resolves when this one has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  /** SQLite copies the rest, has it all written down, and removes the log. */
  close(): void {
    const { db, path } = this.#deps;
    const [log, kept] = [`${path}-wal`, `${path}-wal-kept`];
    const isNeeded = this.#unsure > 0;
    if (isNeeded) linkSync(log, kept);
    db.exec('PRAGMA synchronous = FULL');
    db.close();
    if (isNeeded) renameSync(kept, log);
    closeSync(this.#database);
  }
}
