// A shard moves from one master of a cluster to another, key by key: what is asked for meanwhile is refused or done, and never half of it.
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { LiveDelegation } from '../../src/delegation/state.ts';
import { parseRedisUrl, type RedisPlace } from '../../src/redis-url.ts';
import { connectRedis } from '../../src/store/redis/connection.ts';
import { prefixOf, shardOf } from '../../src/store/redis/keys.ts';
import { openRedisStore, type RedisStore } from '../../src/store/redis/redis.ts';
import { FIRST_PART, type Store } from '../../src/store/store.ts';
import { startCluster } from '../replicas/topologies.ts';
import { DELAY_MS, identity, idOf, room, row } from '../support/fixtures.ts';
import { NO_REDIS, type RedisServer } from '../support/redis-server.ts';

const ending: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

async function open(url: string): Promise<RedisStore> {
  const clock = systemClock();
  const connection = await connectRedis(parseRedisUrl(url, null) as RedisPlace, clock);
  const store = await openRedisStore({
    connection,
    clock,
    random: systemRandom(),
    seal: null,
    waitFor: 0,
    cluster: true,
    leaseClock: null,
  });
  ending.push(() => store.close());
  return store;
}

const ROOM = room(1);
/** How many rows it is about; `refused`. */
const asked = async (answer: ReturnType<typeof hear>): Promise<number | string> => {
  const found = await answer.catch(() => null);
  return found === null ? 'refused' : found.kind === 'done' ? found.value : found.kind;
};
const hear = (store: Store) =>
  store.update({ by: 'watched', room: ROOM, identity: identity(1), part: FIRST_PART }, 'hook', (rows) => ({
    writes: [],
    value: rows.length,
  }));
const handOver = (store: Store, n: number) => {
  const one = row(n, { kind: 'connected', over: { room: ROOM } });
  return store.update({ by: 'owner', room: ROOM, owner: one.owner }, null, (rows) => ({
    writes: [{ row: one, leaseMs: 0 }],
    value: rows.length,
  }));
};
const longer = (store: Store) =>
  store.update({ by: 'id', room: ROOM, id: idOf(1) }, null, ([before]) => {
    const next = { ...(before as LiveDelegation), delayMs: (before?.delayMs ?? 0) + 1 };
    return { writes: [{ row: next, leaseMs: 0 }], value: next.delayMs };
  });

interface Move {
  /** Takes those keys over that are named so. */
  keys(pattern: RegExp): Promise<void>;
  end(): Promise<void>;
}

async function begin(servers: readonly RedisServer[], prefix: string): Promise<Move> {
  const slot = String(await servers[0]?.ask('CLUSTER', 'KEYSLOT', prefix));
  const counts = await Promise.all(servers.map(async (one) => Number(await one.ask('CLUSTER', 'COUNTKEYSINSLOT', slot))));
  const from = servers[counts.findIndex((count) => count > 0)] as RedisServer;
  const to = servers.find((one) => one !== from) as RedisServer;
  const [ours, theirs] = (await Promise.all([from, to].map((one) => one.ask('CLUSTER', 'MYID')))).map(String) as [string, string];
  await to.ask('CLUSTER', 'SETSLOT', slot, 'IMPORTING', ours);
  await from.ask('CLUSTER', 'SETSLOT', slot, 'MIGRATING', theirs);
  return {
    keys: async (pattern) => {
      const keys = (await from.ask('CLUSTER', 'GETKEYSINSLOT', slot, '1000')) as string[];
      for (const key of keys.filter((one) => pattern.test(one))) await from.ask('MIGRATE', '127.0.0.1', String(to.port), key, '0', '5000');
    },
    end: async () => {
      for (const one of [to, from, ...servers]) await one.ask('CLUSTER', 'SETSLOT', slot, 'NODE', theirs);
    },
  };
}

const WHY = NO_REDIS === null ? '' : `: ${NO_REDIS}`;
describe.skipIf(NO_REDIS !== null)(`a shard of a cluster moves${WHY}`, { sequential: true }, () => {
  test.each([
    ['a room comes first', /\}r:/],
    ['its rows come first', /\}d:/],
    ['what is due comes first', /\}l(anes|:)/],
  ])('%s', async (_, first) => {
    const cluster = await startCluster();
    ending.push(() => cluster.end());
    const [knows, other] = [await open(cluster.url), await open(cluster.url)];
    await handOver(knows, 1);
    const move = await begin(cluster.servers, prefixOf(shardOf(ROOM)));
    await move.keys(first);
    const during = [knows, other].flatMap((store) => [hear(store), handOver(store, 2), longer(store)].map(asked));
    expect(await Promise.all(during)).toEqual(during.map(() => 'refused'));
    await move.keys(/./);
    await move.end();
    await expect.poll(() => asked(hear(other)), { timeout: 10_000 }).toBe(1);
    expect(await asked(hear(knows))).toBe('duplicate');
    expect(await asked(handOver(knows, 2))).toBe(0);
    expect(await asked(longer(other))).toBe(DELAY_MS + 1);
    const due = await other.claimDue(Date.now() + 3_600_000, 1_000, 9, { restarts: new Set(), leaves: new Set() });
    expect(due.map(({ row: { id } }) => id).sort()).toEqual([idOf(1), idOf(2)].sort());
  });
});
