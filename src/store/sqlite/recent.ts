// Rows as the file has them, of those who were acted on last: whoever is claimed is soon asked about and written, and need not be read and
// checked each time. The file belongs to this process alone, so what was read or written last is what is there.
import type { Delegation } from '../../delegation/state.ts';

export interface Kept {
  readonly row: Delegation;
  readonly rev: number;
  /** Its number in the file. */
  readonly number: number;
  /** Its handles as they are written there. */
  readonly handles: string | null;
}

/** One or two kilobytes each; more than are acted on at once. */
const MOST = 2_048;

export class Recent {
  readonly #byNumber = new Map<number, Kept>();
  readonly #numbers = new Map<string, number>();

  numbered(number: number): Kept | undefined {
    return this.#byNumber.get(number);
  }

  named(id: string): Kept | undefined {
    const number = this.#numbers.get(id);
    return number === undefined ? undefined : this.#byNumber.get(number);
  }

  /** What was set longest ago goes first. */
  set(kept: Kept): void {
    this.#byNumber.delete(kept.number);
    this.#byNumber.set(kept.number, kept);
    this.#numbers.set(kept.row.id, kept.number);
    if (this.#byNumber.size <= MOST) return;
    const [oldest] = this.#byNumber.keys();
    if (oldest !== undefined) this.drop(oldest);
  }

  /** Nobody acts on a row that has ended. */
  drop(number: number): void {
    const kept = this.#byNumber.get(number);
    if (kept === undefined) return;
    this.#byNumber.delete(number);
    this.#numbers.delete(kept.row.id);
  }

  clear(): void {
    this.#byNumber.clear();
    this.#numbers.clear();
  }
}
