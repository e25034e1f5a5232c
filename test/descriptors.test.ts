import { expect, test } from 'vitest';
import { mostConnections } from '../src/descriptors.ts';

const told = (soft: string) => () =>
  `Limit                     Soft Limit           Hard Limit           Units
Max processes             96364                96364                processes
Max open files            ${soft.padEnd(20)} 1048576              files
`;

test.each([
  ['64', 32],
  ['1024', 512],
  ['1048576', 4_096],
  ['unlimited', 4_096],
])('of %s descriptors %i are for connections', (soft, most) => expect(mostConnections(told(soft))).toBe(most));

test('where the system does not tell, few are taken', () => {
  expect(mostConnections(() => '')).toBe(512);
  expect(
    mostConnections(() => {
      throw new Error('ENOENT');
    }),
  ).toBe(512);
});
