// Errors as the Matrix specification has them: `{errcode, error}`. Exact about what is wrong with a request, silent about our inside.
import type { Context } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { Log } from '../log.ts';
import { StoreUnavailable } from '../store/store.ts';

export type ErrCode =
  | 'M_NOT_JSON'
  | 'M_BAD_JSON'
  | 'M_INVALID_PARAM'
  | 'M_UNAUTHORIZED'
  | 'M_MISSING_TOKEN'
  | 'M_UNKNOWN_TOKEN'
  | 'M_FORBIDDEN'
  | 'M_NOT_FOUND'
  | 'M_TOO_LARGE'
  | 'M_LIMIT_EXCEEDED'
  | 'M_UNRECOGNIZED'
  | 'M_UNKNOWN';

/** Thrown to refuse a request. The message is shown to the client as it is, so it must hold no secret and no inner detail. */
export class MatrixError extends Error {
  readonly status: ContentfulStatusCode;
  readonly errcode: ErrCode;
  /** With 429 and 503: after how many ms to come again; null: not said. */
  readonly retryAfterMs: number | null;

  constructor(status: ContentfulStatusCode, errcode: ErrCode, error: string, retryAfterMs: number | null = null) {
    super(error);
    this.status = status;
    this.errcode = errcode;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Answers 405 and names the methods that there are. @throws MatrixError */
export function methodNotAllowed(c: Context, allowed: string): never {
  c.header('Allow', allowed);
  throw new MatrixError(405, 'M_UNRECOGNIZED', `The method must be one of ${allowed}`);
}

const UNAVAILABLE_MS = 2_000;

/** 503 with Retry-After: nothing was stored and nothing promised. LiveKit sends a webhook again after it. */
export function unavailable(error: string, retryAfterMs = UNAVAILABLE_MS): MatrixError {
  return new MatrixError(503, 'M_UNKNOWN', error, retryAfterMs);
}

/** Makes an answer of whatever was thrown. What nobody has foreseen is logged, and is 500. */
export function refusalOf(error: unknown, log: Log): MatrixError {
  if (error instanceof MatrixError) return error;
  if (error instanceof StoreUnavailable) return unavailable('The store can not keep a promise now');
  log.error({ err: error }, 'a request failed unexpectedly');
  return new MatrixError(500, 'M_UNKNOWN', 'Internal error');
}

/** The JSON of the answer. */
export function bodyOf({ errcode, message, retryAfterMs }: MatrixError): Record<string, unknown> {
  const hint = errcode === 'M_LIMIT_EXCEEDED' && retryAfterMs !== null ? { retry_after_ms: retryAfterMs } : {};
  return { errcode, error: message, ...hint };
}

export function headersOf({ retryAfterMs }: MatrixError): Record<string, string> {
  return retryAfterMs === null ? {} : { 'Retry-After': String(Math.ceil(retryAfterMs / 1000)) };
}

export function errorResponse(c: Context, error: MatrixError): Response {
  return c.json(bodyOf(error), error.status, headersOf(error));
}
