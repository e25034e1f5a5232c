// Where lk-jwt-service keeps its jobs: one hash in Redis. Read once at start; the originals stay unless told otherwise, which is the
// way back.
import { createClient } from '@redis/client';
import type { Clock, Random } from '../clock.ts';
import { type RedisPlace, tlsOf } from '../redis-url.ts';

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
/**
 * Who was killed with it keeps the others from jobs whose events run out in ten seconds. Who takes longer than this is joined by another one,
 * and what both take over is one delegation.
 */
const CLAIM_MS = 3_000;
/** A start waits for us, and whoever wants to end it as well: a Redis that says nothing is not waited for. */
const SILENCE_MS = 5_000;
const CLAIM_BYTES = 16;
const REMOVE =
  "for i = 1, #ARGV, 2 do if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end end";
const RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/**
 * Connects, without trying again. Null: lk-jwt-service knows single servers only.
 * @throws Error when it is not reachable, or says nothing; so does whatever it is asked later.
 */
export async function openJobHash(place: RedisPlace, random: Random, clock: Clock): Promise<JobHash | null> {
  const { kind, username, password, database } = place;
  if (kind !== 'single') return null;
  const where = place.socket === null ? { ...place.addresses[0], ...tlsOf(place) } : { path: place.socket };
  const client = createClient({
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    database,
    socket: { ...where, connectTimeout: SILENCE_MS, reconnectStrategy: false },
  });
  // Without a listener an error between calls would end the process; the calls themselves reject.
  client.on('error', () => {});
  /** What is still to be answered then is refused. */
  const inTime = <T>(answer: Promise<T>): Promise<T> => answer.finally(clock.after(SILENCE_MS, () => client.destroy()));
  await inTime(client.connect());
  const mine = Buffer.from(random.bytes(CLAIM_BYTES)).toString('base64url');
  return {
    claim: async () => {
      const options = { condition: 'NX', expiration: { type: 'PX', value: CLAIM_MS } } as const;
      return (await inTime(client.set(CLAIM, mine, options))) !== null;
    },
    release: async () => {
      await inTime(client.eval(RELEASE, { keys: [CLAIM], arguments: [mine] }));
    },
    read: async () => new Map(Object.entries(await inTime(client.hGetAll(KEY)))),
    remove: async (jobs) => {
      if (jobs.size > 0) await inTime(client.eval(REMOVE, { keys: [KEY], arguments: [...jobs].flat() }));
    },
    close: async () => {
      client.destroy();
    },
  };
}
