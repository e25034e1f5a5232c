// A Redis that is gone without a word, or has become the replica of another while its name leads there by now: nobody closes the connection.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { parseRedisUrl, type RedisPlace } from '../../src/redis-url.ts';
import { connectRedis } from '../../src/store/redis/connection.ts';
import { prefixOf, shardOf } from '../../src/store/redis/keys.ts';
import { openRedisStore, type RedisStore } from '../../src/store/redis/redis.ts';
import { pause } from '../replicas/fleet.ts';
import { startCluster, startSentinels } from '../replicas/topologies.ts';
import { room, row } from '../support/fixtures.ts';
import { NO_REDIS, RedisServer } from '../support/redis-server.ts';

/** Five seconds of silence, and another connection. */
const SOON_MS = 15_000;
const ending: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

async function redis(): Promise<RedisServer> {
  const server = await RedisServer.start();
  ending.push(() => server.end());
  return server;
}

async function open(url: string): Promise<RedisStore> {
  const [place, clock] = [parseRedisUrl(url, null) as RedisPlace, systemClock()];
  const [connection, cluster] = [await connectRedis(place, clock), place.kind === 'cluster'];
  const store = await openRedisStore({ connection, clock, random: systemRandom(), seal: null, waitFor: 0, cluster, leaseClock: null });
  ending.push(() => store.close());
  return store;
}

async function write(store: RedisStore, n = 1): Promise<string> {
  const one = row(n, { kind: 'connected', dueMs: Date.now() + 60_000 });
  const written = store.update({ by: 'id', room: one.room, id: one.id }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null }));
  return written.then(
    () => 'kept',
    () => 'refused',
  );
}

/** As long as somebody asks. */
const isKept = (store: RedisStore, n?: number) => expect.poll(() => write(store, n), { timeout: SOON_MS, interval: 500 }).toBe('kept');

/** A name for a server that may be another's by the next connection. */
async function named(first: RedisServer) {
  let port = first.port;
  const sockets: Socket[] = [];
  const server = createServer((ours) => {
    const theirs = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [ours, theirs],
      [theirs, ours],
    ] as const) {
      sockets.push(from);
      from.on('error', () => {}).pipe(to);
      from.once('close', () => to.destroy());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ending.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    leadTo: (other: RedisServer) => {
      port = other.port;
    },
    /** The network forgets the connections that there are. */
    forget: () => {
      for (const socket of sockets) socket.unpipe().pause();
    },
  };
}

const WHY = NO_REDIS === null ? '' : `: ${NO_REDIS}`;
describe.skipIf(NO_REDIS !== null)(`Redis is gone, and its connection stays${WHY}`, { sequential: true }, () => {
  test('because nothing comes by it any more', async () => {
    const name = await named(await redis());
    const store = await open(name.url);
    expect(await write(store)).toBe('kept');
    name.forget();
    expect(await write(store)).toBe('refused');
    await isKept(store);
  });

  test('because it is the replica now of the server that its name leads to', async () => {
    const [before, after] = [await redis(), await redis()];
    const name = await named(before);
    const store = await open(name.url);
    expect(await write(store)).toBe('kept');
    await before.ask('REPLICAOF', '127.0.0.1', String(after.port));
    expect(await write(store)).toBe('refused');
    await pause(2_000);
    expect(await write(store)).toBe('refused');
    name.leadTo(after);
    await isKept(store);
  });

  test('because its machine is gone, and with it the first of the sentinels, which have put its replica in its place', async () => {
    const { url, servers, sentinels, end } = await startSentinels();
    ending.push(end);
    const store = await open(url);
    expect(await write(store)).toBe('kept');
    sentinels[0]?.kill('SIGSTOP');
    servers[0]?.signal('SIGSTOP');
    expect(await write(store)).toBe('refused');
    await isKept(store);
  });

  test.each([
    ['open to all', null],
    ['with a password', 'a-password'],
  ])('the first of the sentinels, %s: the others know the master, also at a start', async (_, password) => {
    const { url, sentinels, end } = await startSentinels(password);
    ending.push(end);
    sentinels[0]?.kill('SIGSTOP');
    expect(await write(await open(url))).toBe('kept');
  });

  test('because it hangs, and a replica has taken its place in the cluster', async () => {
    const cluster = await startCluster(['--repl-diskless-sync-delay', '0'], { replicas: 1 });
    ending.push(() => cluster.end());
    const master = cluster.servers[0] as RedisServer;
    await expect.poll(async () => String(await master.ask('INFO', 'replication')), { timeout: 20_000 }).toContain('state=online');
    const store = await open(cluster.url);
    // Of three masters the first has the first third of the slots.
    let n = 1;
    while (Number(await master.ask('CLUSTER', 'KEYSLOT', prefixOf(shardOf(room(n))))) > 5_460) n += 1;
    expect(await write(store, n)).toBe('kept');
    master.signal('SIGSTOP');
    expect(await write(store, n)).toBe('refused');
    await isKept(store, n);
  });
});
