// The mutants are played with the long simulations; that their texts are still there is known sooner.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { MUTANTS } from './mutants.ts';

test.each(MUTANTS)('$name: its text is in $file, once', ({ file, from, to }) => {
  const text = readFileSync(path.resolve(import.meta.dirname, '../..', file), 'utf8');
  expect(text.split(from)).toHaveLength(2);
  expect(to).not.toBe(from);
});
