// The log is copied into the database beside the event loop, and stays short however much is written.
import { EventEmitter } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import type { Store } from '../../src/store/store.ts';
import { room, row } from '../support/fixtures.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

/** What is started in the place of a thread; null: one of the real ones, which are kept. */
const threads = vi.hoisted(() => ({ instead: null as (() => unknown) | null, real: [] as Worker[] }));
vi.mock('node:worker_threads', async (original) => {
  const real = await original<typeof import('node:worker_threads')>();
  function start(...args: ConstructorParameters<typeof real.Worker>): unknown {
    if (threads.instead !== null) return threads.instead();
    const thread = new real.Worker(...args);
    threads.real.push(thread);
    return thread;
  }
  return { ...real, Worker: start };
});

let folder: string;
let file: string;
let store: Store;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-copy-'));
  file = path.join(folder, 'db');
  store = openSqliteStore({ path: file, clock: systemClock(), seal: null });
});
afterEach(async () => {
  threads.instead = null;
  threads.real = [];
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

const put = (n: number) =>
  store.update({ by: 'id', room: room(n), id: row(n).id }, null, () => ({ writes: [{ row: row(n), leaseMs: 0 }], value: null }));
async function many(from: number, to: number): Promise<void> {
  for (let n = from; n < to; n += 20) await Promise.all(Array.from({ length: 20 }, (_, one) => put(n + one)));
}
/** The part of its salt that is counted up whenever the log is begun anew. */
const generation = (): number => readFileSync(`${file}-wal`).readUInt32BE(16);
const MEGABYTE = 1_048_576;

async function allAreThere(count: number): Promise<void> {
  await store.close();
  store = openSqliteStore({ path: file, clock: systemClock(), seal: null });
  expect((await store.count()).awaiting).toBe(count);
}

/** A thread that does what it is told when it is told to. */
class Slow extends EventEmitter {
  readonly orders: string[] = [];
  postMessage(order: string): void {
    this.orders.push(order);
    if (order === 'close') this.emit('exit');
  }
  ref(): void {}
  unref(): void {}
}

test('however much is written, and nothing is lost by it', { timeout: 60_000 }, async () => {
  await many(0, 20);
  const first = generation();
  await many(20, 16_000);
  await vi.waitFor(() => expect(generation()).not.toBe(first));
  const { size } = statSync(`${file}-wal`);
  const second = generation();
  await many(16_000, 24_000);
  await vi.waitFor(() => expect(generation()).not.toBe(second));
  expect(statSync(`${file}-wal`).size).toBeLessThan(2 * size);
  expect(threads.real.length).toBe(1);
  await allAreThere(24_000);
});

test('commits go on while it is copied, and wait while the last of it is', { timeout: 60_000 }, async () => {
  const slow = new Slow();
  threads.instead = () => slow;
  await many(0, 4_000);
  expect(slow.orders).toEqual(['copy']);
  slow.emit('message', null);
  await new Promise((resolve) => setImmediate(resolve));
  expect(slow.orders, 'there is much left').toEqual(['copy', 'copy']);
  await many(4_000, 24_000);
  slow.emit('message', null);
  await new Promise((resolve) => setImmediate(resolve));
  expect(slow.orders, 'it waits in the end, however much is left').toEqual(['copy', 'copy', 'renew']);
  let committed = false;
  const waits = put(25_000).then(() => {
    committed = true;
  });
  // What is not written goes on.
  const { awaiting } = await store.count();
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(committed).toBe(false);
  expect((await store.count()).awaiting).toBe(awaiting);
  slow.emit('message', new Error('disk I/O error'));
  await waits;
  expect((await store.count()).awaiting).toBe(awaiting + 1);
});

test('commits wait for so long only, however long the disk takes; and a long log is copied without a hold at first', {
  timeout: 60_000,
}, async () => {
  const slow = new Slow();
  threads.instead = () => slow;
  await many(0, 24_000);
  slow.emit('message', new Error('disk I/O error'));
  await new Promise((resolve) => setImmediate(resolve));
  await many(24_000, 30_000);
  expect(slow.orders).toEqual(['copy', 'copy']);
  slow.emit('message', null);
  await new Promise((resolve) => setImmediate(resolve));
  expect(slow.orders).toEqual(['copy', 'copy', 'renew']);
  const beganMs = performance.now();
  await put(50_000);
  expect(performance.now() - beganMs).toBeGreaterThan(1_000);
  // The thread is still at it.
  await put(50_001);
  slow.emit('message', null);
});

test('without a thread, or with one that ends, it is copied where it was before', { timeout: 60_000 }, async () => {
  threads.instead = () => {
    throw new Error('EAGAIN');
  };
  await many(0, 20);
  const first = generation();
  await many(20, 6_000);
  const second = generation();
  expect(second).not.toBe(first);
  threads.instead = null;
  await many(6_000, 12_000);
  await vi.waitFor(() => expect(generation()).not.toBe(second));
  const dies = threads.real.at(-1);
  await dies?.terminate();
  await many(12_000, 18_000);
  expect(threads.real.at(-1)).not.toBe(dies);
  await allAreThere(18_000);
});

test('where nothing more is to be copied the thread ends, and another is begun when there is', { timeout: 60_000 }, async () => {
  await store.close();
  const clock = createVirtualClock();
  store = openSqliteStore({ path: file, clock, seal: null });
  for (const round of [1, 2]) {
    await many(round * 6_000, (round + 1) * 6_000);
    await vi.waitFor(() => expect(threads.real.length).toBe(round));
    let hasEnded = false;
    threads.real.at(-1)?.once('exit', () => {
      hasEnded = true;
    });
    await vi.waitFor(async () => {
      await clock.advance(10_000);
      expect(hasEnded).toBe(true);
    });
  }
  await allAreThere(12_000);
});

test('it is closed in order while it is copied: all is in the database', { timeout: 60_000 }, async () => {
  await many(0, 3_500);
  await allAreThere(3_500);
  const { size } = statSync(file);
  expect(size).toBeGreaterThan(MEGABYTE);
  await store.close();
  expect(statSync(`${file}-wal`, { throwIfNoEntry: false })).toBeUndefined();
});
