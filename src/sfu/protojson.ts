// The little that we read of LiveKit's messages, from protobuf's JSON as it may be written: names in camel or snake case, 64-bit numbers
// as texts, enums as names or numbers, and what is empty left out. Decoding whole messages to read four fields took most of the time that
// a webhook has. test/sfu/protojson.test.ts holds this against the protocol's own decoder.
import { parseIdentity, parseRoomSid, parseSid, type RoomSid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';

export type Message = Readonly<Record<string, unknown>>;

class Malformed extends Error {}

export function isMessage(json: unknown): json is Message {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

/** @throws Error, as all that follow, where it is something else. */
export function messageOf(json: unknown): Message {
  if (!isMessage(json)) throw new Malformed();
  return json;
}

/** Null: left out. */
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

/** Name or number. */
export function enumOf(message: Message, camel: string, snake = camel): string | number {
  const value = message[camel] ?? message[snake] ?? 0;
  if (typeof value !== 'string' && !Number.isInteger(value)) throw new Malformed();
  return value as string | number;
}

/** Sessions are ordered by this; whole seconds (older servers) can't order a reconnection, so they count as unknown. */
export function joinedAtMsOf(participant: Message): number | null {
  const value = participant.joinedAtMs ?? participant.joined_at_ms ?? 0;
  if (typeof value === 'string' ? !/^(-?\d{1,19})?$/.test(value) : !Number.isInteger(value)) throw new Malformed();
  return Number(value) > 0 ? Number(value) : null;
}

export function roomSidOf(room: Message): RoomSid | null {
  return parseRoomSid(textOf(room, 'sid'));
}

const ACTIVE = 2;
const DISCONNECTED = 3;

/** A participant as a list has it; null: it is not there, or has no name. */
export function seenOf(participant: Message): Seen | null {
  const state = enumOf(participant, 'state');
  const identity = parseIdentity(textOf(participant, 'identity'));
  const sid = parseSid(textOf(participant, 'sid'));
  if (identity === null || sid === null || state === 'DISCONNECTED' || state === DISCONNECTED) return null;
  return { identity, sid, joinedAtMs: joinedAtMsOf(participant), active: state === 'ACTIVE' || state === ACTIVE };
}
