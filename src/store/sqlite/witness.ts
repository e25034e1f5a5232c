// SQLite believes a log that was cut short or deleted: what is missing was never there, and the store comes up older, or empty. So beside
// it stands a witness of how far the log has surely come, and whoever finds less than that refuses to start rather than to forget.
//
// The witness is written about once a second and never waited for: it may know less than the log, and never more than the disk has.
// Format of the log: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { StoreUnusable } from '../store.ts';

interface Log {
  /** Of its generation: a log that is copied into the database and begun anew has the next one. */
  readonly salt: string;
  /** Up to the last whole transaction. */
  readonly frames: number;
}
/** Null: closed in order, all is in the database. */
type Testimony = Log | null;

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
/** Generations that may come and go before one is witnessed; a log that is not ours is hardly ever so near. */
const MOST_UNSEEN = 1_000_000;
/** As of SQLite 3.7.0; the lowest bit says in which order the bytes of a checksum are taken. */
const MAGIC = 0x377f0682;

export class Witness {
  readonly #path: string;
  #file: number | null = null;
  #log: number | null = null;
  #known: Testimony = null;
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

  /** Notes what was found at the last look. A disk that can't take it is told of by others. */
  write(): void {
    if (this.#closed || this.#known === null) return;
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

  /** SQLite was opened and closed again, and nothing was promised: a log that it has removed is whole in the database. */
  refused(): void {
    if (existsSync(`${this.#path}-witness`) && !existsSync(`${this.#path}-wal`)) this.close();
  }

  #follow(): void {
    this.#log ??= openSync(`${this.#path}-wal`, 'r');
    const header = bytesAt(this.#log, 0, HEADER_BYTES);
    const salt = saltOf(header);
    if (salt === null) return;
    const from = salt === this.#known?.salt ? this.#known.frames : 0;
    this.#known = { salt, frames: lastWhole(this.#log, salt, FRAME_HEADER_BYTES + header.readUInt32BE(8), from) };
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
  const salt = saltOf(log);
  if (salt === null) return `its log ${name} is missing or damaged`;
  const later = generationsBetween(testimony.salt, salt);
  if (later > MOST_UNSEEN || (later === 0 && salt !== testimony.salt)) return `its log ${name} is an older or another one`;
  if (later > 0) return null;
  const frames = soundFrames(log);
  return frames < testimony.frames
    ? `its log ${name} is sound up to page ${frames} only, of at least ${testimony.frames} that were written`
    : null;
}

/**
 * How far the log has come up to its last whole transaction, known to be at least `from`. Frames of this generation come first, then what
 * is left of older ones: so the end is found by halving, and not by reading all of what a busy second has written.
 */
function lastWhole(log: number, salt: string, frameBytes: number, from: number): number {
  const headOf = (frame: number): Buffer => bytesAt(log, HEADER_BYTES + frame * frameBytes, FRAME_HEADER_BYTES);
  const isOurs = (head: Buffer): boolean => head.length === FRAME_HEADER_BYTES && head.toString('hex', 8, 16) === salt;
  let sure = from;
  let beyond = Math.floor((fstatSync(log).size - HEADER_BYTES) / frameBytes) + 1;
  while (beyond - sure > 1) {
    const middle = Math.floor((sure + beyond) / 2);
    if (isOurs(headOf(middle - 1))) sure = middle;
    else beyond = middle;
  }
  while (sure > from && headOf(sure - 1).readUInt32BE(4) === 0) sure -= 1;
  return sure;
}

function saltOf(header: Buffer): string | null {
  if (header.length < HEADER_BYTES || (header.readUInt32BE(0) & ~1) >>> 0 !== MAGIC) return null;
  return header.toString('hex', 16, 24);
}

/** The first half of a salt is counted up by each generation and the other is drawn anew, whichever connection begins the log. */
function generationsBetween(before: string, after: string): number {
  return (Number.parseInt(after.slice(0, 8), 16) - Number.parseInt(before.slice(0, 8), 16)) >>> 0;
}

/** As SQLite reads it: up to the last whole transaction before the first frame that is damaged. */
function soundFrames(log: Buffer): number {
  const bigEndian = (log.readUInt32BE(0) & 1) === 1;
  const frameBytes = FRAME_HEADER_BYTES + log.readUInt32BE(8);
  let sum: readonly [number, number] = checksum(log.subarray(0, 24), [0, 0], bigEndian);
  let sound = 0;
  for (let frame = 0; HEADER_BYTES + (frame + 1) * frameBytes <= log.length; frame += 1) {
    const bytes = log.subarray(HEADER_BYTES + frame * frameBytes, HEADER_BYTES + (frame + 1) * frameBytes);
    if (!bytes.subarray(8, 16).equals(log.subarray(16, 24))) break;
    sum = checksum(bytes.subarray(FRAME_HEADER_BYTES), checksum(bytes.subarray(0, 8), sum, bigEndian), bigEndian);
    if (bytes.readUInt32BE(16) !== sum[0] || bytes.readUInt32BE(20) !== sum[1]) break;
    if (bytes.readUInt32BE(4) !== 0) sound = frame + 1;
  }
  return sound;
}

function checksum(bytes: Buffer, before: readonly [number, number], bigEndian: boolean): readonly [number, number] {
  let [one, other] = before;
  for (let at = 0; at < bytes.length; at += 8) {
    one = (one + (bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at)) + other) >>> 0;
    other = (other + (bigEndian ? bytes.readUInt32BE(at + 4) : bytes.readUInt32LE(at + 4)) + one) >>> 0;
  }
  return [one, other];
}

function bytesAt(file: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(file, bytes, 0, length, position));
}
