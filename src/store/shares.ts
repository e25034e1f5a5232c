// Which due rows are claimed where more are due than can be: each kind of work has its share, and begins with the longest overdue.

export interface DueRows<T> {
  readonly leaves: readonly T[];
  readonly restarts: readonly T[];
  readonly others: readonly T[];
}

/**
 * Leaves first, but half is left for what else is due, and of that, restarts get half at least, if so many are due, and so do the others:
 * thousands who leave at once, or whose people all seem to be gone, are long overdue, and somebody present with a short delay would run out
 * behind them.
 */
export function sharedOut<T>({ leaves, restarts, others }: DueRows<T>, limit: number, dueMsOf: (one: T) => number): readonly T[] {
  const first = leaves.slice(0, shareOf(limit, restarts.length + others.length));
  const rest = limit - first.length;
  const taken = restarts.slice(0, shareOf(rest, others.length));
  const second = [...taken, ...others.slice(0, rest - taken.length)];
  return [...first, ...second.sort((a, b) => dueMsOf(a) - dueMsOf(b))];
}

/** Half, or what the others leave. */
function shareOf(limit: number, others: number): number {
  return Math.max(Math.ceil(limit / 2), limit - others);
}
