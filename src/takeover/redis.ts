// Where lk-jwt-service keeps its jobs: one hash in Redis. Read once at start; the originals stay unless told otherwise, which is the
// way back.
import { createClient } from 'redis';
import type { RedisPlace } from '../redis-url.ts';

export interface JobHash {
  /** False: another replica has begun to take the jobs over a moment ago. */
  claim(): Promise<boolean>;
  /** Lets another one begin at once. */
  giveUp(): Promise<void>;
  /** Every field and value. @throws Error when Redis can't be read. */
  read(): Promise<ReadonlyMap<string, string>>;
  remove(fields: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

const KEY = 'lk-jwt:jobs';
const CLAIM = 'lastwill:takeover';
const CLAIM_SECONDS = 120;
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * Connects, without trying again. Null: lk-jwt-service knows single servers only.
 * @throws Error when it is not reachable.
 */
export async function openJobHash({ kind, addresses, tls, username, password, database }: RedisPlace): Promise<JobHash | null> {
  const [address] = addresses;
  if (kind !== 'single' || address === undefined) return null;
  const client = createClient({
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    database,
    socket: { ...address, connectTimeout: CONNECT_TIMEOUT_MS, reconnectStrategy: false, ...(tls ? { tls: true as const } : {}) },
  });
  // Without a listener an error between calls would end the process; the calls themselves reject.
  client.on('error', () => {});
  await client.connect();
  return {
    claim: async () => (await client.set(CLAIM, '1', { condition: 'NX', expiration: { type: 'EX', value: CLAIM_SECONDS } })) !== null,
    giveUp: async () => {
      await client.del(CLAIM);
    },
    read: async () => new Map(Object.entries(await client.hGetAll(KEY))),
    remove: async (fields) => {
      if (fields.length > 0) await client.hDel(KEY, [...fields]);
    },
    close: async () => {
      client.destroy();
    },
  };
}
