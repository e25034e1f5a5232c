// Where more restarts come due than get through, to a homeserver that is slow or out of a process that gets no processor: by earliest expiry
// each would be made at the last moment and arrive too late, and everybody be lost. So who has too little time left waits for those who
// have enough, and who has run out meanwhile costs no call. What is lost then is what can't be kept, and the others are in time again.
import type { Answer } from '../delegation/state.ts';
import type { Wanted } from './budget.ts';

export interface Triage {
  /** Of late there was not enough for all. */
  readonly on: boolean;
  /** It ran out before its turn came, by `lostMs`: so much is known of those alone that we could have restarted. */
  hasRunOut(wanted: Pick<Wanted, 'lostMs'>): boolean;
  /** So little is left that a call may come too late. */
  isLate(wanted: Pick<Wanted, 'expiryMs' | 'delayMs'>): boolean;
  /** One that waited has run out, or waits behind others that have more time. */
  missed(): void;
  /** A call was not answered. A homeserver that is away keeps no time, or its timers wait: what has run out by our count meanwhile may not have. */
  failed(): void;
  /** A call was answered, in whatever way. */
  heard(): void;
  /** What became of a restart that began at `beganMs`: that it was late may be ours. */
  answered(wanted: Wanted, beganMs: number, answer: Answer): void;
}

/** Without a loss for so long there is enough for all again. */
const FORGET_AFTER_MS = 10_000;
/** With less than this part of the delay left a restart is late: half of what is left when it is due. */
export const LATE_PART = 0.1;
/** And so it is not with more than a slow call takes. */
const LATE_MS = 1_000;
/** A homeserver of which nothing was heard for so long is away, and not only some of the calls that fail. */
const AWAY_MS = 1_000;

export function createTriage(nowMs: () => number): Triage {
  let untilMs = Number.NEGATIVE_INFINITY;
  /** Nor is it known of what ran out before we had to do with the homeserver: a process before us may have restarted it. */
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
