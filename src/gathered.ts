// Bytes that come in pieces, of which whoever sends them chooses the size: kept as bytes. A piece that is kept as it came costs a hundred
// bytes of its own, and a stranger's may hold one.

const NOTHING = Buffer.alloc(0);
/** Pieces are mostly a piece of a packet: a buffer that grows from less would be copied for nothing. */
const LEAST_BYTES = 1_024;

export class Gathered {
  readonly #mostBytes: number;
  #kept: Buffer = NOTHING;
  #length = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** False: that would be more than the most, and is not kept. The first piece is kept as it came, for it is mostly the only one. */
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

  /** The memory that is taken: of a piece that is kept as it came, all that came with it. */
  get heldBytes(): number {
    return this.#kept.buffer.byteLength;
  }

  #grow(length: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.min(this.#mostBytes, Math.max(length, this.#kept.length * 2, LEAST_BYTES)));
    grown.set(this.bytes);
    this.#kept = grown;
  }
}
