// Parses the headers and bodies of requests that a homeserver passes on (MSC4195 by way of MSC4512), or throws one error that names the
// fault. Unknown fields are ignored here, unlike in the API for clients: this one is still growing, and must bear clients that are newer
// than we are.
import type { output as Output } from 'zod';
import { type DelayId, parseDelayId, type ServerName, type UserId } from '../delegation/ids.ts';
import type { ProxiedMember } from '../delegation/names.ts';
import { parsePrintableUserId, parseServerName, serverOf } from '../homeserver/names.ts';
import { z } from '../library-parts.ts';
import { MatrixError } from './errors.ts';
import { bad, GRAMMAR, parseAs, parseJson, required } from './fields.ts';

/** A membership without its user, whom the homeserver names in a header or field of its own. */
export type Membership = Omit<ProxiedMember, 'userId'>;

export interface TokenRequest {
  /** The SFU's URL; null: not given, which is allowed only for another server's SFU. */
  readonly url: string | null;
  /** Whose SFU it is; null: our own. */
  readonly serverName: ServerName | null;
  readonly membership: Membership;
}

export interface LeaveRequest {
  /** The SFU's URL; null: not given, as the proposal has it. It would have to be that of our own SFU. */
  readonly url: string | null;
  readonly membership: Membership;
  readonly delayId: DelayId;
}

export interface FederatedRequest {
  readonly url: string;
  readonly userId: UserId;
  readonly membership: Membership;
}

const text = z.string('must be a text').nullish();
const member = z.looseObject({ id: text, claimed_device_id: text }, 'must be an object').nullish();
const Body = z.looseObject(
  { url: text, server_name: text, room_id: text, slot_id: text, member_id: text, member, delay_id: text, user_id: text },
  'must be an object',
);
type Fields = Output<typeof Body>;

/** @throws MatrixError 400 */
export function parseTokenRequest(bytes: Uint8Array): TokenRequest {
  const body = read(bytes);
  const named = body.server_name ?? null;
  const serverName = named === null ? null : parseServerName(named);
  if (named !== null && serverName === null) throw new MatrixError(400, 'M_INVALID_PARAM', 'server_name is not a server name');
  return {
    url: optionalUrl(body),
    serverName,
    membership: membershipOf(body),
  };
}

/** @throws MatrixError 400 */
export function parseLeaveRequest(bytes: Uint8Array): LeaveRequest {
  const body = read(bytes);
  const url = optionalUrl(body);
  const membership = membershipOf(body);
  const delayId = parseDelayId(required('delay_id', body.delay_id));
  if (delayId === null) throw bad(['delay_id'], GRAMMAR);
  return { url, membership, delayId };
}

/** @throws MatrixError 400 */
export function parseFederatedRequest(bytes: Uint8Array): FederatedRequest {
  const body = read(bytes);
  const url = required('url', body.url);
  const userId = userOf(required('user_id', body.user_id));
  if (userId === null) throw new MatrixError(400, 'M_INVALID_PARAM', 'user_id is not a user id');
  return { url, userId, membership: membershipOf(body) };
}

/** The user whom the homeserver has authenticated. @throws MatrixError 401 (missing), 400 */
export function parseUserHeader(header: string | undefined): UserId {
  if (header === undefined || header === '') throw new MatrixError(401, 'M_UNAUTHORIZED', 'X-Matrix-User-Identifier is required');
  const userId = userOf(header);
  if (userId === null) throw new MatrixError(400, 'M_INVALID_PARAM', 'X-Matrix-User-Identifier is not a user id');
  return userId;
}

/** The server that our homeserver has authenticated. @throws MatrixError 401 (missing), 400 */
export function parseOriginHeader(header: string | undefined): ServerName {
  if (header === undefined || header === '') throw new MatrixError(401, 'M_UNAUTHORIZED', 'X-Matrix-Origin is required');
  const origin = parseServerName(header);
  if (origin === null) throw new MatrixError(400, 'M_INVALID_PARAM', 'X-Matrix-Origin is not a server name');
  return origin;
}

/** The fields by which a membership is named to another server, in the form in which the client named it to us. */
export function membershipFields({ roomId, slotId, memberId, deviceId }: Membership): Record<string, unknown> {
  const named = deviceId === null ? { member_id: memberId } : { member: { id: memberId, claimed_device_id: deviceId } };
  return { room_id: roomId, slot_id: slotId, ...named };
}

function optionalUrl({ url }: Fields): string | null {
  return url === undefined || url === null ? null : required('url', url);
}

function userOf(value: string): UserId | null {
  const userId = parsePrintableUserId(value);
  return userId === null || parseServerName(serverOf(userId)) === null ? null : userId;
}

function read(bytes: Uint8Array): Fields {
  return parseAs(Body, parseJson(bytes));
}

/** `member_id`, or the older `member` object with the claimed device in its place. */
function membershipOf(body: Fields): Membership {
  const roomId = required('room_id', body.room_id);
  // As a segment of a path of the homeserver's they would lead to another one.
  if (roomId === '.' || roomId === '..') throw new MatrixError(400, 'M_INVALID_PARAM', 'room_id is not a room id');
  const slotId = required('slot_id', body.slot_id);
  if (body.member_id !== undefined && body.member_id !== null) {
    return { roomId, slotId, memberId: required('member_id', body.member_id), deviceId: null };
  }
  if (body.member === undefined || body.member === null) throw bad(['member_id'], 'is required');
  const device = body.member.claimed_device_id ?? null;
  const deviceId = device === null ? null : required('member.claimed_device_id', device);
  return { roomId, slotId, memberId: required('member.id', body.member.id), deviceId };
}
