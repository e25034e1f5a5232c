import { expect, test } from 'vitest';
import type { HomeserverUrl } from '../../src/delegation/ids.ts';
import { createOutages } from '../../src/homeserver/outages.ts';
import { HOMESERVER } from '../support/fixtures.ts';

function setUp(mayTell = () => true) {
  let nowMs = 1_000_000;
  const told: string[] = [];
  const outages = createOutages({
    clock: { nowMs: () => nowMs },
    mayTell,
    onOutage: ({ why, lastedMs }) => void told.push(`${why} for ${lastedMs}`),
    onEnd: ({ lastedMs }) => void told.push(`over after ${lastedMs}`),
  });
  /** One call each second. */
  const failFor = (seconds: number, homeserver: HomeserverUrl = HOMESERVER) => {
    for (let n = 0; n < seconds; n += 1) {
      outages.failed(homeserver, 'status_5xx');
      nowMs += 1_000;
    }
  };
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { outages, told, failFor, pass };
}

test('is told once it has lasted, every ten minutes, and when it is over', () => {
  const { outages, told, failFor } = setUp();
  failFor(700);
  outages.answered(HOMESERVER);
  outages.answered(HOMESERVER);
  expect(told).toEqual(['status_5xx for 5000', 'status_5xx for 605000', 'over after 700000']);
});

test('what may not be told at once is told later, and its end only then', () => {
  let calls = 0;
  const { outages, told, failFor } = setUp(() => ++calls > 3);
  failFor(8);
  outages.answered(HOMESERVER);
  expect(told).toEqual([]);
  failFor(8);
  outages.answered(HOMESERVER);
  expect(told).toEqual(['status_5xx for 5000', 'over after 8000']);
});

test('a moment is not told of, nor what an operator is told of elsewhere', () => {
  const { outages, told, failFor, pass } = setUp();
  for (let times = 0; times < 10; times += 1) {
    failFor(4);
    outages.answered(HOMESERVER);
    outages.failed(HOMESERVER, 'limited');
    pass(60_000);
  }
  expect(told).toEqual([]);
});

test('each homeserver has its own, and one that was not called for long has none', () => {
  const { outages, told, failFor, pass } = setUp();
  failFor(1);
  failFor(6, 'https://other.example.org' as HomeserverUrl);
  expect(told).toEqual(['status_5xx for 5000']);
  pass(300_000);
  failFor(1);
  outages.answered(HOMESERVER);
  expect(told).toHaveLength(1);
});
