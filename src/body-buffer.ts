// A body that arrives in pieces, whose size its sender chooses, put together in one growing buffer. A list of the pieces would cost a
// hundred bytes for each of them, and a stranger may send them one byte long.

const NOTHING = Buffer.alloc(0);
/** The buffer begins with no less: pieces are mostly of a packet's size, and it would be copied again with the next one. */
const LEAST_BYTES = 1_024;

export class BodyBuffer {
  readonly #mostBytes: number;
  #kept: Buffer = NOTHING;
  #length = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** False: the body would exceed its bound, and the piece is not kept. The first piece is not copied: it is mostly the only one. */
  add(piece: Buffer): boolean {
    const length = this.#length + piece.length;
    if (length > this.#mostBytes) return false;
    if (this.#length === 0) this.#kept = piece;
    else {
      if (length > this.#kept.length) this.#grow(length);
      this.#kept.set(piece, this.#length);
    }
    this.#length = length;
    return true;
  }

  get bytes(): Buffer {
    return this.#kept.length === this.#length ? this.#kept : this.#kept.subarray(0, this.#length);
  }

  /** The memory that is taken; a first piece that was not copied keeps the whole buffer alive that it is a part of. */
  get heldBytes(): number {
    return this.#kept.buffer.byteLength;
  }

  #grow(length: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.min(this.#mostBytes, Math.max(length, this.#kept.length * 2, LEAST_BYTES)));
    grown.set(this.bytes);
    this.#kept = grown;
  }
}
