// How fast calls are made that may be about inventions, to a homeserver that has not refused any: that it limits calls shows only when it does,
// and what it lets through at once is then gone for those who need it. So few are made, until it has let much more through than Synapse does
// by default.
import type { Errand } from './errand.ts';

export interface Pace {
  /**
   * How long the next call that nobody would miss has to wait, ms; where a limit is known its rate tells, and not we. A restart that
   * nobody would miss waits for the others as well: a leave or a cancellation is owed all the same.
   */
  waitMs(errand: Pick<Errand, 'action'>, isKnown: boolean): number;
  /** For so long none of them has been made that one is, also where calls are short: it may be no invention. */
  isOverdue(): boolean;
  begun(kind: Errand['kind']): void;
  passed(): void;
  /** It was carried out: no invention. */
  proven(): void;
  /** Not refused, and not answered either: nothing was let through. */
  failed(): void;
  refused(): void;
}

/** Synapse's rc_delayed_event_mgmt. */
const SYNAPSE = { perMs: 1 / 1_000, most: 5 };
/** A fifth of it, and three at once, of which nothing is known yet: what turns out to be real does not count. */
const DOUBTFUL = { perMs: 1 / 5_000, most: 3 };
/** What is saved up beyond what others may need at once. */
const LEFT_OVER = 4;
/** Let through beyond what Synapse does, there is another limit, or none. */
const BEYOND = 10;
const OVERDUE_MS = 10_000;

export function createPace(nowMs: () => number): Pace {
  let isOther = false;
  const all = createBucket(nowMs, SYNAPSE);
  const doubtful = createBucket(nowMs, DOUBTFUL);
  let doubtfulMs = Number.NEGATIVE_INFINITY;

  return {
    waitMs: ({ action }, isKnown) => {
      if (isKnown || isOther) return 0;
      const forOthersMs = action === 'restart' ? Math.max(LEFT_OVER - all.saved(), 0) / SYNAPSE.perMs : 0;
      return Math.ceil(Math.max(Math.max(1 - doubtful.saved(), 0) / DOUBTFUL.perMs, forOthersMs));
    },
    isOverdue: () => nowMs() - doubtfulMs >= OVERDUE_MS,
    begun: (kind) => {
      all.add(-1);
      if (kind !== 'doubtful') return;
      doubtful.add(-1);
      doubtfulMs = nowMs();
    },
    passed: () => {
      if (all.saved() - 1 < -BEYOND) isOther = true;
    },
    proven: () => doubtful.add(1),
    failed: () => all.add(1),
    refused: () => {
      isOther = false;
      all.add(-SYNAPSE.most);
    },
  };
}

/** What is saved up at a rate, and may be overdrawn a little. */
function createBucket(nowMs: () => number, { perMs, most }: { readonly perMs: number; readonly most: number }) {
  let calls = most;
  let atMs = nowMs();
  const saved = (): number => Math.min(calls + (nowMs() - atMs) * perMs, most);
  return {
    saved,
    add: (more: number): void => {
      calls = Math.max(saved() + more, -BEYOND);
      atMs = nowMs();
    },
  };
}
