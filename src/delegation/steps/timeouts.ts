// How long a call may take, of the time that its event has left.
import type { LiveDelegation } from '../state.ts';

export const SEND_TIMEOUT_MS = 10_000;
/** The shortest timeout, however little time is left. */
export const LEAST_TIMEOUT_MS = 500;
/** A restart gets so many times what the last one took. */
const AS_SLOW_AGAIN = 1.5;

/**
 * The timeout of a restart that is made at `nowMs`; `latelyMs` is what the newest answered call to this homeserver took. A restart that
 * hangs must leave time for another try before the event expires. But a homeserver that is slow for everybody does not hang: to give its
 * calls up in the middle would lose all events, and have it do everything twice.
 */
export function restartTimeoutMs(row: LiveDelegation, nowMs: number, latelyMs: number): number {
  const leftMs = restMs(row.expiry, { nowMs });
  if (leftMs <= 0) return timeoutMsOf(row.delayMs / 4);
  const shareMs = isForNextTry(row, nowMs) ? Math.min(leftMs / 2, row.delayMs / 4) : leftMs / 2;
  return timeoutMsOf(Math.max(shareMs, Math.min(leftMs, Math.max(lastTookMs(row), latelyMs) * AS_SLOW_AGAIN)));
}

/**
 * Of every four failed tries in a row one gets a long timeout, for a homeserver that has become slow: once it answers, its time is known
 * for all other calls. It is the third (`failures` is 2), not one that comes just when the event has run out by our count.
 */
const LONG_TRY = { every: 4, nth: 2 };

/**
 * Whether the timeout has to leave time for another try: the event has run out by our count, and is alive only if a lost call was carried
 * out. The long tries are excepted.
 */
function isForNextTry({ state, expiry }: LiveDelegation, nowMs: number): boolean {
  return expiry.earliestMs <= nowMs && state.kind === 'connected' && state.failures % LONG_TRY.every !== LONG_TRY.nth;
}

/**
 * If the earliest and the latest expiry are further apart than this part of the delay, a restart has failed since: no answered one takes so
 * long.
 */
const LONGEST_TOOK_PART = 0.4;

/** How long the last restart took, ms; 0: unknown, for there was none, or one has failed since, in this session or an earlier one. */
function lastTookMs(row: LiveDelegation): number {
  const { state, expiry, delayMs } = row;
  const tookMs = expiry.latestMs - expiry.earliestMs;
  const isOfLast = isProven(row) && state.kind === 'connected' && state.failures === 0;
  return isOfLast && tookMs < delayMs * LONGEST_TOOK_PART ? tookMs : 0;
}

/** A share of the time that is left as a timeout, within bounds. */
export function timeoutMsOf(shareMs: number): number {
  return Math.round(Math.min(Math.max(shareMs, LEAST_TIMEOUT_MS), SEND_TIMEOUT_MS));
}

/** How much time is left until the event may have run out; after that, until it must have. */
export function restMs({ earliestMs, latestMs }: LiveDelegation['expiry'], { nowMs }: { readonly nowMs: number }): number {
  return (earliestMs > nowMs ? earliestMs : latestMs) - nowMs;
}

/** Whether the homeserver has ever restarted the event, which proves that it exists. */
export function isProven({ expiry, createdAtMs, delayMs }: LiveDelegation): boolean {
  return expiry.earliestMs !== createdAtMs + delayMs;
}
