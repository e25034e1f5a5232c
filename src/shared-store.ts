// Opens the store on Redis: waits for a Redis that is still starting, logs what its settings can lose, and hands out its time as the clock
// of all replicas. Imported only where it is configured: the client of Redis takes a while to load.
import { type Clock, type Random, shiftedClock } from './clock.ts';
import type { Config } from './config/config.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Attendance } from './store/attendance.ts';
import { connectRedis } from './store/redis/connection.ts';
import { durabilityOf, readRedisSettings } from './store/redis/durability.ts';
import { otherSfu } from './store/redis/other-sfu.ts';
import { openRedisStore, type RedisStore } from './store/redis/redis.ts';
import { createRedisSightings } from './store/redis/sightings.ts';
import { createSeal } from './store/seal.ts';
import type { Sightings } from './store/sightings.ts';
import { type Store, StoreUnusable } from './store/store.ts';

export interface SharedStoreDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Opened {
  readonly store: Store & Attendance;
  readonly sightings: Sightings;
  /** Redis' time, the same for all replicas. */
  readonly clock: Clock;
}

/** Redis and its users are often started together: so long it is tried again before the start fails. */
const PATIENCE_MS = 60_000;
const AGAIN_MS = 1_000;
const ONE_SFU =
  'if that is another SFU, stop one of the two at once, and give it a database of its own: each finds nobody of the other there, and sends their leaves';

/** @throws Error when Redis can't be used, or was not there for a minute. */
export async function openSharedStore(config: Config, redis: NonNullable<Config['redis']>, deps: SharedStoreDeps): Promise<Opened> {
  const { clock, log } = deps;
  const untilMs = clock.nowMs() + PATIENCE_MS;
  let isTold = false;
  for (;;) {
    try {
      const { store, sightings } = await open(config, redis, deps);
      return { store, sightings, clock: shiftedClock(clock, () => store.shiftMs) };
    } catch (error) {
      if (error instanceof StoreUnusable) throw error;
      if (clock.nowMs() >= untilMs) throw notThere(error);
      if (!isTold) log.warn({ err: error }, 'Redis can not be reached yet: it is tried again every second, for a minute');
      isTold = true;
      await new Promise<void>((resolve) => void clock.after(AGAIN_MS, resolve));
    }
  }
}

async function open(
  config: Config,
  { place, waitFor }: NonNullable<Config['redis']>,
  deps: SharedStoreDeps,
): Promise<{ readonly store: RedisStore; readonly sightings: Sightings }> {
  const { clock, random, log, metrics } = deps;
  const connection = await connectRedis(place, clock);
  try {
    const { line, alarm } = durabilityOf(await readRedisSettings(connection), waitFor);
    const other = await otherSfu(connection, clock, config.livekit.url);
    if (other !== null)
      log.error({ other, own: config.livekit.url, advice: ONE_SFU }, 'another lastwill on this Redis has another LIVEKIT_URL');
    const store = await openRedisStore({
      ...{ connection, clock, random, waitFor, cluster: place.kind === 'cluster', leaseClock: null },
      seal: config.storeKey === null ? null : createSeal(config.storeKey),
      onCommit: (ok, updates, tookMs) => metrics.storeCommit(ok ? 'ok' : 'failed', tookMs, updates),
      onUnreadable: (delegation, err) => log.error({ delegation, err }, 'a stored delegation can not be read; it is kept and left alone'),
      onLost: () =>
        log.error(
          {},
          'Redis has lost its data: delegations that were kept there are gone, their leaves are left to the homeservers; nobody is taken to have left',
        ),
    });
    log.info({ durability: line }, 'delegations are kept in Redis');
    if (alarm !== null) log.error({ alarm }, 'Redis needs an operator');
    return { store, sightings: createRedisSightings(connection) };
  } catch (error) {
    await connection.close();
    throw error;
  }
}

function notThere(cause: unknown): Error {
  const why = cause instanceof Error ? cause.message || cause.name : String(cause);
  return new Error(`Redis, which LIVEKIT_REDIS_URL names, could not be used for ${PATIENCE_MS / 1_000} s: ${why}`, { cause });
}
