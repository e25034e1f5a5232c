import fc from 'fast-check';
import { expect, it } from 'vitest';
import { backoffMs, limitedMs } from '../../src/delegation/retry.ts';

const roll = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

it('grows, is jittered and never exceeds ten seconds', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1_000 }), roll, (failures, chance) => {
      const pause = backoffMs(failures, chance);
      expect(pause).toBeGreaterThanOrEqual(Math.min(25 * 2 ** (failures - 1), 10_000) / 2);
      expect(pause).toBeLessThanOrEqual(10_000);
    }),
  );
});

it('stays below a tighter cap', () => {
  expect(backoffMs(9, 0.999, 100)).toBeLessThanOrEqual(100);
});

it('honours a hint, up to five minutes', () => {
  expect(limitedMs(2_000, 1, 0)).toBe(2_000);
  expect(limitedMs(2_000, 1, 0.5)).toBeGreaterThan(2_000);
  expect(limitedMs(86_400_000, 1, 0)).toBe(300_000);
  expect(limitedMs(null, 1, 0)).toBe(50);
});
