// The judge can fail: each engine that is broken on purpose is noticed within 2,000 worlds with many faults.
import { expect, test } from 'vitest';
import { MUTANTS } from '../mutants.ts';
import { simulate } from './run.ts';

test.concurrent.each(MUTANTS.map(({ name }) => name))('%s', async (name) => {
  const { code, text } = await simulate(['--dense', '--seeds', '2000'], name);
  expect(text).toMatch(/^seed \d+, at [\d.]+ s: /m);
  expect(code, text).toBe(1);
});
