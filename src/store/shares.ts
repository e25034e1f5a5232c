// Which due rows are claimed where more are due than can be: each kind of work has its share.

/**
 * Restarts get half at least, if so many are due, and so do the others: thousands whose people all seem to be gone are long overdue and take
 * their questions to the SFU, and somebody present with a short delay would run out behind them. Both begin with the longest overdue.
 */
export function sharedOut<T>(restarts: readonly T[], others: readonly T[], limit: number, dueMsOf: (one: T) => number): readonly T[] {
  const ofRestarts = Math.max(Math.ceil(limit / 2), limit - others.length);
  const taken = restarts.slice(0, ofRestarts);
  return [...taken, ...others.slice(0, limit - taken.length)].sort((a, b) => dueMsOf(a) - dueMsOf(b));
}
