import { expect, test } from 'vitest';
import { systemRandom } from '../src/clock.ts';

test('random bytes are as many as were asked for, and none are given twice', () => {
  const { bytes } = systemRandom();
  const drawn = [...Array.from({ length: 1_000 }, () => bytes(16)), bytes(10_000), bytes(16)];
  expect(drawn.map(({ length }) => length)).toEqual([...Array(1_000).fill(16), 10_000, 16]);
  expect(new Set(drawn.map((one) => Buffer.from(one.subarray(0, 16)).toString('hex'))).size).toBe(drawn.length);
});
