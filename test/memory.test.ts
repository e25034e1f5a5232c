// When memory is given back: not in the way of work, and not for nothing.
import { beforeEach, expect, test } from 'vitest';
import { collectAll, keepSmall } from '../src/memory.ts';
import { createVirtualClock, type VirtualClock } from './support/virtual-clock.ts';

let clock: VirtualClock;
let cpuMs: number;
let rssMb: number;
/** At which second after the start, and what of. */
let collected: number[];
const START_MB = 100;

beforeEach(() => {
  clock = createVirtualClock();
  const startMs = clock.nowMs();
  [cpuMs, rssMb, collected] = [400, START_MB, []];
  const collect = (): void => {
    collected.push((clock.nowMs() - startMs) / 1000);
    rssMb = Math.min(rssMb, START_MB);
  };
  keepSmall({ clock, usage: () => ({ cpuMs, rssBytes: rssMb * 1e6 }), collect });
});

async function pass(seconds: number, { busy = 0, mb = 0 } = {}): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    cpuMs += busy * 1000;
    rssMb += mb;
    await clock.advance(1000);
  }
}

test('what the start has left is given back once, and nothing more while nothing more is used', async () => {
  await pass(60, { busy: 0.02 });
  expect(collected).toEqual([2]);
});

test('nothing is given back while there is work, and all of it soon after', async () => {
  await pass(10, { busy: 0.02 });
  await pass(60, { busy: 0.5, mb: 1 });
  expect(collected).toEqual([2]);
  await pass(30, { busy: 0.02 });
  expect(collected).toEqual([2, 72]);
});

test('a third of the work that was is quiet; but the same work for long never is, however much is used', async () => {
  await pass(10);
  await pass(10, { busy: 1.2, mb: 10 });
  await pass(60, { busy: 0.35, mb: 10 });
  expect(collected).toEqual([2, 22]);
});

test('a pause of a second is no end of the work', async () => {
  for (let count = 0; count < 10; count += 1) {
    await pass(1, { busy: 0.5, mb: 10 });
    await pass(1);
  }
  expect(collected).toEqual([]);
});

test('a little more than before is left alone, whether it was in use or not', async () => {
  await pass(10);
  await pass(100, { mb: 0.2 });
  expect(collected).toEqual([2]);
  await pass(30, { mb: 0.2 });
  expect(collected).toEqual([2, 130]);
});

test("V8 collects everything that is not used, and is left as it was: nobody else's code is handed its collector", async () => {
  const unused = new WeakRef({ some: 'thing' });
  await new Promise((resolve) => setTimeout(resolve, 0));
  collectAll();
  expect(unused.deref()).toBeUndefined();
  expect(process.getBuiltinModule('node:vm').runInNewContext('typeof gc')).toBe('undefined');
});
