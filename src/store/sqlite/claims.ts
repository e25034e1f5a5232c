// Who acts on which row now, in memory. A claimed row stays due on disk until its holder writes it, so the search for due rows must not
// begin at the front each time: it begins where everything before is known to be claimed.
import type { Claim } from '../store.ts';

interface Held {
  readonly rev: number;
  readonly untilMs: number;
  readonly dueMs: number | null;
}

const FRONT = Number.MIN_SAFE_INTEGER;

export class Claims {
  readonly #held = new Map<string, Held>();
  #fromMs = FRONT;
  /** No lease ends before this. */
  #leaseEndMs = Number.POSITIVE_INFINITY;

  get size(): number {
    return this.#held.size;
  }

  /** Every row that is due before this is claimed. */
  searchFromMs(nowMs: number): number {
    if (nowMs >= this.#leaseEndMs) this.#dropEnded(nowMs);
    return this.#fromMs;
  }

  #dropEnded(nowMs: number): void {
    this.#leaseEndMs = Number.POSITIVE_INFINITY;
    this.#fromMs = FRONT;
    for (const [id, { untilMs }] of this.#held) {
      if (untilMs <= nowMs) this.#held.delete(id);
      else this.#leaseEndMs = Math.min(this.#leaseEndMs, untilMs);
    }
  }

  /** All that was due up to `nowMs` has been claimed. */
  allClaimedUpTo(nowMs: number): void {
    this.#fromMs = nowMs;
  }

  isHeld(id: string, rev: number, nowMs: number): boolean {
    const held = this.#held.get(id);
    return held !== undefined && held.rev === rev && held.untilMs > nowMs;
  }

  hold(id: string, held: Held): void {
    this.#held.set(id, held);
    this.#leaseEndMs = Math.min(this.#leaseEndMs, held.untilMs);
  }

  /** A row was written that nobody holds, due at `dueMs`. */
  written(id: string, dueMs: number | null): void {
    this.#held.delete(id);
    this.#dueAgain(dueMs);
  }

  release({ id, rev }: Claim): void {
    const held = this.#held.get(id);
    if (held?.rev !== rev) return;
    this.#held.delete(id);
    this.#dueAgain(held.dueMs);
  }

  #dueAgain(dueMs: number | null): void {
    if (dueMs !== null && dueMs < this.#fromMs) this.#fromMs = dueMs;
  }
}
