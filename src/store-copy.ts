// `npm run store -- copy --from sqlite:<folder> --to <redis URL>`, and back: every live delegation, everybody's attendance and the
// identities that were given with tokens go from one store to the other, while lastwill is stopped, and are read back and compared. Ended
// delegations, kept to explain what happened, stay.
import { existsSync, readFileSync } from 'node:fs';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { type Clock, type Random, systemClock, systemRandom } from './clock.ts';
import { createReader, type Env, type Fault } from './config/reader.ts';
import { readStoreKey } from './config/store-settings.ts';
import type { RoomName } from './delegation/ids.ts';
import type { Delegation } from './delegation/state.ts';
import { faultLines } from './process/startup-report.ts';
import { parseRedisUrl, type RedisPlace } from './redis-url.ts';
import { type Attendance, type Given, MOST_GIVEN, type MovableGiven, type Tracked } from './store/attendance.ts';
import { connectRedis } from './store/redis/connection.ts';
import { isBeating } from './store/redis/pulse.ts';
import { openRedisStore } from './store/redis/redis.ts';
import { createSeal, type Seal } from './store/seal.ts';
import { sqliteFile } from './store/sqlite/file.ts';
import { openSqliteStore } from './store/sqlite/sqlite.ts';
import { makeFolder } from './store/sqlite/unusable.ts';
import { SLOTS, type Store } from './store/store.ts';

export const COPY_USAGE = `Usage: npm run store -- copy --from <store> --to <store>
  <store> is sqlite:<folder> (LASTWILL_DATA_DIR) or a Redis URL (LIVEKIT_REDIS_URL). lastwill must be stopped.
  LASTWILL_STORE_KEY, LASTWILL_STORE_KEY_FROM_FILE and LIVEKIT_REDIS_PASSWORD count as they do for lastwill.
`;

export interface Copied {
  readonly delegations: number;
  readonly attendance: number;
  readonly given: number;
}

type BothStores = Store & Attendance & MovableGiven;

/** @throws Error when the target has other live delegations, or does not read back the same. What is there already is left as it is. */
export async function copyStore(from: BothStores, to: BothStores): Promise<Copied> {
  let delegations = 0;
  for (const room of await from.rooms(0, SLOTS)) {
    const rows = await rowsIn(from, room);
    const there = new Map((await rowsIn(to, room)).map((row) => [row.id, row]));
    const missing = rows.filter(({ id }) => !there.has(id));
    if (there.size + missing.length !== rows.length)
      throw new Error('the target has live delegations that the source has not: it is in use');
    if (missing.length > 0) {
      await to.update({ by: 'room', room }, null, () => ({ writes: missing.map((row) => ({ row, leaseMs: 0 })), value: null }));
    }
    if (!isDeepStrictEqual(byId(await rowsIn(to, room)), byId(rows))) throw new Error('a room does not read back as it was written');
    delegations += rows.length;
  }
  return { delegations, attendance: await copyAttendance(from, to), given: await copyGiven(from, to) };
}

async function rowsIn(store: Store, room: RoomName): Promise<readonly Delegation[]> {
  const found = await store.update({ by: 'room', room }, null, (rows) => ({ writes: [], value: rows }));
  return found.kind === 'done' ? found.value : [];
}

const byId = (rows: readonly Delegation[]): readonly Delegation[] => rows.toSorted((a, b) => (a.id < b.id ? -1 : 1));

async function copyAttendance(from: Attendance, to: Attendance): Promise<number> {
  let count = 0;
  for (const roomId of await from.trackedRooms()) {
    const tracked = await from.trackedIn(roomId);
    for (const one of tracked) await to.track(one);
    const there = new Set((await to.trackedIn(roomId)).map(keyOf));
    if (!tracked.every((one) => there.has(keyOf(one)))) throw new Error('attendance does not read back as it was written');
    count += tracked.length;
  }
  return count;
}

const keyOf = (one: Tracked): string => JSON.stringify([one.roomId, one.room, one.identity, one.userId, one.grantedAtMs]);

async function copyGiven(from: MovableGiven, to: MovableGiven): Promise<number> {
  const given = await from.allGiven();
  for (const one of given) await to.takeGiven(one);
  const there = Map.groupBy(await to.allGiven(), ({ owner }) => owner);
  // A store keeps only so many identities of a member, and of more than that perhaps others than the source kept.
  const isThere = ({ owner, identity }: Given): boolean => {
    const theirs = there.get(owner) ?? [];
    return theirs.length >= MOST_GIVEN || theirs.some((one) => one.identity === identity);
  };
  if (!given.every(isThere)) throw new Error('the identities of tokens do not read back as they were written');
  return given.length;
}

interface Means {
  readonly clock: Clock;
  readonly random: Random;
  readonly seal: Seal | null;
}

/** @returns what to print; null: the arguments are wrong. @throws Error when it can't be done. */
export async function runCopy(args: readonly string[], env: Env): Promise<string | null> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    strict: false,
    options: { from: { type: 'string' }, to: { type: 'string' } },
  });
  const { from, to } = values;
  if (positionals[0] !== 'copy' || typeof from !== 'string' || typeof to !== 'string') return null;
  const means: Means = { clock: systemClock(), random: systemRandom(), seal: sealOf(env) };
  const source = await open(from, env, means, 'from');
  try {
    const target = await open(to, env, means, 'to');
    try {
      const { delegations, attendance, given } = await copyStore(source, target);
      return `copied and compared: ${delegations} live delegations, ${attendance} participants' attendance, ${given} identities of tokens\n`;
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

function sealOf(env: Env): Seal | null {
  const faults: Fault[] = [];
  const reader = createReader(env, (file) => readFileSync(file, 'utf8'), faults, []);
  const key = readStoreKey(reader, { remark: false });
  if (faults.length > 0) throw new Error(faultLines(faults, []).join('\n'));
  return key === null ? null : createSeal(key);
}

async function open(named: string, env: Env, means: Means, end: 'from' | 'to'): Promise<BothStores> {
  if (named.startsWith('sqlite:')) {
    const folder = named.slice('sqlite:'.length);
    const path = sqliteFile(folder);
    if (end === 'from' && !existsSync(path)) throw new Error(`there is no store in ${folder}`);
    makeFolder(folder);
    return openSqliteStore({ path, clock: means.clock, seal: means.seal });
  }
  const place = parseRedisUrl(named, env.LIVEKIT_REDIS_PASSWORD ?? null);
  if (place === null) throw new Error('a store is sqlite:<folder> or a Redis URL');
  return openRedis(place, means);
}

async function openRedis(place: RedisPlace, { clock, random, seal }: Means): Promise<BothStores> {
  const connection = await connectRedis(place, clock);
  try {
    if (await isBeating(connection, clock)) throw new Error('a lastwill is running on this Redis: stop all of them first');
    return await openRedisStore({ connection, clock, random, seal, waitFor: 0, cluster: place.kind === 'cluster', leaseClock: null });
  } catch (error) {
    await connection.close();
    throw error;
  }
}
