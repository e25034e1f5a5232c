// Reads LiveKit's webhooks: verified first, then turned into one of a few events that can concern a delegation.
import { hash, timingSafeEqual } from 'node:crypto';
import { type Identity, parseIdentity, parseRoomName, parseSid, type RoomName, type RoomSid, sha256 } from '../delegation/ids.ts';
import { causeOfReason } from '../delegation/reasons.ts';
import type { EventOf } from '../delegation/state.ts';
import type { Keys } from './keys.ts';
import { createdAtMsOf, enumOf, joinedAtMsOf, type Message, messageOf, partOf, roomSidOf, textOf } from './protojson.ts';

export type Webhook =
  /** The body is not the one that was signed. */
  | { readonly kind: 'unauthorized' }
  | { readonly kind: 'malformed' }
  /** An event that says nothing about presence. */
  | { readonly kind: 'irrelevant'; readonly event: string }
  | {
      readonly kind: 'participant';
      readonly event: string;
      /** The same for the same webhook sent again. */
      readonly onceKey: string;
      readonly room: RoomName;
      readonly identity: Identity;
      readonly about: AboutParticipant;
    }
  | { readonly kind: 'room'; readonly event: string; readonly onceKey: string; readonly room: RoomName; readonly about: AboutRoom };

export type AboutParticipant = EventOf<'joined' | 'left' | 'aborted'>;
type AboutRoom = EventOf<'room_started' | 'room_finished'>;

/** The events that can concern a delegation. */
const CONCERNS = ['participant_joined', 'participant_left', 'participant_connection_aborted', 'room_started', 'room_finished'] as const;
type Concern = (typeof CONCERNS)[number];

const isConcern = (event: string): event is Concern => (CONCERNS as readonly string[]).includes(event);

const utf8 = new TextDecoder();

/**
 * The hash that the SFU has signed for the body, from the Authorization header. Null: not signed by our keys, not valid now, or no such
 * hash.
 */
export function signedHashOf(authorization: string | undefined, keys: Keys): string | null {
  const sha256 = authorization === undefined ? undefined : keys.claims(authorization.replace(/^Bearer\s+/i, '').trim())?.sha256;
  return typeof sha256 === 'string' ? sha256 : null;
}

/** Reads a webhook whose body must have the hash that was signed, byte for byte. Never throws. */
export function readWebhook(body: Uint8Array, signedHash: string): Webhook {
  if (!isHashed(body, signedHash)) return { kind: 'unauthorized' };
  const first = firstEventOf(body);
  if (first !== null && !isConcern(first)) return { kind: 'irrelevant', event: first };
  try {
    return meaningOf(messageOf(JSON.parse(utf8.decode(body))));
  } catch {
    return { kind: 'malformed' };
  }
}

const EVENT_FIRST = /^\{\s*"event"\s*:\s*"([a-z_]+)"\s*[,}]/;
/** More than the longest event name with all that comes before it. */
const HEAD_BYTES = 80;

/** LiveKit writes the event's name first, so that most webhooks are known to be irrelevant without parsing the rest. */
function firstEventOf({ buffer, byteOffset, byteLength }: Uint8Array): string | null {
  const head = Buffer.from(buffer, byteOffset, Math.min(byteLength, HEAD_BYTES)).toString('latin1');
  return EVENT_FIRST.exec(head)?.[1] ?? null;
}

function isHashed(body: Uint8Array, signedHash: string): boolean {
  const actual = hash('sha256', body, 'buffer');
  const signed = Buffer.from(signedHash, 'base64');
  return signed.length === actual.length && timingSafeEqual(signed, actual);
}

function meaningOf(webhook: Message): Webhook {
  const event = textOf(webhook, 'event');
  return isConcern(event) ? concerning(event, webhook) : { kind: 'irrelevant', event };
}

function concerning(event: Concern, webhook: Message): Webhook {
  const room = partOf(webhook, 'room') ?? {};
  const name = parseRoomName(textOf(room, 'name'));
  if (name === null) return { kind: 'irrelevant', event };
  const roomSid = roomSidOf(room);
  if (event === 'room_started' || event === 'room_finished') {
    const closedAtMs = event === 'room_finished' ? createdAtMsOf(webhook) : undefined;
    const about: AboutRoom = { kind: event, roomSid, ...(closedAtMs !== undefined && { closedAtMs }) };
    return { kind: 'room', event, onceKey: nameOf(webhook, [name, roomSid]), room: name, about };
  }
  const participant = partOf(webhook, 'participant') ?? {};
  const identity = parseIdentity(textOf(participant, 'identity'));
  if (identity === null) return { kind: 'malformed' };
  const onceKey = nameOf(webhook, [name, identity, textOf(participant, 'sid')]);
  const about = aboutParticipant(event, webhook, participant, { identity, roomSid });
  return { kind: 'participant', event, onceKey, room: name, identity, about };
}

function aboutParticipant(
  event: 'participant_joined' | 'participant_left' | 'participant_connection_aborted',
  webhook: Message,
  participant: Message,
  { identity, roomSid }: { readonly identity: Identity; readonly roomSid: RoomSid | null },
): AboutParticipant {
  const sid = parseSid(textOf(participant, 'sid'));
  const joinedAtMs = joinedAtMsOf(participant);
  switch (event) {
    case 'participant_joined':
      return { kind: 'joined', identity, sid, joinedAtMs, roomSid };
    case 'participant_left': {
      const cause = causeOfReason(enumOf(participant, 'disconnectReason', 'disconnect_reason'));
      const leftAtMs = createdAtMsOf(webhook);
      return { kind: 'left', identity, sid, joinedAtMs, roomSid, cause, ...(leftAtMs !== undefined && { leftAtMs }) };
    }
    case 'participant_connection_aborted':
      return { kind: 'aborted', identity, sid };
    default:
      return event satisfies never;
  }
}

/**
 * The key by which a repeated webhook is recognised. Not the event id alone: a sender that uses an id twice must not lose an event by it.
 */
function nameOf(webhook: Message, parts: readonly (string | null)[]): string {
  return sha256(JSON.stringify([textOf(webhook, 'id'), textOf(webhook, 'event'), ...parts]));
}
