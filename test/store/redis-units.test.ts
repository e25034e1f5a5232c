// The parts of the store on Redis that need no server: where it is, how its keys spread, how a row is packed, what is said of durability.
import { describe, expect, test } from 'vitest';
import type { RoomName } from '../../src/delegation/ids.ts';
import { parseRedisUrl, tlsOf } from '../../src/redis-url.ts';
import { durabilityOf } from '../../src/store/redis/durability.ts';
import { ALL_SHARDS, prefixOf, shardOf, shardsBetween } from '../../src/store/redis/keys.ts';
import { createPulse } from '../../src/store/redis/pulse.ts';
import { createReplicated } from '../../src/store/redis/replicated.ts';
import { pack, unpack } from '../../src/store/redis/row.ts';
import { createSeal } from '../../src/store/seal.ts';
import { slotOf } from '../../src/store/slots.ts';
import { SLOTS } from '../../src/store/store.ts';
import { ended, futureHandles, LIVE_KINDS, row } from '../support/fixtures.ts';
import { createSeededRandom, createVirtualClock } from '../support/virtual-clock.ts';

describe('where Redis is', () => {
  const at = (url: string, password: string | null = null) => parseRedisUrl(url, password);
  const none = { socket: null, username: null, password: null, database: 0, master: '', tls: false, anyCertificate: false };

  test.each([
    ['redis://cache', { ...none, kind: 'single', addresses: [{ host: 'cache', port: 6379 }] }],
    [
      'redis://user:p%40ss@10.0.0.1:7000/3',
      { ...none, kind: 'single', addresses: [{ host: '10.0.0.1', port: 7000 }], username: 'user', password: 'p@ss', database: 3 },
    ],
    ['redis://:7000?db=4&dial_timeout=5s', { ...none, kind: 'single', addresses: [{ host: 'localhost', port: 7000 }], database: 4 }],
    ['redis://cache/2?db=4', { ...none, kind: 'single', addresses: [{ host: 'cache', port: 6379 }], database: 4 }],
    ['redis://cache/2?db=', { ...none, kind: 'single', addresses: [{ host: 'cache', port: 6379 }], database: 2 }],
    ['unix:///run/redis/redis.sock', { ...none, kind: 'single', socket: '/run/redis/redis.sock', addresses: [] }],
    [
      'unix://u:p@/run/redis.sock?db=2',
      { ...none, kind: 'single', socket: '/run/redis.sock', addresses: [], username: 'u', password: 'p', database: 2 },
    ],
    ['rediss://:pass@[::1]:6380/', { ...none, kind: 'single', addresses: [{ host: '::1', port: 6380 }], password: 'pass', tls: true }],
    [
      'redis+sentinel://a,b:26380/main/2',
      {
        ...none,
        kind: 'sentinel',
        addresses: [
          { host: 'a', port: 26_379 },
          { host: 'b', port: 26_380 },
        ],
        master: 'main',
        database: 2,
      },
    ],
    [
      'rediss+cluster://u:p@a:1,b:2',
      {
        ...none,
        kind: 'cluster',
        addresses: [
          { host: 'a', port: 1 },
          { host: 'b', port: 2 },
        ],
        username: 'u',
        password: 'p',
        tls: true,
      },
    ],
  ])('%s', (url, place) => expect(at(url)).toEqual(place));

  test.each([
    '',
    'http://cache',
    'redis://',
    'redis://a,b',
    'redis://a?db=x',
    'redis://a/1?db=x',
    'redis://a/x?db=1',
    'redis+cluster://a?db=1',
    'unix://run/redis.sock',
    'unix:///run/redis.sock?db=x',
    'redis+sentinel://a',
    'redis+cluster://a/1',
    'redis://a/x',
    'redis://a:0',
    'redis://a:99999',
    'redis://a/1/2',
    'redis://%E0%A4%A@a',
  ])('%j is nowhere', (url) => expect(at(url)).toBeNull());

  test.each([
    ['redis://a?skip_verify=true', {}],
    ['rediss://a', { tls: true }],
    ['rediss://a?skip_verify=', { tls: true }],
    ['rediss://a?skip_verify=false', { tls: true }],
    ['rediss://a/1?skip_verify=true', { tls: true, rejectUnauthorized: false }],
    ['rediss+sentinel://a/main?db=2&skip_verify=1', { tls: true, rejectUnauthorized: false }],
    ['rediss+cluster://a,b?skip_verify=true', { tls: true, rejectUnauthorized: false }],
  ])('%s: which certificate will do', (url, expected) => {
    const place = at(url);
    expect(place === null ? null : tlsOf(place)).toEqual(expected);
  });

  test('the password of the setting counts where the URL has none', () => {
    expect([at('redis://a', 'set')?.password, at('redis://:own@a', 'set')?.password]).toEqual(['set', 'own']);
  });
});

describe('shards', () => {
  /** CRC-16/XMODEM of the hash tag, as Redis Cluster has it. */
  function hashSlot(key: string): number {
    let crc = 0;
    for (const byte of Buffer.from(/\{(.*?)\}/.exec(key)?.[1] ?? '')) {
      crc ^= byte << 8;
      for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
    }
    return crc % 16_384;
  }

  test('are spread evenly over a cluster of any size', () => {
    const slots = ALL_SHARDS.map((shard) => hashSlot(prefixOf(shard)));
    for (const masters of [3, 4, 5, 6, 8]) {
      const shares = Array.from({ length: masters }, (_, n) => slots.filter((slot) => Math.floor((slot * masters) / 16_384) === n).length);
      expect(Math.max(...shares) - Math.min(...shares), `${masters} masters: ${shares}`).toBeLessThanOrEqual(1);
    }
  });

  test('hold each slot once', () => {
    const parts = shardsBetween(0, SLOTS);
    expect(parts.map(({ from, to }) => to - from)).toEqual(ALL_SHARDS.map(() => SLOTS / ALL_SHARDS.length));
    for (let n = 0; n < 200; n += 1) {
      const name = `!${n}:example.org` as RoomName;
      const [part] = shardsBetween(slotOf(name), slotOf(name) + 1);
      expect(part?.shard).toBe(shardOf(name));
    }
    expect(shardsBetween(5, 5)).toEqual([]);
  });
});

describe('a packed row', () => {
  const seal = createSeal('a key of enough letters');

  test.each(LIVE_KINDS)('is read as it was, %s', (kind) => {
    for (const over of [{}, { handles: futureHandles(7) }, { room: 'ä\u0000\n' as RoomName }]) {
      const written = row(1, { kind, over });
      for (const key of [null, seal]) expect(unpack(pack(written, 42, key), key)).toEqual({ row: written, rev: 42 });
      expect(unpack(pack(ended(written), 43, seal), seal)).toEqual({ row: ended(written), rev: 43 });
    }
  });

  test('that was changed, cut or sealed with another key is not read', () => {
    const bytes = pack(row(1), 42, null);
    for (let at = 3; at < bytes.length; at += 1) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      expect(() => unpack(damaged, null)).toThrow();
    }
    expect(() => unpack(bytes.subarray(0, -3), null)).toThrow();
    expect(() => unpack(Buffer.from(''), null)).toThrow();
    expect(() => unpack(pack(row(1), 42, seal), null)).toThrow('sealed');
    expect(() => unpack(pack(row(1), 42, seal), createSeal('another key of letters'))).toThrow('another key');
  });

  test('is small', () => {
    const names = { room: 'O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc' as RoomName };
    expect(pack(row(1, { kind: 'connected', over: names }), 2 ** 50, null).length).toBeLessThan(300);
  });
});

describe('durability is said', () => {
  test.each([
    [{ appendonly: 'yes', appendfsync: 'always' }, 0, /lose nothing/],
    [{ appendonly: 'yes', appendfsync: 'everysec' }, 0, /last second/],
    [{ appendonly: 'yes', appendfsync: 'no' }, 0, /half minute/],
    [{ appendonly: 'no', save: '3600 1' }, 0, /since its last snapshot/],
    [{ appendonly: 'no', save: '' }, 0, /every delegation/],
    [{}, 0, /CONFIG GET is refused/],
    [{ appendonly: 'yes', appendfsync: 'always', 'min-replicas-to-write': '1' }, 0, /of which 1 must be connected/],
    [{ appendonly: 'yes', appendfsync: 'always' }, 2, /waits until 2 of its replicas/],
  ])('%j, waiting for %i', (settings, waitFor, said) => {
    const { line, alarm } = durabilityOf(settings, waitFor);
    expect([line, alarm]).toEqual([expect.stringMatching(said), null]);
  });

  test('eviction is an alarm', () => {
    expect(durabilityOf({ 'maxmemory-policy': 'noeviction' }, 0).alarm).toBeNull();
    expect(durabilityOf({ 'maxmemory-policy': 'allkeys-lru' }, 0).alarm).toContain('noeviction');
  });
});

test('a master of a cluster that comes back empty while another is still away: the loss is told, once', async () => {
  const clock = createVirtualClock();
  const epochs = new Map(ALL_SHARDS.map((shard) => [shard, 'old']));
  const away = new Set<number>();
  let lost = 0;
  const connection = {
    run: async (_script: unknown, shard: number, _key: string, _word: string, [name]: readonly string[]) => {
      if (away.has(shard)) throw new Error('CLUSTERDOWN');
      const epoch = epochs.get(shard) ?? String(name);
      epochs.set(shard, epoch);
      return [Buffer.from(epoch), Buffer.from(String(clock.nowMs() * 1_000))];
    },
  } as never;
  const onLost = () => {
    lost += 1;
  };
  const pulse = createPulse({ ...{ connection, clock, measures: true, onLost }, random: createSeededRandom(1) });
  await pulse.beat();
  epochs.delete(0);
  away.add(15);
  await expect(pulse.beat()).rejects.toThrow('CLUSTERDOWN');
  away.delete(15);
  await pulse.beat();
  expect(lost).toBe(1);
});

test.each([
  ['enough replicas, by the way that the write went', 1, 0, 'answered'],
  ['too few', 0, 0, 'refused'],
  ['enough, of another server than the one that took the write', 1, 1, 'refused'],
])('a write that waits for a replica of Redis: %s', async (_, count, changes, outcome) => {
  const clock = createVirtualClock();
  let way = 0;
  const replicas = async () => {
    way += changes;
    return count;
  };
  const replicated = createReplicated({ ...{ clock, waitFor: 1, cluster: true }, connection: { replicas, way: () => way } });
  const waiting = [0, 0, 1].map((shard) =>
    replicated(shard).then(
      () => 'answered',
      () => 'refused',
    ),
  );
  await clock.advance(1);
  expect(await Promise.all(waiting)).toEqual([outcome, outcome, outcome]);
});

test('what the first answer tells of the time, however late it came, sets the clock of Redis no further', async () => {
  const clock = createVirtualClock();
  const least: string[] = [];
  let tookMs = 1_900;
  const connection = {
    run: async (...[, , , , words]: [unknown, number, string, string, readonly string[]]) => {
      if (tookMs > 0) clock.stall(tookMs);
      tookMs = 0;
      least.push(words[1] ?? '');
      return [Buffer.from('epoch'), Buffer.from(String(clock.nowMs() * 1_000))];
    },
  } as never;
  const pulse = createPulse({ ...{ connection, clock, measures: true, onLost: () => {} }, random: createSeededRandom(1) });
  await pulse.beat();
  least.length = 0;
  await pulse.beat();
  expect(Math.max(...least.map(Number))).toBeLessThanOrEqual(clock.nowMs());
  await pulse.beat();
  expect([pulse.shiftMs, Number(least.at(-1))]).toEqual([0, clock.nowMs()]);
});
