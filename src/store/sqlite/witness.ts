// SQLite believes a log that was cut short or deleted: what is missing was never there, and the store comes up older, or empty. So beside
// it stands a witness of how far the log has surely come, and whoever finds less than that refuses to start rather than to forget.
//
// The witness is written about once a second and never waited for: it may know less than the log, and never more than the disk has.
import { closeSync, existsSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { StoreUnusable } from '../store.ts';
import { bytesAt, frameBytesOf, type Generation, generationOf, HEADER_BYTES, lastWhole, soundFrames } from './log-format.ts';

interface Log extends Generation {
  /** Up to the last whole transaction. */
  readonly frames: number;
}
/** Null: closed in order, all is in the database. */
type Testimony = Log | null;

export class Witness {
  readonly #path: string;
  #file: number | null = null;
  #log: number | null = null;
  #known: Log = { sequence: -1, salt: '', frames: 0 };
  #pages = 0;
  #written = '';
  #closed = false;

  private constructor(path: string) {
    this.#path = path;
  }

  /**
   * Before SQLite touches anything.
   * @throws StoreUnusable when less is there than there has been.
   */
  static question(path: string): Witness {
    const loss = lossOf(path, read(`${path}-witness`));
    if (loss === null) return new Witness(path);
    throw new StoreUnusable(
      `the store ${path} has lost delegations that were promised: ${loss}. Bring the missing file back, or the whole folder from a backup. What is not there any more is left to the homeservers' own timers; to go on with what is left, remove ${path}-witness`,
    );
  }

  /** Looks how far the log has come; what is found may be written down once it is synced. */
  look(): void {
    try {
      this.#follow();
    } catch {
      // The next time.
    }
  }

  /** How long the log was at the last look. */
  get pages(): number {
    return this.#pages;
  }

  /** Notes what was found at the last look. A disk that can't take it is told of by others. */
  write(): void {
    if (this.#closed || this.#known.sequence < 0) return;
    try {
      this.#write(this.#known);
    } catch {
      // The next time.
    }
  }

  /** Just before the log is copied into the database and removed. */
  close(): void {
    this.#closed = true;
    try {
      this.#write(null);
    } catch {
      // It then knows less than there is, which is no loss.
    }
    for (const file of [this.#log, this.#file]) if (file !== null) closeSync(file);
  }

  #follow(): void {
    this.#log ??= openSync(`${this.#path}-wal`, 'r');
    const header = bytesAt(this.#log, 0, HEADER_BYTES);
    const generation = generationOf(header);
    if (generation === null) return;
    const same = generation.salt === this.#known.salt && generation.sequence === this.#known.sequence;
    this.#pages = lastWhole(this.#log, generation.salt, frameBytesOf(header), same ? this.#known.frames : 0);
    // Of a generation that is only announced SQLite will make another.
    if (this.#pages > 0) this.#known = { ...generation, frames: this.#pages };
  }

  #write(testimony: Testimony): void {
    const text = `${JSON.stringify(testimony)}\n`;
    if (text === this.#written) return;
    const name = `${this.#path}-witness`;
    this.#file ??= openSync(name, existsSync(name) ? 'r+' : 'w+', 0o600);
    writeSync(this.#file, text, 0);
    ftruncateSync(this.#file, text.length);
    this.#written = text;
  }
}

/** Undefined: there is none, or a power cut took it before it was whole. */
function read(path: string): Testimony | undefined {
  try {
    const found = JSON.parse(readFileSync(path, 'utf8')) as Testimony;
    return found === null || Number.isInteger(found.frames) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** Null: all is there that the witness knows of. */
function lossOf(path: string, testimony: Testimony | undefined): string | null {
  if (testimony === undefined) return null;
  if (!existsSync(path) || (statSync(path).size === 0 && testimony === null)) return 'the database file is missing or empty';
  if (testimony === null) return null;
  const name = `${path}-wal`;
  const log = existsSync(name) ? readFileSync(name) : Buffer.alloc(0);
  const generation = generationOf(log);
  if (generation === null || generation.sequence < testimony.sequence) return `its log ${name} is missing, damaged or an older one`;
  if (generation.sequence > testimony.sequence) return null;
  if (generation.salt !== testimony.salt) return `its log ${name} is another one`;
  const frames = soundFrames(log);
  return frames < testimony.frames
    ? `its log ${name} is sound up to page ${frames} only, of at least ${testimony.frames} that were written`
    : null;
}
