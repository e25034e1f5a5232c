import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { dueAtMs } from '../../src/delegation/decide.ts';
import type { Owner, UserId } from '../../src/delegation/ids.ts';
import { parseRedisUrl } from '../../src/redis-url.ts';
import { type Attendance, MOST_GIVEN } from '../../src/store/attendance.ts';
import { connectRedis } from '../../src/store/redis/connection.ts';
import { ALL_SHARDS, prefixOf } from '../../src/store/redis/keys.ts';
import { openRedisStore } from '../../src/store/redis/redis.ts';
import { createSeal } from '../../src/store/seal.ts';
import { sqliteFile } from '../../src/store/sqlite/file.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { readRoom, type Store } from '../../src/store/store.ts';
import { copyStore, runCopy } from '../../src/store-copy.ts';
import { ended, identity, LIVE_KINDS, room, row } from '../support/fixtures.ts';
import { NO_REDIS, RedisServer } from '../support/redis-server.ts';

const KEY = 'a key of enough letters';
const folders: string[] = [];
function newFolder(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'lastwill-copy-'));
  folders.push(made);
  return made;
}
let folder: string;
beforeEach(() => {
  folder = newFolder();
});
afterAll(() => {
  for (const made of folders) rmSync(made, { recursive: true, force: true });
});

const open = (name: string, seal: string | null = null) =>
  openSqliteStore({ path: `${folder}/${name}`, clock: systemClock(), seal: seal === null ? null : createSeal(seal) });
const put = (store: Store, written: ReturnType<typeof row>) =>
  store.update({ by: 'id', room: written.room, id: written.id }, null, () => ({ writes: [{ row: written, leaseMs: 0 }], value: null }));
async function all(store: Store) {
  const rooms = [...(await store.rooms(0, 1024))].sort();
  return (await Promise.all(rooms.map((name) => readRoom(store, name)))).flat();
}
const owner = (n: number) => `proxied:somebody-${n}` as Owner;
const ROOMS = 40;
/** Of rooms in all shards. */
async function givenIn(store: Attendance) {
  const all = await Promise.all(Array.from({ length: ROOMS }, (_, n) => store.givenTo(room(n + 1), owner(n + 1))));
  return all.map((identities) => identities.toSorted());
}
async function fill(store: ReturnType<typeof open>) {
  for (const [n, kind] of LIVE_KINDS.entries()) await put(store, row(n + 1, { kind }));
  const over = { room: room(1), identities: [identity(9)] };
  await put(store, row(9, { over }));
  await put(store, row(10));
  await store.update({ by: 'id', room: room(10), id: row(10).id }, null, () => ({
    writes: [{ row: ended(row(10)), leaseMs: 0 }],
    value: null,
  }));
  for (let n = 1; n <= ROOMS; n += 1) await store.give(room(n), owner(n), identity(n));
  await store.track({ roomId: '!a:b', room: room(1), identity: identity(1), userId: '@u:b' as UserId, grantedAtMs: 5 });
}

test('a copy has every live delegation and everybody, also when it is made again', async () => {
  const [from, to] = [open('from', KEY), open('to')];
  await fill(from);
  const copied = { delegations: LIVE_KINDS.length + 1, attendance: 1, given: ROOMS };
  expect([await copyStore(from, to), await copyStore(from, to)]).toEqual([copied, copied]);
  expect(await all(to)).toEqual(await all(from));
  expect(await to.trackedIn('!a:b')).toEqual(await from.trackedIn('!a:b'));
  expect(await givenIn(to)).toEqual(await givenIn(from));
  await from.close();
  await to.close();
});

test('of a member who was given very many identities a few are copied, and no fewer than are ever told', async () => {
  const [from, to] = [open('from'), open('to')];
  for (const n of [1, 2, 3]) await to.give(room(1), owner(1), identity(100 + n));
  for (let n = 1; n <= 2 * MOST_GIVEN; n += 1) await from.give(room(1), owner(1), identity(n));
  await copyStore(from, to);
  expect(await to.givenTo(room(1), owner(1))).toHaveLength(MOST_GIVEN);
  await from.close();
  await to.close();
});

const byClock = (store: ReturnType<typeof open>, shiftMs: number) => Object.assign(store, { shiftMs });

test.each([
  ['ahead', 0, 8_000],
  ['behind', 3_600_000, 0],
])('what is due is due then by the clock that the target goes by, though it is %s; also when it is measured again', async (_, was, is) => {
  const [from, to] = [byClock(open('from'), was), byClock(open('to'), is)];
  await fill(from);
  await copyStore(from, to);
  await copyStore(from, byClock(to, is + 200));
  const byId = async (store: Store) => (await all(store)).toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const [before, after] = [await byId(from), await byId(to)];
  expect(after).toHaveLength(before.length);
  for (const [nth, { createdAtMs, expiry, state, history }] of after.entries()) {
    const row = before[nth] ?? expect.fail();
    const dueMs = dueAtMs(row.state) ?? expect.fail();
    expect([createdAtMs, expiry.latestMs, dueAtMs(state), history.at(-1)?.atMs]).toEqual(
      [row.createdAtMs, row.expiry.latestMs, dueMs, row.history.at(-1)?.atMs].map((ms) => ms && ms + is - was),
    );
  }
  expect((await to.trackedIn('!a:b'))[0]?.grantedAtMs).toBe(5 + is + 200 - was);
  await expect(copyStore(from, byClock(to, is + 5_000))).rejects.toThrow('not like this');
  await from.close();
  await to.close();
});

test('a target that is in use is refused', async () => {
  const [from, to] = [open('from'), open('to')];
  await put(from, row(1));
  await put(to, row(2, { over: { room: room(1) } }));
  await expect(copyStore(from, to)).rejects.toThrow('in use');
  await from.close();
  await to.close();
});

test('so is one in which an earlier move has left a room, or a row as it was then, before anything is written', async () => {
  const [from, to] = [open('from'), open('to')];
  await put(from, row(1));
  await put(to, row(2, { over: { room: room(2) } }));
  await expect(copyStore(from, to)).rejects.toThrow('an earlier move has left them');
  const [now, then] = [open('now'), open('then')];
  await put(now, row(1, { kind: 'connected' }));
  await put(now, row(3));
  await put(then, row(1, { kind: 'awaiting' }));
  await expect(copyStore(now, then)).rejects.toThrow('an earlier move has left them');
  expect([await all(to), await all(then)].map((rows) => rows.length)).toEqual([1, 1]);
  for (const store of [from, to, now, then]) await store.close();
});

test('nor is one taken in which a row has ended since it was copied there, before anything is written', async () => {
  const [from, to] = [open('from'), open('to')];
  await put(from, row(1));
  await put(from, row(2));
  await put(to, row(2));
  await to.update({ by: 'id', room: room(2), id: row(2).id }, null, () => ({ writes: [{ row: ended(row(2)), leaseMs: 0 }], value: null }));
  await expect(copyStore(from, to)).rejects.toThrow('an earlier move has left them');
  expect(await all(to)).toEqual([]);
  for (const store of [from, to]) await store.close();
});

test.each([[[]], [['copy']], [['copy', '--from', 'sqlite:a']], [['move', '--from', 'sqlite:a', '--to', 'sqlite:b']]])(
  '%j is no order',
  async (args) => {
    expect(await runCopy(args, {})).toBeNull();
  },
);

test('the key of a sealed store may come from a file', async () => {
  mkdirSync(`${folder}/from`);
  const from = open('from/lastwill.sqlite', KEY);
  await put(from, row(1));
  await from.close();
  writeFileSync(`${folder}/key`, `${KEY}\n`);
  const args = ['copy', '--from', `sqlite:${folder}/from`, '--to', `sqlite:${folder}/to`];
  expect(await runCopy(args, { LASTWILL_STORE_KEY_FROM_FILE: `${folder}/key` })).toContain('1 live');
  const to = open('to/lastwill.sqlite', KEY);
  expect(await all(to)).toHaveLength(1);
  await to.close();
});

test.each([
  ['another key', { LASTWILL_STORE_KEY: 'another key, and a longer one' }],
  ['none', {}],
])('what was sealed with one key is sealed with %s afterwards, also if that is done twice', async (_, env: Record<string, string>) => {
  mkdirSync(`${folder}/from`);
  const from = open('from/lastwill.sqlite', KEY);
  await fill(from);
  const before = await all(from);
  await from.close();
  writeFileSync(`${folder}/old-key`, `${KEY}\n`);
  const args = ['copy', '--from', `sqlite:${folder}/from`, '--from-key', `${folder}/old-key`, '--to', `sqlite:${folder}/to`];
  for (let times = 0; times < 2; times += 1) expect(await runCopy(args, env)).toMatch(/^copied and compared: 6 live[^\n]*\n$/);
  const to = open('to/lastwill.sqlite', env.LASTWILL_STORE_KEY ?? null);
  expect(await all(to)).toEqual(before);
  await to.close();
  const { keyName } = createSeal(KEY);
  const hasOldKey = (name: string) =>
    readdirSync(`${folder}/${name}`).some((file) => readFileSync(`${folder}/${name}/${file}`).includes(keyName));
  expect([hasOldKey('from'), hasOldKey('to')]).toEqual([true, false]);
});

test('the file of the older key is named when it is none', async () => {
  const args = ['copy', '--from', `sqlite:${folder}/from`, '--from-key', `${folder}/mistyped`, '--to', `sqlite:${folder}/to`];
  await expect(runCopy(args, {})).rejects.toThrow(/--from-key: .*mistyped; expected a file that can be read/);
});

test('a store is not copied to itself', async () => {
  await expect(
    runCopy(['copy', '--from', `sqlite:${folder}`, '--to', `sqlite:${folder}/../${path.basename(folder)}/`], {}),
  ).rejects.toThrow(/are the same/);
});

test('rows that can not be read are told of: whoever deletes the source would lose them', async () => {
  mkdirSync(`${folder}/from`);
  const from = open('from/lastwill.sqlite');
  await put(from, row(1));
  await put(from, row(2));
  await from.close();
  const file = new DatabaseSync(`${folder}/from/lastwill.sqlite`);
  file.prepare("UPDATE delegation SET body = replace(body, 'awaiting', 'awaitinx') WHERE id = ?").run(row(2).id);
  file.close();
  const args = ['copy', '--from', `sqlite:${folder}/from`, '--to', `sqlite:${folder}/to`];
  expect(await runCopy(args, {})).toMatch(new RegExp(`: 1 live.*\nnot copied.*: ${row(2).id}\n$`));
});

test('a key that lastwill would refuse seals nothing', async () => {
  const args = ['copy', '--from', `sqlite:${folder}/from`, '--to', `sqlite:${folder}/to`];
  await expect(runCopy(args, { LASTWILL_STORE_KEY: 'hunter2' })).rejects.toThrow(/^(?!.*hunter2).*LASTWILL_STORE_KEY/s);
});

test('nothing is copied from a folder without a store, and none is made there', async () => {
  const args = ['copy', '--from', `sqlite:${folder}/mistyped`, '--to', `sqlite:${folder}/to`];
  await expect(runCopy(args, {})).rejects.toThrow('no store in');
  expect(existsSync(`${folder}/mistyped`)).toBe(false);
});

async function inRedis<T>(url: string, look: (store: Store & Attendance) => Promise<T>): Promise<T> {
  const place = parseRedisUrl(url, null);
  if (place === null) throw new Error('no URL of Redis');
  const clock = systemClock();
  const connection = await connectRedis(place, clock);
  const options = { connection, clock, random: systemRandom(), seal: createSeal(KEY), waitFor: 0, cluster: false, leaseClock: null };
  const store = await openRedisStore(options);
  const seen = await look(store);
  await store.close();
  return seen;
}

// Each copy waits for the pause between two beats of a lastwill, to see that none is running.
describe.skipIf(NO_REDIS !== null).concurrent(`to a real Redis and back${NO_REDIS === null ? '' : `: ${NO_REDIS}`}`, () => {
  test('what is read is left as it was: not sealed, when the copy is', { timeout: 60_000 }, async () => {
    const [server, own] = [await RedisServer.start(), newFolder()];
    try {
      const from = openSqliteStore({ path: sqliteFile(own), clock: systemClock(), seal: null });
      await fill(from);
      await from.close();
      await runCopy(['copy', '--from', `sqlite:${own}`, '--to', server.url], {});
      const sealed = ['copy', '--from', server.url, '--to', `sqlite:${own}/sealed`];
      expect(await runCopy(sealed, { LASTWILL_STORE_KEY: KEY })).toContain('6 live');
      expect(await runCopy(['copy', '--from', server.url, '--to', `sqlite:${own}/again`], {})).toContain('6 live');
      const mistyped = ['copy', '--from', `${server.url}/7`, '--to', `sqlite:${own}/none`];
      await expect(runCopy(mistyped, {})).rejects.toThrow('no store in');
    } finally {
      await server.end();
    }
  });

  test('is what it was', { timeout: 60_000 }, async () => {
    const [server, own] = [await RedisServer.start(), newFolder()];
    try {
      const env = { LASTWILL_STORE_KEY: KEY };
      const from = openSqliteStore({ path: sqliteFile(own), clock: systemClock(), seal: createSeal(KEY) });
      await fill(from);
      const [before, given] = [await all(from), await givenIn(from)];
      await from.close();
      expect(await runCopy(['copy', '--from', `sqlite:${own}`, '--to', server.url], env)).toMatch(/6 live delegations.* 40 ident/);
      expect(await inRedis(server.url, givenIn)).toEqual(given);
      expect(await runCopy(['copy', '--from', server.url, '--to', `sqlite:${own}/back`], env)).toMatch(/6 live delegations.* 40 ident/);
      expect(await runCopy(['copy', '--from', `sqlite:${own}/back`, '--to', `sqlite:${own}/again`], env)).toContain('40 ident');
      const back = openSqliteStore({ path: sqliteFile(`${own}/back`), clock: systemClock(), seal: createSeal(KEY) });
      expect(await all(back)).toEqual(before);
      expect(await givenIn(back)).toEqual(given);
      await back.close();
    } finally {
      await server.end();
    }
  });

  test('whose clock is hours ahead, it goes by that clock', { timeout: 60_000 }, async () => {
    const [server, own] = [await RedisServer.start(), newFolder()];
    try {
      for (const shard of ALL_SHARDS) await server.ask('SET', `${prefixOf(shard)}ahead`, '7200000');
      const from = openSqliteStore({ path: sqliteFile(own), clock: systemClock(), seal: createSeal(KEY) });
      await put(from, row(1));
      await from.close();
      await runCopy(['copy', '--from', `sqlite:${own}`, '--to', server.url], { LASTWILL_STORE_KEY: KEY });
      const [there] = await inRedis(server.url, all);
      expect((there?.createdAtMs ?? 0) - row(1).createdAtMs).toBeGreaterThan(3_600_000);
    } finally {
      await server.end();
    }
  });
});
