// The dialects of MSC4140 (delayed events) that homeservers speak, for its paths have changed over the years: how each writes a call, in
// which order to try them, and what an answer says. Pure; delayed-events.ts does the calling.
import type { DelayId, FutureToken, UserId } from '../delegation/ids.ts';
import type { Answer } from '../delegation/state.ts';
import type { HomeserverFailure } from './failures.ts';
import type { Reply } from './outbound.ts';

export type Call =
  | { readonly kind: 'token'; readonly token: FutureToken }
  | { readonly kind: 'delay'; readonly delayId: DelayId; readonly action: 'send' | 'restart' | 'cancel' };

/**
 * A: futures (MSC4140 of June 2024), `/future/{token}`: the token says what to do.
 * B: delayed events, `/delayed_events/{delay_id}` with the action in the body.
 * C: the action in the path, `/delayed_events/{delay_id}/{action}` (Synapse today).
 * D: C's form on the stable path, where only the event's owner may act.
 */
export type Dialect = 'A-stable' | 'A-unstable' | 'B' | 'C' | 'D';

/** Which prefixes of MSC4140 `GET /versions` announces; null: it was not answered. */
export type Hints = { readonly unstable: boolean; readonly stable: boolean } | null;

const UNSTABLE = '/_matrix/client/unstable/org.matrix.msc4140';
const STABLE = '/_matrix/client/v1';
const LONGEST_RETRY_AFTER_MS = 5 * 60_000;

export const VERSIONS_PATH = '/_matrix/client/versions';

export function readHints(reply: Reply): Hints {
  if (reply.kind === 'failed' || reply.status !== 200) return null;
  const features = field(reply.json, 'unstable_features');
  return {
    unstable: field(features, 'org.matrix.msc4140') === true,
    stable: field(features, 'org.matrix.msc4140.stable') === true,
  };
}

/** Whether this is a homeserver's own answer to `/versions`, and not the page of a proxy before it. */
export function tellsVersions(reply: Reply): boolean {
  return reply.kind === 'answered' && reply.status === 200 && Array.isArray(field(reply.json, 'versions'));
}

/**
 * The dialects worth trying, likeliest first. D needs to act as the event's owner, so without that it comes last: its 401 then tells
 * the operator what is missing.
 */
export function orderOf(kind: Call['kind'], hints: Hints, asOwner: boolean): readonly Dialect[] {
  const { unstable = false, stable = false } = hints ?? {};
  const stableFirst = stable || !unstable;
  if (kind === 'token') return stableFirst ? ['A-stable', 'A-unstable'] : ['A-unstable', 'A-stable'];
  return asOwner && stableFirst ? ['D', 'C', 'B'] : ['C', 'B', 'D'];
}

/** Where the order is always the same, `/versions` is not asked: a first leave would only wait for it. */
export const dependsOnHints = (kind: Call['kind'], asOwner: boolean): boolean => kind === 'token' || asOwner;

/** Path and body of a call; ids are one path segment each. */
export function write(dialect: Dialect, call: Call): { readonly path: string; readonly body: string } {
  if (call.kind === 'token') {
    const prefix = dialect === 'A-stable' ? STABLE : UNSTABLE;
    return { path: `${prefix}/future/${encodeURIComponent(call.token)}`, body: '{}' };
  }
  const prefix = dialect === 'D' ? STABLE : UNSTABLE;
  const path = `${prefix}/delayed_events/${encodeURIComponent(call.delayId)}`;
  return dialect === 'B' ? { path, body: JSON.stringify({ action: call.action }) } : { path: `${path}/${call.action}`, body: '{}' };
}

/** The query that makes an application service act as the owner. */
export function asUser(userId: UserId): string {
  return `?user_id=${encodeURIComponent(userId)}`;
}

/** Whether anybody who knows the id or token may act. In D only the owner may. */
export const needsNoOwner = (dialect: Dialect): boolean => dialect !== 'D';

/**
 * 401 and 403: the homeserver does not want whoever asks, or does not let them act. Null: any other answer, also of a proxy in its place, which
 * gives no errcode.
 */
export function refusalOf(reply: Reply): 'unauthorized' | 'forbidden' | null {
  if (reply.kind === 'failed') return null;
  const errcode = field(reply.json, 'errcode');
  if (errcode === undefined || errcode === 'M_UNRECOGNIZED') return null;
  if (reply.status === 401) return 'unauthorized';
  return reply.status === 403 ? 'forbidden' : null;
}

/** 429 of the homeserver itself: a proxy counts the calls of all. */
export function limitOf(reply: Reply): 'limited' | null {
  return isLimit(reply) && field(reply.json, 'errcode') !== undefined ? 'limited' : null;
}

/**
 * Whether somebody counts calls. Not everybody who says 429 does: Matrix clients try again after it and not after a 503, so that a proxy may say it
 * for a homeserver that is away (Element's ESS does: M_UNKNOWN, and no time to wait).
 */
function isLimit(reply: Reply): reply is Extract<Reply, { kind: 'answered' }> {
  if (reply.kind === 'failed' || reply.status !== 429) return false;
  const errcode = field(reply.json, 'errcode');
  return errcode === undefined || errcode === 'M_LIMIT_EXCEEDED' || retryAfterMs(reply, 0) !== null;
}

export interface Result {
  readonly answer: Answer;
  /** Null: nothing failed. */
  readonly why: HomeserverFailure | null;
  /** Whether it is what a homeserver said of the event, and not a proxy in its place, or one that knows no delayed events. */
  readonly isItsWord: boolean;
}

export type Heard =
  | ({ readonly kind: 'answer'; readonly settles: boolean } & Result)
  /** The homeserver does not know this endpoint, or is not asked about it. */
  | { readonly kind: 'unrecognised' }
  /** It knows the endpoint, and wants an authentication that we do not have. */
  | { readonly kind: 'unauthenticated' };

/**
 * What a reply says. `proven`: a call in this dialect has succeeded at this homeserver, so that a 404 without errcode is about the event
 * and not about the endpoint. An answer that `settles` shows that the dialect is the right one.
 */
export function hear(reply: Reply, at: { readonly proven: boolean; readonly nowMs: number }): Heard {
  if (reply.kind === 'failed') return failure(reply.reached, transportWhy(reply.why));
  const { status, json } = reply;
  const errcode = field(json, 'errcode');
  if (status >= 200 && status < 300) return isDone(reply) ? settled({ kind: 'ok' }) : failure(true, 'garbage');
  if (status >= 400 && status < 500 && errcode === 'M_UNRECOGNIZED') return { kind: 'unrecognised' };
  if (status === 404 || status === 405) return missing(status, errcode, at.proven);
  // A proxy may give the same for all that was once behind it.
  if (isBareFinal(reply) && !at.proven) return { kind: 'unrecognised' };
  if (status === 410) return settled({ kind: 'final', how: 'gone' });
  if (status === 409) return settled({ kind: 'final', how: 'conflict' });
  if (status === 401 && errcode === 'M_MISSING_TOKEN') return { kind: 'unauthenticated' };
  const why = refusalOf(reply);
  if (why !== null) return refusal(why);
  // What was scheduled; a proxy that finds our few bytes too large gives no errcode.
  if (status === 413 && errcode === 'M_TOO_LARGE') return refusal('forbidden');
  // Somebody in between refuses, and so has passed nothing on: either this path alone, or all, for as long as it is so minded.
  if (status === 401 || status === 403) return at.proven ? failure(false, 'garbage') : { kind: 'unrecognised' };
  if (isLimit(reply)) {
    const answer: Answer = { kind: 'limited', retryAfterMs: retryAfterMs(reply, at.nowMs) };
    return { kind: 'answer', answer, why: 'limited', isItsWord: errcode !== undefined, settles: false };
  }
  if (status >= 300 && status < 400) return failure(true, 'redirect');
  return failure(true, status >= 500 ? 'status_5xx' : 'garbage', errcode !== undefined && status !== 429);
}

/** That the event is over, and no reason: a proxy answers the same while the homeserver behind it restarts, or has moved. */
export function isBareFinal(reply: Reply): boolean {
  if (reply.kind === 'failed') return false;
  const { status, json } = reply;
  return status === 404 ? field(json, 'errcode') === undefined : (status === 409 || status === 410) && !isObject(json);
}

/** 200 comes with a JSON object; other 2xx may have no body. Any other body is a page of a proxy in between, and nothing was done. */
function isDone({ status, json, empty }: Extract<Reply, { kind: 'answered' }>): boolean {
  return isObject(json) || (empty && status !== 200);
}

function missing(status: number, errcode: unknown, proven: boolean): Heard {
  if (status === 404 && errcode === 'M_NOT_FOUND') return settled({ kind: 'final', how: 'gone' });
  if (errcode !== undefined) return failure(true, 'garbage', true);
  if (!proven) return { kind: 'unrecognised' };
  return status === 404 ? settled({ kind: 'final', how: 'gone' }) : failure(true, 'garbage');
}

/**
 * How long to wait by Retry-After (seconds or a date) and by `retry_after_ms` of the body, ms: the longer of the two, at most 5 minutes;
 * null: neither is there. Synapse's header is the body's hint rounded up to seconds: then the body counts, for the budget
 * (engine/budget.ts) is measured by it.
 */
export function retryAfterMs({ headers, json }: Extract<Reply, { kind: 'answered' }>, nowMs: number): number | null {
  const header = headers['retry-after'];
  const sentMs = Date.parse(headers.date ?? '');
  // A date is by the server's clock, which may be minutes off ours: it counts from the answer's own date.
  const inHeaderMs = header === undefined ? Number.NaN : headerMs(header.trim(), Number.isNaN(sentMs) ? nowMs : sentMs);
  const told = field(json, 'retry_after_ms');
  const inBodyMs = typeof told === 'number' ? told : Number.NaN;
  if (inBodyMs >= 0 && Math.ceil(inBodyMs / 1000) * 1000 === inHeaderMs) return bounded(inBodyMs);
  const usable = [inHeaderMs, inBodyMs].filter((hint) => Number.isFinite(hint) && hint >= 0);
  return usable.length === 0 ? null : bounded(Math.max(...usable));
}

const headerMs = (header: string, sentMs: number): number =>
  /^\d+(\.\d+)?$/.test(header) ? Number(header) * 1000 : Date.parse(header) - sentMs;

const bounded = (ms: number): number => Math.min(Math.ceil(ms), LONGEST_RETRY_AFTER_MS);

function settled(answer: Answer): Heard {
  return { kind: 'answer', answer, why: null, isItsWord: true, settles: true };
}

function refusal(why: 'unauthorized' | 'forbidden'): Heard {
  return { kind: 'answer', answer: { kind: 'refused' }, why, isItsWord: true, settles: false };
}

function failure(reached: boolean, why: HomeserverFailure, isItsWord = false): Heard {
  return { kind: 'answer', answer: { kind: 'failed', reached }, why, isItsWord, settles: false };
}

function transportWhy(why: Extract<Reply, { kind: 'failed' }>['why']): HomeserverFailure {
  return why === 'too_large' || why === 'redirects' ? 'garbage' : why;
}

function isObject(json: unknown): json is Readonly<Record<string, unknown>> {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

/** Undefined: it has none, or is no object. */
export function field(json: unknown, name: string): unknown {
  return isObject(json) ? json[name] : undefined;
}
