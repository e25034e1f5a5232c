// Which of the calls that a homeserver has not answered are not waited for.
import { expect, test } from 'vitest';
import { createUnderWay } from '../../src/engine/under-way.ts';

function begun(isRestart = true) {
  const underWay = createUnderWay();
  const overtaken: number[] = [];
  const call = (atMs: number, restart = isRestart) => {
    const one = underWay.begin(atMs, restart, () => overtaken.push(atMs));
    underWay.called(one, atMs);
    return one;
  };
  return { underWay, overtaken, call };
}

test('a call is overtaken by one that was made a while later and is answered', () => {
  const { underWay, overtaken, call } = begun();
  call(0);
  call(150);
  const late = call(320);
  underWay.answered(late, 330, false);
  expect(overtaken).toEqual([0]);
  expect([underWay.places, underWay.all]).toEqual([2, 3]);
});

test('where calls are limited it takes longer, for a refusal may come later than other answers do', () => {
  const { underWay, overtaken, call } = begun();
  call(0);
  underWay.answered(call(600), 610, true);
  expect(overtaken).toEqual([]);
  underWay.answered(call(1_100), 1_110, true);
  expect(overtaken).toEqual([0]);
});

test('where answers take long it takes that much longer', () => {
  const { underWay, overtaken, call } = begun();
  call(0);
  const soon = call(1_000);
  const late = call(1_600);
  underWay.answered(soon, 1_500, false);
  expect(overtaken).toEqual([]);
  underWay.answered(late, 2_100, false);
  expect(overtaken).toEqual([0]);
});

test('a leave may take longer than restarts do, and one that has not been made yet is not overtaken', () => {
  const { underWay, overtaken, call } = begun();
  call(0, false);
  const looking = underWay.begin(0, true, () => overtaken.push(-1));
  underWay.answered(call(1_000), 1_010, false);
  expect(overtaken).toEqual([]);
  underWay.called(looking, 1_005);
  underWay.answered(call(1_100), 1_110, false);
  expect(overtaken).toEqual([]);
});

test('each has its place back when it ends, and too many that hang take places', () => {
  const { underWay, call } = begun();
  const hanging = Array.from({ length: 140 }, () => call(0));
  const late = call(1_000);
  underWay.answered(late, 1_001, false);
  expect([underWay.places, underWay.restarts, underWay.all]).toEqual([1 + 12, 1, 141]);
  for (const one of [...hanging, late]) underWay.end(one);
  expect([underWay.places, underWay.restarts, underWay.all]).toEqual([0, 0, 0]);
});
