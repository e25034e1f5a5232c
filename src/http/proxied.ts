// The API behind a homeserver (MSC4195, MSC4512): it authenticates users and other servers, and passes their requests on to us, its
// application service. What it says about them is believed because it proves itself by the hs_token.
//
//   method ─▶ hs_token ─▶ who asks (header) ─▶ JSON, fields ─▶ url ─▶ member of the room? ─▶ room on the SFU ─▶ token
//                                                            └▶ another server's SFU: relayed    delayed event ─▶ delegation
import { createHash, timingSafeEqual } from 'node:crypto';
import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { createMiddleware } from 'hono/factory';
import type { Clock } from '../clock.ts';
import type { ServerName, UserId } from '../delegation/ids.ts';
import { memberRoom, type ProxiedMember, proxiedIdentity } from '../delegation/names.ts';
import type { Engine } from '../engine/engine.ts';
import type { ApplicationService, Failed, Relayed, Subject } from '../homeserver/application-service.ts';
import { serverOf } from '../homeserver/names.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { onceAMinute } from '../once-a-minute.ts';
import type { RoomCreation } from '../sfu/room-creation.ts';
import type { Tokens } from '../sfu/tokens.ts';
import type { Attendance } from '../store/attendance.ts';
import type { Bodies } from './body.ts';
import { countingRefusals } from './counted.ts';
import { MatrixError, methodNotAllowed, unavailable } from './errors.ts';
import { leaveOrProbe } from './matrixrtc.ts';
import type { Memberships } from './memberships.ts';
import {
  type LeaveRequest,
  membershipFields,
  parseFederatedRequest,
  parseLeaveRequest,
  parseOriginHeader,
  parseTokenRequest,
  parseUserHeader,
  type TokenRequest,
} from './proxied-requests.ts';
import type { RateLimit } from './rate-limit.ts';
import { handedLeave } from './requests.ts';

export interface Proxied {
  readonly service: ApplicationService;
  readonly hsToken: string;
  /** The SFU's URL for clients, to the letter. */
  readonly url: string;
  readonly canUpdateOwnMetadata: boolean;
  readonly tokens: Tokens;
  readonly roomCreation: RoomCreation;
  /** Null: nobody looks whether participants are still in the Matrix room. */
  readonly attendance: Pick<Attendance, 'track'> | null;
  readonly identities: Pick<Attendance, 'give' | 'givenTo'>;
}

export interface ProxiedDeps extends Proxied {
  readonly memberships: Memberships<ProxiedMember>;
  readonly engine: Pick<Engine, 'canKeep'>;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly bodies: Bodies;
  readonly limit: RateLimit<UserId>;
  readonly isOpen: () => boolean;
  readonly assertOpen: () => void;
}

/** The path's version. Another server is asked under the one that our client used. */
const EDITIONS = ['v1', 'unstable/io.element.msc4195'] as const;
type Edition = (typeof EDITIONS)[number];

const MOST_BYTES = 64 * 1024;

export function proxiedRoutes(deps: ProxiedDeps): Hono {
  const app = new Hono();
  const authentic = homeserverOnly(deps);
  const bodyOf = (c: Context): Promise<Buffer> => deps.bodies.read(c, MOST_BYTES);

  for (const edition of EDITIONS) {
    const [client, federation] = [`/_matrix/client/${edition}/rtc/livekit`, `/_matrix/federation/${edition}/rtc/livekit`];
    const [getToken, delegate] = [`${client}/get_token`, `${client}/delegate_delayed_leave`];
    for (const path of [getToken, delegate]) {
      app.use(path, crossOrigin);
      app.options(path, (c) => c.body(null, 200));
    }
    app.post(getToken, authentic, byUser, async (c) => {
      return c.json(await tokenForUser(deps, c.var.userId, parseTokenRequest(await bodyOf(c)), edition));
    });
    app.post(delegate, authentic, byUser, async (c) => {
      const askedAtMs = deps.clock.nowMs();
      const bytes = await bodyOf(c);
      const request = await leaveOrProbe(deps, () => parseLeaveRequest(bytes));
      await countingRefusals(deps.metrics, async () => delegateLeave(deps, { ...request, userId: c.var.userId, askedAtMs }));
      return c.json({});
    });
    const guestToken = `${federation}/get_token`;
    app.post(guestToken, authentic, byServer, async (c) => {
      return c.json(await tokenForGuest(deps, c.var.origin, await bodyOf(c)));
    });
    for (const path of [getToken, delegate]) app.all(path, (c) => methodNotAllowed(c, 'POST, OPTIONS'));
    app.all(guestToken, (c) => methodNotAllowed(c, 'POST'));
  }

  app.post('/_matrix/app/v1/ping', authentic, (c) => c.json({}));
  app.all('/_matrix/app/v1/ping', (c) => methodNotAllowed(c, 'POST'));
  // The registration asks for no events (`url: null`); a homeserver that sends some all the same would repeat for ever what is refused.
  app.put('/_matrix/app/v1/transactions/:id', authentic, (c) => c.json({}));
  app.all('/_matrix/app/v1/transactions/:id', (c) => methodNotAllowed(c, 'PUT'));
  return app;
}

/** The CORS headers that the client-server API asks for; on refusals too, or a page could not read them. */
async function crossOrigin(c: Context, next: () => Promise<void>): Promise<void> {
  c.header('Access-Control-Allow-Origin', '*');
  c.header('Access-Control-Allow-Methods', 'POST, OPTIONS');
  c.header('Access-Control-Allow-Headers', 'X-Requested-With, Content-Type, Authorization');
  await next();
}

/**
 * The homeserver hands every answer to the client as it is, and M_UNKNOWN_TOKEN makes clients log their user out. So a homeserver that has
 * another hs_token than we do is worth a loud word; a stranger who guesses may make one a minute.
 */
function homeserverOnly({ hsToken, clock, log }: ProxiedDeps): MiddlewareHandler {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const expected = digest(hsToken);
  const mayTell = onceAMinute(clock);
  const refused = (): void => {
    if (!mayTell()) return;
    log.error({}, 'a request came with another hs_token: if it was of the homeserver, its registration file and ours differ');
  };
  return async (c, next) => {
    const given = /^Bearer +(\S+)$/i.exec(c.req.header('Authorization') ?? '')?.[1];
    if (given === undefined) throw new MatrixError(401, 'M_MISSING_TOKEN', 'The hs_token is required');
    if (timingSafeEqual(digest(given), expected)) return next();
    refused();
    throw new MatrixError(401, 'M_UNKNOWN_TOKEN', 'This is not the hs_token');
  };
}

const byUser = createMiddleware<{ Variables: { userId: UserId } }>(async (c, next) => {
  c.set('userId', parseUserHeader(c.req.header('X-Matrix-User-Identifier')));
  await next();
});

const byServer = createMiddleware<{ Variables: { origin: ServerName } }>(async (c, next) => {
  c.set('origin', parseOriginHeader(c.req.header('X-Matrix-Origin')));
  await next();
});

async function tokenForUser(
  deps: ProxiedDeps,
  userId: UserId,
  request: TokenRequest,
  edition: Edition,
): Promise<{ jwt: string; url?: string }> {
  const { service, roomCreation, url } = deps;
  const { serverName, membership } = request;
  const isOurs = serverName === null || serverName === service.home.serverName;
  if (isOurs) assertOurSfu(deps, request.url);
  assertWithinLimit(deps, userId);
  await assertJoined(deps, membership.roomId, { userId });
  if (!isOurs) return relay(deps, userId, { ...request, serverName }, edition);
  const member: ProxiedMember = { ...membership, userId };
  if (!(await roomCreation.create(memberRoom(member)))) throw new MatrixError(500, 'M_UNKNOWN', 'The room could not be made on the SFU');
  return { url, jwt: await grant(deps, member, 'publish') };
}

/** For users of another server, who publish on their own SFU and only listen on ours. */
async function tokenForGuest(deps: ProxiedDeps, origin: ServerName, bytes: Buffer): Promise<{ jwt: string; url: string }> {
  const { service, url } = deps;
  const request = parseFederatedRequest(bytes);
  const { userId, membership } = request;
  if (serverOf(userId) !== origin) throw new MatrixError(403, 'M_FORBIDDEN', 'user_id is of another server than the one that asks');
  assertOurSfu(deps, request.url);
  assertWithinLimit(deps, userId);
  await assertJoined(deps, membership.roomId, { serverName: service.home.serverName });
  await assertJoined(deps, membership.roomId, { userId });
  return { url, jwt: await grant(deps, { ...membership, userId }, 'listen') };
}

/** Makes the token. Before it is handed out, the participant is recorded, so that it is found when it leaves the Matrix room. */
async function grant(deps: ProxiedDeps, member: ProxiedMember, may: 'publish' | 'listen'): Promise<string> {
  const { tokens, attendance, memberships, clock, canUpdateOwnMetadata } = deps;
  const { roomId, userId } = member;
  const [room, identity] = [memberRoom(member), proxiedIdentity(member)];
  const stay = { roomId, room, identity, userId, grantedAtMs: clock.nowMs() };
  await Promise.all([attendance?.track(stay), memberships.given(member, identity)]);
  const rights = may === 'publish' ? { canPublish: true } : { canPublish: false, roomCreate: false as const };
  return tokens.join({ room, identity, canUpdateOwnMetadata, ...rights });
}

function assertWithinLimit({ limit }: ProxiedDeps, userId: UserId): void {
  const waitMs = limit.take(userId);
  if (waitMs > 0) throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many tokens for this user', waitMs);
}

function assertOurSfu({ url }: ProxiedDeps, asked: string | null): void {
  if (asked === null) throw new MatrixError(400, 'M_BAD_JSON', 'url is required');
  if (asked !== url) throw new MatrixError(400, 'M_INVALID_PARAM', 'url is not an SFU of this server');
}

/**
 * Who is not in the room gets 403 M_FORBIDDEN. MSC4195 asks for 401 M_UNAUTHORIZED, but to Matrix clients 401 is about their access
 * token, which is fine here: many answer it with a refresh or a logout, neither of which helps. 403 is what the client-server API says
 * elsewhere to those who are not in a room, and what other services of this API answer and pass on between servers.
 */
async function assertJoined(deps: ProxiedDeps, roomId: string, subject: Subject): Promise<void> {
  const answer = await deps.service.isJoined(roomId, subject);
  if (answer.kind === 'failed') throw unanswered(deps, 'membership', answer);
  if (answer.kind === 'joined') return;
  throw new MatrixError(403, 'M_FORBIDDEN', 'Only members of the room may do this');
}

/** 503: neither a yes nor a no, so nothing is granted, and the client is to come again. */
function unanswered({ log }: ProxiedDeps, what: string, { why, retryAfterMs }: Failed): MatrixError {
  log.warn({ what, why }, 'our homeserver did not answer its application service');
  return unavailable('The homeserver can not be asked now', retryAfterMs ?? undefined);
}

type RemoteRequest = TokenRequest & { readonly serverName: ServerName };

async function relay(deps: ProxiedDeps, userId: UserId, request: RemoteRequest, edition: Edition): Promise<{ jwt: string }> {
  const { serverName, membership, url } = request;
  const body = { user_id: userId, ...(url === null ? {} : { url }), ...membershipFields(membership) };
  const path = `/_matrix/federation/${edition}/rtc/livekit/get_token`;
  const answer = await deps.service.relay({ destination: serverName, path, body });
  if (answer.kind === 'relayed') return tokenOf(deps, answer);
  deps.log.warn({ why: answer.why, destination: serverName }, 'our homeserver did not pass a request on');
  throw new MatrixError(502, 'M_UNKNOWN', 'The other server could not be asked');
}

/**
 * Two refusals are passed on, because they mean something to the client; everything else is 502. The other server's texts are never
 * repeated.
 */
function tokenOf({ log }: ProxiedDeps, { status, content }: Extract<Relayed, { kind: 'relayed' }>): { jwt: string } {
  const field = (name: string): unknown =>
    typeof content === 'object' && content !== null ? (content as Readonly<Record<string, unknown>>)[name] : undefined;
  const jwt = field('jwt');
  if (status === 200 && typeof jwt === 'string' && jwt !== '') return { jwt };
  const errcode = field('errcode');
  if (status === 403 && errcode === 'M_FORBIDDEN') throw new MatrixError(403, 'M_FORBIDDEN', 'The other server refused');
  if (status === 400 && errcode === 'M_INVALID_PARAM')
    throw new MatrixError(400, 'M_INVALID_PARAM', 'The other server refused a parameter');
  log.warn({ status }, 'another server gave no token');
  throw new MatrixError(502, 'M_UNKNOWN', 'The other server gave no token');
}

type AskedLeave = LeaveRequest & { readonly userId: UserId; readonly askedAtMs: number };

async function delegateLeave(deps: ProxiedDeps, { url, membership, delayId, userId, askedAtMs }: AskedLeave): Promise<void> {
  const { memberships, service } = deps;
  deps.assertOpen();
  if (url !== null) assertOurSfu(deps, url);
  const found = await service.scheduled(delayId, userId);
  if (found.kind === 'failed') throw unanswered(deps, 'delayed event', found);
  // The same answer for both: whether the event exists in another room is nobody's business.
  if (found.kind === 'none' || found.roomId !== membership.roomId) {
    throw new MatrixError(400, 'M_INVALID_PARAM', 'delay_id is not a delayed event of this user in this room');
  }
  const homeserver = service.home.url;
  if (homeserver === null) throw unavailable('The homeserver can not be asked now');
  const leave = handedLeave({ kind: 'delay', delayId }, found.delayMs);
  await memberships.handOver({ ...membership, userId }, { homeserver, askedAtMs, ...leave });
}
