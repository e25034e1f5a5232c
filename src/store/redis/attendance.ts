// Attendance in Redis: one hash for each Matrix room, in a shard by the room's id. And one set, which goes by itself, for each membership
// that was given identities, beside its delegations: what is sent about both in one turn arrives in that order.
import { createHash } from 'node:crypto';
import type { Identity, RoomName, UserId } from '../../delegation/ids.ts';
import { type Attendance, GIVEN_KEPT_MS, MOST_GIVEN, type Tracked } from '../attendance.ts';
import type { RedisRun } from './connection.ts';
import { ALL_SHARDS, attendanceShard, givenKey, shardOf } from './keys.ts';
import { ENTRIES, GIVE, GIVEN_TO, TRACK, TRACKED_ROOMS, UNTRACK } from './scripts.ts';

const keyOf = (roomId: string): string => `t:${createHash('sha256').update(roomId).digest('base64url').slice(0, 22)}`;
const fieldOf = ({ room, identity }: Tracked): string => JSON.stringify([room, identity]);

export function createRedisAttendance(run: RedisRun): Attendance {
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
    give: async (room, owner, identity) => {
      await run(GIVE, shardOf(room), givenKey(owner), [identity, String(MOST_GIVEN), String(GIVEN_KEPT_MS)]);
    },
    givenTo: async (room, owner) => (await run(GIVEN_TO, shardOf(room), givenKey(owner), [])).map((one) => one.toString() as Identity),
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
