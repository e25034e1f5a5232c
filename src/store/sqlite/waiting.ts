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

/** Past this many new ones are refused: 503 beats memory growth. */
const MOST_PENDING = 20_000;

export class Waiting {
  #now: Pending[] = [];
  #soon: Pending[] = [];

  get isFull(): boolean {
    return this.#now.length + this.#soon.length >= MOST_PENDING;
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

/** In ms; a few times what a commit takes, so that a slow disk is left some time. */
const SOON_MS = { least: 10, perCommit: 4, most: 100 };

/** How long an update that is not urgent waits for company, by what the last commit took. */
export function soonMsAfter(commitMs: number): number {
  return Math.min(Math.max(commitMs * SOON_MS.perCommit, SOON_MS.least), SOON_MS.most);
}
