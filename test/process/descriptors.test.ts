import { expect, test } from 'vitest';
import { type Connections, shareConnections } from '../../src/process/descriptors.ts';

const told = (soft: string) => () =>
  `Limit                     Soft Limit           Hard Limit           Units
Max processes             96364                96364                processes
Max open files            ${soft.padEnd(20)} 1048576              files
`;
const sum = (shares: Connections) => Object.values(shares).reduce((all: number, share: number) => all + share, 0);

test.each([
  ['64', 12, 4, 2],
  ['1024', 492, 164, 82],
  ['1048576', 4_096, 576, 512],
  ['unlimited', 4_096, 576, 512],
])('of %s descriptors strangers take %i, the SFU %i, and the homeservers that strangers name %i', (soft, incoming, sfu, strangersLookUps) =>
  expect(shareConnections(told(soft))).toMatchObject({ incoming, sfu, strangersLookUps }),
);

test.each([64, 100, 256, 1_024, 65_536])('of %i descriptors all together leave those that the process itself needs', (soft) => {
  expect(sum(shareConnections(told(String(soft))))).toBeLessThanOrEqual(soft - 40);
});

test('each has one, however few there are', () => {
  expect(shareConnections(told('32'))).toEqual({ incoming: 1, sfu: 1, delayedEvents: 1, lookUps: 1, strangersLookUps: 1 });
});

test('where the system does not tell, few are taken', () => {
  const few = shareConnections(told('1024'));
  expect(shareConnections(() => '')).toEqual(few);
  expect(
    shareConnections(() => {
      throw new Error('ENOENT');
    }),
  ).toEqual(few);
});
