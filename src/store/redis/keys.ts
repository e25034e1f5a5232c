// How the rows lie in Redis: in shards by room, each shard under one hash tag, so that all that one decision touches is in one place and
// a cluster can spread the shards. Never edit a name that has landed: replicas of neighbouring versions share the keys.
//
//   lastwill{tag}d:<id>      one delegation: its revision, a space, the row (row.ts)
//   lastwill{tag}r:<room>    a room's index: `i…` identity and `e…` delayed event → ids that live, `o…` owner → ids, `n` how many live
//   lastwill{tag}l:<lane>    id → when it is due, or until when it is claimed; a lane is a class of work for one homeserver
//   lastwill{tag}lanes       lane → its earliest entry
//   lastwill{tag}paused      homeserver → until when it wants no calls
//   lastwill{tag}limits      homeserver that limits calls → who makes the restarts and until when, and what is known of the limit
//   lastwill{tag}rooms       rooms with somebody → slot;   swept: slot → when its rooms were given out to be looked at
//   lastwill{tag}ended, once, count, epoch, beat   what the names say
//   lastwill{tag}meta        the schema, the oldest one that can read it, and the name of the sealing key
//   lastwill{tag}ahead       what the shard's clock lacks since it was set back, ms;   told: the time that it told last
//   lastwill{tag}t:<room>, tracked, attended       attendance.ts, by Matrix room
//   lastwill{tag}sfu         LIVEKIT_URL of the lastwill that was started last, in the first shard
//   lastwill{tag}g:<owner>   the identities that this owner's membership was given tokens for
//   lastwill{tag}seen:<room> who was in a room when a replica looked last, by its whole name; goes by itself (sightings.ts)
//
// What an older version ends, it leaves an `e…` field of: some 40 bytes that nobody reads.
import { createHash } from 'node:crypto';
import type { DelegationId, EventHash, HomeserverUrl, Identity, Owner, RoomName } from '../../delegation/ids.ts';
import type { Delegation } from '../../delegation/state.ts';
import { shortName } from '../short-name.ts';
import { slotOf } from '../slots.ts';
import { SLOTS } from '../store.ts';

/** Their hash slots lie evenly over Redis Cluster's 16384: any number of masters with equal ranges gets equal shares. */
const TAGS = ['18', '5x', 'dj', '3r', 'd2', 'pv', 'uh', 'iy', 'ly', 'h9', 'uv', 'q6', '9s', '5f', 'dt', 'ha'] as const;
export const SHARDS = TAGS.length;
export const ALL_SHARDS: readonly number[] = TAGS.map((_, shard) => shard);

export function prefixOf(shard: number): string {
  return `lastwill{${TAGS[shard]}}`;
}

/** Counted up by whoever is at work in the shard, and by whoever wants to know that it can be written. */
export function beatKeyOf(shard: number): string {
  return `${prefixOf(shard)}beat`;
}

export const SFU_KEY = `${prefixOf(0)}sfu`;

const SLOTS_EACH = SLOTS / SHARDS;

export function shardOf(room: RoomName): number {
  return shardOfSlot(slotOf(room));
}
export const shardOfSlot = (slot: number): number => Math.floor(slot / SLOTS_EACH);
export const firstSlotIn = (shard: number): number => shard * SLOTS_EACH;

/** The shards that hold the slots of [from, to), each with its part of them. */
export function shardsBetween(from: number, to: number): { readonly shard: number; readonly from: number; readonly to: number }[] {
  return ALL_SHARDS.map((shard) => ({
    shard,
    from: Math.max(from, shard * SLOTS_EACH),
    to: Math.min(to, (shard + 1) * SLOTS_EACH),
  })).filter((part) => part.from < part.to);
}

/** Without the prefix, as all keys that go to connection.ts. */
export function roomKey(room: RoomName): string {
  return `r:${shortName(room, 22)}`;
}
export const identityField = (identity: Identity): string => `i${shortName(identity, 16)}`;
export const eventField = (event: EventHash): string => `e${shortName(event, 16)}`;
export const ownerField = (owner: Owner): string => `o${shortName(owner, 16)}`;
/** By `ownerName`. */
export const givenKey = (owner: string): string => `g:${owner}`;
export const onceMember = (key: string): string => shortName(key, 22);

const ID_PREFIX = 'dg_';
export const ID_LENGTH = 22;
/** Of a part: each is a trip over the network. */
export const PART_ROWS = 64;
export const idIn = (id: DelegationId): string => id.slice(ID_PREFIX.length);
export const idFrom = (short: string): DelegationId => `${ID_PREFIX}${short}` as DelegationId;

const homeserverTag = (homeserver: HomeserverUrl): string => shortName(homeserver, 8);

/** Null: nothing is due any more. Work that needs no homeserver is one lane for all. */
export function laneOf({ state, homeserver }: Delegation): string | null {
  switch (state.kind) {
    case 'leaving':
      return `L${homeserverTag(homeserver)}`;
    case 'cancelling':
      return `C${homeserverTag(homeserver)}`;
    case 'connected':
      return `R${homeserverTag(homeserver)}`;
    case 'awaiting':
    case 'settling':
      return 'W';
    case 'ended':
      return null;
    default:
      return state satisfies never;
  }
}

export const isLeave = (lane: string): boolean => lane.startsWith('L');
export const isRestart = (lane: string): boolean => lane.startsWith('R');

export const pausedMember = homeserverTag;

/** Which shard looks after a Matrix room's attendance. */
export function attendanceShard(roomId: string): number {
  return createHash('sha256').update(roomId).digest().readUInt8(0) % SHARDS;
}
/** The homeservers that limit calls are few, and all are wanted at once. */
export const LIMITS_SHARD = 0;
