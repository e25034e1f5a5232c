import { expect, test } from 'vitest';
import { systemClock, systemRandom } from '../src/clock.ts';

test('random bytes are as many as were asked for, and none are given twice', () => {
  const { bytes } = systemRandom();
  const drawn = [...Array.from({ length: 1_000 }, () => bytes(16)), bytes(10_000), bytes(16)];
  expect(drawn.map(({ length }) => length)).toEqual([...Array(1_000).fill(16), 10_000, 16]);
  expect(new Set(drawn.map((one) => Buffer.from(one.subarray(0, 16)).toString('hex'))).size).toBe(drawn.length);
});

test('what a timer was to do may fail: it is told of, and every second comes again', async () => {
  const told: unknown[] = [];
  const { after, everySecond } = systemClock((error) => told.push(error));
  const fails = (what: string) => () => {
    throw new Error(what);
  };
  after(0, fails('once'));
  let ticks = 0;
  const done = Promise.withResolvers<void>();
  const stop = everySecond(() => {
    ticks += 1;
    if (ticks === 2) done.resolve();
    fails('tick')();
  });
  await done.promise;
  await new Promise((later) => void setImmediate(later));
  stop();
  expect(told.map((error) => (error as Error).message)).toEqual(['once', 'tick', 'tick']);
});
