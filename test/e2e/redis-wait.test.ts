// LASTWILL_REDIS_WAIT on real servers: what is answered is on a replica of Redis, and who is away holds up nobody else.
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { parseRedisUrl, type RedisPlace } from '../../src/redis-url.ts';
import { connectRedis } from '../../src/store/redis/connection.ts';
import { prefixOf, shardOf } from '../../src/store/redis/keys.ts';
import { openRedisStore, type RedisStore } from '../../src/store/redis/redis.ts';
import { pause } from '../replicas/fleet.ts';
import { startCluster } from '../replicas/topologies.ts';
import { room, row } from '../support/fixtures.ts';
import { NO_REDIS, type RedisServer } from '../support/redis-server.ts';

const LONGEST_MS = 20_000;
const ending: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

async function open(url: string): Promise<RedisStore> {
  const [place, clock] = [parseRedisUrl(url, null) as RedisPlace, systemClock()];
  const connection = await connectRedis(place, clock);
  const cluster = place.kind === 'cluster';
  const store = await openRedisStore({ connection, clock, random: systemRandom(), seal: null, waitFor: 1, cluster, leaseClock: null });
  ending.push(() => store.close());
  return store;
}

function write(store: RedisStore, n: number): Promise<unknown> {
  const one = row(n, { kind: 'connected', dueMs: Date.now() + 60_000 });
  return store.update({ by: 'id', room: one.room, id: one.id }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null }));
}

/** The port of its replica. */
async function replicaOf(master: RedisServer): Promise<number> {
  const endMs = Date.now() + LONGEST_MS;
  while (Date.now() < endMs) {
    const [, port] = /slave0:ip=[^,]*,port=(\d+),state=online/.exec(String(await master.ask('INFO', 'replication'))) ?? [];
    if (port !== undefined) return Number(port);
    await pause(100);
  }
  throw new Error('it got no replica');
}

describe.skipIf(NO_REDIS !== null)(`an answer waits for a replica of Redis${NO_REDIS === null ? '' : `: ${NO_REDIS}`}`, () => {
  test('in a cluster for one of the master that has the room: those of others may be away', async () => {
    const cluster = await startCluster(['--repl-diskless-sync-delay', '0'], { replicas: 1 });
    ending.push(() => cluster.end());
    const masters = cluster.servers.slice(0, 3) as [RedisServer, RedisServer, RedisServer];
    const [replica] = await Promise.all(masters.map(replicaOf));
    const store = await open(cluster.url);
    const away = cluster.servers.find(({ port }) => port === replica) as RedisServer;
    await away.kill();
    // Of three masters the first has the first third of the slots.
    const isFirst = async (n: number) => Number(await masters[0].ask('CLUSTER', 'KEYSLOT', prefixOf(shardOf(room(n))))) <= 5_460;
    const where = await Promise.all(Array.from({ length: 20 }, (_, n) => isFirst(n)));
    const written = await Promise.allSettled(where.map((_, n) => write(store, n)));
    expect(new Set(where).size).toBe(2);
    expect(written.map(({ status }) => status)).toEqual(where.map((first) => (first ? 'rejected' : 'fulfilled')));
  });
});
