// The one retry schedule, as pure arithmetic: attempt, the server's hint and chance in, a delay in ms out.

/** While a leave is owed nobody waits longer than this for the next try. */
const CAP_MS = 10_000;
/**
 * What failed in passing (one of several workers behind a proxy, an answer that was lost) works with the next try, and by then a leave is
 * late.
 */
const BASE_MS = 25;
/** Who was told to wait, but not for how long, waits so much longer: as if it had failed so often before. */
const LIMITED_FAILURES = 2;
/** A hint beyond this is a mistake or an attack: a leave must not be put off by it for ever. */
const LONGEST_HINT_MS = 300_000;

/**
 * The delay before the next try after `failures` failed ones (1 = the first failed): exponential from 25 ms, capped at
 * `capMs`, with the upper half jittered so that those who failed together don't come back together.
 */
export function backoffMs(failures: number, roll: number, capMs: number = CAP_MS): number {
  const whole = Math.min(BASE_MS * 2 ** Math.min(failures - 1, 16), capMs, CAP_MS);
  return Math.ceil(whole * (0.5 + roll / 2));
}

/** As backoffMs, but never before the server's hint (429: Retry-After, retry_after_ms); spread a little behind it. */
export function limitedMs(hintMs: number | null, failures: number, roll: number): number {
  if (hintMs === null) return backoffMs(failures + LIMITED_FAILURES, roll);
  return Math.min(hintMs, LONGEST_HINT_MS) + Math.ceil(roll * 100);
}
