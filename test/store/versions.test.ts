// What other versions have written: what older ones left behind is read and acted upon, whatever was under way there, and what a newer one
// knows of a delegation beyond us stays with it. `recorded/` has the files of engines that were killed with somebody in each state, and the
// keys in Redis of the same rows.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { DelayId, Identity } from '../../src/delegation/ids.ts';
import type { Connected, Delegation, LiveDelegation } from '../../src/delegation/state.ts';
import { parseRedisUrl, type RedisPlace } from '../../src/redis-url.ts';
import { decode } from '../../src/store/codec.ts';
import { connectRedis } from '../../src/store/redis/connection.ts';
import { prefixOf } from '../../src/store/redis/keys.ts';
import { openRedisStore, type RedisStore } from '../../src/store/redis/redis.ts';
import { unpack } from '../../src/store/redis/row.ts';
import { MIGRATIONS } from '../../src/store/sqlite/migrations.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { FIRST_PART, SLOTS } from '../../src/store/store.ts';
import { EngineWorld } from '../engine/world.ts';
import { delayHandles, ended, handOver, identity, room, row, sid } from '../support/fixtures.ts';
import { NO_REDIS, RedisServer } from '../support/redis-server.ts';
import { createVirtualClock, START_MS } from '../support/virtual-clock.ts';
import { DELAY_MS, KILLED_AFTER_MS, RECORDED, recordedAs } from './recording.ts';

/** A start takes a while. */
const STARTED_AFTER_MS = KILLED_AFTER_MS + 1_500;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-versions-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The file as it was when that process was killed. */
function brought(recorded: string): string {
  const file = path.join(folder, 'lastwill.sqlite');
  const db = new DatabaseSync(file);
  db.exec(`PRAGMA synchronous = OFF; BEGIN; ${readFileSync(path.join(RECORDED, recorded), 'utf8')}; COMMIT`);
  db.close();
  return file;
}

/** This version on it. */
async function goesOn(file: string): Promise<EngineWorld> {
  const world = new EngineWorld({}, { path: file });
  world.clock.stall(STARTED_AFTER_MS);
  for (const n of [2, 5, 7]) world.join(room(n), identity(n), sid(n));
  return world;
}

/** What is in a database, apart from rows. */
function schemaOf(db: DatabaseSync): unknown[] {
  const all = db.prepare('SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name').all();
  db.close();
  return all.map(({ name, sql }) => [name, String(sql).replace(/\s+/g, '')]);
}

/** As the first so many migrations make it. */
function migratedTo(version: number): DatabaseSync {
  const db = new DatabaseSync(':memory:');
  for (const sql of MIGRATIONS.slice(0, version)) db.exec(sql);
  return db;
}

const recordings = readdirSync(RECORDED).toSorted();
const FILES = recordings.filter((name) => name.endsWith('.sql'));

describe.each(FILES)('on the file of %s', (recorded) => {
  test('who was owed a leave gets it, who is there is kept, and what was replaced is cancelled', async () => {
    const world = await goesOn(brought(recorded));
    expect(await world.store.count()).toEqual({ awaiting: 1, connected: 3, settling: 1, leaving: 1, cancelling: 1, ended: 1 });
    await world.clock.advance(5_000);
    expect(world.actions('send').map(({ target }) => target)).toEqual(['delay-secret-4']);
    expect(world.actions('cancel').map(({ target }) => target)).toEqual(['delay-secret-5']);
    await world.clock.advance(3 * DELAY_MS);
    // The one who was waited for, and the one who never came.
    expect(world.actions('send').map(({ target }) => target)).toEqual(['delay-secret-4', 'delay-secret-3', 'delay-secret-1']);
    for (const target of ['delay-secret-2', 'delay-secret-15']) {
      expect(world.actions('restart', target).length).toBeGreaterThanOrEqual(3);
    }
    const tokens = new Set(world.actions('token').map(({ target }) => target));
    expect([...tokens]).toEqual(['refresh-secret-leave-7']);
    for (const n of [2, 5, 7]) world.leave(room(n), identity(n));
    await world.clock.advance(DELAY_MS);
    expect(await world.store.count()).toEqual({ awaiting: 0, connected: 0, settling: 0, leaving: 0, cancelling: 0, ended: 8 });
    expect(await world.store.rooms(0, SLOTS)).toEqual([]);
    expect(await world.metric('lastwill_false_leaves_total')).toBe(0);
    expect(world.lines.filter((line) => line.includes('unexpectedly'))).toEqual([]);
  });

  test('an event that is handed over once more under another name is the same', async () => {
    const world = await goesOn(brought(recorded));
    await world.clock.advance(3_000);
    const { id: _, ...again } = handOver(22, { room: room(2), delayMs: DELAY_MS, handles: delayHandles(2) });
    const handed = world.engine.handOver(again);
    await world.clock.advance(2 * DELAY_MS);
    await handed;
    expect(world.actions('send', 'delay-secret-2')).toEqual([]);
  });

  test('its tables become those of a new store', async () => {
    const file = brought(recorded);
    await openSqliteStore({ path: file, clock: createVirtualClock(), seal: null }).close();
    expect(schemaOf(new DatabaseSync(file))).toEqual(schemaOf(migratedTo(MIGRATIONS.length)));
  });
});

test('a start that ends amid bringing a file forward leaves it to the next one, rows included', async () => {
  const file = brought(recordedAs(7));
  const ask = (sql: string): unknown => {
    const db = new DatabaseSync(file);
    try {
      return Object.values(db.prepare(sql).get() ?? {})[0];
    } finally {
      db.close();
    }
  };
  const open = () => openSqliteStore({ path: file, clock: createVirtualClock(), seal: null });
  ask("CREATE TRIGGER amid BEFORE UPDATE ON delegation BEGIN SELECT RAISE(ABORT, 'killed'); END");
  expect(open).toThrow('killed');
  expect(ask('PRAGMA user_version')).toBe(7);
  ask('DROP TRIGGER amid');
  await open().close();
  expect(ask('SELECT count(*) FROM delegation WHERE event IS NULL AND ended_at IS NULL')).toBe(0);
});

test.each(FILES.filter((name) => name.startsWith('schema-')))('no migration was edited since it made %s', (recorded) => {
  const version = Number(/\d+/.exec(recorded)?.[0]);
  expect(schemaOf(migratedTo(version))).toEqual(schemaOf(new DatabaseSync(brought(recorded))));
});

test('the newest tables are recorded, too: node test/store/record.ts', () => {
  expect(FILES).toContain(recordedAs(MIGRATIONS.length));
});

describe('what a newer version knows beyond us', () => {
  const known = { ofNewer: ['something'] };
  const where = { by: 'owner', room: room(1), owner: handOver(1).owner } as const;
  const read = async (world: EngineWorld): Promise<Delegation | undefined> => {
    const found = await world.store.update(where, null, (rows) => ({ writes: [], value: rows[0] }));
    return found.kind === 'done' ? found.value : undefined;
  };

  test('stays while its participant is kept alive, and what is not of a state stays for good', async () => {
    const world = new EngineWorld({}, { path: path.join(folder, 'lastwill.sqlite') });
    await world.enter(1, room(1), DELAY_MS, 'delay-secret-1' as DelayId);
    await world.clock.advance(5_000);
    await world.store.update(where, null, ([row]) => {
      const { state, ...rest } = row as LiveDelegation & { readonly state: Connected };
      const newer = { ...rest, ...known, state: { ...state, ...known } } as LiveDelegation;
      return { writes: [{ row: newer, leaseMs: 0 }], value: null };
    });
    await world.restart();
    await world.clock.advance(2 * DELAY_MS);
    expect(world.actions('restart').length).toBeGreaterThan(2);
    expect(await read(world)).toMatchObject({ ...known, state: { kind: 'connected', ...known } });
    world.leave(room(1), identity(1));
    await world.clock.advance(DELAY_MS);
    expect(await read(world)).toMatchObject({ ...known, state: { kind: 'ended', outcome: 'sent' } });
  });

  test.each([
    ['a state of its own', { ...row(1).state, kind: 'asleep' }],
    ['another name for a time', { ...row(1, { kind: 'settling' }).state, untilMs: undefined, overAtMs: START_MS }],
    ['no time any more', { ...row(1, { kind: 'leaving' }).state, onTimeUntilMs: null }],
  ])('is not taken for less: a row with %s is told of, and left alone', (_what, state) => {
    const json = JSON.stringify({ ...row(1), handles: undefined, state });
    const handles = JSON.stringify(row(1).handles);
    const checksum = crc32(`\n${handles}`, crc32(json)).toString(16).padStart(8, '0');
    expect(() => decode({ body: `${checksum} ${json}`, handles }, null)).toThrow(/breaks an invariant/);
  });
});

type Recorded = readonly [command: string, key: string, ...words: (string | { readonly base64: string })[]];
const commandsIn = (recorded: string): Recorded[] =>
  readFileSync(path.join(RECORDED, recorded), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const bytesOf = (word: Recorded[number]): string | Buffer => (typeof word === 'string' ? word : Buffer.from(word.base64, 'base64'));
const KINDS_THERE = ['awaiting', 'cancelling', 'connected', 'connected', 'connected', 'ended', 'leaving', 'settling'];

describe.each(recordings.filter((name) => name.endsWith('.jsonl')))('the keys of %s', (recorded) => {
  test('hold rows that can be unpacked', () => {
    const packed = commandsIn(recorded)
      .flatMap((words) => words.filter((word) => typeof word !== 'string'))
      .map(bytesOf);
    const kinds = packed.map((bytes) => unpack(bytes as Buffer, null).row.state.kind);
    expect(kinds.toSorted()).toEqual(KINDS_THERE);
  });

  describe.skipIf(NO_REDIS !== null)(`on a real Redis${NO_REDIS === null ? '' : `: ${NO_REDIS}`}`, () => {
    const clock = createVirtualClock(START_MS + STARTED_AFTER_MS);
    let server: RedisServer;
    let store: RedisStore;
    const open = async (): Promise<RedisStore> => {
      const connection = await connectRedis(parseRedisUrl(server.url, null) as RedisPlace, systemClock());
      const onUnreadable = (_id: string, why: Error): never => {
        throw why;
      };
      const basics = { connection, clock, random: systemRandom(), seal: null, waitFor: 0, cluster: false, leaseClock: clock };
      return openRedisStore({ ...basics, onUnreadable }).catch(async (error) => {
        await connection.close();
        throw error;
      });
    };
    beforeEach(async () => {
      server = await RedisServer.start();
      const connection = await connectRedis(parseRedisUrl(server.url, null) as RedisPlace, systemClock());
      for (const words of commandsIn(recorded)) await connection.command(0, words.map(bytesOf));
      await connection.close();
      store = await open();
    });
    afterEach(async () => {
      await store.close();
      await server.end();
    });

    test('are found by all that is looked for, and gone when all has ended and is forgotten', async () => {
      expect(await store.count()).toEqual({ awaiting: 1, connected: 3, settling: 1, leaving: 1, cancelling: 1, ended: 1 });
      const once = await store.update({ by: 'owner', room: room(6), owner: handOver(6).owner }, 'a webhook', () => ({
        writes: [],
        value: null,
      }));
      expect(once).toEqual({ kind: 'duplicate' });
      expect(await store.trackedRooms()).toEqual(['!room:example.org']);
      expect(await store.trackedIn('!room:example.org')).toMatchObject([{ identity: identity(2), grantedAtMs: START_MS }]);
      expect((await store.rooms(0, SLOTS)).toSorted()).toEqual([1, 2, 3, 4, 5, 7].map(room));
      const claimed = await store.claimDue(START_MS + 3_600_000, 1_000, 100, { restarts: new Set(), leaves: new Set() });
      expect(claimed.map(({ row }) => row.state.kind).toSorted()).toEqual(KINDS_THERE.filter((kind) => kind !== 'ended'));
      for (const { claim } of claimed) expect(await store.holds(claim)).toBe(true);
      for (const { row } of claimed) {
        const where = { by: 'watched', room: row.room, identity: row.identities[0] as Identity, part: FIRST_PART } as const;
        await store.update(where, null, (rows) => ({
          writes: rows.map((one) => ({ row: ended(one as LiveDelegation), leaseMs: 0 })),
          value: null,
        }));
      }
      expect(await store.count()).toMatchObject({ awaiting: 0, connected: 0, settling: 0, leaving: 0, cancelling: 0, ended: 8 });
      expect(await store.rooms(0, SLOTS)).toEqual([]);
      expect(await store.purge({ endedBeforeMs: START_MS * 2, mostEnded: 0, onceBeforeMs: 0, limit: 100 })).toBe(8);
      expect(await server.ask('KEYS', 'lastwill{*}[drl]:*')).toEqual([]);
    });

    test('are left alone by who could not read what a newer version wrote, and shared with who can', async () => {
      const meta = `${prefixOf(0)}meta`;
      await server.ask('HSET', meta, 'schema', '9', 'least', '1');
      await (await open()).close();
      expect(await server.ask('HMGET', meta, 'schema', 'least')).toEqual(['9', '1']);
      await server.ask('HSET', meta, 'least', '9');
      await expect(open()).rejects.toThrow(
        /schema 9, to be read by 9 or later; this version of lastwill knows \d+: start the newer version again/,
      );
    });
  });
});
