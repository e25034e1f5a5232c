// `npm run store -- copy --from sqlite:<folder> --to <redis URL>`, and back: every live delegation, everybody's attendance and the
// identities that were given with tokens go from one store to the other, while lastwill is stopped, and are read back and compared. Ended
// delegations, kept to explain what happened, stay. It is also how LASTWILL_STORE_KEY is changed: what is read with one key is written with
// another, and whoever kills it midway has lost nothing.
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { type Clock, type Random, systemClock, systemRandom } from './clock.ts';
import { createReader, type Env, type Fault } from './config/reader.ts';
import { readStoreKey } from './config/store-settings.ts';
import type { DelegationId, RoomName } from './delegation/ids.ts';
import type { LiveDelegation } from './delegation/state.ts';
import { byAnotherClock } from './delegation/steps/set-back.ts';
import { faultLines } from './process/startup-report.ts';
import { parseRedisUrl, type RedisPlace } from './redis-url.ts';
import { type Attendance, type Given, MOST_GIVEN, type MovableGiven, type Tracked } from './store/attendance.ts';
import { connectRedis } from './store/redis/connection.ts';
import { foundThere } from './store/redis/meeting.ts';
import { isBeating } from './store/redis/pulse.ts';
import { openRedisStore } from './store/redis/redis.ts';
import { createSeal, type Seal } from './store/seal.ts';
import { sqliteFile } from './store/sqlite/file.ts';
import { openSqliteStore } from './store/sqlite/sqlite.ts';
import { makeFolder } from './store/sqlite/unusable.ts';
import { FIRST_PART, readRoom, SLOTS, type Store } from './store/store.ts';

const FOLDER = 'sqlite:';
export const COPY_USAGE = `Usage: npm run store -- copy --from <store> [--from-key <file>] --to <store>
  <store> is sqlite:<folder> (LASTWILL_DATA_DIR) or a Redis URL (LIVEKIT_REDIS_URL). lastwill must be stopped.
  LASTWILL_STORE_KEY, LASTWILL_STORE_KEY_FROM_FILE and LIVEKIT_REDIS_PASSWORD count as they do for lastwill.
  --from-key: the source was sealed with another key, which is in this file.
`;

export interface Copied {
  readonly delegations: number;
  readonly attendance: number;
  readonly given: number;
}

type BothStores = Store &
  Attendance &
  MovableGiven & {
    /** The time of its rows minus ours, ms; undefined: they go by our clock. */
    readonly shiftMs?: number;
  };

/** Clocks that are less apart are one: it is mostly the journey of what was measured, and a restart may be a fifth of its delay late. */
const SAME_CLOCK_MS = 500;
/** How far two measurements of a clock may lie apart, when a copy is made again. */
const MEASURED_WITHIN_MS = 1_000;

/** @throws Error when the target has other live delegations, or does not read back the same. What is there already is left as it is. */
export async function copyStore(from: BothStores, to: BothStores): Promise<Copied> {
  // Else what is due would come due later by as much, and short delays run out under present participants.
  const apartMs = (to.shiftMs ?? 0) - (from.shiftMs ?? 0);
  const aheadMs = Math.abs(apartMs) < SAME_CLOCK_MS ? 0 : apartMs;
  await refuseOthersRows(from, to, aheadMs);
  let delegations = 0;
  for (const room of await from.rooms(0, SLOTS)) {
    const rows = await rowsIn(from, room);
    const there = await rowsIn(to, room);
    const missing = [...rows.values()].filter(({ id }) => !there.has(id));
    if (missing.length > 0) {
      const writes = missing.map((row) => ({ row: byAnotherClock(row, aheadMs), leaseMs: 0 }));
      await to.update({ by: 'room', room, part: FIRST_PART }, null, () => ({ writes, value: null }));
    }
    const copies = await rowsIn(to, room);
    if (copies.size !== rows.size || ![...copies.values()].every((copy) => isCopy(copy, rows.get(copy.id), aheadMs)))
      throw new Error('a room does not read back as it was written');
    delegations += rows.size;
  }
  return { delegations, attendance: await copyAttendance(from, to, aheadMs), given: await copyGiven(from, to) };
}

/** Before anything is written, and of all rooms: what an earlier move has left in the target would be acted upon as if it were true. */
async function refuseOthersRows(from: Store, to: Store, aheadMs: number): Promise<void> {
  // A copy has none that have ended.
  let isNew = (await to.count()).ended === 0;
  for (const room of isNew ? await to.rooms(0, SLOTS) : []) {
    const ours = await rowsIn(from, room);
    isNew &&= [...(await rowsIn(to, room)).values()].every((row) => isCopy(row, ours.get(row.id), aheadMs));
  }
  if (isNew) return;
  throw new Error(
    'the target has delegations that the source has not, or not like this: it is in use, or an earlier move has left them. Copy to a folder or a database of Redis that is new, and have lastwill use that one',
  );
}

type Rows = ReadonlyMap<DelegationId, LiveDelegation>;

async function rowsIn(store: Store, room: RoomName): Promise<Rows> {
  const rows = await readRoom(store, room);
  return new Map(rows.flatMap((row) => (row.handles === null ? [] : [[row.id, row]])));
}

function isCopy(copy: LiveDelegation, row: LiveDelegation | undefined, aheadMs: number): boolean {
  if (row === undefined) return false;
  const byMs = copy.createdAtMs - row.createdAtMs;
  return Math.abs(byMs - aheadMs) <= MEASURED_WITHIN_MS && isDeepStrictEqual(copy, byAnotherClock(row, byMs));
}

async function copyAttendance(from: Attendance, to: Attendance, aheadMs: number): Promise<number> {
  let count = 0;
  for (const roomId of await from.trackedRooms()) {
    const tracked = (await from.trackedIn(roomId)).map((one) => ({ ...one, grantedAtMs: one.grantedAtMs + aheadMs }));
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
  readonly onUnreadable?: (id: string) => void;
}

/** @returns what to print; null: the arguments are wrong. @throws Error when it can't be done. */
export async function runCopy(args: readonly string[], env: Env): Promise<string | null> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    strict: false,
    options: { from: { type: 'string' }, 'from-key': { type: 'string' }, to: { type: 'string' } },
  });
  const { from, 'from-key': fromKey, to } = values;
  if (positionals[0] !== 'copy' || typeof from !== 'string' || typeof to !== 'string' || fromKey === true) return null;
  if (placeOf(from) === placeOf(to)) throw new Error('what is copied from and what is copied to are the same');
  const means: Means = { clock: systemClock(), random: systemRandom(), seal: sealOf(env) };
  const unreadable = new Set<string>();
  const seal = typeof fromKey === 'string' ? sealIn(fromKey) : means.seal;
  const source = await open(from, env, { ...means, seal, onUnreadable: (id) => void unreadable.add(id) }, 'from');
  try {
    const target = await open(to, env, means, 'to');
    try {
      return told(await copyStore(source, target), unreadable);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

function placeOf(store: string): string {
  return store.startsWith(FOLDER) ? FOLDER + resolve(store.slice(FOLDER.length)) : store;
}

function told({ delegations, attendance, given }: Copied, unreadable: ReadonlySet<string>): string {
  const copied = `copied and compared: ${delegations} live delegations, ${attendance} participants' attendance, ${given} identities of tokens\n`;
  if (unreadable.size === 0) return copied;
  return `${copied}not copied, for they can not be read (damaged, or sealed with another key): ${[...unreadable].join(', ')}\n`;
}

/** Read like the file of LASTWILL_STORE_KEY_FROM_FILE. */
function sealIn(file: string): Seal | null {
  return sealOf({ LASTWILL_STORE_KEY_FROM_FILE: file }, '--from-key');
}

function sealOf(env: Env, called?: string): Seal | null {
  const faults: Fault[] = [];
  const reader = createReader(env, (file) => readFileSync(file, 'utf8'), faults, []);
  const key = readStoreKey(reader, { remark: false });
  const named = faults.map((fault) => ({ ...fault, variable: called ?? fault.variable }));
  if (named.length > 0) throw new Error(faultLines(named, []).join('\n'));
  return key === null ? null : createSeal(key);
}

async function open(named: string, env: Env, means: Means, end: 'from' | 'to'): Promise<BothStores> {
  if (named.startsWith(FOLDER)) {
    const folder = named.slice(FOLDER.length);
    const path = sqliteFile(folder);
    if (end === 'from' && !existsSync(path)) throw new Error(`there is no store in ${folder}`);
    makeFolder(folder);
    return openSqliteStore({ path, ...means });
  }
  const place = parseRedisUrl(named, env.LIVEKIT_REDIS_PASSWORD ?? null);
  if (place === null) throw new Error('a store is sqlite:<folder> or a Redis URL');
  return openRedis(place, means, end);
}

async function openRedis(place: RedisPlace, means: Means, end: 'from' | 'to'): Promise<BothStores> {
  const connection = await connectRedis(place, means.clock);
  try {
    const found = end === 'from' ? await foundThere(connection) : null;
    if (found === 'nothing') throw new Error('there is no store in that Redis, or that database of it');
    if (await isBeating(connection, means.clock)) throw new Error('a lastwill is running on this Redis: stop all of them first');
    const seal = found === 'open' ? null : means.seal;
    return await openRedisStore({ connection, ...means, seal, waitFor: 0, cluster: place.kind === 'cluster', leaseClock: null });
  } catch (error) {
    await connection.close();
    throw error;
  }
}
