// Rows as the file has them, of those who are acted on now: whoever is claimed is soon asked about and written, and need not be read and
// checked each time. The file belongs to this process alone, so what was read or written last is what is there.
import type { DelegationId } from '../delegation/ids.ts';
import type { Delegation } from '../delegation/state.ts';

export interface Kept {
  readonly row: Delegation;
  readonly rev: number;
  /** Its number in the file. */
  readonly number: number;
  /** Its handles as they are written there. */
  readonly handles: string | null;
}

/** As many as the engine takes up at once; some kilobytes each. */
const MOST = 4_096;

export class Recent {
  readonly #rows = new Map<string, Kept>();

  get(id: string): Kept | undefined {
    return this.#rows.get(id);
  }

  /** What was set longest ago goes first. */
  set(kept: Kept): void {
    const id: DelegationId = kept.row.id;
    this.#rows.delete(id);
    this.#rows.set(id, kept);
    if (this.#rows.size <= MOST) return;
    for (const oldest of this.#rows.keys()) {
      this.#rows.delete(oldest);
      return;
    }
  }

  clear(): void {
    this.#rows.clear();
  }
}
