// The MatrixRTC authorization API as Element Call speaks it (that of lk-jwt-service, MSC4195): a Matrix user proves who it is by an OpenID
// token, gets a token of the SFU, and may hand its delayed leave over in the same request or in one of its own.
//
// Each request goes the same way, and stops at the first refusal:
//   JSON ─▶ fields ─▶ OpenID (one look-up) ─▶ full access? ─▶ client-server API ─▶ room on the SFU ─▶ delegation ─▶ answer
import { type Context, Hono } from 'hono';
import type { Clock } from '../clock.ts';
import type { HomeserverUrl, ServerName } from '../delegation/ids.ts';
import { legacyIdentity, legacyMemberId, type Member, memberIdentity, memberRoom } from '../delegation/names.ts';
import type { Engine } from '../engine/engine.ts';
import type { Discovery } from '../homeserver/discovery.ts';
import type { OpenId } from '../homeserver/openid.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { RoomCreation } from '../sfu/room-creation.ts';
import type { Tokens } from '../sfu/tokens.ts';
import type { Bodies } from './body.ts';
import { countingRefusals } from './counted.ts';
import { MatrixError } from './errors.ts';
import { type MatrixRtcRequest, parseLegacyRequest, parseMemberRequest } from './matrixrtc-requests.ts';
import type { Memberships } from './memberships.ts';

/** What users may do, by the operator's settings. */
export interface Grants {
  /** The SFU's URL for clients, to the letter. */
  readonly url: string;
  /** Users of these homeservers may have rooms made and leaves kept for them. */
  readonly hasFullAccess: (serverName: ServerName) => boolean;
  readonly restrictedCanPublish: boolean;
  readonly canUpdateOwnMetadata: boolean;
}

export interface MatrixRtc {
  readonly grants: Grants;
  readonly openId: OpenId;
  readonly tokens: Tokens;
  readonly roomCreation: RoomCreation;
}

export interface MatrixRtcDeps extends MatrixRtc {
  readonly memberships: Memberships<Member>;
  readonly engine: Pick<Engine, 'canKeep'>;
  readonly discovery: Discovery;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly bodies: Bodies;
  /** Whether a refusal may be logged at `info` now; else it is at `debug`. */
  readonly mayTell: () => boolean;
  readonly isOpen: () => boolean;
  readonly assertOpen: () => void;
}

/** A request whose OpenID token has been checked. */
interface Authenticated {
  readonly member: Member;
  readonly fullAccess: boolean;
  readonly serverName: ServerName;
}

const PATHS = ['/get_token', '/sfu/get', '/delegate_delayed_leave'] as const;
const JSON_TYPE = { 'Content-Type': 'application/json' };
const MOST_BYTES = 64 * 1024;
const ALLOWED_HEADERS = 'Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token';
const FULL_ACCESS_ONLY = 'Delayed events are delegated for users of full-access homeservers only';

export function matrixRtcRoutes(deps: MatrixRtcDeps): Hono {
  const app = new Hono();
  const token = (parse: (bytes: Uint8Array) => MatrixRtcRequest) => async (c: Context) => {
    const askedAtMs = deps.clock.nowMs();
    const request = parse(await deps.bodies.read(c, MOST_BYTES));
    return c.json(await counted(deps, request, () => getToken(deps, request, askedAtMs)));
  };

  for (const path of PATHS) {
    app.use(path, crossOrigin);
    app.options(path, (c) => c.body(null, 200, JSON_TYPE));
  }
  app.post('/get_token', token(parseMemberRequest));
  app.post('/sfu/get', token(parseLegacyRequest));
  app.post('/delegate_delayed_leave', async (c) => {
    const askedAtMs = deps.clock.nowMs();
    const bytes = await deps.bodies.read(c, MOST_BYTES);
    const request = await leaveOrProbe(deps, () => parseMemberRequest(bytes));
    await counted(deps, request, () => delegateLeave(deps, request, askedAtMs));
    return c.json({});
  });
  for (const path of PATHS) app.all(path, (c) => c.body(null, 405, { ...JSON_TYPE, Allow: 'POST, OPTIONS' }));
  return app;
}

/** CORS headers: clients are web pages of any origin. On refusals too, or a page could not read why it was refused. */
async function crossOrigin(c: Context, next: () => Promise<void>): Promise<void> {
  c.header('Access-Control-Allow-Origin', '*');
  c.header('Access-Control-Allow-Methods', 'POST');
  c.header('Access-Control-Allow-Headers', ALLOWED_HEADERS);
  await next();
}

type Keeping = Pick<MatrixRtcDeps, 'isOpen' | 'engine'>;

/**
 * Element Call asks with an empty body whether delegations are taken, and only 404 means no: then it schedules its leave a few seconds
 * ahead and keeps it up itself, else an hour ahead, and what we could not keep would be a ghost for that hour.
 */
async function assertKeepable({ isOpen, engine }: Keeping): Promise<void> {
  if (!isOpen() || !(await engine.canKeep())) throw new MatrixError(404, 'M_UNRECOGNIZED', 'Delegations can not be kept now');
}

/**
 * Parses a request to hand a leave over. One that is none is taken for the probe, for clients differ in how they write an empty body: it is
 * answered as such, by 404 if nothing can be kept now, else by the parser's error.
 */
export async function leaveOrProbe<T>(deps: Keeping, parse: () => T): Promise<T> {
  try {
    return parse();
  } catch (error) {
    await assertKeepable(deps);
    throw error;
  }
}

/** A request without a leave is not a hand-over, and is not counted as one that was refused. */
function counted<T>({ metrics }: MatrixRtcDeps, { delegation }: MatrixRtcRequest, work: () => Promise<T>): Promise<T> {
  return delegation === null ? work() : countingRefusals(metrics, work);
}

async function getToken(deps: MatrixRtcDeps, request: MatrixRtcRequest, askedAtMs: number): Promise<{ url: string; jwt: string }> {
  const { grants, tokens, roomCreation, memberships } = deps;
  const { delegation } = request;
  if (delegation !== null) deps.assertOpen();
  const authenticated = await authenticate(deps, request);
  const { member, fullAccess } = authenticated;
  if (delegation !== null && !fullAccess) throw new MatrixError(400, 'M_BAD_JSON', FULL_ACCESS_ONLY);
  const homeserver = delegation === null ? null : await resolve(deps, authenticated);
  const room = memberRoom(member);
  const identity = request.member === null ? legacyIdentity(member.userId, member.deviceId) : memberIdentity(member);
  // Beside the call to the SFU.
  const remembered = memberships.given(member, identity);
  if (fullAccess && !(await roomCreation.create(room))) throw new MatrixError(500, 'M_UNKNOWN', 'The room could not be made on the SFU');
  if (delegation !== null && homeserver !== null) await memberships.handOver(member, { homeserver, askedAtMs, ...delegation });
  await remembered;
  const canPublish = fullAccess || grants.restrictedCanPublish;
  const jwt = tokens.join({ room, identity, canPublish, canUpdateOwnMetadata: grants.canUpdateOwnMetadata });
  return { url: grants.url, jwt };
}

async function delegateLeave(deps: MatrixRtcDeps, request: MatrixRtcRequest, askedAtMs: number): Promise<void> {
  const { delegation } = request;
  if (delegation === null) throw new MatrixError(400, 'M_BAD_JSON', 'delay_id and delay_timeout are required');
  deps.assertOpen();
  const authenticated = await authenticate(deps, request);
  if (!authenticated.fullAccess) throw new MatrixError(403, 'M_FORBIDDEN', FULL_ACCESS_ONLY);
  const homeserver = await resolve(deps, authenticated);
  await deps.memberships.handOver(authenticated.member, { homeserver, askedAtMs, ...delegation });
}

/** Whatever is wrong with an OpenID token, the client gets the same answer; the log says why. */
async function authenticate({ openId, grants, log, mayTell }: MatrixRtcDeps, request: MatrixRtcRequest): Promise<Authenticated> {
  const { roomId, slotId, deviceId, member, openId: token } = request;
  const { accessToken, serverName } = token;
  const refuse = (why: string): never => {
    log[mayTell() ? 'info' : 'debug']({ why, homeserver: serverName }, 'an OpenID token was refused');
    throw new MatrixError(401, 'M_UNAUTHORIZED', 'The OpenID token does not prove this user');
  };
  if (serverName === null) return refuse('its server name is none');
  const checked = await openId.check({ accessToken, serverName });
  if (checked.kind === 'refused') return refuse(checked.why);
  const { userId } = checked;
  if (member !== null && member.claimedUserId !== userId) return refuse('it is of another user than the one claimed');
  const memberId = member?.id ?? legacyMemberId(userId, deviceId);
  return { serverName, fullAccess: grants.hasFullAccess(serverName), member: { roomId, slotId, userId, deviceId, memberId } };
}

async function resolve({ discovery, log }: MatrixRtcDeps, { serverName }: Authenticated): Promise<HomeserverUrl> {
  const resolved = await discovery.resolve({ kind: 'name', name: serverName });
  if (resolved.kind === 'resolved') return resolved.url;
  log.warn({ why: resolved.why, homeserver: serverName }, 'the client-server API of a full-access homeserver can not be resolved');
  throw new MatrixError(400, 'M_BAD_JSON', 'Unable to resolve client-server API');
}
