// A process of its own that goes to Redis as the service does: `redis-visitor.ts <url>`, with LIVEKIT_REDIS_PASSWORD. Says what came of it.
import { systemClock, systemRandom } from '../../../src/clock.ts';
import { parseRedisUrl, type RedisPlace } from '../../../src/redis-url.ts';
import { connectRedis } from '../../../src/store/redis/connection.ts';
import { durabilityOf, readRedisSettings } from '../../../src/store/redis/durability.ts';
import { openRedisStore } from '../../../src/store/redis/redis.ts';
import { row } from '../../support/fixtures.ts';

const place = parseRedisUrl(process.argv[2] ?? '', process.env.LIVEKIT_REDIS_PASSWORD ?? null) as RedisPlace;
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const clock = systemClock();

try {
  const connection = await connectRedis(place, clock);
  const cluster = place.kind === 'cluster';
  const settings = await readRedisSettings(connection);
  const store = await openRedisStore({ connection, clock, random: systemRandom(), seal: null, waitFor: 0, cluster, leaseClock: null });
  const one = row(1, { kind: 'connected', dueMs: clock.nowMs() });
  await store.update({ by: 'id', room: one.room, id: one.id }, 'once', () => ({ writes: [{ row: one, leaseMs: 0 }], value: null }));
  const [claimed] = await store.claimDue(clock.nowMs(), 30_000, 1, { restarts: new Set(), leaves: new Set() });
  if (claimed === undefined || !(await store.holds(claimed.claim))) throw new Error('no claim');
  await store.track({ roomId: '!a:b', room: one.room, identity: one.identities[0], userId: '@a:b', grantedAtMs: 1 } as never);
  await store.purge({ endedBeforeMs: clock.nowMs(), mostEnded: 10, onceBeforeMs: clock.nowMs(), limit: 10 });
  await store.ping();
  say(`kept ${(await store.count()).connected}; ${durabilityOf(settings, 0).line}`);
} catch (error) {
  const { message, cause } = error as Error;
  say(`refused: ${message} ${String(cause ?? '')}`);
}
process.exit(0);
