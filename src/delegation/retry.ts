// When to try again, as pure arithmetic: number of failures, the server's hint and chance in, a delay in ms out.

/** The longest pause: a leave that is owed is late all the while. */
const CAP_MS = 10_000;
/** The first pause is short: a passing failure (one of several workers behind a proxy, a lost answer) is over with the next try. */
const BASE_MS = 25;
/** A 429 without a hint counts like so many failures more. */
const LIMITED_FAILURES = 2;
/** A longer hint is a mistake or an attack, and must not put a leave off for ever. */
const LONGEST_HINT_MS = 300_000;

/**
 * The delay before the next try after `failures` failed ones (1 = the first failed): exponential from 25 ms, capped at
 * `capMs`, with the upper half jittered so that those who failed together don't come back together.
 */
export function backoffMs(failures: number, roll: number, capMs: number = CAP_MS): number {
  const whole = Math.min(BASE_MS * 2 ** Math.min(failures - 1, 16), capMs, CAP_MS);
  return Math.ceil(whole * (0.5 + roll / 2));
}

/** The delay after a 429: the server's hint (Retry-After, retry_after_ms) and up to 100 ms more; without a hint as backoffMs. */
export function limitedMs(hintMs: number | null, failures: number, roll: number): number {
  if (hintMs === null) return backoffMs(failures + LIMITED_FAILURES, roll);
  return Math.min(hintMs, LONGEST_HINT_MS) + Math.ceil(roll * 100);
}
