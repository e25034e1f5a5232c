// The one time line of a simulated world, and the processes on it. A process sees time through a Clock of its own (skewed, if so drawn),
// can be paused (nothing of it runs, everything waits) and killed (nothing of it runs ever again). Whatever reaches a process from
// outside, a timer or an answer, goes through `enter`, so that there is no way around either.
import type { Cancel, Clock } from '../../src/clock.ts';
import { START_MS } from '../support/virtual-clock.ts';

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly fire: () => void;
  cancelled: boolean;
}

export class Timeline {
  nowMs = START_MS;
  #order = 0;
  /** A binary heap by time, those of one time in the order in which they were set. */
  readonly #timers: Timer[] = [];
  #endsOfTurn: (() => void)[] = [];

  get sinceStartMs(): number {
    return this.nowMs - START_MS;
  }

  after(delayMs: number, fire: () => void): Cancel {
    this.#order += 1;
    const timer: Timer = { atMs: this.nowMs + Math.max(Math.ceil(delayMs), 0), order: this.#order, fire, cancelled: false };
    push(this.#timers, timer);
    return () => {
      timer.cancelled = true;
    };
  }

  endOfTurn(fire: () => void): void {
    this.#endsOfTurn.push(fire);
  }

  /** Resolves in so many ms. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve));
  }

  /** Runs everything up to then. `afterEach` is called whenever all that a timer set off has come to rest. */
  async runUntil(untilMs: number, afterEach: () => void): Promise<void> {
    await this.#settle();
    for (let next = this.#timers[0]; next !== undefined && next.atMs <= untilMs; next = this.#timers[0]) {
      pop(this.#timers);
      if (next.cancelled) continue;
      this.nowMs = next.atMs;
      next.fire();
      await this.#settle();
      afterEach();
    }
    this.nowMs = untilMs;
  }

  /** Promises run dry before each turn; nothing here waits for anything real. */
  async #settle(): Promise<void> {
    do {
      await turn();
      const fires = this.#endsOfTurn;
      this.#endsOfTurn = [];
      for (const fire of fires) fire();
    } while (this.#endsOfTurn.length > 0);
    await turn();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => void process.nextTick(resolve));

const isEarlier = (a: Timer, b: Timer): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

function push(heap: Timer[], timer: Timer): void {
  let at = heap.length;
  heap.push(timer);
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!isEarlier(timer, heap[parent] as Timer)) break;
    heap[at] = heap[parent] as Timer;
    at = parent;
  }
  heap[at] = timer;
}

function pop(heap: Timer[]): void {
  const last = heap.pop() as Timer;
  if (heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isEarlier(heap[child + 1] as Timer, heap[child] as Timer)) child += 1;
    if (!isEarlier(heap[child] as Timer, last)) break;
    heap[at] = heap[child] as Timer;
    at = child;
  }
  heap[at] = last;
}

/** One life of a replica: from its start to its kill. */
export class Process {
  alive = true;
  readonly #timeline: Timeline;
  readonly #skewMs: number;
  #held: (() => void)[] | null = null;
  /** How far its wall clock is off, and was at its start: by that its own time goes, unless it is that of a store it shares. */
  readonly #wallOffMs: () => number;
  readonly startedOffMs: number;
  /** Timers that are set: a process whose timers pile up has an unbounded queue somewhere. */
  timers = 0;

  constructor(timeline: Timeline, skewMs: number, wallOffMs: () => number = () => 0, sharesTime = false) {
    this.#timeline = timeline;
    this.#skewMs = skewMs;
    this.#wallOffMs = wallOffMs;
    this.startedOffMs = sharesTime ? 0 : wallOffMs();
  }

  get paused(): boolean {
    return this.#held !== null;
  }

  /** Alive, and it runs. */
  get runs(): boolean {
    return this.alive && this.#held === null;
  }

  /** Lets something into the process: now, when it runs again, or never. */
  enter(work: () => void): void {
    if (!this.alive) return;
    if (this.#held === null) work();
    else this.#held.push(work);
  }

  pause(): void {
    if (this.alive) this.#held ??= [];
  }

  resume(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const work of held) this.enter(work);
  }

  kill(): void {
    this.alive = false;
    this.#held = null;
  }

  /** What the process gets to hear of a promise of the world outside: late while it is paused, and nothing after its end. */
  hears<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => this.enter(() => resolve(value)),
        (why) => this.enter(() => reject(why)),
      );
    });
  }

  clock(): Clock {
    const timeline = this.#timeline;
    const after = (delayMs: number, fire: () => void): Cancel => {
      if (!this.alive) return () => {};
      let left = true;
      this.timers += 1;
      const leave = (): void => {
        if (left) this.timers -= 1;
        left = false;
      };
      const cancel = timeline.after(delayMs, () =>
        this.enter(() => {
          if (!left) return;
          leave();
          fire();
        }),
      );
      return () => {
        leave();
        cancel();
      };
    };
    return {
      nowMs: () => timeline.nowMs + this.#skewMs + this.startedOffMs,
      wallMs: () => timeline.nowMs + this.#skewMs + this.#wallOffMs(),
      idleMs: () => timeline.nowMs,
      after,
      everySecond: (fire) => {
        let stopped = false;
        let cancel: Cancel = () => {};
        const again = (): void => {
          if (stopped) return;
          cancel = after(1_000 - (timeline.nowMs % 1_000), () => {
            again();
            fire();
          });
        };
        again();
        return () => {
          stopped = true;
          cancel();
        };
      },
      endOfTurn: (fire) => timeline.endOfTurn(() => this.enter(fire)),
    };
  }
}
