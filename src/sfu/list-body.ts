// An answer of the SFU as it arrives; of a long one only what somebody here reads. Participants may give themselves metadata and attributes,
// by default of more than half a megabyte, which JSON can write six times as long: a few members of a call could make the list of its room
// too large to be taken, and none of the others could be kept alive. So of a long answer nothing deeper than the fields of a list's
// participants or rooms is kept, and no text that is too long to be a name.
import { BodyBuffer } from '../body-buffer.ts';

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const [BRACE, BRACKET, END_OF_BRACE, END_OF_BRACKET] = [0x7b, 0x5b, 0x7d, 0x5d];
/** Up to here an answer is kept as it is, and costs nothing more: the list of a room of a thousand. */
const SHORT_BYTES = 1024 * 1024;
/** Objects in a list in an object. */
const DEEPEST = 3;
/** Bytes, as JSON writes it. A token, which names its participant's room and identity, has as many characters at most (jwt.ts). */
const LONGEST_TEXT = 16_384;

export class ListBody {
  readonly #mostBytes: number;
  readonly #short = new BodyBuffer(SHORT_BYTES);
  /** Null: the answer is a short one so far. */
  #kept: Buffer | null = null;
  #length = 0;
  #depth = 0;
  #isText = false;
  #isEscaped = false;
  #isTooLong = false;
  /** Where the text begins that the next byte belongs to. */
  #textAt = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** False: what is kept would exceed its bound. */
  add(piece: Buffer): boolean {
    if (this.#kept === null && this.#short.add(piece)) return true;
    if (this.#kept === null) this.#read(this.#short.bytes);
    this.#read(piece);
    return this.#length <= this.#mostBytes;
  }

  get bytes(): Buffer {
    return this.#kept === null ? this.#short.bytes : this.#kept.subarray(0, this.#length);
  }

  #read(piece: Buffer): void {
    const kept = this.#roomFor(piece.length);
    for (const byte of piece) if (this.#isText ? this.#inText(byte) : this.#between(byte)) kept[this.#length++] = byte;
  }

  /** Whether a byte that belongs to no text is kept. An object or list that is too deep stays, without what is in it. */
  #between(byte: number): boolean {
    if (byte === BRACE || byte === BRACKET) return this.#depth++ <= DEEPEST;
    if (byte === END_OF_BRACE || byte === END_OF_BRACKET) return --this.#depth <= DEEPEST;
    if (byte === QUOTE) {
      this.#isText = true;
      this.#isTooLong = false;
      this.#textAt = this.#length + 1;
    }
    return this.#depth <= DEEPEST;
  }

  /** The same for a byte of a text, or its end. A text that is too long is left empty. */
  #inText(byte: number): boolean {
    const isEnd = byte === QUOTE && !this.#isEscaped;
    this.#isEscaped = byte === BACKSLASH && !this.#isEscaped;
    if (isEnd) this.#isText = false;
    if (this.#depth > DEEPEST) return false;
    if (!isEnd && !this.#isTooLong && this.#length - this.#textAt >= LONGEST_TEXT) {
      this.#isTooLong = true;
      this.#length = this.#textAt;
    }
    return isEnd || !this.#isTooLong;
  }

  #roomFor(bytes: number): Buffer {
    const before = this.#kept ?? Buffer.alloc(0);
    if (this.#kept !== null && this.#length + bytes <= before.length) return before;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#length + bytes, before.length * 2));
    grown.set(before.subarray(0, this.#length));
    this.#kept = grown;
    return grown;
  }
}
