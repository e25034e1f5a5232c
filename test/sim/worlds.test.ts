// The whole engine through some worlds, each with its own faults; long/ plays many, and `npm run simulate` any number.
import { expect, test } from 'vitest';
import { planOf } from './plan.ts';
import { World } from './world.ts';

const SEEDS = 150;

test(`none of ${SEEDS} worlds breaks a promise`, { timeout: 120_000 }, async () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const { violations } = await new World(planOf(seed, 1)).run();
    expect(violations, `npm run simulate -- --seed ${seed} --trace`).toEqual([]);
  }
});

test('nor does one of 50 worlds with three replicas on one store', { timeout: 120_000 }, async () => {
  for (let seed = 1; seed <= 50; seed += 1) {
    const { violations } = await new World(planOf(seed, 3)).run();
    expect(violations, `npm run simulate -- --replicas 3 --seed ${seed} --trace`).toEqual([]);
  }
});

test('the same seed is the same world, to the line', { timeout: 60_000 }, async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const told: string[][] = [[], []];
    for (const lines of told) await new World(planOf(seed, 1), (line) => lines.push(line)).run();
    expect(told[0]).toEqual(told[1]);
    expect(told[0]?.length).toBeGreaterThan(10);
  }
});
