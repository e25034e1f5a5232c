import { expect, test } from 'vitest';
import { simulate } from './run.ts';

test.each([2, 5])('500 worlds with %d replicas on one store', async (replicas) => {
  const { code, text } = await simulate(['--replicas', String(replicas), '--seeds', '500']);
  console.log(text);
  expect(code, text).toBe(0);
});
