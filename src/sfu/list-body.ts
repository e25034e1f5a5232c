// An answer of the SFU as it arrives; of a long one only what somebody here reads. Participants may give themselves metadata and attributes,
// by default of more than half a megabyte, which JSON can write six times as long: a few members of a call could make the list of its room
// too large to be taken, and none of the others could be kept alive. So of a long answer nothing deeper than the fields of a list's
// participants or rooms is kept, and no text that is too long to be a name.
import { BodyBuffer } from '../body-buffer.ts';
import { LONGEST_JWT } from './jwt.ts';

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const [BRACE, BRACKET, END_OF_BRACE, END_OF_BRACKET] = [0x7b, 0x5b, 0x7d, 0x5d];
/** Up to here an answer is kept as it is, and costs nothing more: the list of a room of a thousand. */
const SHORT_BYTES = 1024 * 1024;
/** Of what comes, which takes a second to read: the list of three hundred, each with the longest metadata. */
const MOST_RECEIVED_BYTES = 1024 * 1024 * 1024;
/** Objects in a list in an object. */
const DEEPEST = 3;
/** Bytes, as JSON writes it. No name is longer: a token names its participant's room and identity. */
const LONGEST_TEXT = LONGEST_JWT;

export class ListBody {
  readonly #mostBytes: number;
  readonly #mostReceivedBytes: number;
  readonly #short = new BodyBuffer(SHORT_BYTES);
  #receivedBytes = 0;
  /** Null: the answer is a short one so far. */
  #kept: Buffer | null = null;
  #length = 0;
  #isOver = false;
  #depth = 0;
  #isText = false;
  /** The piece ended with a backslash that escapes what the next one begins with. */
  #isEscaped = false;
  /** How long the text is so far. */
  #textBytes = 0;
  /** Where in the piece begins what is kept of it and is not copied yet; of no meaning where it is too deep. */
  #from = 0;

  constructor(mostBytes: number, mostReceivedBytes = MOST_RECEIVED_BYTES) {
    this.#mostBytes = mostBytes;
    this.#mostReceivedBytes = mostReceivedBytes;
  }

  /** False: what has come, or what is kept of it, exceeds its bound. */
  add(piece: Buffer): boolean {
    this.#receivedBytes += piece.length;
    if (this.#receivedBytes > this.#mostReceivedBytes) return false;
    if (this.#kept === null && this.#short.add(piece)) return true;
    if (this.#kept === null) this.#read(this.#short.bytes);
    this.#read(piece);
    return !this.#isOver;
  }

  get bytes(): Buffer {
    return this.#kept === null ? this.#short.bytes : this.#kept.subarray(0, this.#length);
  }

  /** Copies as much at once as it can: byte by byte, the lists of a few members would take all of the time of this process. */
  #read(piece: Buffer): void {
    this.#from = 0;
    for (let at = 0; at < piece.length; ) at = this.#isText ? this.#inText(piece, at) : this.#between(piece, at);
    if (this.#depth <= DEEPEST) this.#keep(piece, piece.length);
  }

  /** Reads on to behind the next quote. An object or list that is too deep stays, without what is in it. */
  #between(piece: Buffer, from: number): number {
    for (let at = from; at < piece.length; at += 1) {
      const byte = piece[at];
      if (byte === QUOTE) {
        this.#isText = true;
        this.#textBytes = 0;
        return at + 1;
      }
      if (byte === BRACE || byte === BRACKET) {
        if (this.#depth++ === DEEPEST) this.#keep(piece, at + 1);
      } else if (byte === END_OF_BRACE || byte === END_OF_BRACKET) {
        if (--this.#depth === DEEPEST) this.#from = at;
      }
    }
    return piece.length;
  }

  /** Reads on to behind the text. One that is too long is left empty. */
  #inText(piece: Buffer, from: number): number {
    const end = this.#endOfText(piece, from);
    if (this.#depth > DEEPEST) return end + 1;
    const beforeBytes = this.#textBytes;
    this.#textBytes += end - from;
    if (this.#textBytes > LONGEST_TEXT) {
      this.#keep(piece, from);
      if (beforeBytes <= LONGEST_TEXT) this.#length -= beforeBytes;
      this.#from = end;
    }
    return end + 1;
  }

  /** Where the quote is that ends the text, or the piece's length. */
  #endOfText(piece: Buffer, from: number): number {
    const { length } = piece;
    let at = this.#isEscaped ? from + 1 : from;
    while (at < length && piece[at] !== QUOTE) at += piece[at] === BACKSLASH ? 2 : 1;
    this.#isText = at >= length;
    this.#isEscaped = at > length;
    return this.#isText ? length : at;
  }

  /** Copies what is to be kept and ends at `to`. */
  #keep(piece: Buffer, to: number): void {
    const length = this.#length + to - this.#from;
    this.#isOver ||= length > this.#mostBytes;
    if (this.#isOver) return;
    if (this.#kept === null || length > this.#kept.length) this.#kept = this.#grown(length);
    piece.copy(this.#kept, this.#length, this.#from, to);
    this.#length = length;
  }

  #grown(length: number): Buffer {
    const before = this.#kept ?? Buffer.alloc(0);
    const grown = Buffer.allocUnsafeSlow(Math.min(this.#mostBytes, Math.max(length, before.length * 2)));
    grown.set(before.subarray(0, this.#length));
    return grown;
  }
}
