import { describe, expect, it } from 'vitest';
import { type Line, table } from './report.ts';
import type { Wanted } from './stage.ts';

function line(wanted: Wanted, lastwill: readonly number[], peer: readonly number[], lost: readonly string[] = []): Line {
  return {
    label: 'a row',
    unit: '',
    wanted,
    values: { lastwill: [...lastwill], peer: [...peer] },
    failures: { lastwill: [...lost], peer: [] },
  };
}
const lastCell = (one: Line): string => table([one], true).split(' | ').at(-1) ?? '';

describe('what is wanted of a row', () => {
  it.each([
    ['holds in each run', line({ ratioAtLeast: 2 }, [20, 30], [10, 10]), '≥ 2 × ✓ |'],
    ['holds in some runs, and in the middle', line({ ratioAtLeast: 2 }, [20, 30, 10], [10, 10, 10]), '≥ 2 × ✗ (2 of 3) |'],
    ['holds in none', line({ ratioAtMost: 1 }, [20, 30], [10, 10]), '≤ 1 × ✗ |'],
    ['is of each run with the peer of that run', line({ ratioAtMost: 1 }, [10, 20], [20, 10]), '≤ 1 × ✗ (1 of 2) |'],
    ['is of lastwill alone', line({ atMost: 2 }, [2, 1.9], []), '≤ 2 ✓ |'],
    ['is nothing beside a peer that lost nothing', line({ ratioAtMost: 0.1 }, [0, 0], [0, 0]), '≤ 0.10 × ✓ |'],
    ['can not be told without a peer', line({ ratioAtMost: 0.1 }, [0, 0], []), '≤ 0.10 × |'],
    ['does not hold if anything was lost', line({ ratioAtLeast: 2 }, [90, 90], [10, 10], ['leaves lost']), '≥ 2 × ✗ |'],
  ])('%s', (_, one, expected) => {
    expect(lastCell(one)).toBe(expected);
  });
});
