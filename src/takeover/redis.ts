// Where lk-jwt-service keeps its jobs: one hash in Redis. Read once at start; the originals stay unless told otherwise, which is the
// way back.
import { createClient } from 'redis';
import type { Random } from '../clock.ts';
import type { RedisPlace } from '../redis-url.ts';

export interface JobHash {
  /** False: another replica is at it. It ends by itself if its holder dies. */
  claim(): Promise<boolean>;
  /** Lets the next one begin at once; a claim that is another's by now stays. */
  release(): Promise<void>;
  /** Every field and value. @throws Error when Redis can't be read. */
  read(): Promise<ReadonlyMap<string, string>>;
  /** By their fields, those that are still as they were read. */
  remove(jobs: ReadonlyMap<string, string>): Promise<void>;
  close(): Promise<void>;
}

const KEY = 'lk-jwt:jobs';
const CLAIM = 'lastwill:takeover';
const CLAIM_SECONDS = 120;
const CONNECT_TIMEOUT_MS = 5_000;
const CLAIM_BYTES = 16;
const REMOVE =
  "for i = 1, #ARGV, 2 do if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end end";
const RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/**
 * Connects, without trying again. Null: lk-jwt-service knows single servers only.
 * @throws Error when it is not reachable.
 */
export async function openJobHash(place: RedisPlace, random: Random): Promise<JobHash | null> {
  const { kind, tls, username, password, database } = place;
  if (kind !== 'single') return null;
  const where = place.socket === null ? { ...place.addresses[0], ...(tls ? { tls: true as const } : {}) } : { path: place.socket };
  const client = createClient({
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    database,
    socket: { ...where, connectTimeout: CONNECT_TIMEOUT_MS, reconnectStrategy: false },
  });
  // Without a listener an error between calls would end the process; the calls themselves reject.
  client.on('error', () => {});
  await client.connect();
  const mine = Buffer.from(random.bytes(CLAIM_BYTES)).toString('base64url');
  return {
    claim: async () => (await client.set(CLAIM, mine, { condition: 'NX', expiration: { type: 'EX', value: CLAIM_SECONDS } })) !== null,
    release: async () => {
      await client.eval(RELEASE, { keys: [CLAIM], arguments: [mine] });
    },
    read: async () => new Map(Object.entries(await client.hGetAll(KEY))),
    remove: async (jobs) => {
      if (jobs.size > 0) await client.eval(REMOVE, { keys: [KEY], arguments: [...jobs].flat() });
    },
    close: async () => {
      client.destroy();
    },
  };
}
