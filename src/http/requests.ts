// Parses the bodies of the native API, or throws one error that names the field. No value ever gets into an error: it may be a token.
import type { output as Output, RefinementCtx, ZodError, ZodType } from 'zod';
import { type DelayId, type FutureToken, parseDelayId, parseFutureToken, sha256 } from '../delegation/ids.ts';
import type { Future, Handles } from '../delegation/state.ts';
import { z } from '../library-parts.ts';
import { MatrixError } from './errors.ts';

/** The leave that a request hands over, whichever API it came by. */
export interface HandedLeave {
  readonly handles: Handles;
  readonly handlesHash: string;
  readonly delayMs: number;
}

export function handedLeave(handles: Handles, delayMs: number): HandedLeave {
  return { handles, handlesHash: sha256(JSON.stringify(handles)), delayMs };
}

export interface DelegationRequest {
  /** A base URL or a server name; whether it is served is not checked yet. */
  readonly homeserver: string;
  readonly leave: HandedLeave;
}

/** 31 days. */
const LONGEST_DELAY_MS = 2_678_400_000;
const LONGEST_HOMESERVER = 2_048;

const GRAMMAR = 'must be 1 to 255 of 0-9 A-Z a-z . _ ~ -';
const token = z.string(GRAMMAR).transform((text, ctx): FutureToken => parseFutureToken(text) ?? refuse(ctx, GRAMMAR));
const delayId = z.string(GRAMMAR).transform((text, ctx): DelayId => parseDelayId(text) ?? refuse(ctx, GRAMMAR));
const future = z.strictObject({ send_token: token, refresh_token: token.optional(), cancel_token: token.optional() }, 'must be an object');
const delayed = z.strictObject({ delay_id: delayId }, 'must be an object');
const TIMEOUT = `must be an integer from 1 to ${LONGEST_DELAY_MS}`;
const HOMESERVER = 'must be a client-server base URL or a server name';

const Body = z.strictObject(
  {
    homeserver: z.string(HOMESERVER).min(1, HOMESERVER).max(LONGEST_HOMESERVER, HOMESERVER),
    leave: z.unknown().optional(),
    lost: z.unknown().optional(),
    timeout_ms: z.int(TIMEOUT).min(1, TIMEOUT).max(LONGEST_DELAY_MS, TIMEOUT),
  },
  'must be an object',
);

function refuse(ctx: RefinementCtx, message: string): never {
  ctx.addIssue({ code: 'custom', message });
  return z.NEVER;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @throws MatrixError 400 M_NOT_JSON when the bytes are not JSON text. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes));
  } catch {
    throw new MatrixError(400, 'M_NOT_JSON', 'The body is not JSON');
  }
}

/** @throws MatrixError 400 M_BAD_JSON naming the first field that is wrong, missing or unknown. */
export function parseDelegation(json: unknown): DelegationRequest {
  const body = parseAs(Body, json, []);
  return { homeserver: body.homeserver, leave: handedLeave(parseHandles(body.leave, body.lost), body.timeout_ms) };
}

function parseHandles(leave: unknown, lost: unknown): Handles {
  if (leave === undefined) throw bad(['leave'], 'is required');
  if (isObject(leave) && Object.hasOwn(leave, 'delay_id')) {
    // A delay_id names a single event: only futures come in groups with a second ending.
    if (lost !== undefined) throw bad(['lost'], 'goes with tokens only: a delay_id has one ending');
    return { kind: 'delay', delayId: parseAs(delayed, leave, ['leave']).delay_id };
  }
  const leaveFuture = toFuture(parseAs(future, leave, ['leave']));
  const lostFuture = lost === undefined ? null : toFuture(parseAs(future, lost, ['lost']));
  if (leaveFuture.refresh === null && (lostFuture?.refresh ?? null) === null) {
    throw bad(['leave', 'refresh_token'], 'is required in leave or in lost: without it the event can not be kept alive');
  }
  return { kind: 'futures', leave: leaveFuture, lost: lostFuture };
}

function toFuture(parsed: Output<typeof future>): Future {
  return { send: parsed.send_token, refresh: parsed.refresh_token ?? null, cancel: parsed.cancel_token ?? null };
}

function parseAs<S extends ZodType>(schema: S, value: unknown, path: readonly string[]): Output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { field, what } = firstFault(result.error, value);
  throw bad([...path, ...field], what);
}

/** The first thing that is wrong, in words that hold no value. */
export function firstFault(error: ZodError, value: unknown): { readonly field: readonly string[]; readonly what: string } {
  const [issue] = error.issues;
  if (issue === undefined) return { field: [], what: 'is wrong' };
  const field = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') return { field: [...field, short(issue.keys[0] ?? '')], what: 'is not known' };
  const missing = issue.code === 'invalid_type' && valueAt(value, issue.path) === undefined;
  return { field, what: missing ? 'is required' : issue.message };
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((part, key) => (isObject(part) ? part[String(key)] : undefined), value);
}

function bad(path: readonly string[], what: string): MatrixError {
  return new MatrixError(400, 'M_BAD_JSON', sentence(path, what));
}

/** The text of an error about a field; an empty path is the body as a whole. */
export function sentence(path: readonly string[], what: string): string {
  return `${path.length === 0 ? 'The body' : path.join('.')} ${what}`;
}

/** The name of an unknown field, cut and cleaned: it is a stranger's text. */
function short(name: string): string {
  return name.replace(/[^\x21-\x7e]/g, '?').slice(0, 64);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
