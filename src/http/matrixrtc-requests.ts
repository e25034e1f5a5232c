// Parses the bodies of the MatrixRTC authorization API (MSC4195, and what lk-jwt-service made of it), or throws one error that names the
// field. The codes are those of lk-jwt-service, for clients may go by them: an unknown field, or one of the wrong type, is M_NOT_JSON; a
// field that is missing, null or empty is M_BAD_JSON.
import { isIPv4 } from 'node:net';
import type { output as Output, ZodType } from 'zod';
import { parseDelayId, type ServerName } from '../delegation/ids.ts';
import { LEGACY_SLOT } from '../delegation/names.ts';
import { parseServerName, splitServerName } from '../homeserver/names.ts';
import { z } from '../library-parts.ts';
import { MatrixError } from './errors.ts';
import { bad, firstFault, GRAMMAR, parseJson, required, sentence, wellFormed } from './fields.ts';
import { type HandedLeave, handedLeave } from './requests.ts';

export interface MatrixRtcRequest {
  readonly openId: {
    readonly accessToken: string;
    /** Null: no server can have this name. */
    readonly serverName: ServerName | null;
  };
  readonly roomId: string;
  readonly slotId: string;
  readonly deviceId: string;
  /** Null: an older client, whose user is known from the OpenID token alone. */
  readonly member: { readonly id: string; readonly claimedUserId: string } | null;
  /** Null: no leave is handed over. */
  readonly delegation: HandedLeave | null;
}

/** The longest that lk-jwt-service takes: its nanoseconds must fit into 64 bits. */
const LONGEST_DELAY_MS = 9_223_372_036_854;

const text = z.string('must be a text').nullish();
const whole = z.int('must be a whole number').nullish();
/**
 * A 64-bit integer. JavaScript holds large ones only roughly, the largest of all as 2^63, which does not matter: nobody reads the value.
 */
const unread = z
  .number('must be a whole number')
  .refine((value) => Number.isInteger(value) && Math.abs(value) <= 2 ** 63, 'must be a whole number')
  .nullish();
const openIdToken = z
  .strictObject({ access_token: text, token_type: text, matrix_server_name: text, expires_in: unread }, 'must be an object')
  .nullish();
const member = z.strictObject({ id: text, claimed_user_id: text, claimed_device_id: text }, 'must be an object').nullish();
const delegation = { delay_id: text, delay_timeout: whole, delay_cs_api_url: text };

const MemberBody = z.strictObject({ room_id: text, slot_id: text, openid_token: openIdToken, member, ...delegation }, 'must be an object');
const LegacyBody = z.strictObject({ room: text, openid_token: openIdToken, device_id: text, ...delegation }, 'must be an object');

/** /get_token and /delegate_delayed_leave. @throws MatrixError 400 */
export function parseMemberRequest(bytes: Uint8Array): MatrixRtcRequest {
  const body = read(MemberBody, bytes);
  return {
    roomId: required('room_id', body.room_id),
    slotId: required('slot_id', body.slot_id),
    member: { id: required('member.id', body.member?.id), claimedUserId: required('member.claimed_user_id', body.member?.claimed_user_id) },
    deviceId: required('member.claimed_device_id', body.member?.claimed_device_id),
    openId: openIdOf(body.openid_token),
    delegation: delegationOf(body),
  };
}

/** /sfu/get: older clients know one slot, and a device id may be empty. @throws MatrixError 400 */
export function parseLegacyRequest(bytes: Uint8Array): MatrixRtcRequest {
  const body = read(LegacyBody, bytes);
  return {
    roomId: required('room', body.room),
    slotId: LEGACY_SLOT,
    member: null,
    deviceId: wellFormed('device_id', body.device_id ?? ''),
    openId: openIdOf(body.openid_token),
    delegation: delegationOf(body),
  };
}

function read<S extends ZodType>(schema: S, bytes: Uint8Array): Output<S> {
  // lk-jwt-service takes the JSON null for an empty object.
  const json = parseJson(bytes) ?? {};
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const { field, what } = firstFault(result.error, json);
  throw new MatrixError(400, 'M_NOT_JSON', sentence(field, what));
}

function openIdOf(token: Output<typeof openIdToken>): MatrixRtcRequest['openId'] {
  const accessToken = required('openid_token.access_token', token?.access_token);
  return { accessToken, serverName: serverNameOf(required('openid_token.matrix_server_name', token?.matrix_server_name)) };
}

/** Null: no server can have this name. So it is with an IPv4 address in another spelling (`127.1`), a second name of the same server. */
function serverNameOf(text: string): ServerName | null {
  const host = splitServerName(text)?.host ?? '';
  const meant = URL.parse(`https://${host}`)?.hostname ?? '';
  return isIPv4(meant) && meant !== host ? null : parseServerName(text);
}

/** Null: neither half of it is given. `delay_cs_api_url` is ignored: where a homeserver is, its name says, and not the client. */
function delegationOf(body: { delay_id?: string | null | undefined; delay_timeout?: number | null | undefined }): HandedLeave | null {
  const { delay_id, delay_timeout: delayMs } = body;
  if ((delay_id ?? '') === '' && (delayMs ?? 0) <= 0) return null;
  const text = required('delay_id', delay_id);
  if (delayMs === undefined || delayMs === null || delayMs === 0) throw bad(['delay_timeout'], 'is required beside delay_id');
  if (delayMs < 0 || delayMs > LONGEST_DELAY_MS) throw bad(['delay_timeout'], `must be from 1 to ${LONGEST_DELAY_MS}`);
  const delayId = parseDelayId(text);
  if (delayId === null) throw bad(['delay_id'], GRAMMAR);
  return handedLeave({ kind: 'delay', delayId }, delayMs);
}
