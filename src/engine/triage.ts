// What to do when more restarts come due than can be made, because the homeserver is slow or this process gets too little processor time.
// In order of expiry each would be made at the last moment and arrive too late, and everybody would be lost. So restarts with too little
// time left wait for those that have enough, and events that have run out meanwhile cost no call: some are lost, and the others are in time
// again.
import type { Answer } from '../delegation/state.ts';
import type { Wanted } from './budget.ts';

export interface Triage {
  /** True for 10 s after each loss: there is not enough for all. */
  readonly on: boolean;
  /** Whether the event has run out (at `lostMs`) before its turn came. Only of events that we could have restarted is that known. */
  hasRunOut(wanted: Pick<Wanted, 'lostMs'>): boolean;
  /** Whether so little time is left that a call may come too late. */
  isLate(wanted: Pick<Wanted, 'expiryMs' | 'delayMs'>): boolean;
  /** To be told that an event has run out while it waited, or that one has to wait for others that have more time. */
  missed(): void;
  /**
   * A call was not answered. The timers of a homeserver that is away wait as well, so what runs out meanwhile by our count may not have run
   * out.
   */
  failed(): void;
  /** A call was answered, in whatever way. */
  heard(): void;
  /**
   * A restart that was begun at `beganMs` (Unix ms) was answered. If its event was gone, and it was begun late, that was a loss of ours.
   */
  answered(wanted: Wanted, beganMs: number, answer: Answer): void;
}

/** After so long without a loss there is enough for all again. */
const FORGET_AFTER_MS = 10_000;
/** A restart is late with less than this part of its delay left: half of what is left when it is due at the latest. */
export const LATE_PART = 0.1;
/** But it is never late with more time left than a slow call takes. */
const LATE_MS = 1_000;
/** If nothing was heard from a homeserver for so long when a call fails, the homeserver is away; else only that call has failed. */
const AWAY_MS = 1_000;

export function createTriage(nowMs: () => number): Triage {
  let untilMs = Number.NEGATIVE_INFINITY;
  /** What ran out before this is not counted as run out: we began, or the homeserver came back, only then. */
  let countsFromMs = nowMs();
  let heardMs = Number.NEGATIVE_INFINITY;
  let isAway = false;
  const isLateAt = (atMs: number, { expiryMs, delayMs }: Pick<Wanted, 'expiryMs' | 'delayMs'>): boolean =>
    expiryMs - atMs < Math.min(delayMs * LATE_PART, LATE_MS);
  const missed = (): void => {
    untilMs = nowMs() + FORGET_AFTER_MS;
  };

  return {
    get on() {
      return nowMs() < untilMs;
    },
    hasRunOut: ({ lostMs }) => !isAway && lostMs >= countsFromMs && lostMs < nowMs(),
    isLate: (wanted) => isLateAt(nowMs(), wanted),
    missed,
    failed: () => {
      isAway ||= nowMs() - heardMs >= AWAY_MS;
    },
    heard: () => {
      heardMs = nowMs();
      if (isAway) countsFromMs = nowMs();
      isAway = false;
    },
    answered: (wanted, beganMs, { kind }) => {
      if (kind === 'final' && wanted.lostMs > beganMs && isLateAt(beganMs, wanted)) missed();
    },
  };
}
