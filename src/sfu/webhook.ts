// LiveKit's webhook: verified before it is read, then turned into one of few things that can concern a delegation.
import { createHash, timingSafeEqual } from 'node:crypto';
import { DisconnectReason, type ParticipantInfo } from '@livekit/protocol';
import { WebhookEvent } from 'livekit-server-sdk';
import { type Identity, parseIdentity, parseRoomName, parseRoomSid, parseSid, type RoomName, sha256 } from '../delegation/ids.ts';
import { causeOfReason } from '../delegation/reasons.ts';
import type { Event } from '../delegation/state.ts';
import type { Keys } from './keys.ts';

export type Webhook =
  /** Not signed by us, expired, or another body than the one that was signed. */
  | { readonly kind: 'unauthorized' }
  | { readonly kind: 'malformed' }
  /** An event that says nothing about presence. */
  | { readonly kind: 'irrelevant'; readonly event: string }
  | {
      readonly kind: 'participant';
      readonly event: string;
      readonly onceKey: string;
      readonly room: RoomName;
      readonly identity: Identity;
      readonly about: Event;
    }
  | { readonly kind: 'room'; readonly event: string; readonly onceKey: string; readonly room: RoomName; readonly about: Event };

/** Reads a webhook. Never throws; what is verified is the body as it came, byte for byte. */
export async function readWebhook(body: Uint8Array, authorization: string | undefined, keys: Keys): Promise<Webhook> {
  if (authorization === undefined || !(await isSigned(body, authorization, keys))) return { kind: 'unauthorized' };
  try {
    const json = JSON.parse(Buffer.from(body).toString('utf8'));
    // Most webhooks are about tracks: they are not worth decoding.
    if (typeof json?.event === 'string' && !RELEVANT.has(json.event)) return { kind: 'irrelevant', event: json.event };
    return meaningOf(WebhookEvent.fromJson(json, { ignoreUnknownFields: true }));
  } catch {
    return { kind: 'malformed' };
  }
}

const RELEVANT: ReadonlySet<string> = new Set([
  'participant_joined',
  'participant_left',
  'participant_connection_aborted',
  'room_started',
  'room_finished',
]);

async function isSigned(body: Uint8Array, authorization: string, keys: Keys): Promise<boolean> {
  const jwt = authorization.replace(/^Bearer\s+/i, '').trim();
  const claims = await keys
    .verifierFor(jwt)
    ?.verify(jwt)
    .catch(() => null);
  if (claims === undefined || claims === null || typeof claims.sha256 !== 'string') return false;
  const actual = createHash('sha256').update(body).digest();
  const signed = Buffer.from(claims.sha256, 'base64');
  return signed.length === actual.length && timingSafeEqual(signed, actual);
}

function meaningOf(event: WebhookEvent): Webhook {
  const room = parseRoomName(event.room?.name ?? '');
  if (room === null) return { kind: 'irrelevant', event: event.event };
  const roomSid = parseRoomSid(event.room?.sid ?? '');
  switch (event.event) {
    case 'participant_joined':
    case 'participant_left':
    case 'participant_connection_aborted': {
      const identity = parseIdentity(event.participant?.identity ?? '');
      if (identity === null || event.participant === undefined) return { kind: 'malformed' };
      const about = aboutParticipant(event.event, event.participant, identity, roomSid);
      const onceKey = nameOf(event, [room, identity, event.participant.sid]);
      return { kind: 'participant', event: event.event, onceKey, room, identity, about };
    }
    case 'room_started':
    case 'room_finished':
      return { kind: 'room', event: event.event, onceKey: nameOf(event, [room, roomSid]), room, about: { kind: event.event, roomSid } };
    default:
      return { kind: 'irrelevant', event: event.event };
  }
}

function aboutParticipant(
  event: 'participant_joined' | 'participant_left' | 'participant_connection_aborted',
  participant: ParticipantInfo,
  identity: Identity,
  roomSid: ReturnType<typeof parseRoomSid>,
): Event {
  const sid = parseSid(participant.sid);
  const joinedAtMs = joinedAtMsOf(participant);
  switch (event) {
    case 'participant_joined':
      return { kind: 'joined', identity, sid, joinedAtMs, roomSid };
    case 'participant_left': {
      const reason = DisconnectReason[participant.disconnectReason] ?? 'UNKNOWN_REASON';
      return { kind: 'left', identity, sid, joinedAtMs, cause: causeOfReason(reason) };
    }
    case 'participant_connection_aborted':
      return { kind: 'aborted', identity, sid };
    default:
      return event satisfies never;
  }
}

/** Sessions are ordered by this; whole seconds (older servers) can't order a reconnection, so they count as unknown. */
export function joinedAtMsOf(participant: ParticipantInfo): number | null {
  return participant.joinedAtMs > 0n ? Number(participant.joinedAtMs) : null;
}

/** The event id alone is not trusted to be unique: senders that reuse it for another event must not lose that event. */
function nameOf(event: WebhookEvent, parts: readonly (string | null)[]): string {
  return sha256(JSON.stringify([event.id, event.event, ...parts]));
}
