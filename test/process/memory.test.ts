// When memory is given back: in nobody's way, and not for nothing. And what does not stay in it.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeEach, expect, test } from 'vitest';
import { collectAll, keepSmall } from '../../src/process/memory.ts';
import { createVirtualClock, type VirtualClock } from '../support/virtual-clock.ts';

let clock: VirtualClock;
let asked: number;
let rssMb: number;
let descriptorsLeft: boolean;
/** At which second after the start. */
let collected: number[];
const START_MB = 100;

beforeEach(() => {
  clock = createVirtualClock();
  const startMs = clock.nowMs();
  [asked, rssMb, collected, descriptorsLeft] = [0, START_MB, [], true];
  const collect = (): void => {
    collected.push((clock.nowMs() - startMs) / 1000);
    rssMb = Math.min(rssMb, START_MB);
  };
  const rssBytes = (): number => {
    if (!descriptorsLeft) throw Object.assign(new Error('uv_resident_set_memory'), { code: 'EMFILE' });
    return rssMb * 1e6;
  };
  keepSmall({ clock, asked: () => asked, rssBytes, collect });
});

async function pass(seconds: number, { each = 0, mb = 0 } = {}): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    asked += each;
    rssMb += mb;
    await clock.advance(1000);
  }
}

test('what the start has left is given back once, and what comes after it now and then, though nobody asks', async () => {
  await pass(60);
  expect(collected).toEqual([2]);
  await pass(15, { mb: 10 });
  expect(collected).toEqual([2, 62, 67, 72]);
  await pass(60);
  expect(collected).toEqual([2, 62, 67, 72, 77]);
});

test('nothing is given back while somebody may wait, and all of it soon after', async () => {
  await pass(10);
  await pass(60, { each: 1, mb: 1 });
  expect(collected).toEqual([2]);
  await pass(30);
  expect(collected).toEqual([2, 72]);
});

test('a pause of a second is no end', async () => {
  for (let count = 0; count < 10; count += 1) {
    await pass(1, { each: 5, mb: 10 });
    await pass(1);
  }
  expect(collected).toEqual([]);
});

test('a little more than was left the last time is left alone', async () => {
  await pass(10);
  for (let count = 0; count < 5; count += 1) {
    await pass(1, { each: 100, mb: 3 });
    await pass(9);
  }
  expect(collected).toEqual([2]);
  await pass(1, { each: 100, mb: 3 });
  await pass(9);
  expect(collected).toEqual([2, 63]);
});

test('what has gone by itself counts as given back', async () => {
  rssMb = 300;
  await pass(10);
  rssMb = 50;
  await pass(10);
  await pass(1, { each: 100, mb: 40 });
  await pass(9);
  expect(collected).toEqual([2, 23]);
});

test('while nobody can look how much is used nothing is done, and afterwards what there is to do', async () => {
  await pass(10);
  descriptorsLeft = false;
  await pass(60, { each: 1, mb: 1 });
  await pass(60);
  expect(collected).toEqual([2]);
  descriptorsLeft = true;
  await pass(1);
  expect(collected).toEqual([2, 131]);
});

test("V8 collects everything that is not used, and is left as it was: nobody else's code is handed its collector", async () => {
  const unused = new WeakRef({ some: 'thing' });
  await new Promise((resolve) => setTimeout(resolve, 0));
  collectAll();
  expect(unused.deref()).toBeUndefined();
  expect(process.getBuiltinModule('node:vm').runInNewContext('typeof gc')).toBe('undefined');
});

test('what single requests make after a crowd had many under way at once dies young', async () => {
  const args = ['--max-semi-space-size=8', join(import.meta.dirname, 'short-lived.ts'), 'as-the-service'];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(Number.parseFloat(stdout)).toBeLessThan(5);
});
