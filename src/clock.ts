// The one place with time and chance. Everything else is handed a Clock and a Random, so that a simulation can own both.
import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';

/** Stops a timer; stopping twice, or one that has fired, does nothing. */
export type Cancel = () => void;

export interface Clock {
  /** Unix time in ms. Anchored to the wall clock once and then steady: a step of the wall clock moves no deadline. */
  nowMs(): number;
  /** For how long the process has had nothing to do but wait, ms: of what an answer took, all else was not its sender's. */
  idleMs(): number;
  /**
   * Runs `fire` once after `delayMs`; what it throws is told of, and ends nothing. Delays beyond what a platform timer can hold are cut, so
   * look at the time again when it fires.
   */
  after(delayMs: number, fire: () => void): Cancel;
  /** Runs `fire` about every second, whatever it threw before; one that is missed is not made up for, so look at the time. */
  everySecond(fire: () => void): Cancel;
  /**
   * Runs `fire` when the input that is ready now has been handled, before waiting for more: the moment to commit as a group. What it throws
   * ends the process, for others wait for the rest of it; what they were promised is in the store.
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

/** `failed` hears what a timer's work throws; without it that ends the process, as is right for a command. */
export function systemClock(failed: (error: unknown) => void = rethrow): Clock {
  const anchorMs = Date.now() - performance.now();
  const run = (fire: () => void): void => {
    try {
      fire();
    } catch (error) {
      failed(error);
    }
  };
  return {
    nowMs: () => Math.round(anchorMs + performance.now()),
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

function rethrow(error: unknown): never {
  throw error;
}

/** Stops everything, for where nothing can be waited for. */
export function standStill(delayMs: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delayMs);
}

/**
 * Runs `fire` when what this turn has begun to send is on its way: a connection that was idle is looked at for a turn before it is written to
 * (undici, GHSA-35p6-xmwp-9g52).
 */
export function onceSent({ endOfTurn }: Pick<Clock, 'endOfTurn'>, fire: () => void): void {
  endOfTurn(() => endOfTurn(fire));
}

/**
 * Unix time in whole seconds as others see it, for tokens that are made here and judged elsewhere, or the other way round: when the wall
 * clock steps, so do they.
 */
export function wallSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** The same clock, set to another time: that of others, so that all have one. */
export function shiftedClock(clock: Clock, shiftMs: () => number): Clock {
  return { ...clock, nowMs: () => clock.nowMs() + shiftMs() };
}

/** To ask the platform for some bytes takes as long as to ask for many. */
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
