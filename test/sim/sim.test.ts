// The whole engine through many worlds, each with its own faults. `npm run simulate` plays more of them, and replays one.
import { describe, expect, test } from 'vitest';
import { planOf } from './plan.ts';
import { World } from './world.ts';

const SEEDS = 400;
const PARTS = 4;

describe('no world breaks a promise', () => {
  test.each(Array.from({ length: PARTS }, (_, part) => part))(
    `part ${'%d'} of ${PARTS}`,
    async (part) => {
      for (let seed = 1 + part; seed <= SEEDS; seed += PARTS) {
        const { violations } = await new World(planOf(seed, 1)).run();
        expect(violations, `npm run simulate -- --seed ${seed} --trace`).toEqual([]);
      }
    },
    120_000,
  );
});
