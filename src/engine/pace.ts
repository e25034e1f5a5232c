// How fast calls are made that may be about inventions, to a homeserver that has not refused any: that it limits calls shows only when it does,
// and what it lets through at once is then gone for those who need it. So each is taken to limit them as Synapse does by default, until it
// has let much more through.
import type { Errand } from './errand.ts';

export interface Pace {
  /** How long the next call that nobody would miss has to wait, ms; where a limit is known its rate tells, and not we. */
  waitMs(isKnown: boolean): number;
  /** For so long none of them has been made that one is, also where calls are short: it may be no invention. */
  isOverdue(): boolean;
  begun(kind: Errand['kind']): void;
  passed(): void;
  /** Not refused, and not answered either: nothing was let through. */
  failed(): void;
  refused(): void;
}

/** Synapse's rc_delayed_event_mgmt. */
const PER_MS = 1 / 1_000;
const MOST_SAVED = 5;
/** Of these so many are kept for others. */
const KEPT = 2;
/** Let through beyond that, there is another limit, or none. */
const BEYOND = 10;
const OVERDUE_MS = 10_000;

export function createPace(nowMs: () => number): Pace {
  let isOther = false;
  let saved = MOST_SAVED;
  let atMs = nowMs();
  let doubtfulMs = Number.NEGATIVE_INFINITY;

  const savedNow = (): number => Math.min(saved + (nowMs() - atMs) * PER_MS, MOST_SAVED);
  const isOverdue = (): boolean => nowMs() - doubtfulMs >= OVERDUE_MS;
  const keep = (calls: number): void => {
    saved = calls;
    atMs = nowMs();
  };

  return {
    waitMs: (isKnown) => (isKnown || isOther || isOverdue() ? 0 : Math.ceil(Math.max(KEPT + 1 - savedNow(), 0) / PER_MS)),
    isOverdue,
    begun: (kind) => {
      if (kind === 'doubtful') doubtfulMs = nowMs();
      keep(Math.max(savedNow() - 1, -BEYOND));
    },
    passed: () => {
      if (savedNow() - 1 < -BEYOND) isOther = true;
    },
    failed: () => keep(savedNow() + 1),
    refused: () => {
      isOther = false;
      keep(0);
    },
  };
}
