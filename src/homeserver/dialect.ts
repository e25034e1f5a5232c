// The dialects of MSC4140 that homeservers speak (protocol.md §1): how each writes a call, in which order to try them, and what an
// answer says. Pure; delayed-events.ts does the calling.
import type { DelayId, FutureToken, UserId } from '../delegation/ids.ts';
import type { Answer } from '../delegation/state.ts';
import type { HomeserverFailure } from './failures.ts';
import type { Reply } from './outbound.ts';

export type Call =
  | { readonly kind: 'token'; readonly token: FutureToken }
  | { readonly kind: 'delay'; readonly delayId: DelayId; readonly action: 'send' | 'restart' | 'cancel' };

/** A: futures, the token says what to do. B: action in the body. C: action in the path. D: C's form on the stable path. */
export type Dialect = 'A-stable' | 'A-unstable' | 'B' | 'C' | 'D';

/** What `GET /versions` told; null: nothing, for want of an answer. */
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

/** Whether this is what a homeserver says of its versions, and no page of a proxy before it. */
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

/** A first leave must not wait for an answer that changes nothing. */
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

/** By the text of D only the owner may act. */
export const needsNoOwner = (dialect: Dialect): boolean => dialect !== 'D';

/** Whether it is the one who asks that the homeserver does not want, or may be. */
export function refusalOf(reply: Reply): 'unauthorized' | 'forbidden' | null {
  if (reply.kind === 'failed' || field(reply.json, 'errcode') === 'M_UNRECOGNIZED') return null;
  if (reply.status === 401) return 'unauthorized';
  return reply.status === 403 ? 'forbidden' : null;
}

export type Heard =
  | { readonly kind: 'answer'; readonly answer: Answer; readonly why: HomeserverFailure | null; readonly settles: boolean }
  /** The homeserver does not know this endpoint. */
  | { readonly kind: 'unrecognised' }
  /** It knows the endpoint, and wants an authentication that we do not have. */
  | { readonly kind: 'unauthenticated' };

/**
 * What a reply says. `proven`: this dialect has done what it was asked at this homeserver, so a bare 404 speaks of the event and no longer of
 * the endpoint. An answer that `settles` shows that the dialect is the right one.
 */
export function hear(reply: Reply, at: { readonly proven: boolean; readonly nowMs: number }): Heard {
  if (reply.kind === 'failed') return failure(reply.reached, transportWhy(reply.why));
  const { status, json } = reply;
  const errcode = field(json, 'errcode');
  if (status >= 200 && status < 300) return isDone(reply) ? settled({ kind: 'ok' }) : failure(true, 'garbage');
  if (status >= 400 && status < 500 && errcode === 'M_UNRECOGNIZED') return { kind: 'unrecognised' };
  if (status === 404 || status === 405) return missing(status, errcode, at.proven);
  if (status === 410) return settled({ kind: 'final', how: 'gone' });
  if (status === 409) return settled({ kind: 'final', how: 'conflict' });
  if (status === 401 && errcode === 'M_MISSING_TOKEN') return { kind: 'unauthenticated' };
  const why = refusalOf(reply);
  if (why !== null) return { kind: 'answer', answer: { kind: 'refused' }, why, settles: false };
  if (status === 429) {
    const answer: Answer = { kind: 'limited', retryAfterMs: retryAfterMs(reply, at.nowMs) };
    return { kind: 'answer', answer, why: 'limited', settles: false };
  }
  return failure(true, status >= 500 ? 'status_5xx' : 'garbage');
}

/** Not found, and no word of what: a proxy says the same while the homeserver behind it is being started anew. */
export function isBareNotFound(reply: Reply): boolean {
  return reply.kind === 'answered' && reply.status === 404 && field(reply.json, 'errcode') === undefined;
}

/** 200 has a JSON object; other codes of success need no body. What else has one is a page of somebody in between, which did nothing. */
function isDone({ status, json, empty }: Extract<Reply, { kind: 'answered' }>): boolean {
  return isObject(json) || (empty && status !== 200);
}

function missing(status: number, errcode: unknown, proven: boolean): Heard {
  if (status === 404 && errcode === 'M_NOT_FOUND') return settled({ kind: 'final', how: 'gone' });
  if (errcode !== undefined) return failure(true, 'garbage');
  if (!proven) return { kind: 'unrecognised' };
  return status === 404 ? settled({ kind: 'final', how: 'gone' }) : failure(true, 'garbage');
}

/**
 * The longer of the header (seconds or a date) and the body's hint, within bounds. Synapse's header is the body's hint, rounded up to whole
 * seconds: then the body is exact, and what a limit lets through can be measured by it.
 */
export function retryAfterMs({ headers, json }: Extract<Reply, { kind: 'answered' }>, nowMs: number): number | null {
  const header = headers['retry-after'];
  const sentMs = Date.parse(headers.date ?? '');
  // A date is one of the clock that wrote it, and that may be minutes off ours.
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
  return { kind: 'answer', answer, why: null, settles: true };
}

function failure(reached: boolean, why: HomeserverFailure): Heard {
  return { kind: 'answer', answer: { kind: 'failed', reached }, why, settles: false };
}

function transportWhy(why: Extract<Reply, { kind: 'failed' }>['why']): HomeserverFailure {
  return why === 'too_large' || why === 'redirects' ? 'garbage' : why;
}

function isObject(json: unknown): json is Readonly<Record<string, unknown>> {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

function field(json: unknown, name: string): unknown {
  return isObject(json) ? json[name] : undefined;
}
