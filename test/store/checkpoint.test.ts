// The log is copied into the database while the disk takes its time, fails, or is cut off from its power.
import { copyFileSync, existsSync, fstatSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { LiveDelegation } from '../../src/delegation/state.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { type Store, StoreUnavailable } from '../../src/store/store.ts';
import { room, row } from '../support/fixtures.ts';
import { createSeededRandom, createVirtualClock, type VirtualClock } from '../support/virtual-clock.ts';

const disk = vi.hoisted(() => ({ asked: null as ((file: number) => Promise<void>) | null, fails: false }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const fdatasync = (file: number, done: (why: Error | null) => void): void => {
    if (disk.asked === null) fs.fdatasync(file, done);
    else disk.asked(file).then(() => done(null), done);
  };
  const fsyncSync = (file: number): void => {
    if (disk.fails) throw new Error('EIO: i/o error, fsync');
    fs.fsyncSync(file);
  };
  return { ...fs, fdatasync, fsyncSync };
});

let folder: string;
let file: string;
let clock: VirtualClock;
let store: Store;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-checkpoint-'));
  file = path.join(folder, 'db');
  clock = createVirtualClock();
  store = openSqliteStore({ path: file, clock, seal: null });
});
afterEach(async () => {
  [disk.asked, disk.fails] = [null, false];
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

const put = (...rows: LiveDelegation[]) =>
  Promise.all(
    rows.map((one) =>
      store.update({ by: 'id', room: one.room, id: one.id }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null })),
    ),
  );
const nameOf = (fd: number): 'database' | 'log' => (fstatSync(fd).ino === statSync(file).ino ? 'database' : 'log');
/** Its generation, and the salt of its first page: another one means that it is empty. */
function logHead(): { readonly sequence: number; readonly isEmpty: boolean } {
  const head = readFileSync(`${file}-wal`).subarray(0, 56);
  return { sequence: head.readUInt32BE(12), isEmpty: !head.subarray(16, 24).equals(head.subarray(40, 48)) };
}
const bytes = (): Buffer => readFileSync(file);
async function turns(): Promise<void> {
  for (let nth = 0; nth < 5; nth += 1) await new Promise((resolve) => setImmediate(resolve));
}
function watched(promise: Promise<unknown>): { state: string } {
  const seen = { state: 'waits' };
  promise.then(
    () => {
      seen.state = 'done';
    },
    (error: unknown) => {
      seen.state = error instanceof StoreUnavailable ? 'unavailable' : String(error);
    },
  );
  return seen;
}

/** More than the log is to hold; 6,000 rows that are there then. */
async function fillLog(): Promise<void> {
  for (let n = 1; n <= 6_000; n += 50) await put(...Array.from({ length: 50 }, (_, one) => row(n + one)));
}

/** Opened elsewhere as a crash of the process would leave it, or where it is: how many rows there are. */
async function rowsAfter(what: 'a crash' | 'its end'): Promise<number> {
  const at = what === 'its end' ? file : `${file}-killed`;
  if (what === 'a crash') for (const end of ['', '-wal', '-witness']) copyFileSync(file + end, at + end);
  const again = openSqliteStore({ path: at, clock, seal: null });
  const { awaiting } = await again.count();
  await again.close();
  return awaiting;
}

describe('a disk that writes down when it is told to', () => {
  let asked: { what: string; done: () => void; fails: () => void }[];
  let before: Buffer;

  beforeEach(() => {
    asked = [];
    disk.asked = (fd) =>
      new Promise((resolve, reject) => {
        asked.push({ what: nameOf(fd), done: resolve, fails: () => reject(new Error('EIO: i/o error, fdatasync')) });
      });
  });
  async function answer(how: 'done' | 'fails'): Promise<string | undefined> {
    asked.shift()?.[how]();
    await turns();
    return asked[0]?.what;
  }
  /** Up to where the log was copied, and the disk is asked for the database. */
  async function copied(): Promise<void> {
    await fillLog();
    before = bytes();
    await clock.advance(1_000);
    expect(await answer('done')).toBe('database');
    expect(bytes().length).toBeGreaterThan(before.length);
  }
  /** The disk forgets what it could not write. */
  const forget = (): void => writeFileSync(file, before);

  test('holds back commits only while it has to, and each step waits for the one before', async () => {
    await fillLog();
    before = bytes();
    const { sequence } = logHead();
    await clock.advance(1_000);
    await put(row(6_001));
    expect(asked.map(({ what }) => what)).toEqual(['log']);
    expect(await answer('done')).toBe('log');
    const held = watched(put(row(6_002)));
    await turns();
    // Nothing is copied of what the disk may not have.
    expect([held.state, bytes().equals(before)]).toEqual(['waits', true]);
    expect(await answer('done')).toBe('database');
    expect([held.state, bytes().equals(before), logHead()]).toEqual(['waits', false, { sequence, isEmpty: false }]);
    expect((await store.count()).awaiting).toBe(6_001);
    // Nothing is written over the log while the disk may lack what was in it.
    expect(await answer('done')).toBe('log');
    expect([held.state, logHead()]).toEqual(['waits', { sequence: sequence + 1, isEmpty: true }]);
    expect(await rowsAfter('a crash')).toBe(6_001);
    await answer('done');
    expect([held.state, logHead()]).toEqual(['done', { sequence: sequence + 1, isEmpty: false }]);
    expect(await rowsAfter('a crash')).toBe(6_002);
  });

  test('that does not answer keeps the log whole, however long it becomes, and nobody waits', async () => {
    await fillLog();
    before = bytes();
    await clock.advance(1_000);
    for (let n = 6_001; n <= 6_010; n += 1) {
      await put(row(n));
      await clock.advance(1_000);
    }
    expect([asked.length, bytes().equals(before)]).toEqual([1, true]);
    disk.asked = null;
    await answer('done');
  });

  test('a store that is closed meanwhile ends in order, with what was held back', async () => {
    await copied();
    const held = watched(put(row(6_001)));
    const closed = watched(store.close());
    await expect(put(row(6_002))).rejects.toBeInstanceOf(StoreUnavailable);
    await answer('done');
    expect([held.state, closed.state]).toEqual(['waits', 'waits']);
    disk.asked = null;
    await answer('done');
    await vi.waitFor(() => expect([held.state, closed.state]).toEqual(['done', 'done']));
    expect(await rowsAfter('its end')).toBe(6_001);
  });

  test('a log that it fails to write down is not copied, and what was held back is committed as ever', async () => {
    await fillLog();
    before = bytes();
    await clock.advance(1_000);
    await put(row(6_001));
    await answer('done');
    const held = watched(put(row(6_002)));
    await answer('fails');
    expect([held.state, bytes().equals(before)]).toEqual(['done', true]);
    await expect(put(row(6_003))).rejects.toBeInstanceOf(StoreUnavailable);
    disk.asked = null;
    await store.ping();
    await put(row(6_003));
    expect(await rowsAfter('a crash')).toBe(6_003);
  });

  test('a database that it fails to write down, and forgets: nothing is taken in until all of it was copied once more', async () => {
    await copied();
    const held = watched(put(row(6_001)));
    const head = logHead();
    forget();
    await answer('fails');
    expect([held.state, logHead()]).toEqual(['unavailable', head]);
    await expect(put(row(6_002))).rejects.toBeInstanceOf(StoreUnavailable);
    disk.fails = true;
    await expect(store.ping()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', why: 'EIO: i/o error, fsync' });
    await expect(put(row(6_002))).rejects.toBeInstanceOf(StoreUnavailable);
    expect(await rowsAfter('a crash')).toBe(6_000);
    forget();
    [disk.asked, disk.fails] = [null, false];
    await store.ping();
    await put(row(6_003));
    expect(await rowsAfter('a crash')).toBe(6_001);
    await store.close();
    expect(await rowsAfter('its end')).toBe(6_001);
  });

  test('a database that it never writes down: the log is still there after an orderly end', async () => {
    await copied();
    forget();
    disk.fails = true;
    await answer('fails');
    await store.close();
    // As it was left.
    forget();
    expect(await rowsAfter('its end')).toBe(6_000);
    expect(existsSync(`${file}-wal-kept`)).toBe(false);
  });

  test('that fails elsewhere meanwhile: what is under way ends first, and the log is mended after it', async () => {
    await fillLog();
    await clock.advance(1_000);
    await put(row(6_001));
    // They wait for a sync that comes after this one.
    const first = watched(store.durable());
    asked.shift()?.done();
    await turns();
    const second = watched(store.durable());
    expect(asked.map(({ what }) => what)).toEqual(['log', 'log']);
    for (const one of asked.splice(0)) one.done();
    await turns();
    expect([first.state, asked.map(({ what }) => what)]).toEqual(['done', ['database', 'log']]);
    const held = watched(put(row(6_002)));
    asked.pop()?.fails();
    await turns();
    expect(second.state).toBe('unavailable');
    await expect(store.durable()).rejects.toMatchObject({ why: 'the log is being copied into the database' });
    expect(await answer('done')).toBe('log');
    await answer('done');
    expect(held.state).toBe('done');
    await expect(put(row(6_003))).rejects.toBeInstanceOf(StoreUnavailable);
    disk.asked = null;
    await store.ping();
    await put(row(6_003));
    expect(await rowsAfter('a crash')).toBe(6_003);
  });

  test('a log that it fails to begin anew: nothing is written over it', async () => {
    await copied();
    expect(await answer('done')).toBe('log');
    const held = watched(put(row(6_001)));
    await answer('fails');
    expect([held.state, logHead().isEmpty]).toEqual(['unavailable', true]);
    await expect(put(row(6_001))).rejects.toBeInstanceOf(StoreUnavailable);
    expect(await rowsAfter('a crash')).toBe(6_000);
    disk.asked = null;
    await store.ping();
    await put(row(6_002));
    expect(await rowsAfter('a crash')).toBe(6_001);
  });
});

describe('a disk whose power is cut', () => {
  const SECTOR = 512;
  const IMAGES = 3;
  const random = createSeededRandom(process.pid);
  const below = (limit: number): number => Math.floor(random.roll() * limit);
  /** What the disk has for sure. */
  let sure: { database: Buffer; log: Buffer };
  let witnesses: Buffer[];
  /** How many rows of each kind there were after each commit, and after which of them they were promised. */
  let history: string[];
  let promised: number;

  const now = () => ({ database: readFileSync(file), log: readFileSync(`${file}-wal`) });

  /** Of two, each sector of either: how a disk that writes in any order may leave it. */
  function torn(older: Buffer, newer: Buffer): Buffer {
    const length = Math.max(older.length, newer.length);
    const padded = (one: Buffer): Buffer => Buffer.concat([one, Buffer.alloc(length - one.length)]);
    const [image, to] = [padded(older), padded(newer)];
    const changed: number[] = [];
    for (let at = 0; at < length; at += SECTOR) {
      const end = Math.min(at + SECTOR, length);
      if (image.compare(to, at, end, at, end) !== 0) changed.push(at);
    }
    const cut = below(changed.length + 1);
    const share = random.roll();
    const ways = [() => true, () => false, (nth: number) => nth < cut, (nth: number) => nth >= cut, () => random.roll() < share];
    const way = ways[below(ways.length)] as (nth: number) => boolean;
    for (const [nth, at] of changed.entries()) if (way(nth)) to.copy(image, at, at, at + SECTOR);
    return image;
  }

  async function cutPower(moment: string): Promise<void> {
    const current = now();
    const witness = readFileSync(`${file}-witness`);
    if (witnesses.at(-1)?.equals(witness) !== true) witnesses.push(witness);
    for (let nth = 0; nth < IMAGES; nth += 1) {
      const at = `${file}-cut`;
      writeFileSync(at, torn(sure.database, current.database));
      writeFileSync(`${at}-wal`, torn(sure.log, current.log));
      writeFileSync(`${at}-witness`, witnesses[below(witnesses.length)] as Buffer);
      const again = openSqliteStore({ path: at, clock: createVirtualClock(), seal: null });
      const { awaiting, connected } = await again.count();
      await again.close();
      const found = history.indexOf(`${awaiting} ${connected}`);
      expect(found, `${moment}: ${awaiting} ${connected}, promised ${history[promised]}`).toBeGreaterThanOrEqual(promised);
      const db = new DatabaseSync(at);
      expect(db.prepare('PRAGMA integrity_check').all(), moment).toEqual([{ integrity_check: 'ok' }]);
      db.close();
    }
  }

  test('has all that was promised, whatever it had written of the rest', { timeout: 120_000 }, async () => {
    [sure, witnesses, history, promised] = [now(), [], ['0 0'], 0];
    const failures: unknown[] = [];
    const under: Promise<void>[] = [];
    disk.asked = async (fd) => {
      const what = nameOf(fd);
      const given = now()[what];
      // Meanwhile others want to be taken in.
      under.push(commit(20));
      await turns();
      await cutPower(`asked for the ${what}`).catch((error: unknown) => failures.push(error));
      sure[what] = given;
      await cutPower(`has the ${what}`).catch((error: unknown) => failures.push(error));
    };
    const { sequence } = logHead();
    let next = 1;
    // Enough for a log; and so long after they came that their pages are in the database alone.
    const [LONG, LATER] = [4_000, 4_300];
    const moved = (n: number): LiveDelegation => ({ ...row(n, { kind: 'connected' }), room: room(n) });
    const commit = async (size: number): Promise<void> => {
      const rows = Array.from({ length: size }, (_, one) => next + one).map((n) => (n > LATER ? [row(n), moved(n - LATER)] : [row(n)]));
      next += size;
      const connected = Math.max(next - 1 - LATER, 0);
      history.push(`${next - 1 - connected} ${connected}`);
      await put(...rows.flat());
    };
    for (const checkpoint of [1, 2]) {
      for (let more = 0; more < LONG; more += 50) await commit(50);
      await clock.advance(1_000);
      await vi.waitFor(() => expect([failures, logHead()]).toEqual([[], { sequence: sequence + checkpoint, isEmpty: false }]), {
        timeout: 60_000,
        interval: 5,
      });
      for (const size of [1, 20, 3]) {
        await commit(size);
        await cutPower('after the log was begun anew');
      }
      await Promise.all(under);
      const upTo = history.length - 1;
      await store.durable();
      promised = upTo;
      await cutPower('promised');
    }
  });
});
