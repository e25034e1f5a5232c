// How many calls a homeserver gets at once: found out, not configured. It grows by two with each quick success, narrows with each failure, and
// is small after a 429.

/** As many connections as the pool behind it needs. */
export const MOST_AT_ONCE = 1_024;
const FIRST_AT_ONCE = 80;
const FEWEST_AT_ONCE = 2;
/**
 * A homeserver that answers at once is kept busy by so many, and more answers in one turn keep everything else waiting; of one that is far
 * away, or slow, as many may wait as make MOST_PER_MS calls.
 */
const ENOUGH_AT_ONCE = 80;
const MOST_PER_MS = 2;
/** Of the time in which we were busy ourselves so much counts: an answer is seen to a turn later, and more of them in each. */
const OURS_MS = 100;
/** With one failure in ten calls it still widens, with one in three it narrows. */
const SUCCESS_GIVES = 2;
const FAILURE_COSTS = 4;
/**
 * A homeserver that takes so long for an answer has enough to do, unless it is never much quicker: whatever else it gets waits there, in a
 * queue in which no restart goes before a leave.
 */
const BUSY_MS = 500;
const SLOWED_DOWN = 1.5;
const QUEUES_FROM = 2;
const ENOUGH_WHERE_BUSY = 16;
/** With fewer calls than this under way none waits long for another. The newest of them tell how quick the homeserver is now. */
const FEW = 8;
const NEWEST = 8;

export interface Answered {
  readonly tookMs: number;
  /** Of that time, in which this process had nothing to do; the rest may be ours. */
  readonly idleMs: number;
  /** So many calls were under way when it began. */
  readonly beside: number;
  /** It was carried out. */
  readonly ok: boolean;
}

export interface Width {
  readonly atOnce: number;
  /** What the newest call took that was answered. */
  readonly latelyMs: number;
  answered(call: Answered): void;
  failed(): void;
  /** There were too many. */
  refused(): void;
}

/** `most`: as many as there may be connections. */
export function createWidth(most: number): Width {
  const fewest = Math.min(FEWEST_AT_ONCE, most);
  let atOnce = Math.min(FIRST_AT_ONCE, most);
  let latelyMs = 0;
  let wasBusy = false;
  /** What the newest calls took that were carried out beside few others. What takes much longer than the quickest of them waits for others there. */
  const alone: number[] = [];
  let quickestMs = Number.POSITIVE_INFINITY;

  const isBusy = (tookMs: number): boolean => tookMs >= Math.max(BUSY_MS, quickestMs * SLOWED_DOWN);

  function mostAt(tookMs: number, waitedMs: number): number {
    if (isBusy(waitedMs)) return Math.min(ENOUGH_WHERE_BUSY, most);
    return Math.max(atOnce, Math.min(Math.max(ENOUGH_AT_ONCE, Math.max(waitedMs, Math.min(tookMs, OURS_MS)) * MOST_PER_MS), most));
  }

  /** Who was busy once, and is half as slow as that although it can be quicker, is soon so again: it gets one more for a round of calls. */
  function givesFor(waitedMs: number): number {
    const queues = waitedMs >= Math.max(BUSY_MS / 2, quickestMs * QUEUES_FROM);
    return wasBusy && queues && atOnce >= ENOUGH_WHERE_BUSY ? 1 / atOnce : SUCCESS_GIVES;
  }

  return {
    get atOnce() {
      return Math.floor(atOnce);
    },
    get latelyMs() {
      return latelyMs;
    },
    answered: ({ tookMs, idleMs, beside, ok }) => {
      const waitedMs = Math.min(tookMs, idleMs);
      latelyMs = tookMs;
      if (ok && beside < FEW) {
        alone.push(tookMs);
        if (alone.length > NEWEST) alone.shift();
        quickestMs = Math.min(...alone);
      }
      const enough = mostAt(tookMs, waitedMs);
      wasBusy ||= isBusy(waitedMs);
      atOnce = atOnce < enough ? Math.min(atOnce + givesFor(waitedMs), enough) : Math.max(atOnce - SUCCESS_GIVES, enough);
    },
    failed: () => {
      atOnce = Math.max(atOnce - FAILURE_COSTS, fewest);
    },
    refused: () => {
      atOnce = fewest;
    },
  };
}
