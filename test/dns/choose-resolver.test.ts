import { lookup } from 'node:dns/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { createResolve } from '../../src/dns/choose-resolver.ts';
import { askNameServers } from '../../src/dns/name-servers.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';
import { startNameServer } from '../support/name-server.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

describe('a name', () => {
  const way = async (name: string): Promise<string | undefined> => {
    const resolve = createResolve({
      clock: createVirtualClock(),
      isOperators: (host) => host === 'synapse' || host === 'matrix.example.org',
      isInHostsFile: (host) => host === 'neighbour.example',
      system: async () => [{ address: 'system', family: 4 }],
      nameServers: async () => [{ address: 'name servers', family: 4 }],
    });
    return (await resolve(name))[0]?.address;
  };

  test.each(['synapse', 'matrix.example.org', 'Matrix.Example.ORG'])('of the operator is resolved as the system does: %s', async (name) =>
    expect(await way(name)).toBe('system'),
  );
  test.each(['neighbour.example', 'localhost', 'LOCALHOST', 'synapse.localhost'])(
    'that this machine has itself is resolved as the system does: %s',
    async (name) => expect(await way(name)).toBe('system'),
  );
  test.each(['example.org', 'other.matrix.example.org', 'xlocalhost', 'synapse.', 'neighbour.example.'])(
    'of anyone else is asked of name servers: %s',
    async (name) => expect(await way(name)).toBe('name servers'),
  );
});

test('what strangers were answered takes no room from what the operator depends on', async () => {
  const clock = createVirtualClock();
  let isAway = false;
  const resolve = createResolve({
    clock,
    isOperators: (host) => host === 'sfu',
    isInHostsFile: (host) => host.endsWith('.blocked.test'),
    system: async () => {
      if (isAway) throw Object.assign(new Error('away'), { code: 'EAI_AGAIN' });
      return [{ address: '192.0.2.1', family: 4 }];
    },
    nameServers: async () => [{ address: '192.0.2.2', family: 4 }],
  });
  await resolve('sfu');
  for (let n = 0; n < 2_000; n += 1) await Promise.all([resolve(`${n}.test`), resolve(`${n}.blocked.test`), resolve(`${n}.localhost`)]);
  isAway = true;
  expect(await resolve('sfu')).toEqual([{ address: '192.0.2.1', family: 4 }]);
});

test('a zone that never answers holds no thread in which names are resolved', async () => {
  const slow = Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`x${n}.slow.test`, { 4: 'silent', 6: 'silent' }] as const));
  const nameServer = await startNameServer(slow);
  closers.push(nameServer.close);
  const clock = systemClock();
  const nameServers = askNameServers({ clock, open: nameServer.open, hasIPv6: () => false });
  const resolve = createResolve({ clock, isOperators: () => false, nameServers });
  const outbound = createOutbound({ clock, addresses: () => 'public', insecureTls: false, resolve });
  closers.push(outbound.close);
  const calls = Object.keys(slow).map((name) => outbound.request({ method: 'GET', url: `https://${name}/`, timeoutMs: 5_000 }));
  await expect.poll(() => nameServer.asked.length).toBeGreaterThanOrEqual(10);
  expect(process.getActiveResourcesInfo()).not.toContain('GetAddrInfoReqWrap');
  expect((await lookup('localhost')).address).toMatch(/127\.0\.0\.1|::1/);
  for (const reply of await Promise.all(calls)) expect(reply).toEqual({ kind: 'failed', reached: false, why: 'refused' });
});
