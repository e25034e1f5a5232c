// Parses the bodies of the native API, or throws one error that names the field.
import type { output as Output, RefinementCtx } from 'zod';
import { type DelayId, type FutureToken, parseDelayId, parseFutureToken, sha256 } from '../delegation/ids.ts';
import type { Future, Handles } from '../delegation/state.ts';
import { z } from '../library-parts.ts';
import { bad, GRAMMAR, isObject, parseAs } from './fields.ts';

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

/** @throws MatrixError 400 M_BAD_JSON naming the first field that is wrong, missing or unknown. */
export function parseDelegation(json: unknown): DelegationRequest {
  const body = parseAs(Body, json);
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
