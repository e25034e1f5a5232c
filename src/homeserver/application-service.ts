// What we ask of our own homeserver as its application service: who is in a room (MSC4502), what a delayed event is (MSC4140), and to pass
// a request on to another homeserver (MSC4512). Proposals move from unstable to stable paths: which of the two is there is found by asking.
import type { Clock } from '../clock.ts';
import type { DelayId, HomeserverUrl, ServerName, UserId } from '../delegation/ids.ts';
import { z } from '../library-parts.ts';
import { asUser, field, hear, retryAfterMs } from './dialect.ts';
import type { HomeserverFailure } from './failures.ts';
import type { Home } from './home.ts';
import type { Outbound, Reply, Request } from './outbound.ts';

/** No answer to the question: nothing may be concluded. */
export interface Failed {
  readonly kind: 'failed';
  readonly why: HomeserverFailure;
  /** After how many ms to ask again, if the homeserver said so. */
  readonly retryAfterMs: number | null;
}

export type Subject = { readonly userId: UserId } | { readonly serverName: ServerName };
export type Joined = { readonly kind: 'joined' | 'not_joined' } | Failed;
export type Members = { readonly kind: 'members'; readonly userIds: ReadonlySet<string> } | Failed;
export type Scheduled =
  | { readonly kind: 'scheduled'; readonly roomId: string; readonly delayMs: number }
  | { readonly kind: 'none' }
  | Failed;
/** What another homeserver answered. */
export type Relayed = { readonly kind: 'relayed'; readonly status: number; readonly content: unknown } | Failed;

export interface FederationCall {
  readonly destination: ServerName;
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** None of these throws. Each answers within ten seconds, or twenty where it has to try the other path. */
export interface ApplicationService {
  readonly home: Home;
  isJoined(roomId: string, subject: Subject): Promise<Joined>;
  joinedMembers(roomId: string): Promise<Members>;
  /** The delayed event, if it is this user's and has not been sent or cancelled yet. */
  scheduled(delayId: DelayId, userId: UserId): Promise<Scheduled>;
  relay(call: FederationCall): Promise<Relayed>;
}

export interface ApplicationServiceDeps {
  readonly clock: Clock;
  readonly home: Home;
  readonly outbound: Outbound;
  readonly asToken: string;
  readonly onFailure?: (homeserver: HomeserverUrl, why: HomeserverFailure) => void;
}

const TIMEOUT_MS = 10_000;
/** The members of a very large room, from a homeserver that is our own. */
const MOST_MEMBERS_BYTES = 32 * 1024 * 1024;
const CLIENT = '/_matrix/client';
const segment = encodeURIComponent;
/** As segments of a path URL parsers fold these away, however they are encoded, and another path would be called. No room is named so. */
const isFolded = (roomId: string): boolean => roomId === '.' || roomId === '..';

const JoinedBody = z.object({ joined: z.boolean() });
const MembersBody = z.object({ joined: z.record(z.string(), z.unknown()) });
/**
 * MSC4140 has had two names for two of these: `delay` is `delay_ms` now, and `finalised_ts` is in `finalised`.
 */
const ScheduledBody = z.object({
  room_id: z.string(),
  delay_ms: z.int().positive().nullish(),
  delay: z.int().positive().nullish(),
  finalised_ts: z.unknown().optional(),
  finalised: z.unknown().optional(),
});
const RelayedBody = z.object({ status: z.int().min(100).max(599), content: z.unknown().optional() });

type Asked = Omit<Request, 'url' | 'timeoutMs' | 'headers'>;

export function createApplicationService(deps: ApplicationServiceDeps): ApplicationService {
  const { clock, home, outbound, asToken } = deps;
  const authorization = `Bearer ${asToken}`;

  async function ask(path: string, asked: Asked): Promise<Reply> {
    const url = await home.resolve();
    if (url === null) return { kind: 'failed', reached: false, why: 'refused' };
    const headers = { authorization, ...(asked.body === undefined ? {} : { 'content-type': 'application/json' }) };
    return outbound.request({ ...asked, url: `${url}${path}`, headers, timeoutMs: TIMEOUT_MS });
  }

  /** Asks under the prefix that answered last (at first the unstable one), and under the other if the homeserver does not know it. */
  function eitherOf(unstable: string, stable: string): (rest: string, asked: Asked) => Promise<Reply> {
    let known = unstable;
    return async (rest, asked) => {
      const [first, second] = known === stable ? [stable, unstable] : [unstable, stable];
      const reply = await ask(`${CLIENT}${first}${rest}`, asked);
      if (!isUnrecognised(reply)) return reply;
      const other = await ask(`${CLIENT}${second}${rest}`, asked);
      if (!isUnrecognised(other)) known = second;
      return other;
    };
  }

  function failed(reply: Reply): Failed {
    const heard = hear(reply, { proven: false, nowMs: clock.nowMs() });
    const why = heard.kind === 'unrecognised' ? 'dialect' : heard.kind === 'unauthenticated' ? 'unauthorized' : (heard.why ?? 'garbage');
    if (home.url !== null) deps.onFailure?.(home.url, why);
    return { kind: 'failed', why, retryAfterMs: reply.kind === 'answered' ? retryAfterMs(reply, clock.nowMs()) : null };
  }

  const membership = eitherOf('/unstable/io.element.msc4502/rooms/', '/v3/rooms/');
  const events = eitherOf('/unstable/org.matrix.msc4140/delayed_events/', '/v1/delayed_events/');
  const proxy = eitherOf('/unstable/io.element.msc4512/appservice/fed_proxy', '/v1/appservice/fed_proxy');

  return {
    home,
    isJoined: async (roomId, subject) => {
      if (isFolded(roomId)) return { kind: 'not_joined' };
      const query = 'userId' in subject ? `mxid=${segment(subject.userId)}` : `server_name=${segment(subject.serverName)}`;
      const reply = await membership(`${segment(roomId)}/is_joined?${query}`, { method: 'GET' });
      const body = JoinedBody.safeParse(bodyOf(reply));
      if (body.success) return { kind: body.data.joined ? 'joined' : 'not_joined' };
      // By the homeserver's word this can't be a room, so no user is in it. About a server only a plain no counts, for that closes rooms.
      return 'userId' in subject && isError(reply, 400, 'M_INVALID_PARAM') ? { kind: 'not_joined' } : failed(reply);
    },
    joinedMembers: async (roomId) => {
      if (isFolded(roomId)) return { kind: 'members', userIds: new Set() };
      const reply = await ask(`${CLIENT}/v3/rooms/${segment(roomId)}/joined_members`, { method: 'GET', mostBytes: MOST_MEMBERS_BYTES });
      const body = MembersBody.safeParse(bodyOf(reply));
      return body.success ? { kind: 'members', userIds: new Set(Object.keys(body.data.joined)) } : failed(reply);
    },
    scheduled: async (delayId, userId) => {
      const reply = await events(`${segment(delayId)}${asUser(userId)}`, { method: 'GET' });
      if (isError(reply, 404, 'M_NOT_FOUND')) return { kind: 'none' };
      const body = ScheduledBody.safeParse(bodyOf(reply));
      const delayMs = body.data?.delay_ms ?? body.data?.delay ?? null;
      if (!body.success || delayMs === null) return failed(reply);
      const isFinal = (body.data.finalised ?? body.data.finalised_ts ?? null) !== null;
      return isFinal ? { kind: 'none' } : { kind: 'scheduled', roomId: body.data.room_id, delayMs };
    },
    relay: async ({ destination, path, body }) => {
      const reply = await proxy('', { method: 'POST', body: JSON.stringify({ destination, method: 'POST', path, body }) });
      const relayed = RelayedBody.safeParse(bodyOf(reply));
      return relayed.success ? { kind: 'relayed', status: relayed.data.status, content: relayed.data.content } : failed(reply);
    },
  };
}

/** Undefined unless it is answered with 200. */
function bodyOf(reply: Reply): unknown {
  return reply.kind === 'answered' && reply.status === 200 ? reply.json : undefined;
}

function isUnrecognised(reply: Reply): boolean {
  return hear(reply, { proven: false, nowMs: 0 }).kind === 'unrecognised';
}

function isError(reply: Reply, status: number, errcode: string): boolean {
  return reply.kind === 'answered' && reply.status === status && field(reply.json, 'errcode') === errcode;
}
