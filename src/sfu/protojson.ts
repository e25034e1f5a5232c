// Reads a few fields of LiveKit's messages from protobuf's JSON, in all forms that it allows: names in camel or snake case, 64-bit numbers
// as texts, enums as names or numbers, empty fields left out. To decode whole messages for four fields took most of the time that a webhook
// takes. test/sfu/protojson.test.ts compares this with the decoder of LiveKit's own package.
import { parseIdentity, parseRoomSid, parseSid, type RoomSid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';

export type Message = Readonly<Record<string, unknown>>;

class Malformed extends Error {}

export function isMessage(json: unknown): json is Message {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

/** @throws Error if it is no object. All functions below throw as well where a field has another type than it should. */
export function messageOf(json: unknown): Message {
  if (!isMessage(json)) throw new Malformed();
  return json;
}

/** Null: the field is left out. */
export function partOf(message: Message, name: string): Message | null {
  const part = message[name] ?? null;
  return part === null ? null : messageOf(part);
}

export function partsOf(message: Message, name: string): readonly Message[] {
  const parts = message[name] ?? [];
  if (!Array.isArray(parts)) throw new Malformed();
  return parts.map(messageOf);
}

export function textOf(message: Message, name: string): string {
  const text = message[name] ?? '';
  if (typeof text !== 'string') throw new Malformed();
  return text;
}

/** The name or the number of an enum's value. */
export function enumOf(message: Message, camel: string, snake = camel): string | number {
  const value = message[camel] ?? message[snake] ?? 0;
  if (typeof value !== 'string' && !Number.isInteger(value)) throw new Malformed();
  return value as string | number;
}

/**
 * `joined_at_ms`, by the SFU's clock; null: unknown. Older servers tell only whole seconds, which can't order the sessions of a
 * reconnection.
 */
export function joinedAtMsOf(participant: Message): number | null {
  const value = participant.joinedAtMs ?? participant.joined_at_ms ?? 0;
  if (typeof value === 'string' ? !/^(-?\d{1,19})?$/.test(value) : !Number.isInteger(value)) throw new Malformed();
  return Number(value) > 0 ? Number(value) : null;
}

/** When the SFU wrote a webhook, in whole seconds of its clock; undefined: it does not tell. Nothing is refused for want of it. */
export function createdAtMsOf(webhook: Message): number | undefined {
  const seconds = Number(webhook.createdAt ?? webhook.created_at);
  return Number.isSafeInteger(seconds) && seconds > 0 ? seconds * 1_000 : undefined;
}

export function roomSidOf(room: Message): RoomSid | null {
  return parseRoomSid(textOf(room, 'sid'));
}

const ACTIVE = 2;
const DISCONNECTED = 3;

/** A participant of a list; null: it is disconnected, or has no identity or SID. */
export function seenOf(participant: Message): Seen | null {
  const state = enumOf(participant, 'state');
  const identity = parseIdentity(textOf(participant, 'identity'));
  const sid = parseSid(textOf(participant, 'sid'));
  if (identity === null || sid === null || state === 'DISCONNECTED' || state === DISCONNECTED) return null;
  return { identity, sid, joinedAtMs: joinedAtMsOf(participant), active: state === 'ACTIVE' || state === ACTIVE };
}
