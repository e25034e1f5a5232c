// SQLite's log as it lies in its file: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
import { fstatSync, readSync } from 'node:fs';

/** A log is one generation of another once it was copied into the database and begun anew. */
export interface Generation {
  readonly sequence: number;
  readonly salt: string;
}

export const HEADER_BYTES = 32;
/** Of a header; behind them comes their checksum. */
const SUMMED_BYTES = 24;
const FRAME_HEADER_BYTES = 24;
/** As of SQLite 3.7.0; the lowest bit says in which order the bytes of a checksum are taken. */
const MAGIC = 0x377f0682;

/**
 * How far the log has come up to its last whole transaction, known to be at least `from`. Frames of this generation come first, then what
 * is left of older ones: so the end is found by halving, and not by reading all of what a busy second has written.
 */
export function lastWhole(log: number, salt: string, frameBytes: number, from: number): number {
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

export function generationOf(header: Buffer): Generation | null {
  if (header.length < HEADER_BYTES || (header.readUInt32BE(0) & ~1) >>> 0 !== MAGIC) return null;
  return { sequence: header.readUInt32BE(12), salt: header.toString('hex', 16, 24) };
}

export function frameBytesOf(header: Buffer): number {
  return FRAME_HEADER_BYTES + header.readUInt32BE(8);
}

/** Of an empty log that follows this one: no page that lies behind it is of its generation. */
export function headerAfter(header: Buffer): Buffer {
  const next = Buffer.from(header);
  // As SQLite counts on, but for the second half of the salt, which it rolls anew.
  for (const at of [12, 16]) next.writeUInt32BE((header.readUInt32BE(at) + 1) >>> 0, at);
  const [one, other] = checksum(next.subarray(0, SUMMED_BYTES), [0, 0], isBigEndian(next));
  next.writeUInt32BE(one, SUMMED_BYTES);
  next.writeUInt32BE(other, SUMMED_BYTES + 4);
  return next;
}

/** The pages of its first so many frames, in the order in which they were written: of a page that is there twice the later one counts. */
export function* pagesOf(log: Buffer, frames: number): Generator<{ readonly number: number; readonly bytes: Buffer }> {
  const frameBytes = frameBytesOf(log);
  for (let frame = 0; frame < frames; frame += 1) {
    const bytes = log.subarray(HEADER_BYTES + frame * frameBytes, HEADER_BYTES + (frame + 1) * frameBytes);
    yield { number: bytes.readUInt32BE(0), bytes: bytes.subarray(FRAME_HEADER_BYTES) };
  }
}

/** As SQLite reads it: up to the last whole transaction before the first frame that is damaged. */
export function soundFrames(log: Buffer): number {
  const bigEndian = isBigEndian(log);
  const frameBytes = frameBytesOf(log);
  let sum: readonly [number, number] = checksum(log.subarray(0, SUMMED_BYTES), [0, 0], bigEndian);
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

function isBigEndian(header: Buffer): boolean {
  return (header.readUInt32BE(0) & 1) === 1;
}

function checksum(bytes: Buffer, before: readonly [number, number], bigEndian: boolean): readonly [number, number] {
  let [one, other] = before;
  for (let at = 0; at < bytes.length; at += 8) {
    one = (one + (bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at)) + other) >>> 0;
    other = (other + (bigEndian ? bytes.readUInt32BE(at + 4) : bytes.readUInt32LE(at + 4)) + one) >>> 0;
  }
  return [one, other];
}

export function bytesAt(file: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(file, bytes, 0, length, position));
}
