// Calls that wait for their turn with a homeserver, in order of urgency: leaves before restarts that have time, restarts by earliest
// expiry.
import type { Answer } from '../delegation/state.ts';
import type { Wanted } from './budget.ts';

export interface Turn {
  /** How long the newest call took that was answered. */
  readonly latelyMs: number;
  /** The homeserver is called now: whether it is wanted still has been looked at. */
  readonly called: () => void;
}

export interface Errand extends Wanted {
  /**
   * `owed`: a leave or a cancellation. `doubtful`: a call that nobody would miss, above all for an event that the homeserver may not know:
   * whoever may hand over can invent as many as they like, and must not use up the calls that a homeserver lets through for others.
   */
  readonly kind: 'owed' | 'restart' | 'doubtful';
  readonly action: 'send' | 'restart' | 'cancel';
  /** For a row known from memory while the store is away: made here even if another replica makes this homeserver's restarts. */
  readonly remembered?: boolean;
  /** Unix ms. If it is not begun by then it is dropped, since its evidence is stale. */
  readonly beginByMs: number;
  /** Null: it is not wanted any more, and nothing was called. */
  readonly work: (turn: Turn) => Promise<Answer | null>;
}

export interface Waiting extends Errand {
  /** The smaller goes first: by expiry, but events that have run out by our count after those that can still be saved. */
  readonly orderMs: number;
  readonly resolve: (answer: Answer | null) => void;
  readonly reject: (why: unknown) => void;
}

/** The calls that wait for one homeserver: those that are owed, and all others, each in order of urgency. */
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

  /** How many of those that nobody would miss go before one with this action that is added now, however little time it has. */
  doubtsBefore(action: Errand['action']): number {
    return this.#others.reduce(
      (count, one) => count + Number(one.kind === 'doubtful' && DOUBTFUL_RANK[one.action] <= DOUBTFUL_RANK[action]),
      0,
    );
  }

  get others(): number {
    return this.#others.length;
  }

  add(errand: Waiting): void {
    insert(errand.kind === 'owed' ? this.#owed : this.#others, errand);
  }

  /** Who has run out by our count while they waited goes after all who can still be saved. */
  putBack(nowMs: number): void {
    for (let first = this.first; first !== undefined && isLost(first, nowMs); first = this.first) {
      this.remove(first);
      this.add({ ...first, orderMs: Number.POSITIVE_INFINITY });
    }
  }

  /**
   * Whose turn it is: an owed call, unless `goesFirst` says otherwise of the first of the others. Among the others, restarts that can't
   * wait come first, then those for which `mayWait` is true, then what is doubtful. `mayWait` null: by urgency alone.
   */
  next(goesFirst: (other: Waiting) => boolean, mayWait: ((other: Waiting) => boolean) | null): Waiting | undefined {
    const [owed] = this.#owed;
    const other = (mayWait && this.#others.find((one) => one.kind === 'restart' && !mayWait(one))) ?? this.#others[0];
    return owed === undefined || (other !== undefined && goesFirst(other)) ? other : owed;
  }

  /** Takes one out, whose turn it was. */
  remove(one: Waiting): void {
    const queue = one.kind === 'owed' ? this.#owed : this.#others;
    queue.splice(queue.indexOf(one), 1);
  }

  /** Takes all out for which `are` is true. */
  take(are: (one: Waiting) => boolean): readonly Waiting[] {
    const owed = this.#owed.filter(are);
    if (owed.length > 0) this.#owed = this.#owed.filter((one) => !are(one));
    return [...owed, ...this.takeOthers(are)];
  }

  /** As `take`, but not of the owed ones. */
  takeOthers(are: (other: Waiting) => boolean): readonly Waiting[] {
    const taken = this.#others.filter(are);
    if (taken.length > 0) this.#others = this.#others.filter((other) => !are(other));
    return taken;
  }

  takeAll(): readonly Waiting[] {
    return [...this.#owed.splice(0), ...this.#others.splice(0)];
  }
}

const isLost = ({ lostMs, orderMs }: Waiting, nowMs: number): boolean => lostMs < nowMs && orderMs !== Number.POSITIVE_INFINITY;

/** By walking from the end: queues are short, and most arrivals belong there. */
function insert(queue: Waiting[], errand: Waiting): void {
  let at = queue.length;
  while (at > 0 && isMoreUrgent(errand, queue[at - 1] as Waiting)) at -= 1;
  queue.splice(at, 0, errand);
}

const RANK: Readonly<Record<Errand['kind'], number>> = { owed: 0, restart: 1, doubtful: 2 };
/** The leave of one who never came is due now; an event that is to be cancelled or restarted, and endangers somebody soon, is not doubtful. */
const DOUBTFUL_RANK: Readonly<Record<Errand['action'], number>> = { send: 0, cancel: 1, restart: 2 };

function isMoreUrgent(a: Waiting, b: Waiting): boolean {
  if (a.kind !== b.kind) return RANK[a.kind] < RANK[b.kind];
  const later = a.kind === 'doubtful' ? DOUBTFUL_RANK[a.action] - DOUBTFUL_RANK[b.action] : 0;
  return later === 0 ? a.orderMs < b.orderMs : later < 0;
}
