// The embedded store under the contract, and what only a file can suffer: other keys, versions and processes, damage, no room.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { dueAtMs } from '../../src/delegation/decide.ts';
import type { Identity, Owner } from '../../src/delegation/ids.ts';
import { encode } from '../../src/store/codec.ts';
import { createSeal, type Seal } from '../../src/store/seal.ts';
import { slotOf } from '../../src/store/slots.ts';
import { MIGRATIONS } from '../../src/store/sqlite/migrations.ts';
import { openSqliteStore, type SqliteOptions } from '../../src/store/sqlite/sqlite.ts';
import { FIRST_PART, SLOTS, type Store, StoreUnavailable, StoreUnusable } from '../../src/store/store.ts';
import { ended, futureHandles, identity, idOf, room, row } from '../support/fixtures.ts';
import { createVirtualClock, START_MS } from '../support/virtual-clock.ts';
import { storeContract } from './contract.ts';

let folder: string;
let file: string;
let stores: Store[];
let children: ChildProcess[];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-store-'));
  file = path.join(folder, 'lastwill.sqlite');
  [stores, children] = [[], []];
});
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  for (const store of stores) await store.close();
  rmSync(folder, { recursive: true, force: true });
});

function open(options: Partial<SqliteOptions> = {}): Store {
  const store = openSqliteStore({ path: file, clock: createVirtualClock(), seal: null, ...options });
  stores.push(store);
  return store;
}

/** The files as a crash at this moment would leave them, elsewhere. */
function copyOf(source: string): string {
  const target = `${source}-killed`;
  for (const end of ['', '-wal', '-witness']) if (existsSync(source + end)) copyFileSync(source + end, target + end);
  return target;
}

const put = (store: Store, ...rows: Parameters<typeof ended>[0][]) =>
  Promise.all(
    rows.map((one) =>
      store.update({ by: 'id', room: one.room, id: one.id }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null })),
    ),
  );
const end = (store: Store, n: number) =>
  store.update({ by: 'id', room: room(n), id: idOf(n) }, null, ([one]) => ({
    writes: [{ row: ended(one as Parameters<typeof ended>[0]), leaseMs: 0 }],
    value: null,
  }));
async function byId(store: Store, n: number) {
  const found = await store.update({ by: 'id', room: room(n), id: idOf(n) }, null, (rows) => ({ writes: [], value: rows[0] }));
  return found.kind === 'done' ? found.value : undefined;
}

/** The part of its salt that is counted up whenever the log is begun anew. */
const generationOf = (path: string): number => readFileSync(`${path}-wal`).readUInt32BE(16);

storeContract('SQLite in memory', async (clock) => ({
  store: openSqliteStore({ path: ':memory:', clock, seal: null }),
  reopen: null,
  kill: null,
}));

for (const [name, seal] of [
  ['SQLite in a file', null],
  ['SQLite in a file, sealed', createSeal('a key of some length')],
] as const) {
  storeContract(name, async (clock) => {
    const path = file;
    return {
      store: openSqliteStore({ path, clock, seal }),
      reopen: async () => openSqliteStore({ path, clock, seal }),
      kill: async () => openSqliteStore({ path: copyOf(path), clock, seal }),
    };
  });
}

describe('commits', () => {
  test('carry all updates of one turn, which are answered after it', async () => {
    const told: (number | string)[] = [];
    const store = open({ onCommit: (ok, updates) => told.push(ok ? updates : 'failed') });
    const all = Array.from({ length: 100 }, (_, n) => put(store, row(n + 1)).then(() => told.push('answered')));
    await Promise.all([...all, store.ping()]);
    expect(told).toEqual([101, ...Array.from({ length: 100 }, () => 'answered')]);
  });

  test('wait a moment for company where nobody waits for them', async () => {
    const told: number[] = [];
    const clock = createVirtualClock();
    const store = open({ clock, onCommit: (_ok, updates) => told.push(updates) });
    const soon = (n: number) =>
      store.update({ by: 'id', room: room(n), id: idOf(n) }, null, () => ({ writes: [{ row: row(n), leaseMs: 0 }], value: null }), 'soon');
    const [first, second] = [soon(1), soon(2)];
    await clock.advance(9);
    expect(told).toEqual([]);
    await clock.advance(1);
    await Promise.all([first, second]);
    expect(told).toEqual([2]);
    const [third, fourth] = [soon(3), soon(4)];
    // Of the same room: it goes along. The other one holds nobody up.
    await put(store, row(5, { over: { room: room(4) } }));
    await fourth;
    expect(told).toEqual([2, 2]);
    await clock.advance(100);
    await third;
    expect(told).toEqual([2, 2, 1]);
  });

  test('are not made where nothing was written', async () => {
    const told: number[] = [];
    const store = open({ onCommit: (_ok, updates) => told.push(updates) });
    await byId(store, 1);
    await store.update({ by: 'id', room: room(1), id: idOf(1) }, 'key', () => ({ writes: [], value: null }));
    expect(told).toEqual([]);
  });

  test('take out what can not be written, and only that, although its step had no fault', async () => {
    const store = open();
    await put(store, row(1));
    const stranger = () =>
      store.update({ by: 'id', room: room(9), id: idOf(9) }, null, () => ({
        writes: [row(8), row(1)].map((one) => ({ row: one, leaseMs: 0 })),
        value: null,
      }));
    let runs = 0;
    const thrower = store.update({ by: 'id', room: room(5), id: idOf(5) }, null, () => {
      runs += 1;
      throw new Error('broken');
    });
    const results = await Promise.allSettled([put(store, row(2)), stranger(), thrower, put(store, row(3))]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled']);
    expect(runs).toBe(1);
    expect(await byId(store, 8)).toBeUndefined();
    expect([await byId(store, 1), await byId(store, 2), await byId(store, 3)]).toEqual([row(1), row(2), row(3)]);
  });

  test('are refused past a bound, not piled up', async () => {
    const store = open();
    const all = await Promise.allSettled(Array.from({ length: 20_100 }, (_, n) => byId(store, n)));
    const refused = all.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
    expect(refused).toHaveLength(100);
    expect(refused[0]?.reason).toBeInstanceOf(StoreUnavailable);
    await expect(put(store, row(1))).resolves.toBeDefined();
  });
});

test('the identities that a membership was given are forgotten after two days, and what is known is not written again', async () => {
  const clock = createVirtualClock();
  const told: number[] = [];
  const store = openSqliteStore({ path: file, clock, seal: null, onCommit: (_ok, updates) => told.push(updates) });
  stores.push(store);
  const give = (n: number) => store.give(room(1), 'owner' as Owner, identity(n));
  const given = () => store.givenTo(room(1), 'owner' as Owner);
  const purge = () => store.purge({ endedBeforeMs: 0, mostEnded: 10, onceBeforeMs: 0, limit: 2 });
  await Promise.all([give(1), give(2), give(3)]);
  expect(told).toEqual([3]);
  await give(1);
  expect(told).toEqual([3]);
  clock.stall(2 * 86_400_000);
  expect(await given()).toEqual([]);
  expect([await purge(), await purge(), await purge()]).toEqual([2, 1, 0]);
  await give(4);
  expect(await given()).toEqual([identity(4)]);
});

describe('secrets', () => {
  const KEY = 'a key of some length';
  const secrets = /secret-/;
  const bytes = () =>
    readdirSync(folder)
      .map((name) => readFileSync(path.join(folder, name), 'latin1'))
      .join('');

  test('lie sealed in the file, in its log too', async () => {
    const store = open({ seal: createSeal(KEY) });
    await put(store, row(1), row(2, { over: { handles: futureHandles(2) } }));
    expect(bytes()).toContain(room(1));
    expect(bytes()).not.toMatch(secrets);
    await store.close();
    expect(bytes()).not.toMatch(secrets);
    expect(bytes()).not.toContain(KEY);
  });

  test('are gone from an unsealed file when the delegation has ended', async () => {
    const store = open();
    await put(store, row(1), row(2, { over: { handles: futureHandles(2) } }));
    await end(store, 1);
    await end(store, 2);
    await store.close();
    expect(bytes()).toContain(room(1));
    expect(bytes()).not.toMatch(secrets);
  });

  test("the files are the owner's alone", async () => {
    const store = open();
    await put(store, row(1));
    const modes = readdirSync(folder).map((name) => [name, (statSync(path.join(folder, name)).mode & 0o777).toString(8)]);
    expect(modes).toEqual([
      ['lastwill.sqlite', '600'],
      ['lastwill.sqlite-wal', '600'],
      ['lastwill.sqlite-witness', '600'],
    ]);
  });

  test.each([
    ['another key', createSeal('another key of some length'), /sealed with another LASTWILL_STORE_KEY/],
    ['no key', null, /LASTWILL_STORE_KEY is not set/],
  ] as [string, Seal | null, RegExp][])('sealed ones are not forgotten with %s: it refuses to start', async (_name, seal, why) => {
    const first = open({ seal: createSeal(KEY) });
    await put(first, row(1));
    await first.close();
    expect(() => open({ seal })).toThrow(StoreUnusable);
    expect(() => open({ seal })).toThrow(why);
    expect(await byId(open({ seal: createSeal(KEY) }), 1)).toEqual(row(1));
  });

  test('another key is fine where nothing sealed is left', async () => {
    const first = open({ seal: createSeal(KEY) });
    await put(first, row(1));
    await end(first, 1);
    await first.close();
    expect(await byId(open({ seal: null }), 1)).toEqual(ended(row(1)));
  });

  test('unsealed ones of before are read with a key, and sealed when they are written again', async () => {
    const first = open();
    await put(first, row(1), row(2));
    await first.close();
    const second = open({ seal: createSeal(KEY) });
    expect(await byId(second, 1)).toEqual(row(1));
    await put(second, row(1));
    await end(second, 2);
    await second.close();
    expect(bytes()).not.toMatch(secrets);
    expect(await byId(open({ seal: createSeal(KEY) }), 1)).toEqual(row(1));
  });
});

describe('another process or version', () => {
  test('a second one on the same file is refused while the first runs', async () => {
    const store = open();
    await put(store, row(1));
    const outcome = () => execFileSync(process.execPath, [path.join(import.meta.dirname, 'holder.ts'), file, 'try'], { encoding: 'utf8' });
    expect(outcome()).toMatch(/^STORE_UNUSABLE .*locked.*is another lastwill running on it\?/);
    await put(store, row(2));
    await store.close();
    expect(outcome()).toBe('opened\n');
  });

  test.each(MIGRATIONS.keys().toArray().slice(1))('what schema %i holds is all there in the newest', async (version) => {
    const db = new DatabaseSync(file);
    for (const sql of MIGRATIONS.slice(0, version)) db.exec(sql);
    db.exec(`PRAGMA user_version = ${version}`);
    const connected = row(2, { kind: 'connected' });
    const rows = [row(1), connected, row(3, { kind: 'leaving' }), ended(row(4))];
    const insert = db.prepare(
      'INSERT INTO delegation (id, owner, room, slot, homeserver, kind, due_at, ended_at, rev, body, handles) VALUES (?,?,?,?,?,?,?,?,?,?,?)',
    );
    const watched = version < 3 ? 'room, ?, id' : version < 4 ? 'room, ?, number' : 'slot, room, ?, number';
    const watch = db.prepare(`INSERT INTO watched SELECT ${watched} FROM delegation WHERE id = ?`);
    const taken = version < 5 ? ['taken before', START_MS] : [Math.floor(START_MS / 600_000), 'taken before'];
    db.prepare('INSERT INTO webhook VALUES (?, ?)').run(...taken);
    for (const one of rows) {
      const { body, handles } = encode(one, null);
      const endedAt = one.state.kind === 'ended' ? one.state.atMs : null;
      insert.run(
        one.id,
        one.owner,
        one.room,
        slotOf(one.room),
        one.homeserver,
        one.state.kind,
        dueAtMs(one.state),
        endedAt,
        3,
        body,
        handles,
      );
      if (endedAt === null) watch.run(one.identities[0] as string, one.id);
    }
    db.close();
    const store = open();
    for (const [n, one] of rows.entries()) expect(await byId(store, n + 1)).toEqual(one);
    const where = { by: 'watched', room: connected.room, identity: connected.identities[0] as Identity, part: FIRST_PART } as const;
    expect(await store.update(where, 'taken before', () => ({ writes: [], value: null }))).toEqual({ kind: 'duplicate' });
    await store.update(where, null, (found) => {
      expect(found).toEqual([connected]);
      return { writes: [{ row: ended(row(2)), leaseMs: 0 }], value: null };
    });
    expect(await store.count()).toMatchObject({ awaiting: 1, leaving: 1, ended: 2 });
    expect(await store.rooms(0, SLOTS)).toHaveLength(2);
    const claimed = await store.claimDue(START_MS * 2, 1_000, 10, { restarts: new Set(), leaves: new Set() });
    expect(claimed.map(({ row: { id } }) => id)).toEqual([idOf(3), idOf(1)]);
  });

  test('a newer schema is refused and left as it is', async () => {
    await open().close();
    change('PRAGMA user_version = 99');
    const before = readFileSync(file);
    expect(() => open()).toThrow(StoreUnusable);
    expect(() => open()).toThrow(/schema 99, this version of lastwill knows up to \d+: start the newer version again/);
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  test("another program's file is refused", () => {
    writeFileSync(file, 'not a database at all, but long enough to be looked at '.repeat(100));
    expect(() => open()).toThrow(/not a database/);
    rmSync(file);
    const db = new DatabaseSync(file);
    db.exec('CREATE TABLE delegation (other TEXT); INSERT INTO delegation VALUES (1)');
    db.close();
    expect(() => open()).toThrow(StoreUnusable);
  });

  test('a folder that is not there is said', () => {
    file = path.join(folder, 'missing', 'lastwill.sqlite');
    expect(() => open()).toThrow(/missing\/lastwill\.sqlite can not be opened: .*ENOENT/);
  });
});

describe('damage', () => {
  test('to one row: it is reported and kept, the others work', async () => {
    const first = open();
    for (const n of [1, 2, 3, 4, 5]) await put(first, row(n, { over: { room: room(1) } }));
    await first.close();
    change(
      `UPDATE delegation SET body = replace(body, 'matrix.example.org', 'natrix.example.org') WHERE id = '${idOf(1)}'`,
      `UPDATE delegation SET handles = replace(handles, 'secret', 'secreT') WHERE id = '${idOf(2)}'`,
      `UPDATE delegation SET body = '' WHERE id = '${idOf(3)}'`,
      `UPDATE delegation SET handles = NULL WHERE id = '${idOf(4)}'`,
    );
    const reported: string[] = [];
    const store = open({ onUnreadable: (id, why) => reported.push(`${id} ${why.message}`) });
    const found = await store.update({ by: 'room', room: room(1), part: FIRST_PART }, 'key', (rows) => ({ writes: [], value: rows }));
    expect(found.kind === 'done' && found.value).toEqual([row(5, { over: { room: room(1) } })]);
    expect(reported.sort()).toEqual([1, 2, 3, 4].map((n) => `${idOf(n)} damaged: its checksum is wrong`));
    expect(reported.join()).not.toContain('secre');
    expect((await store.claimDue(START_MS, 1_000, 10, { restarts: new Set(), leaves: new Set() })).map(({ row }) => row.id)).toEqual([
      idOf(5),
    ]);
    expect((await store.count()).awaiting).toBe(5);
    expect(await store.purge({ endedBeforeMs: START_MS * 2, mostEnded: 10, onceBeforeMs: START_MS * 2, limit: 10 })).toBe(1);
    expect((await store.count()).awaiting).toBe(5);
  });

  test('to one sealed row: the others work, with the same key', async () => {
    const seal = createSeal('a key of some length');
    const first = open({ seal });
    await put(first, row(1), row(2));
    await first.close();
    change(`UPDATE delegation SET handles = 'v1.another0.AAAA' WHERE id = '${idOf(1)}'`);
    expect(await byId(open({ seal }), 2)).toEqual(row(2));
  });

  test('to the file: it is refused, with a word about what it is', async () => {
    const first = open();
    await put(first, ...Array.from({ length: 200 }, (_, n) => row(n + 1)));
    await first.close();
    const sound = readFileSync(file);
    expect(sound.length).toBeGreaterThan(100_000);
    truncateSync(file, 50_000);
    expect(() => open()).toThrow(StoreUnusable);
    expect(() => open()).toThrow(/damaged|malformed/);
    for (const at of [0, 4_096, 40_960]) {
      const bytes = Buffer.from(sound);
      bytes.fill(0xa5, at, at + 1_024);
      writeFileSync(file, bytes);
      expect(() => open(), `bytes flipped at ${at}`).toThrow(/damaged|malformed|not a database/);
    }
    writeFileSync(file, sound);
    expect((await open().count()).awaiting).toBe(200);
  });

  test('a log that was torn by a crash costs only what was not answered, wherever it was torn', { timeout: 60_000 }, async () => {
    const store = open();
    await put(store, row(1));
    const before = statSync(`${file}-wal`).size;
    await put(store, row(2));
    const copy = copyOf(file);
    for (let size = statSync(`${copy}-wal`).size - 1; size >= before; size -= 311) {
      truncateSync(`${copy}-wal`, size);
      const again = openSqliteStore({ path: copyOf(copy), clock: createVirtualClock(), seal: null });
      expect([await byId(again, 1), await byId(again, 2)], `torn at ${size}`).toEqual([row(1), undefined]);
      await again.close();
    }
  });
});

describe('what was promised and is not there any more', () => {
  /** The files after a crash, with two promises that the witness has heard of. */
  async function crashed(seal: Seal | null = null): Promise<string> {
    const clock = createVirtualClock();
    const store = open({ clock, seal });
    for (const n of [1, 2]) {
      await put(store, row(n));
      await clock.advance(1_000);
      await store.durable();
    }
    return copyOf(file);
  }
  const again = (at: string) => open({ path: at });

  test('nothing is missing after a crash, nor after another', async () => {
    const copy = await crashed();
    const once = again(copy);
    expect(await byId(once, 2)).toEqual(row(2));
    expect(await byId(again(copyOf(copy)), 2)).toEqual(row(2));
  });

  test('nothing is missing after a crash and a start without the key, which is refused, as often as it is tried', async () => {
    const seal = createSeal('a key of letters');
    const copy = await crashed(seal);
    for (const _ of [1, 2]) expect(() => again(copy)).toThrow(/they are sealed, and LASTWILL_STORE_KEY is not set/);
    expect(await byId(open({ path: copy, seal }), 2)).toEqual(row(2));
  });

  test('nothing is missing after a crash and a start of an older version, which is refused, as often as it is tried', async () => {
    file = await crashed();
    const db = new DatabaseSync(file);
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA user_version = 99');
    file = copyOf(file);
    db.close();
    for (const _ of [1, 2]) expect(() => open()).toThrow(/schema 99/);
    change(`PRAGMA user_version = ${MIGRATIONS.length}`);
    expect(await byId(open(), 2)).toEqual(row(2));
  });

  test('the log is gone, and the database is there: it refuses to start, until it is told to go on with what is left', async () => {
    const copy = await crashed();
    rmSync(`${copy}-wal`);
    expect(() => again(copy)).toThrow(StoreUnusable);
    expect(() => again(copy)).toThrow(
      /lost delegations that were promised: its log .*-wal is missing.*; to go on with what is left, remove .*-witness$/,
    );
    rmSync(`${copy}-witness`);
    expect((await again(copy).count()).awaiting).toBe(0);
  });

  test('the log was cut short at any length: it refuses to start', { timeout: 60_000 }, async () => {
    const copy = await crashed();
    const log = readFileSync(`${copy}-wal`);
    for (let size = log.length - 1; size >= 0; size -= 977) {
      writeFileSync(`${copy}-wal`, log.subarray(0, size));
      expect(() => again(copy), `cut at ${size}`).toThrow(/has lost delegations/);
    }
    writeFileSync(`${copy}-wal`, log);
    expect(await byId(again(copy), 2)).toEqual(row(2));
  });

  test('a byte of the log was flipped anywhere: it refuses to start', { timeout: 60_000 }, async () => {
    const copy = await crashed();
    const log = readFileSync(`${copy}-wal`);
    for (let at = 0; at < log.length; at += 1_301) {
      const bytes = Buffer.from(log);
      bytes[at] = (bytes[at] ?? 0) ^ 0x10;
      writeFileSync(`${copy}-wal`, bytes);
      expect(() => again(copy), `flipped at ${at}`).toThrow(/has lost delegations/);
    }
  });

  test('the database is gone or empty, after a crash or an orderly end: it refuses to start', async () => {
    const copy = await crashed();
    rmSync(copy);
    expect(() => again(copy)).toThrow(/the database file is missing or empty/);
    await stores[0]?.close();
    truncateSync(file, 0);
    expect(() => open()).toThrow(/the database file is missing or empty/);
    expect(statSync(file).size).toBe(0);
  });

  test('a log that was begun anew, with what is left of the older one behind it: no more and no less is missed', async () => {
    const clock = createVirtualClock();
    const store = open({ clock });
    const many = async (from: number, to: number): Promise<void> => {
      for (let n = from; n < to; n += 50) await put(store, ...Array.from({ length: 50 }, (_, one) => row(n + one)));
    };
    const first = generationOf(file);
    await many(10, 6_010);
    await vi.waitFor(() => expect(generationOf(file)).not.toBe(first));
    await many(6_010, 6_110);
    await clock.advance(1_000);
    const before = statSync(`${file}-wal`).size;
    for (const last of [7_000, 7_001, 7_002]) {
      await put(store, row(last));
      await clock.advance(1_000);
      await store.durable();
    }
    expect(statSync(`${file}-wal`).size).toBe(before);
    const copy = copyOf(file);
    const { frames } = JSON.parse(readFileSync(`${copy}-witness`, 'utf8')) as { frames: number };
    expect((await again(copy).count()).awaiting).toBe(6_103);
    const other = copyOf(file);
    truncateSync(`${other}-wal`, 32 + frames * 4_120);
    expect(await byId(again(copyOf(other)), 7_002)).toEqual(row(7_002));
    truncateSync(`${other}-wal`, 32 + frames * 4_120 - 1);
    expect(() => again(other)).toThrow(/has lost delegations/);
  });

  test('an older log was put back: it refuses to start', async () => {
    const store = open();
    await put(store, row(1));
    const [older, newer] = [copyOf(file), `${file}-newer`];
    copyFileSync(`${older}-wal`, `${newer}-wal`);
    // Enough for the log to be copied into the database, and begun anew.
    for (let n = 10; n < 6_000; n += 50) await put(store, ...Array.from({ length: 50 }, (_, one) => row(n + one)));
    await store.close();
    const next = open();
    await put(next, row(2));
    for (const end of ['', '-witness']) copyFileSync(`${file}${end}`, `${newer}${end}`);
    expect(() => again(newer)).toThrow(/is an older or another one/);
  });
});

describe('no room', () => {
  test('on a disk that is full: refused, nothing promised, and well again with room', async ({ skip }) => {
    const mounted = mountSmallDisk();
    if (mounted !== null) return skip(`a small disk can not be mounted here: ${mounted}`);
    try {
      const store = open();
      const kept = await fillUp((from) => put(store, ...Array.from({ length: 20 }, (_, n) => row(from + n))));
      await fillUp(() => store.ping());
      await expect(store.update({ by: 'id', room: room(1), id: idOf(1) }, 'key', () => ({ writes: [], value: 1 }))).rejects.toBeInstanceOf(
        StoreUnavailable,
      );
      expect([await byId(store, 1), (await store.count()).awaiting]).toEqual([row(1), kept]);
      await expect(store.claimDue(START_MS, 1_000, 5, { restarts: new Set(), leaves: new Set() })).resolves.toHaveLength(5);
      expect(await byId(store, kept + 1)).toBeUndefined();
      execFileSync('mount', ['-o', 'remount,size=8m', folder]);
      await store.ping();
      const again = await store.update({ by: 'id', room: room(1), id: idOf(1) }, 'key', () => ({ writes: [], value: 1 }));
      expect(again.kind).toBe('done');
      await put(store, row(kept + 1));
      await store.close();
      expect((await open().count()).awaiting).toBe(kept + 1);
    } finally {
      for (const store of stores) await store.close();
      execFileSync('umount', [folder]);
    }
  });

  test('on a disk that became read-only: the same', async ({ skip }) => {
    const mounted = mountSmallDisk();
    if (mounted !== null) return skip(`a small disk can not be mounted here: ${mounted}`);
    try {
      const store = open();
      await put(store, row(1));
      await store.close();
      execFileSync('mount', ['-o', 'remount,ro', folder]);
      expect(() => open()).toThrow(StoreUnusable);
      execFileSync('mount', ['-o', 'remount,rw', folder]);
      expect(await byId(open(), 1)).toEqual(row(1));
    } finally {
      for (const store of stores) await store.close();
      execFileSync('umount', [folder]);
    }
  });

  test('within a limit on the size of files: the same', async ({ skip }) => {
    if (process.platform !== 'linux' || !canRun('prlimit')) return skip('there is no prlimit here');
    const holder = hold();
    expect(await holder.next()).toBe('opened');
    const kept = Number(/^kept (\d+)$/.exec(await holder.ask('put 5'))?.[1]);
    expect(kept).toBe(5);
    execFileSync('prlimit', ['--pid', String(holder.pid), `--fsize=${statSync(`${file}-wal`).size + 20_000}:unlimited`]);
    const full = /^refused STORE_UNAVAILABLE after (\d+)$/.exec(await holder.ask('put 1000'));
    expect(full).not.toBeNull();
    // Smaller writes may find the last of the room.
    let pings = 0;
    while ((await holder.ask('ping')) === 'pong' && pings < 100) pings += 1;
    expect(await holder.ask('ping')).toBe('refused STORE_UNAVAILABLE');
    expect(await holder.ask('count')).toBe(`count ${full?.[1]}`);
    execFileSync('prlimit', ['--pid', String(holder.pid), '--fsize=unlimited:unlimited']);
    expect(await holder.ask('ping')).toBe('pong');
    expect(await holder.ask('put 1')).toBe(`kept ${Number(full?.[1]) + 1}`);
    await holder.kill();
    expect((await open().count()).awaiting).toBe(Number(full?.[1]) + 1);
  });

  /** Puts batches until one is refused; how many rows were kept. */
  async function fillUp(batch: (from: number) => Promise<unknown>): Promise<number> {
    for (let from = 1; from < 20_000; from += 20) {
      try {
        await batch(from);
      } catch (error) {
        expect(error).toBeInstanceOf(StoreUnavailable);
        return from - 1;
      }
    }
    throw new Error('the disk did not fill up');
  }

  /** Null: mounted over the test's folder. */
  function mountSmallDisk(): string | null {
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'pipe' });
      return null;
    } catch (error) {
      return (error as Error).message.split('\n').at(-2) ?? 'mount failed';
    }
  }
});

/** Statements on the file behind the store's back, while it is closed. */
function change(...statements: string[]): void {
  const db = new DatabaseSync(file);
  for (const statement of statements) db.exec(statement);
  db.close();
}

function canRun(command: string): boolean {
  try {
    execFileSync(command, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** A process of its own with the store open, asked line by line. */
function hold() {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'holder.ts'), file, 'hold'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the holder is gone');
    return value;
  };
  const ask = (line: string): Promise<string> => {
    child.stdin.write(`${line}\n`);
    return next();
  };
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  return { pid: child.pid, next, ask, kill };
}
