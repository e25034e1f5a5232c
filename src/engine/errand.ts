// Calls that wait for their turn with a homeserver, and whose turn comes before whose: leaves before restarts that have time, restarts by earliest expiry.
import type { Answer } from '../delegation/state.ts';
import type { Wanted } from './budget.ts';

export interface Errand extends Wanted {
  /**
   * `owed`: a leave or a cancellation. `doubtful`: what nobody would miss, above all for an event that its homeserver may never have heard
   * of: whoever may hand over can invent as many as they like, and must not take from others what a homeserver lets through.
   */
  readonly kind: 'owed' | 'restart' | 'doubtful';
  /** A restart: the event goes on afterwards. */
  readonly goesOn: boolean;
  /** Made by whom it may, also where restarts are another process's: the store is away, and that one may not know of it. */
  readonly remembered?: boolean;
  /** Not begun by then: not at all, its evidence is stale. */
  readonly beginByMs: number;
  /** `latelyMs`: how long the newest call took that was answered. Null: it is not wanted any more, and nothing was called. */
  readonly work: (latelyMs: number) => Promise<Answer | null>;
}

export interface Waiting extends Errand {
  /** Of two the smaller one goes first. Who can still be saved goes before who has run out by our count. */
  readonly orderMs: number;
  readonly resolve: (answer: Answer | null) => void;
  readonly reject: (why: unknown) => void;
}

/** In order of urgency: leaves and cancellations that are owed, and all others. */
export class Queue {
  #owed: Waiting[] = [];
  #others: Waiting[] = [];

  get owed(): number {
    return this.#owed.length;
  }

  /** The most urgent of the others. */
  get first(): Waiting | undefined {
    return this.#others[0];
  }

  get doubtful(): number {
    return this.#others.reduce((count, { kind }) => count + Number(kind === 'doubtful'), 0);
  }

  get others(): number {
    return this.#others.length;
  }

  add(errand: Waiting): void {
    insert(errand.kind === 'owed' ? this.#owed : this.#others, errand);
  }

  /**
   * Whose turn it is: what is owed comes first, unless `goesFirst` says otherwise of the first of the others. Of these, those who may wait
   * (`mayWait`) come after all who may not, and before what nobody would miss.
   */
  next(goesFirst: (other: Waiting) => boolean, mayWait: ((other: Waiting) => boolean) | null): Waiting | undefined {
    const [owed] = this.#owed;
    const other = (mayWait && this.#others.find((one) => one.kind === 'restart' && !mayWait(one))) ?? this.#others[0];
    return owed === undefined || (other !== undefined && goesFirst(other)) ? other : owed;
  }

  /** One whose turn it was. */
  remove(one: Waiting): void {
    const queue = one.kind === 'owed' ? this.#owed : this.#others;
    queue.splice(queue.indexOf(one), 1);
  }

  /** Takes those out that `are`. */
  take(are: (one: Waiting) => boolean): readonly Waiting[] {
    const owed = this.#owed.filter(are);
    if (owed.length > 0) this.#owed = this.#owed.filter((one) => !are(one));
    return [...owed, ...this.takeOthers(are)];
  }

  /** The same of the others alone. */
  takeOthers(are: (other: Waiting) => boolean): readonly Waiting[] {
    const taken = this.#others.filter(are);
    if (taken.length > 0) this.#others = this.#others.filter((other) => !are(other));
    return taken;
  }

  takeAll(): readonly Waiting[] {
    return [...this.#owed.splice(0), ...this.#others.splice(0)];
  }
}

/** They are few, and most arrivals go to their end. */
function insert(queue: Waiting[], errand: Waiting): void {
  let at = queue.length;
  while (at > 0 && isMoreUrgent(errand, queue[at - 1] as Waiting)) at -= 1;
  queue.splice(at, 0, errand);
}

const RANK: Readonly<Record<Errand['kind'], number>> = { owed: 0, restart: 1, doubtful: 2 };

function isMoreUrgent(a: Waiting, b: Waiting): boolean {
  return a.kind === b.kind ? a.orderMs < b.orderMs : RANK[a.kind] < RANK[b.kind];
}
