// Attendance in Redis: one hash for each Matrix room, in a shard by the room's id. And one set, which goes by itself, for each membership
// that was given identities, beside its delegations: what is sent about both in one turn arrives in that order.
import type { Identity, RoomName, UserId } from '../../delegation/ids.ts';
import { type Attendance, GIVEN_KEPT_MS, type Given, MOST_GIVEN, type MovableGiven, ownerName, type Tracked } from '../attendance.ts';
import { shortName } from '../short-name.ts';
import type { RedisConnection, RedisRun } from './connection.ts';
import { ALL_SHARDS, attendanceShard, firstSlotIn, givenKey, prefixOf, shardOf, shardOfSlot } from './keys.ts';
import { ENTRIES, GIVE, GIVEN_TO, TRACK, TRACKED_ROOMS, UNTRACK } from './scripts.ts';

const keyOf = (roomId: string): string => `t:${shortName(roomId, 22)}`;
const fieldOf = ({ room, identity }: Tracked): string => JSON.stringify([room, identity]);

export function createRedisAttendance(run: RedisRun, command: RedisConnection['command']): Attendance & MovableGiven {
  const give = async (shard: number, owner: string, identity: Identity): Promise<void> => {
    await run(GIVE, shard, givenKey(owner), [identity, String(MOST_GIVEN), String(GIVEN_KEPT_MS)]);
  };
  const givenTo = async (shard: number, owner: string): Promise<readonly Identity[]> =>
    (await run(GIVEN_TO, shard, givenKey(owner), [])).map((one) => one.toString() as Identity);

  /** Looked for among all keys: for a move it need not be quick. */
  async function ownersIn(shard: number): Promise<ReadonlySet<string>> {
    const before = prefixOf(shard) + givenKey('');
    const owners = new Set<string>();
    for (let cursor: string | null = '0'; cursor !== null; ) {
      const [next, keys] = (await command(shard, ['SCAN', cursor, 'MATCH', `${before}*`, 'COUNT', '1000'])) as [Buffer, Buffer[]];
      for (const key of keys) owners.add(key.toString().slice(before.length));
      cursor = next.toString() === '0' ? null : next.toString();
    }
    return owners;
  }

  async function allGiven(): Promise<readonly Given[]> {
    const given: Given[] = [];
    for (const shard of ALL_SHARDS) {
      for (const owner of await ownersIn(shard)) {
        for (const identity of await givenTo(shard, owner)) given.push({ slot: firstSlotIn(shard), owner, identity });
      }
    }
    return given;
  }

  return {
    track: async (one) => {
      const value = `${one.grantedAtMs} ${one.userId}`;
      await run(TRACK, attendanceShard(one.roomId), keyOf(one.roomId), [one.roomId, fieldOf(one), value]);
    },
    untrack: async (one) => {
      await run(UNTRACK, attendanceShard(one.roomId), keyOf(one.roomId), [one.roomId, fieldOf(one), String(one.grantedAtMs)]);
    },
    trackedRooms: async (notWithinMs = 0) => {
      const words = [String(Math.round(notWithinMs))];
      const replies = await Promise.all(ALL_SHARDS.map((shard) => run(TRACKED_ROOMS, shard, 'tracked', words)));
      return replies.flat().map(String);
    },
    give: (room, owner, identity) => give(shardOf(room), ownerName(owner), identity),
    givenTo: (room, owner) => givenTo(shardOf(room), ownerName(owner)),
    allGiven,
    takeGiven: ({ slot, owner, identity }) => give(shardOfSlot(slot), owner, identity),
    trackedIn: async (roomId) => {
      const reply = (await run(ENTRIES, attendanceShard(roomId), keyOf(roomId), [])).map(String);
      return Array.from({ length: reply.length / 2 }, (_, index) => {
        const [room, identity] = JSON.parse(reply[index * 2] ?? '') as [RoomName, Identity];
        const [grantedAtMs = '', ...userId] = (reply[index * 2 + 1] ?? '').split(' ');
        return { roomId, room, identity, userId: userId.join(' ') as UserId, grantedAtMs: Number(grantedAtMs) };
      });
    },
  };
}
