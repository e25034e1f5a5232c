import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { askNameServers } from '../../src/dns/name-servers.ts';
import { type NameServer, startNameServer, type Zone } from '../support/name-server.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const FULL_V6 = '2606:4700:0:0:0:0:0:1';
const ZONE: Zone = {
  'both.test': { 4: ['192.0.2.1', '192.0.2.2'], 6: [FULL_V6] },
  'six.test': { 6: [FULL_V6] },
  'none.test': {},
  'half.test': { 4: ['192.0.2.1'], 6: 'silent' },
  'maybe.test': { 6: 'silent' },
  'slow.test': { 4: 'silent', 6: 'silent' },
};

async function asking(hasIPv6 = true): Promise<{ server: NameServer; outcome: (host: string) => Promise<unknown> }> {
  const server = await startNameServer(ZONE);
  closers.push(server.close);
  const resolve = askNameServers({ clock: systemClock(), hasIPv6: () => hasIPv6, open: server.open });
  const outcome = (host: string) =>
    resolve(host).then(
      (found) => found.map(({ address, family }) => `${family} ${address}`),
      (error: NodeJS.ErrnoException) => error.code,
    );
  return { server, outcome };
}

describe('name servers', () => {
  test('are asked for both families, and IPv4 comes first', async () => {
    const { outcome } = await asking();
    expect(await outcome('both.test')).toEqual(['4 192.0.2.1', '4 192.0.2.2', '6 2606:4700::1']);
    expect(await outcome('six.test')).toEqual(['6 2606:4700::1']);
  });

  test('are not asked for addresses that can not be reached from here', async () => {
    const { server, outcome } = await asking(false);
    expect(await outcome('both.test')).toEqual(['4 192.0.2.1', '4 192.0.2.2']);
    expect(server.asked).toEqual(['A both.test']);
  });

  test('say that there is no such name, or no address', async () => {
    const { outcome } = await asking();
    expect(await outcome('other.test')).toBe('ENOTFOUND');
    expect(await outcome('none.test')).toBe('ENODATA');
  });

  test('that know of one family only are believed for it', async () => {
    const { outcome } = await asking();
    expect(await outcome('half.test')).toEqual(['4 192.0.2.1']);
  });

  test('that kept one family back have not said that there is no address', async () => {
    const { outcome } = await asking();
    expect(await outcome('maybe.test')).toBe('ETIMEOUT');
  });

  test('that do not answer are given up', async () => {
    const { outcome } = await asking();
    expect(await outcome('slow.test')).toBe('ETIMEOUT');
  });
});

test('a question ends after three seconds, whatever the resolver makes of its tries', async () => {
  const clock = createVirtualClock();
  const cancelled = Promise.withResolvers<string[]>();
  const open = () => ({
    resolve4: () => cancelled.promise,
    resolve6: () => cancelled.promise,
    cancel: () => cancelled.reject(Object.assign(new Error('cancelled'), { code: 'ECANCELLED' })),
  });
  const answer = askNameServers({ clock, open: open as never })('slow.test').catch((error: NodeJS.ErrnoException) => error.code);
  await clock.advance(2_999);
  expect(clock.nextTimerMs()).not.toBeNull();
  await clock.advance(1);
  expect(await answer).toBe('ECANCELLED');
});
