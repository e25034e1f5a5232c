// The judge can fail: each engine that is broken on purpose is noticed, in the world that is named with it or else within 4,000 with many
// faults, or 2,000 usual ones, and in that world nothing is found of the engine as it is. Where faults are many so are the looks that they give
// rise to, and what only a quiet hour shows stays hidden.
import { expect, test } from 'vitest';
import { MUTANTS, type WorldName } from '../mutants.ts';
import { simulate } from './run.ts';

const VIOLATION = /^seed (\d+), at [\d.]+ s: /m;

/** The first of so many worlds that fails. */
async function firstNoticed({ seed, dense }: WorldName, seeds: number, mutant?: string): Promise<WorldName | null> {
  const { code, text } = await simulate([...(dense ? ['--dense'] : []), '--from', String(seed), '--seeds', String(seeds)], mutant);
  const found = VIOLATION.exec(text)?.[1];
  expect(code, text).toBe(found === undefined ? 0 : 1);
  return found === undefined ? null : { seed: Number(found), dense };
}

test.concurrent.each(MUTANTS.map(({ name, noticedIn }) => [name, noticedIn] as const))('%s', async (name, noticedIn) => {
  const found =
    (await firstNoticed(noticedIn, 1, name)) ??
    (await firstNoticed({ seed: 1, dense: true }, 4_000, name)) ??
    (await firstNoticed({ seed: 1, dense: false }, 2_000, name));
  expect(found).not.toBeNull();
  if (found === null) return;
  if (found.seed !== noticedIn.seed || found.dense !== noticedIn.dense)
    console.log(`${name}: noticed in another world, ${JSON.stringify(found)}`);
  expect(await firstNoticed(found, 1), 'the engine as it is, in the same world').toBeNull();
});
