import { expect, test } from 'vitest';
import { simulate } from './run.ts';

test.each([
  [1, 2_000],
  [2, 400],
])('with %d replicas, %d worlds with twice the deeds and more faults', async (replicas, seeds) => {
  const { code, text } = await simulate(['--dense', '--replicas', String(replicas), '--seeds', String(seeds)]);
  console.log(text);
  expect(code, text).toBe(0);
});
