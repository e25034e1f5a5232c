// Where our own homeserver is: found, lost, found elsewhere, on a clock that tests own.
import { expect, test } from 'vitest';
import type { HomeserverUrl, ServerName } from '../../src/delegation/ids.ts';
import type { Discovery, Resolved } from '../../src/homeserver/discovery.ts';
import { createHome } from '../../src/homeserver/home.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const NAME = 'example.org' as ServerName;
const found = (url: string): Resolved => ({ kind: 'resolved', url: url as HomeserverUrl });
const LOST: Resolved = { kind: 'unresolvable', why: 'told to be' };

function setUp(first: Resolved) {
  const clock = createVirtualClock();
  const [asked, lost]: [unknown[], string[]] = [[], []];
  const at = { answer: first };
  const discovery: Pick<Discovery, 'resolve'> = {
    resolve: async (homeserver) => {
      asked.push(homeserver);
      return at.answer;
    },
  };
  const home = createHome({ clock, discovery: discovery as Discovery, serverName: NAME, onUnresolved: (why) => void lost.push(why) });
  return { clock, home, at, asked, lost };
}

test('is found by its name', async () => {
  const { home, asked } = setUp(found('https://matrix.example.org'));
  expect([home.serverName, home.url]).toEqual([NAME, null]);
  expect(await home.resolve()).toBe('https://matrix.example.org');
  expect(home.url).toBe('https://matrix.example.org');
  expect(asked).toEqual([{ kind: 'name', name: NAME }]);
});

test('is where it was while it can not be found', async () => {
  const { home, at, lost } = setUp(found('https://a.example.org'));
  await home.resolve();
  at.answer = LOST;
  expect(await home.resolve()).toBe('https://a.example.org');
  expect(lost).toEqual(['told to be']);
  at.answer = found('https://b.example.org');
  expect(await home.resolve()).toBe('https://b.example.org');
});

test('is looked for every few seconds until it is found, then each minute, until told otherwise', async () => {
  const { clock, home, at, asked, lost } = setUp(LOST);
  expect(await home.resolve()).toBe(null);
  const stop = home.watch();
  await clock.advance(10_000);
  expect([asked.length, lost.length, home.url]).toEqual([3, 3, null]);
  at.answer = found('https://matrix.example.org');
  await clock.advance(5_000);
  expect([asked.length, home.url]).toEqual([4, 'https://matrix.example.org']);
  await clock.advance(60_000);
  expect(asked).toHaveLength(5);
  stop();
  await clock.advance(600_000);
  expect(asked).toHaveLength(5);
  expect(clock.nextTimerMs()).toBe(null);
});
