// What SQLite's errors say: that the store can't write now, or that it can't write this.

/** The primary result code; the low byte of every extended one. */
const CONSTRAINT = 19;

export function isSqliteError(error: unknown): error is Error & { readonly errcode: number } {
  return error instanceof Error && (error as { code?: unknown }).code === 'ERR_SQLITE_ERROR';
}

/** The store can't write now, as opposed to: not this. */
export function isOutage(error: unknown): boolean {
  return isSqliteError(error) && (error.errcode & 0xff) !== CONSTRAINT;
}
