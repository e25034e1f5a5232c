// When the disk is asked to write the log down, for whom, and what is believed of it afterwards.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LogSync } from '../../src/store/sqlite/log-sync.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-log-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A disk that writes down when it is told to. */
function disk() {
  const asked: { done: () => void; fails: () => void }[] = [];
  const told: boolean[] = [];
  let copies = 0;
  let full = false;
  const file = path.join(folder, 'db');
  writeFileSync(`${file}-wal`, '');
  const clock = createVirtualClock();
  const log = new LogSync({
    path: file,
    clock,
    copyAll: () => {
      if (full) throw new Error('full');
      copies += 1;
    },
    onSync: (ok) => told.push(ok),
    sync: () =>
      new Promise<void>((resolve, reject) => {
        asked.push({ done: resolve, fails: () => reject(new Error('EIO')) });
      }),
  });
  const fill = (is: boolean): void => {
    full = is;
  };
  return { log, clock, asked, told, copies: () => copies, fill };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
function watched(promise: Promise<void>): { state: string } {
  const seen = { state: 'waits' };
  promise.then(
    () => {
      seen.state = 'durable';
    },
    (error: unknown) => {
      seen.state = error instanceof StoreUnavailable ? 'unavailable' : String(error);
    },
  );
  return seen;
}

test('what is noted of the log is synced after it was looked at: not only we write to it', async () => {
  const { log, clock, asked } = disk();
  log.wrote();
  const durable = watched(log.all());
  asked[0]?.done();
  await turn();
  expect(durable.state).toBe('durable');
  await clock.advance(1_000);
  expect(asked).toHaveLength(2);
  asked[1]?.done();
});

test('nothing was committed: nobody waits, and the disk is left alone', async () => {
  const { log, asked } = disk();
  await log.all();
  expect(asked).toHaveLength(0);
});

test('who commits while the disk is at work waits for the next time, together with all who come meanwhile', async () => {
  const { log, asked } = disk();
  log.wrote();
  const first = watched(log.all());
  log.wrote();
  const [second, third] = [watched(log.all()), watched(log.all())];
  await turn();
  expect(asked).toHaveLength(1);
  asked[0]?.done();
  await turn();
  expect([first.state, second.state, third.state]).toEqual(['durable', 'waits', 'waits']);
  expect(asked).toHaveLength(2);
  asked[1]?.done();
  await turn();
  expect([second.state, third.state]).toEqual(['durable', 'durable']);
  await log.all();
  expect(asked).toHaveLength(2);
});

test('a disk that fails: nothing is promised, and then only what was copied into the database', async () => {
  const { log, asked, told, copies, fill } = disk();
  log.wrote();
  const first = watched(log.all());
  log.wrote();
  const second = watched(log.all());
  await turn();
  fill(true);
  asked[0]?.fails();
  await turn();
  expect([first.state, second.state, copies()]).toEqual(['unavailable', 'unavailable', 0]);
  fill(false);
  await log.all();
  // The log may lack what the disk did not write down, whatever the disk says later.
  expect([copies(), asked.length]).toEqual([1, 1]);
  log.wrote();
  const third = watched(log.all());
  await turn();
  expect(asked).toHaveLength(2);
  asked[1]?.done();
  await turn();
  expect(third.state).toBe('durable');
  expect(told).toEqual([false, false, true, true]);
});

test('what nobody waits for is written down within a second', async () => {
  const { log, clock, asked } = disk();
  log.wrote();
  await clock.advance(999);
  expect(asked).toHaveLength(0);
  await clock.advance(1);
  expect(asked).toHaveLength(1);
});
