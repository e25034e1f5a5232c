// The judge can fail: each engine that is broken on purpose is noticed within 4,000 worlds with many faults, or 2,000 usual ones. Where faults
// are many so are the looks that they give rise to, and what only a quiet hour shows stays hidden.
import { expect, test } from 'vitest';
import { MUTANTS } from '../mutants.ts';
import { simulate } from './run.ts';

const VIOLATION = /^seed \d+, at [\d.]+ s: /m;
const DENSE = ['--dense', '--seeds', '4000'];
const USUAL = ['--seeds', '2000'];

test.concurrent.each(MUTANTS.map(({ name }) => name))('%s', async (name) => {
  const dense = await simulate(DENSE, name);
  const { code, text } = VIOLATION.test(dense.text) ? dense : await simulate(USUAL, name);
  expect(text).toMatch(VIOLATION);
  expect(code, text).toBe(1);
});
