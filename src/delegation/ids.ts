// Branded ids: a value of one of these types has passed its parser, so that it is checked once, where it comes in.
// Room and identity are the SFU's names, opaque to us. Delay ids and future tokens are capabilities, and must never be logged.
import { hash } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

export type DelegationId = Branded<'DelegationId'>;
/** A LiveKit room name. */
export type RoomName = Branded<'RoomName'>;
/** A LiveKit participant identity. */
export type Identity = Branded<'Identity'>;
/** A LiveKit participant session id (`PA_…`): one per connection, unlike the identity. */
export type Sid = Branded<'Sid'>;
/** A LiveKit room session id (`RM_…`): a new one after the SFU forgot the room. */
export type RoomSid = Branded<'RoomSid'>;
/** MSC4140 `delay_id`: whoever has it can send, restart or cancel that event. */
export type DelayId = Branded<'DelayId'>;
/** A token of the futures dialect (MSC4140 of June 2024): it says by itself whether it sends, refreshes or cancels. */
export type FutureToken = Branded<'FutureToken'>;
/** A client-server API base URL without a trailing slash. */
export type HomeserverUrl = Branded<'HomeserverUrl'>;
export type ServerName = Branded<'ServerName'>;
export type UserId = Branded<'UserId'>;
/** One delayed event of one homeserver, as a hash that does not show its handle. */
export type EventHash = Branded<'EventHash'>;
/** Whose delegation it is, as a hash. An owner has one live delegation at most: a newer one supersedes it. */
export type Owner = Branded<'Owner'>;

/** Matrix opaque identifiers: 1–255 of `0-9 A-Z a-z . _ ~ -` (Matrix specification, appendices). */
const OPAQUE = /^[0-9A-Za-z._~-]{1,255}$/;
/** `@user:server:DEVICE`, the identity of older MatrixRTC clients, which shows the user id. */
const USER_IN_IDENTITY = /^(@[^:]*:(?:\[[0-9A-Fa-f:.]+\]|[^:[\]]+)(?::\d{1,5})?):[^:]+$/;

const nonEmpty = (value: string): boolean => value.length > 0;

function parser<T extends string>(accepts: (value: string) => boolean): (value: string) => T | null {
  return (value) => (accepts(value) ? (value as T) : null);
}

export const parseDelegationId = parser<DelegationId>((value) => /^dg_[0-9A-Za-z_-]{22}$/.test(value));
export const parseRoomName = parser<RoomName>(nonEmpty);
export const parseIdentity = parser<Identity>(nonEmpty);
export const parseSid = parser<Sid>(nonEmpty);
export const parseRoomSid = parser<RoomSid>(nonEmpty);
// `.` and `..` match the grammar, but as segments of a path URL parsers fold them away, and another resource would be called.
const isOpaque = (value: string): boolean => OPAQUE.test(value) && value !== '.' && value !== '..';
export const parseDelayId = parser<DelayId>(isOpaque);
export const parseFutureToken = parser<FutureToken>(isOpaque);
export const parseUserId = parser<UserId>((value) => /^@[^:]*:.+$/.test(value) && value.length <= 255);

/** A new delegation id from 16 random bytes; it is public (logs, API) and says nothing about its delegation. */
export function delegationId(random: Uint8Array): DelegationId {
  return `dg_${Buffer.from(random).toString('base64url')}` as DelegationId;
}

/** The owner of the native API: one live delegation for each participant of the SFU. */
export function participantOwner(room: RoomName, identity: Identity): Owner {
  return `participant:${sha256(JSON.stringify([room, identity]))}` as Owner;
}

/** The Matrix user of an identity in the clear form (`user_id:device_id`), null for a pseudonymous one. */
export function userInIdentity(identity: Identity): UserId | null {
  const user = USER_IN_IDENTITY.exec(identity)?.[1];
  return user === undefined ? null : parseUserId(user);
}

/** SHA-256 as unpadded base64 (MSC4195's form): names something without showing it. */
export function sha256(text: string): string {
  return hash('sha256', text, 'base64').replace(/=+$/, '');
}
