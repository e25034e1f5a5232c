// Updates that wait for their commit, and which of them go together.
import type { RoomName } from '../../delegation/ids.ts';
import type { Urgency } from '../store.ts';

export interface Pending {
  /** Null: no room's. */
  readonly room: RoomName | null;
  /** Reads and decides, and returns what is then to be written. */
  readonly plan: () => () => void;
  /** Called after the commit and before any caller hears of it. */
  readonly committed: () => void;
  readonly resolve: () => void;
  readonly reject: (why: Error) => void;
}

export class Waiting {
  #now: Pending[] = [];
  #soon: Pending[] = [];

  get size(): number {
    return this.#now.length + this.#soon.length;
  }

  /** True: it is the first of its urgency, and they have to be taken in due time. */
  add(urgency: Urgency, one: Pending): boolean {
    const those = urgency === 'now' ? this.#now : this.#soon;
    return those.push(one) === 1;
  }

  /**
   * What nobody waits for goes along where somebody asks about the same room, who is to find it; elsewhere it waits on, for a leave would be
   * later by all that is written before it.
   */
  take(urgency: Urgency): readonly Pending[] {
    if (urgency === 'soon') {
      const all = this.#soon;
      this.#soon = [];
      return all;
    }
    const urgent = this.#now;
    this.#now = [];
    if (this.#soon.length === 0) return urgent;
    const rooms = new Set(urgent.map(({ room }) => room));
    const along = this.#soon.filter(({ room }) => rooms.has(room));
    this.#soon = this.#soon.filter(({ room }) => !rooms.has(room));
    return [...along, ...urgent];
  }
}
