// Time and chance owned by a test: nothing fires before the test says so, and the same seed gives the same run.
// What is ready at once (promises, ends of turns) still runs by itself, so that code under test can be awaited as in production.
import type { Cancel, Clock, Random } from '../../src/clock.ts';

export interface VirtualClock extends Clock {
  /** Runs what comes due within the next `ms`, in order of time, and lets everything settle after each. */
  advance(ms: number): Promise<void>;
  /** Lets promises and ends of turns run until none of ours is left; time stands still. */
  settle(): Promise<void>;
  /** When the next timer fires, null if none is set. */
  nextTimerMs(): number | null;
  /** As after a stall of the whole process: time has passed, and what came due meanwhile fires at the next advance. */
  stall(ms: number): void;
  /** As while the machine is asleep: time has passed, and no timer has come nearer. */
  sleep(ms: number): void;
  /** Sets the wall clock ahead, or back. */
  setWall(byMs: number): void;
}

interface Timer {
  atMs: number;
  readonly order: number;
  readonly fire: () => void;
}

/** Any fixed moment will do; this one is a whole second. */
export const START_MS = Date.UTC(2026, 0, 1);

export function createVirtualClock(startMs: number = START_MS): VirtualClock {
  let nowMs = startMs;
  let setMs = 0;
  let order = 0;
  let endsOfTurn = 0;
  /** By time, those of one time in the order in which they were set. */
  const timers: Timer[] = [];

  /** Where a timer of that time and order is, or would be. */
  function placeOf(atMs: number, ofOrder: number): number {
    let [low, high] = [0, timers.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const timer = timers[middle] as Timer;
      if (timer.atMs < atMs || (timer.atMs === atMs && timer.order < ofOrder)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function at(atMs: number, fire: () => void): Cancel {
    order += 1;
    const timer: Timer = { atMs, order, fire };
    timers.splice(placeOf(atMs, order), 0, timer);
    return () => {
      const place = placeOf(timer.atMs, timer.order);
      if (timers[place] === timer) timers.splice(place, 1);
    };
  }

  async function settle(): Promise<void> {
    // Promises run dry before each turn; what they leave behind that runs by itself is an end of turn.
    do await turn();
    while (endsOfTurn > 0);
  }

  return {
    nowMs: () => nowMs,
    wallMs: () => nowMs + setMs,
    idleMs: () => nowMs,
    after: (delayMs, fire) => at(nowMs + Math.max(delayMs, 0), fire),
    everySecond: (fire) => {
      let cancel: Cancel = () => {};
      const again = (): void => {
        cancel = at((Math.floor(nowMs / 1000) + 1) * 1000, () => {
          again();
          fire();
        });
      };
      again();
      return () => cancel();
    },
    endOfTurn: (fire) => {
      endsOfTurn += 1;
      setImmediate(() => {
        endsOfTurn -= 1;
        fire();
      });
    },
    advance: async (ms) => {
      const untilMs = nowMs + ms;
      await settle();
      for (let timer = timers[0]; timer !== undefined && timer.atMs <= untilMs; timer = timers[0]) {
        timers.shift();
        nowMs = Math.max(nowMs, timer.atMs);
        timer.fire();
        await settle();
      }
      nowMs = Math.max(nowMs, untilMs);
    },
    settle,
    nextTimerMs: () => timers[0]?.atMs ?? null,
    sleep: (ms) => {
      nowMs += ms;
      for (const timer of timers) timer.atMs += ms;
    },
    stall: (ms) => {
      nowMs += ms;
    },
    setWall: (byMs) => {
      setMs += byMs;
    },
  };
}

/** Uniform and repeatable (xorshift over 32 bits); no seed is a bad one. */
export function createSeededRandom(seed: number): Random {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x6d2b79f5) >>> 0 || 1;
  const roll = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
  return { roll, bytes: (count) => Uint8Array.from({ length: count }, () => Math.floor(roll() * 256)) };
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
