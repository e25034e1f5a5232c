// A disk that takes what is written and then can't keep it, or not where it will be looked for: nobody is promised anything, the store is away, and comes back by itself.
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import { room, row } from '../support/fixtures.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const disk = vi.hoisted(() => ({ fails: false }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const fdatasync = (file: number, done: (why: Error | null) => void): void => {
    if (disk.fails) done(new Error('EIO: i/o error, fdatasync'));
    else fs.fdatasync(file, done);
  };
  return { ...fs, fdatasync };
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-disk-'));
});
afterEach(() => {
  disk.fails = false;
  rmSync(folder, { recursive: true, force: true });
});

test('it takes nothing until all of it is safe, whoever asks, and then it does again', async () => {
  const told: boolean[] = [];
  const clock = createVirtualClock();
  const store = openSqliteStore({ path: path.join(folder, 'db'), clock, seal: null, onSync: (ok) => told.push(ok) });
  const put = (n: number) =>
    store.update({ by: 'id', room: room(n), id: row(n).id }, null, () => ({ writes: [{ row: row(n), leaseMs: 0 }], value: null }));
  await put(1);
  await store.durable();
  disk.fails = true;
  await put(2);
  await expect(store.durable()).rejects.toBeInstanceOf(StoreUnavailable);
  // Taken in now it would seem to be well again, and every second be not.
  await expect(put(3)).rejects.toBeInstanceOf(StoreUnavailable);
  expect(told).toEqual([true, false]);
  await expect(store.ping()).rejects.toBeInstanceOf(StoreUnavailable);
  await expect(put(3)).rejects.toBeInstanceOf(StoreUnavailable);
  disk.fails = false;
  await store.ping();
  await put(3);
  await store.durable();
  expect((await store.count()).awaiting).toBe(3);
  await store.close();
});

test.each(['', '/db', '/db-wal'])(
  'what is moved under it (%j) is not where another start looks: it takes nothing until that is back',
  async (what) => {
    const [here, away] = [path.join(folder, 'data'), path.join(folder, 'away')];
    mkdirSync(here);
    const store = openSqliteStore({ path: path.join(here, 'db'), clock: createVirtualClock(), seal: null });
    const put = (n: number) =>
      store.update({ by: 'id', room: room(n), id: row(n).id }, null, () => ({ writes: [{ row: row(n), leaseMs: 0 }], value: null }));
    await put(1);
    await store.durable();
    renameSync(`${here}${what}`, away);
    if (what === '') mkdirSync(here);
    await put(2);
    const refused = await store.durable().catch((error: StoreUnavailable) => error);
    expect(refused).toBeInstanceOf(StoreUnavailable);
    expect((refused as StoreUnavailable).cause).toMatchObject({ message: expect.stringContaining('moved, deleted or replaced') });
    await expect(put(3)).rejects.toBeInstanceOf(StoreUnavailable);
    await expect(store.ping()).rejects.toBeInstanceOf(StoreUnavailable);
    if (what === '') rmSync(here, { recursive: true });
    renameSync(away, `${here}${what}`);
    await store.ping();
    await put(3);
    await store.durable();
    expect((await store.count()).awaiting).toBe(3);
    await store.close();
  },
);
