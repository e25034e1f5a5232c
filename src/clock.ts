// The one place with time and chance. Everything else is handed a Clock and a Random, so that a simulation can own both.
import { randomBytes } from 'node:crypto';
import { uptime } from 'node:os';
import { performance } from 'node:perf_hooks';

/** Stops a timer; stopping twice, or one that has fired, does nothing. */
export type Cancel = () => void;

export interface Clock {
  /**
   * Unix time in ms. Anchored to the wall clock once and then steady: a step of the wall clock moves no deadline. Only the time that the
   * machine was asleep is added, for others went on meanwhile.
   */
  nowMs(): number;
  /**
   * What the wall clock shows, Unix ms, steps and all: by it another machine, or the SFU beside us, tells its times. How far it is ahead of
   * `nowMs` shows how much it has been set since the start.
   */
  wallMs(): number;
  /** How long the event loop has been idle so far, ms. Of the time that an answer took, what was not idle was ours and not the server's. */
  idleMs(): number;
  /**
   * Runs `fire` once after `delayMs`. An error that it throws is reported, and ends nothing. A delay that is longer than a platform timer
   * can hold (24.8 days) fires early, so look at the time again.
   */
  after(delayMs: number, fire: () => void): Cancel;
  /** Runs `fire` about every second, also after one that threw. A tick that was missed is not made up for, so look at the time. */
  everySecond(fire: () => void): Cancel;
  /**
   * Runs `fire` when the input that is ready now has been handled, before waiting for more: the moment to commit as a group. An error that
   * it throws ends the process: others wait for what would have come after it, and whatever they were promised is in the store.
   */
  endOfTurn(fire: () => void): void;
}

export interface Random {
  /** Uniform in [0, 1). */
  roll(): number;
  bytes(count: number): Uint8Array;
}

/** The longest delay of a platform timer is 2³¹ − 1 ms; a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** `failed` is told what a timer's work throws; without it such an error ends the process, as is right for a command. */
export function systemClock(failed: (error: unknown) => void = rethrow): Clock {
  const steadyMs = steadyTime();
  const anchorMs = Date.now() - steadyMs();
  const run = (fire: () => void): void => {
    try {
      fire();
    } catch (error) {
      failed(error);
    }
  };
  return {
    nowMs: () => Math.round(anchorMs + steadyMs()),
    wallMs: () => Date.now(),
    idleMs: () => performance.eventLoopUtilization().idle,
    after: (delayMs, fire) => {
      const timer = setTimeout(run, Math.min(Math.max(delayMs, 0), LONGEST_TIMER_MS), fire);
      return () => clearTimeout(timer);
    },
    everySecond: (fire) => {
      const timer = setInterval(run, 1_000, fire);
      return () => clearInterval(timer);
    },
    endOfTurn: (fire) => void setImmediate(fire),
  };
}

/** What the system has for a clock, in ms, each from a moment of its own. */
export interface SystemTimes {
  /** The monotonic clock: stands still while the machine is asleep (suspended, hibernated). */
  readonly awakeMs: () => number;
  /** Goes on meanwhile; in steps of 10 ms. In a container it may begin to be told of another machine. */
  readonly uptimeMs: () => number;
  /** Goes on as well, but may be set. */
  readonly wallMs: () => number;
}

/** How often it is looked whether the machine was asleep, unless the wall clock shows it sooner; and for how long at least. */
const LOOK_MS = 500;
const LEAST_SLEEP_MS = 1_000;

const SYSTEM_TIMES: SystemTimes = { awakeMs: () => performance.now(), uptimeMs: () => uptime() * 1_000, wallMs: () => Date.now() };

/** Ms that have passed, asleep or awake. Asleep is what both the uptime and the wall clock say that the monotonic clock has missed. */
export function steadyTime({ awakeMs, uptimeMs, wallMs }: SystemTimes = SYSTEM_TIMES): () => number {
  const look = () => {
    const [upMs, atMs] = [uptimeMs(), wallMs()];
    // Last: if the process is stopped in between, both seem to have missed time, and not to have gained some.
    const nowMs = awakeMs();
    return { up: upMs - nowMs, wall: atMs - nowMs };
  };
  let before = look();
  let lookedMs = awakeMs();
  let asleepMs = 0;
  return () => {
    const nowMs = awakeMs();
    // Whoever is the first to ask after a sleep must not be told the time of before it either.
    if (nowMs - lookedMs >= LOOK_MS || wallMs() - nowMs - before.wall >= LEAST_SLEEP_MS) {
      lookedMs = nowMs;
      const { up, wall } = look();
      const missedMs = Math.min(up - before.up, wall - before.wall);
      if (missedMs >= LEAST_SLEEP_MS) asleepMs += missedMs;
      // What was missed in one look is there again in the next one.
      before = { up: Math.max(up, before.up), wall };
    }
    return nowMs + asleepMs;
  };
}

function rethrow(error: unknown): never {
  throw error;
}

/** Blocks the whole process for `delayMs`: for code that can't await, such as what runs when the process exits. */
export function standStill(delayMs: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delayMs);
}

/**
 * Runs `fire` once the requests that were begun in this turn have been written: before it writes to an idle connection, undici looks at it
 * for one turn (GHSA-35p6-xmwp-9g52).
 */
export function onceSent({ endOfTurn }: Pick<Clock, 'endOfTurn'>, fire: () => void): void {
  endOfTurn(() => endOfTurn(fire));
}

/** What comes of it within so long; null: it takes longer, or was given up. */
export function within<Value>({ after }: Pick<Clock, 'after'>, timeoutMs: number, awaited: Promise<Value>): Promise<Value | null> {
  if (timeoutMs <= 0) return Promise.resolve(null);
  return new Promise((resolve) => {
    const stop = after(timeoutMs, () => resolve(null));
    const done = (value: Value | null): void => {
      stop();
      resolve(value);
    };
    awaited.then(done, () => done(null));
  });
}

/** The same, but where it takes longer, rejects with what `late` makes. */
export function inTime<Value>(
  { after }: Pick<Clock, 'after'>,
  timeoutMs: number,
  awaited: Promise<Value>,
  late: () => Error,
): Promise<Value> {
  const limit = Promise.withResolvers<never>();
  const stop = after(timeoutMs, () => limit.reject(late()));
  return Promise.race([awaited, limit.promise]).finally(stop);
}

/**
 * Unix time in whole seconds by the wall clock, steps and all: for tokens that are made here and judged by another machine, or the other
 * way round.
 */
export function wallSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** The clock with `shiftMs` added, read at each call: replicas that share a Redis go by its time, so that all have the same. */
export function shiftedClock(clock: Clock, shiftMs: () => number): Clock {
  return { ...clock, nowMs: () => clock.nowMs() + shiftMs() };
}

/** To ask the platform for a few random bytes takes as long as to ask for thousands. */
const DRAWN_AT_ONCE = 4_096;

export function systemRandom(): Random {
  let drawn = new Uint8Array();
  return {
    roll: () => Math.random(),
    bytes: (count) => {
      if (drawn.length < count) drawn = randomBytes(Math.max(count, DRAWN_AT_ONCE));
      const taken = drawn.subarray(0, count);
      drawn = drawn.subarray(count);
      return taken;
    },
  };
}
