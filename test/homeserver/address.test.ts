import type { LookupAddress } from 'node:dns';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { lastKnown } from '../../src/dns/last-known.ts';
import { type AddressMode, addressKind, guardedLookup, isAllowed, isRefusedOutright } from '../../src/homeserver/address.ts';
import { createOutbound, type Reply } from '../../src/homeserver/outbound.ts';
import { answer, type Script, type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const words = (table: string): string[] => table.trim().split(/\s+/);

describe('the kind of an address', () => {
  const PUBLIC = words(`
    1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 128.0.0.1 169.253.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.167.0.1 198.17.0.1
    198.20.0.1 223.255.255.255 2606:4700::1111 2a00::1 2001:4860:4860::8888 ::ffff:8.8.8.8 ::ffff:808:808 64:ff9b::8.8.8.8 2002:808:808::1
    ::ffff:0:8.8.8.8`);
  const LOOPBACK = [
    '127.0.0.1',
    '127.255.255.254',
    '::1',
    '0:0:0:0:0:0:0:1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
    '2002:7f00:1::',
  ];
  const PRIVATE = [
    ...words(`
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1
    192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 ::
    fe80::1 fe80::1%eth0 febf::1 fec0::1 fc00::1 fdff::1 ff02::1 100::1 2001:db8::1 3fff::1 2001::1 2001:0:808:808::1 2001:2::1 5f00::1
    64:ff9b:1::1 ::ffff:10.0.0.1 ::ffff:a00:1 ::10.0.0.1 ::ffff:0:10.0.0.1 64:ff9b::192.168.0.1 64:ff9b::a9fe:a9fe 2002:a00:1::
    2002:c0a8:101::1 4000::1`),
    'not an address',
    '',
  ];
  test.each(PUBLIC)('%s is public', (ip) => expect(addressKind(ip)).toBe('public'));
  test.each(LOOPBACK)('%s is loopback', (ip) => expect(addressKind(ip)).toBe('loopback'));
  test.each(PRIVATE)('%s is private', (ip) => expect(addressKind(ip)).toBe('private'));

  test('decides by mode', () => {
    const allowed = (mode: AddressMode): boolean[] => ['8.8.8.8', '127.0.0.1', '10.0.0.1'].map((ip) => isAllowed(mode, ip));
    expect(allowed('public')).toEqual([true, false, false]);
    expect(allowed('loopback-too')).toEqual([true, true, false]);
    expect(allowed('any')).toEqual([true, true, true]);
  });

  test.each(['localhost', 'LOCALHOST', 'localhost.', 'a.localhost', '127.1.2.3', '[::1]', '::1', '10.0.0.1', '[fd00::1]'])(
    '%s is refused without DNS',
    (host) => expect(isRefusedOutright(() => 'public', host)).toBe(true),
  );
  test.each(['localhost.example.org', 'matrix.org', '8.8.8.8', '[2606:4700::1111]'])('%s is not', (host) =>
    expect(isRefusedOutright(() => 'public', host)).toBe(false),
  );
});

describe('a look-up', () => {
  const lookUp = (mode: AddressMode, all: boolean, ...found: string[]): Promise<unknown> => {
    const addresses: LookupAddress[] = found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    const look = guardedLookup(
      () => mode,
      async () => addresses,
    );
    return new Promise((resolve) => look('name.test', { all }, (error, address) => resolve(error?.code ?? address)));
  };
  test('gives what may be called, in both forms', async () => {
    expect(await lookUp('public', false, '8.8.8.8', '1.1.1.1')).toBe('8.8.8.8');
    expect(await lookUp('public', true, '8.8.8.8')).toEqual([{ address: '8.8.8.8', family: 4 }]);
    expect(await lookUp('loopback-too', true, '127.0.0.1', '::1')).toHaveLength(2);
  });
  test('refuses a name as soon as one of its addresses may not be called', async () => {
    expect(await lookUp('public', true, '8.8.8.8', '10.0.0.1')).toBe('ADDRESS_REFUSED');
    expect(await lookUp('public', false, '8.8.8.8', '::ffff:127.0.0.1')).toBe('ADDRESS_REFUSED');
    expect(await lookUp('loopback-too', true, '127.0.0.1', '169.254.169.254')).toBe('ADDRESS_REFUSED');
    expect(await lookUp('public', true)).toBe('ENOTFOUND');
  });
});

test('an address that is remembered is judged as one that was just found', async () => {
  let isAway = false;
  const resolve = lastKnown({
    clock: createVirtualClock(),
    resolve: async () => {
      if (isAway) throw Object.assign(new Error('away'), { code: 'EAI_AGAIN' });
      return [{ address: '127.0.0.1', family: 4 }];
    },
  });
  let mode: AddressMode = 'any';
  const look = guardedLookup(() => mode, resolve);
  const outcome = () => new Promise((done) => look('name.test', { all: false }, (error, address) => done(error?.code ?? address)));
  expect(await outcome()).toBe('127.0.0.1');
  isAway = true;
  expect(await outcome()).toBe('127.0.0.1');
  mode = 'public';
  expect(await outcome()).toBe('ADDRESS_REFUSED');
});

describe('connections', () => {
  const closers: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0)) await close();
  });
  const get = async (address: (server: ScriptedServer) => string, mode: AddressMode): Promise<{ reply: Reply; server: ScriptedServer }> => {
    const server = await startScriptedServer((_, response) => answer(response, 200));
    const outbound = createOutbound({ clock: systemClock(), addresses: () => mode, insecureTls: false });
    closers.push(outbound.close, server.close);
    return { server, reply: await outbound.request({ method: 'GET', url: address(server), timeoutMs: 5000 }) };
  };
  const REFUSED: Reply = { kind: 'failed', reached: false, why: 'address' };

  test.each(['127.0.0.1', 'localhost', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', '0.0.0.0', '[::]'])(
    'to %s are refused',
    async (host) => {
      const { reply, server } = await get(({ port }) => `http://${host}:${port}/`, 'public');
      expect(reply).toEqual(REFUSED);
      expect(server.requests).toEqual([]);
    },
  );
  test('are made where allowed', async () => {
    expect((await get(({ port }) => `http://127.0.0.1:${port}/`, 'loopback-too')).reply.kind).toBe('answered');
    expect((await get(({ port }) => `http://localhost:${port}/`, 'loopback-too')).reply.kind).toBe('answered');
  });

  test('to a host of the operator are not made for a stranger who redirects there', async () => {
    const inside = await startScriptedServer((_, response) => answer(response, 200), { tls: true });
    const redirecting: Script = (_, response) => answer(response, 302, '', { location: `https://inside.test:${inside.port}/admin` });
    const [theirs, ours] = [await startScriptedServer(redirecting, { tls: true }), await startScriptedServer(redirecting, { tls: true })];
    const outbound = createOutbound({
      clock: systemClock(),
      // 0.0.0.0 is this machine as well, and no loopback address.
      resolve: async (host) => [{ address: host === 'inside.test' ? '0.0.0.0' : '127.0.0.1', family: 4 }],
      addresses: (host) => (host === 'theirs.test' ? 'loopback-too' : 'any'),
      insecureTls: true,
    });
    closers.push(outbound.close, inside.close, theirs.close, ours.close);
    const from = (host: string, { port }: ScriptedServer): Promise<Reply> =>
      outbound.request({ method: 'GET', url: `https://${host}:${port}/.well-known/matrix/client`, timeoutMs: 5_000, redirects: 5 });
    expect(await from('theirs.test', theirs)).toEqual(REFUSED);
    expect(inside.requests).toEqual([]);
    expect((await from('ours.test', ours)).kind).toBe('answered');
    expect(inside.requests).toEqual(['GET /admin']);
  });
});
