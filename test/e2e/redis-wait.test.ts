// LASTWILL_REDIS_WAIT on real servers: what is answered is on a replica of Redis, and who is away holds up nobody else.
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { Owner } from '../../src/delegation/ids.ts';
import { parseRedisUrl, type RedisPlace } from '../../src/redis-url.ts';
import { connectRedis } from '../../src/store/redis/connection.ts';
import { prefixOf, shardOf } from '../../src/store/redis/keys.ts';
import { openRedisStore, type RedisStore } from '../../src/store/redis/redis.ts';
import { FIRST_PART, type Store } from '../../src/store/store.ts';
import { pause } from '../replicas/fleet.ts';
import { startCluster } from '../replicas/topologies.ts';
import { identity, room, row } from '../support/fixtures.ts';
import { NO_REDIS, RedisServer } from '../support/redis-server.ts';

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

/** A master and its replica, which has all that was written so far. */
async function startPair(): Promise<{ readonly master: RedisServer; readonly replica: RedisServer }> {
  const master = await RedisServer.start(['--repl-diskless-sync-delay', '0']);
  ending.push(() => master.end());
  const replica = await RedisServer.start(['--replicaof', '127.0.0.1', String(master.port)]);
  ending.push(() => replica.end());
  await replicaOf(master);
  return { master, replica };
}

/** What a caller is told: the answer goes out when what it rests on is safe. */
const told = async (store: Store, answer: Promise<unknown>): Promise<string> => {
  try {
    await answer;
    await store.durable(room(1));
    return 'promised';
  } catch {
    return 'refused';
  }
};
const hear = (store: Store): Promise<unknown> =>
  store.update({ by: 'watched', room: room(1), identity: identity(1), part: FIRST_PART }, 'hook', () => ({ writes: [], value: null }));
/** The same again changes nothing. */
const handOver = (store: Store): Promise<unknown> =>
  store.update({ by: 'owner', room: room(1), owner: 'owner' as Owner }, null, (rows) => {
    const one = row(2, { kind: 'connected', dueMs: Date.now() + 60_000, over: { owner: 'owner' as Owner, room: room(1) } });
    return { writes: rows.length > 0 ? [] : [{ row: one, leaseMs: 0 }], value: null };
  });

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

const WHY = NO_REDIS === null ? '' : `: ${NO_REDIS}`;
describe.skipIf(NO_REDIS !== null)(`an answer waits for a replica of Redis${WHY}`, { sequential: true }, () => {
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

  test.each([
    ['a webhook', hear],
    ['a hand-over', handOver],
  ])('%s that was refused for want of a replica is refused again, whoever is asked, until one has it', async (_, ask) => {
    const { master, replica } = await startPair();
    const [one, other] = [await open(master.url), await open(master.url)];
    await write(one, 1);
    replica.signal('SIGSTOP');
    const asked: string[] = [];
    for (const store of [one, other, one]) asked.push(await told(store, ask(store)));
    expect(asked).toEqual(['refused', 'refused', 'refused']);
    replica.signal('SIGCONT');
    const again = await Promise.all([other, one].map((store) => told(store, ask(store))));
    expect(again).toEqual(['promised', 'promised']);
  });

  test('also a write by a script that the server did not know yet', async () => {
    const { master, replica } = await startPair();
    const store = await open(master.url);
    await write(store, 1);
    await pause(1_500);
    replica.signal('SIGSTOP');
    await master.ask('SCRIPT', 'FLUSH');
    // Its row is known here, and need not be read first.
    await expect(write(store, 1)).rejects.toThrow();
    replica.signal('SIGCONT');
    await write(store, 1);
  });
});
