// Sightings in Redis: a key for each room, which goes by itself.
import type { infer as Infer } from 'zod';
import type { Identity, RoomName, Sid } from '../../delegation/ids.ts';
import { z } from '../../library-parts.ts';
import { SIGHTING_KEPT_MS, type Sighting, type Sightings } from '../sightings.ts';
import type { RedisConnection } from './connection.ts';
import { prefixOf, shardOf } from './keys.ts';

const Person = z.tuple([z.string(), z.string(), z.number().nullable(), z.boolean()]);
const Told = z.tuple([z.number(), z.array(Person)]);
type Person = Infer<typeof Person>;

export function createRedisSightings(connection: Pick<RedisConnection, 'command'>): Sightings {
  const keyOf = (room: RoomName): string => `${prefixOf(shardOf(room))}seen:${room}`;
  return {
    tell: async (room, { askedAtMs, present }) => {
      const people = present.map(({ identity, sid, joinedAtMs, active }): Person => [identity, sid, joinedAtMs, active]);
      const value = JSON.stringify([askedAtMs, people] satisfies Infer<typeof Told>);
      await connection.command(shardOf(room), ['SET', keyOf(room), value, 'PX', String(SIGHTING_KEPT_MS)]);
    },
    last: async (room) => {
      const value = await connection.command(shardOf(room), ['GET', keyOf(room)]);
      return value === null ? null : read(String(value));
    },
  };
}

/** Null: another version's, which is no reason to fail. */
function read(value: string): Sighting | null {
  const told = Told.safeParse(jsonOf(value));
  if (!told.success) return null;
  const [askedAtMs, people] = told.data;
  const present = people.map(([identity, sid, joinedAtMs, active]) => ({
    ...{ identity: identity as Identity, sid: sid as Sid },
    ...{ joinedAtMs, active },
  }));
  return { askedAtMs, present };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
