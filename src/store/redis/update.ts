// One update's words for Redis: where it looks, what it expects to find there, and what it writes if it does.
import { dueAtMs } from '../../delegation/decide.ts';
import { eventHashesOf } from '../../delegation/handles.ts';
import type { DelegationId, EventHash, Identity, Owner } from '../../delegation/ids.ts';
import type { Delegation } from '../../delegation/state.ts';
import type { Seal } from '../seal.ts';
import { slotOf } from '../slots.ts';
import { FIRST_PART, OWNER_ROWS, type RoomPart, type Where, type Write } from '../store.ts';
import { eventField, ID_LENGTH, identityField, idFrom, idIn, laneOf, ownerField, PART_ROWS, roomKey, shardOf } from './keys.ts';
import { longestLeaseMs } from './leases.ts';
import { pack, type Stored, unpack } from './row.ts';
import type { Argument } from './wire.ts';

/** A row as it lies there; null where it can't be read, and then it is kept and left alone. */
export interface Found {
  readonly id: DelegationId;
  readonly rev: number | null;
  readonly row: Delegation | null;
}

export interface Place {
  readonly shard: number;
  /** Of the room's index, without the prefix. */
  readonly key: string;
  /** Ids; the newest of some fields; one field, in parts if there are many; a room, from a place of the walk through it. */
  readonly where: 'ids' | 'newest' | 'field' | 'part';
  /** Fields are divided by spaces, ids by nothing. */
  readonly what: string;
  /** A part of many, or of a room: of the rows only those that are written have to be as they were. */
  readonly isOfMany: boolean;
  /** Names a list of rows that beliefs are kept of. */
  readonly list: string | null;
  /** After a part: where the next one begins. */
  readonly next?: RoomPart | undefined;
}

export function placeOf(where: Where): Place {
  const at = { shard: shardOf(where.room), key: roomKey(where.room) };
  switch (where.by) {
    case 'id':
      return { ...at, where: 'ids', what: idIn(where.id), isOfMany: false, list: null };
    case 'owner':
      return ownerPlace(fieldOf(at, ownerField(where.owner)), where.events ?? []);
    case 'watched':
      if (where.part === FIRST_PART) return { ...fieldOf(at, identityField(where.identity)), where: 'field' };
      return { ...at, isOfMany: true, list: null, ...partOf(where.part) };
    case 'room':
      return { ...at, isOfMany: true, list: null, ...partOf(where.part) };
    default:
      return where satisfies never;
  }
}

/** A part begins where the walk through the room's index goes on, if it does, and with ids that were met and not looked at yet. */
function partOf(part: RoomPart): Pick<Place, 'where' | 'what' | 'next'> {
  if (part === FIRST_PART) return { where: 'part', what: AT_END };
  const [cursor = AT_END, ids = ''] = part.split(' ');
  return ids === ''
    ? { where: 'part', what: cursor }
    : { where: 'ids', what: ids.slice(0, PART_LENGTH), next: nextOf(cursor, ids.slice(PART_LENGTH)) };
}

/** As Redis has it: a walk begins where it ends. */
const AT_END = '0';
const PART_LENGTH = PART_ROWS * ID_LENGTH;
const nextOf = (cursor: string, ids: string): RoomPart | undefined =>
  cursor === AT_END && ids === '' ? undefined : (`${cursor} ${ids}` as RoomPart);

/** What was found of many is written by its ids. */
export function walked(
  place: Place,
  [cursor, ids, ...found]: readonly Buffer[],
): { readonly place: Place; readonly found: readonly Buffer[] } {
  const names = found.filter((_, nth) => nth % 2 === 0);
  const part = { where: 'ids', what: names.join(''), next: nextOf(String(cursor), String(ids)) } as const;
  return { place: { ...place, ...part, isOfMany: true, list: null }, found };
}

const fieldOf = (at: { readonly shard: number; readonly key: string }, field: string): Place => ({
  ...at,
  where: 'newest',
  what: field,
  isOfMany: false,
  list: listOf(at.key, field),
});
/** Hardly ever has another owner the same event, so the owner's list is believed to be all. */
const ownerPlace = (place: Place, events: readonly EventHash[]): Place => ({
  ...place,
  what: [place.what, ...events.map(eventField)].join(' '),
});
const listOf = (key: string, field: string): string => `${key} ${field}`;

/** The lists that a live row is in. */
export function listsOf({ room, owner, identities }: Delegation): string[] {
  const key = roomKey(room);
  return [ownerField(owner), ...identities.map(identityField)].map((field) => listOf(key, field));
}

/** The rows that the step is to see: names in Redis are hashes, and an owner's rows are in order. */
export function rowsFor(where: Where, found: readonly Found[]): readonly Delegation[] {
  const rows = found.flatMap(({ row }) => (row === null || row.room !== where.room ? [] : [row]));
  switch (where.by) {
    case 'id':
      return rows.filter(({ id }) => id === where.id);
    case 'owner':
      return [...ofOwner(rows, where.owner), ...ofEvents(rows, where)];
    // Since it was met, it may have ended.
    case 'watched':
      return rows.filter(({ handles, identities }) => handles !== null && identities.includes(where.identity));
    case 'room':
      return rows.filter(({ handles }) => handles !== null);
    default:
      return where satisfies never;
  }
}

function ofOwner(rows: readonly Delegation[], owner: Owner): readonly Delegation[] {
  return rows
    .filter((row) => row.owner === owner)
    .reverse()
    .sort((a, b) => rankOf(a) - rankOf(b) || endedAt(b) - endedAt(a))
    .slice(0, OWNER_ROWS);
}

/** Those of other owners. */
function ofEvents(rows: readonly Delegation[], { owner, events = [] }: Extract<Where, { by: 'owner' }>): readonly Delegation[] {
  return rows.filter((row) => row.owner !== owner && eventHashesOf(row).some((event) => events.includes(event)));
}

function rankOf({ state }: Delegation): number {
  return state.kind === 'ended' ? 2 : state.kind === 'cancelling' ? 1 : 0;
}
const endedAt = ({ state }: Delegation): number => (state.kind === 'ended' ? state.atMs : 0);

export interface Reading {
  readonly seal: Seal | null;
  readonly believed: (id: DelegationId) => Stored | null;
  readonly onUnreadable: (id: DelegationId, why: Error) => void;
}

/** Ids and values from a reply. A row that is believed at this revision is not read again. */
export function readFound(reply: readonly Buffer[], { seal, believed, onUnreadable }: Reading): Found[] {
  const found: Found[] = [];
  for (let at = 0; at + 1 < reply.length; at += 2) {
    const [name, bytes] = [reply[at], reply[at + 1]];
    if (name === undefined || bytes === undefined) continue;
    const id = idFrom(name.toString('latin1'));
    const known = believed(id);
    const rev = revIn(bytes);
    if (known !== null && known.rev === rev) {
      found.push({ id, ...known });
      continue;
    }
    try {
      found.push({ id, ...unpack(bytes, seal) });
    } catch (error) {
      onUnreadable(id, error as Error);
      found.push({ id, rev, row: null });
    }
  }
  return found;
}

function revIn(bytes: Buffer): number | null {
  const space = bytes.indexOf(' ');
  const rev = space < 1 ? Number.NaN : Number(bytes.toString('latin1', 0, space));
  return Number.isSafeInteger(rev) ? rev : null;
}

export interface Planned {
  readonly row: Delegation;
  readonly rev: number;
  readonly before: Delegation | null;
  readonly bytes: Buffer;
  readonly lane: string | null;
  /** 0: no lease. */
  readonly leaseMs: number;
}

/** All are packed before the first is sent. @throws Error on a row that breaks an invariant. */
export function plan(writes: readonly Write[], found: readonly Found[], seal: Seal | null, newRev: () => number): Planned[] {
  return writes.map(({ row, leaseMs }) => {
    const rev = newRev();
    const before = found.find(({ id }) => id === row.id)?.row ?? null;
    const lane = laneOf(row);
    const most = lane === null ? 0 : longestLeaseMs(lane);
    return { row, rev, before, bytes: pack(row, rev, seal), lane, leaseMs: Math.min(Math.max(leaseMs, 0), most) };
  });
}

export function wordsFor(place: Place, once: string, onceAtMs: number, mode: 'read' | 'all' | 'written'): Argument[] {
  return [mode, place.where, place.what, once, String(onceAtMs)];
}

/** What has to be there, and the ids that must not be: of a room, only the rows to be written. */
export function expectations(place: Place, found: readonly Found[], planned: readonly Planned[]): Argument[] {
  const written = new Set(planned.map(({ row }) => row.id));
  const expected = place.isOfMany ? found.filter(({ id }) => written.has(id)) : found;
  const fresh = planned.filter(({ before }) => before === null).map(({ row }) => idIn(row.id));
  return [
    String(expected.length),
    ...expected.flatMap(({ id, rev }) => [idIn(id), rev === null ? '' : String(rev)]),
    ...[String(fresh.length), ...fresh],
  ];
}

export function writeWords(where: Where, planned: readonly Planned[]): Argument[] {
  return [
    where.room,
    String(slotOf(where.room)),
    String(planned.length),
    ...planned.flatMap(({ row, before, bytes, lane, leaseMs }) => [
      ...[idIn(row.id), bytes, before === null ? '' : (laneOf(before) ?? ''), lane ?? '', String(dueAtMs(row.state) ?? '')],
      ...[String(leaseMs), before?.state.kind ?? '', row.state.kind, ownerField(row.owner)],
      row.state.kind === 'ended' ? String(row.state.atMs) : '',
      ...counted(indexed({ row, before, lane })),
    ]),
  ];
}

const counted = (words: readonly string[]): string[] => [String(words.length), ...words];

/** The fields under which a row is found from now on, or with its end no more. */
function indexed({ row, before, lane }: Pick<Planned, 'row' | 'before' | 'lane'>): readonly string[] {
  const stays = before !== null && laneOf(before) !== null && lane !== null;
  if (stays) return newIn(row, before).map(identityField);
  // Its handles are gone with the end.
  const live = lane === null ? (before ?? row) : row;
  return [...row.identities.map(identityField), ...eventHashesOf(live).map(eventField)];
}

function newIn({ identities }: Delegation, before: Delegation): readonly Identity[] {
  return identities === before.identities ? [] : identities.filter((identity) => !before.identities.includes(identity));
}

/** The lists that a live row comes into by a write. */
export function listsMade({ row, before }: Pick<Planned, 'row' | 'before'>): string[] {
  if (before === null) return listsOf(row);
  return newIn(row, before).map((identity) => listOf(roomKey(row.room), identityField(identity)));
}
