// Against real TLS on this machine, trusted by an authority of the test's own: names, certificates and Host headers as on the internet.
// Names resolve to loopback here, and the well-known, whose port is fixed, is taken from the port of the server that plays it.
import type { LookupAddress } from 'node:dns';
import { networkInterfaces } from 'node:os';
import { afterEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.ts';
import type { ServerName } from '../../src/delegation/ids.ts';
import type { Resolve } from '../../src/dns/resolve.ts';
import type { AddressMode } from '../../src/homeserver/address.ts';
import { createFederation } from '../../src/homeserver/federation.ts';
import { createOpenId, type OpenIdResult } from '../../src/homeserver/openid.ts';
import { createOutbound, type Outbound } from '../../src/homeserver/outbound.ts';
import type { SrvRecord } from '../../src/homeserver/srv.ts';
import {
  answer,
  FEDERATION_CERTIFICATE,
  type Script,
  type ScriptedOptions,
  type ScriptedServer,
  startScriptedServer,
} from '../support/scripted-server.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const HAS_IPV6 = Object.values(networkInterfaces()).some((found) => found?.some(({ address }) => address === '::1'));
const TOKEN = 'sEcReT+/&?#%';
const USERINFO = `GET /_matrix/federation/v1/openid/userinfo?access_token=${encodeURIComponent(TOKEN)}`;
const WELL_KNOWN = 'GET /.well-known/matrix/server';

const says =
  (body: unknown, status = 200, headers: Record<string, string> = {}): Script =>
  (_, response) =>
    answer(response, status, body, headers);
const user = (server: string): Script => says({ sub: `@alice:${server}` });

async function server(script: Script, options: ScriptedOptions = {}): Promise<ScriptedServer> {
  const started = await startScriptedServer(script, { tls: 'federation', ...options });
  closers.push(started.close);
  return started;
}

interface Setting {
  /** Plays the web server of every name. */
  readonly web?: ScriptedServer;
  readonly srv?: Record<string, readonly SrvRecord[]>;
  /** What a name of the test resolves to, 127.0.0.1 unless told. */
  readonly dns?: Record<string, readonly string[]>;
  readonly addresses?: AddressMode;
  readonly insecureTls?: boolean;
  readonly pace?: number;
}

function checker(setting: Setting = {}): (name: string, token?: string) => Promise<OpenIdResult> {
  const real = systemClock();
  const clock: Clock = { ...real, after: (delayMs, fire) => real.after(delayMs * (setting.pace ?? 1), fire) };
  const mode = setting.addresses ?? 'loopback-too';
  const outbound = createOutbound({
    clock,
    addresses: () => mode,
    insecureTls: setting.insecureTls ?? false,
    ca: FEDERATION_CERTIFICATE,
    resolve: async (host) => {
      const found = setting.dns?.[host] ?? ['127.0.0.1'];
      return found.map((address): LookupAddress => ({ address, family: address.includes(':') ? 6 : 4 }));
    },
  });
  closers.push(outbound.close);
  const toWeb: Outbound = {
    ...outbound,
    request: (request) => {
      const host = /^https:\/\/([^/:]+)\/\.well-known\/matrix\/server$/.exec(request.url)?.[1];
      if (host === undefined) return outbound.request(request);
      if (setting.web === undefined) return Promise.resolve({ kind: 'answered', status: 404, headers: {}, json: {}, empty: false });
      return outbound.request({ ...request, url: `https://${host}:${setting.web.port}/.well-known/matrix/server` });
    },
  };
  const resolveSrv = async (name: string): Promise<readonly SrvRecord[]> => {
    const found = setting.srv?.[name];
    if (found === undefined) throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
    return found;
  };
  const random = { roll: () => 0, bytes: (count: number) => new Uint8Array(count) };
  const federation = createFederation({ clock, random, outbound: toWeb, addressesOf: () => mode, resolveSrv });
  const openId = createOpenId({ clock, federation, outbound, limit: null });
  return async (name, token = TOKEN) => {
    const result = await openId.check({ accessToken: token, serverName: name as ServerName });
    if (result.kind === 'refused') expect(result.why).not.toMatch(/sEcReT|https?:|\/|example/);
    return result;
  };
}
const is = (name: string): OpenIdResult => ({ kind: 'user', userId: `@alice:${name}` }) as OpenIdResult;
const no = (why: string | RegExp): unknown => ({ kind: 'refused', why: expect.stringMatching(why) });
const srv = (name: string, port: number, priority = 0): SrvRecord => ({ name, port, priority, weight: 0 });

/** The homeserver, asked once under this name. */
function expectAsked(homeserver: ScriptedServer, host: string, serverName: string | null): void {
  expect(homeserver.requests).toEqual([USERINFO]);
  expect(homeserver.headers[0]).toMatchObject({ host, 'user-agent': 'lastwill', 'accept-encoding': 'identity' });
  expect(homeserver.serverNames).toEqual([serverName]);
}

describe('a token is shown to the homeserver', () => {
  test('at its own name and port', async () => {
    const homeserver = await server((request, response) => answer(response, 200, { sub: `@alice:${request.headers.host}` }));
    const name = `example.org:${homeserver.port}`;
    expect(await checker()(name)).toEqual(is(name));
    expectAsked(homeserver, name, 'example.org');
  });

  test('at its IPv4 address, without SNI', async () => {
    const homeserver = await server((request, response) => answer(response, 200, { sub: `@alice:${request.headers.host}` }));
    const name = `127.0.0.1:${homeserver.port}`;
    expect(await checker()(name)).toEqual(is(name));
    expectAsked(homeserver, name, null);
  });

  test.skipIf(!HAS_IPV6)('at its IPv6 address, without SNI', async () => {
    const homeserver = await server((request, response) => answer(response, 200, { sub: `@alice:${request.headers.host}` }), {
      address: '::1',
    });
    const name = `[::1]:${homeserver.port}`;
    expect(await checker()(name)).toEqual(is(name));
    expectAsked(homeserver, name, null);
  });

  test('with a punycode name', async () => {
    const homeserver = await server((request, response) => answer(response, 200, { sub: `@alice:${request.headers.host}` }));
    const name = `xn--bcher-kva.example.org:${homeserver.port}`;
    expect(await checker()(name)).toEqual(is(name));
    expectAsked(homeserver, name, 'xn--bcher-kva.example.org');
  });

  test('where its well-known delegates to, under the name of the delegate', async () => {
    const homeserver = await server(user('example.org'));
    const web = await server(says({ 'm.server': `fed.example.net:${homeserver.port}` }));
    expect(await checker({ web })('example.org')).toEqual(is('example.org'));
    expectAsked(homeserver, `fed.example.net:${homeserver.port}`, 'fed.example.net');
    expect(web.requests).toEqual([WELL_KNOWN]);
    expect(web.serverNames).toEqual(['example.org']);
  });

  test('at the address its well-known delegates to', async () => {
    const homeserver = await server(user('example.org'));
    const web = await server(says({ 'm.server': `127.0.0.1:${homeserver.port}` }));
    expect(await checker({ web })('example.org')).toEqual(is('example.org'));
    expectAsked(homeserver, `127.0.0.1:${homeserver.port}`, null);
  });

  test('at the SRV target of the delegate, under the name of the delegate', async () => {
    const homeserver = await server(user('example.org'));
    const web = await server(says({ 'm.server': 'fed.example.net' }));
    const check = checker({ web, srv: { '_matrix-fed._tcp.fed.example.net': [srv('node1.farm.test', homeserver.port)] } });
    expect(await check('example.org')).toEqual(is('example.org'));
    expectAsked(homeserver, 'fed.example.net', 'fed.example.net');
  });

  test.each(['_matrix-fed._tcp.example.org', '_matrix._tcp.example.org'])('at the target of %s, under its own name', async (record) => {
    const homeserver = await server(user('example.org'));
    expect(await checker({ srv: { [record]: [srv('node1.farm.test', homeserver.port)] } })('example.org')).toEqual(is('example.org'));
    expectAsked(homeserver, 'example.org', 'example.org');
  });

  test('after redirects of the well-known, five at most', async () => {
    const homeserver = await server(user('example.org'));
    const hops =
      (most: number): Script =>
      (request, response) => {
        const hop = Number(/\d+$/.exec(request.url ?? '')?.[0] ?? 0);
        if (hop === most) answer(response, 200, { 'm.server': `fed.example.net:${homeserver.port}` });
        else answer(response, 307, '', { location: `/hop${hop + 1}` });
      };
    expect(await checker({ web: await server(hops(5)) })('example.org')).toEqual(is('example.org'));
    expect((await checker({ web: await server(hops(6)) })('example.org')).kind).toBe('refused');
    expect(homeserver.requests).toHaveLength(1);
  });

  test('at the next target, if the first is not there', async () => {
    const homeserver = await server(user('example.org'));
    const gone = await server(user('example.org'));
    await gone.close();
    closers.pop();
    const records = [srv('a.farm.test', gone.port), srv('b.farm.test', homeserver.port, 1)];
    expect(await checker({ srv: { '_matrix-fed._tcp.example.org': records } })('example.org')).toEqual(is('example.org'));
    expect(homeserver.requests).toHaveLength(1);
  });

  test('and to one target only, whatever it answers', async () => {
    const first = await server((request) => void request.socket.destroy());
    const second = await server(user('example.org'));
    const records = [srv('a.farm.test', first.port), srv('b.farm.test', second.port, 1)];
    expect(await checker({ srv: { '_matrix-fed._tcp.example.org': records } })('example.org')).toEqual(no(/could not be asked: refused/));
    expect(first.requests).toEqual([USERINFO]);
    expect(second.requests).toEqual([]);
  });
});

describe('connections', () => {
  test('are kept for the next token', async () => {
    const homeserver = await server(user('example.org'));
    const check = checker({ srv: { '_matrix-fed._tcp.example.org': [srv('node1.farm.test', homeserver.port)] } });
    for (let n = 0; n < 5; n += 1) expect(await check('example.org')).toEqual(is('example.org'));
    expect(homeserver.requests).toHaveLength(5);
    // A second one is opened if the next token comes while the first is still being tidied up.
    expect(homeserver.connections()).toBeLessThanOrEqual(2);
  });

  /** Closes each connection as its second question comes; `isGone`: from then on the others as well. */
  async function forgetful(isGone: boolean): Promise<{ name: string; closed(): number }> {
    const known = new WeakSet<object>();
    let closed = 0;
    const { port } = await server(({ socket, headers }, response) => {
      if (known.has(socket) || (isGone && closed > 0)) {
        closed += 1;
        socket.destroy();
      } else {
        known.add(socket);
        answer(response, 200, { sub: `@alice:${headers.host}` });
      }
    });
    return { name: `example.org:${port}`, closed: () => closed };
  }

  test('that are closed as the next token is on its way do not take it with them', async () => {
    const { name, closed } = await forgetful(false);
    const check = checker();
    while (closed() === 0) expect(await check(name)).toEqual(is(name));
    expect(closed()).toBe(1);
  });

  test('that are closed by a target that is gone then show the next token to no other', async () => {
    const answered = new WeakSet<object>();
    let closed = 0;
    const first = await server(({ socket }, response) => {
      if (answered.has(socket)) {
        closed += 1;
        void first.close();
      } else {
        answered.add(socket);
        answer(response, 200, { sub: '@alice:example.org' });
      }
    });
    const second = await server(user('example.org'));
    const records = [srv('a.farm.test', first.port), srv('b.farm.test', second.port, 1)];
    const check = checker({ srv: { '_matrix-fed._tcp.example.org': records } });
    let result: OpenIdResult;
    do result = await check('example.org');
    while (closed === 0);
    expect(result).toEqual(no(/could not be asked: refused/));
    expect(second.requests).toEqual([]);
  });

  test('that are closed each time are not made for ever', async () => {
    const { name, closed } = await forgetful(true);
    const check = checker();
    let result: OpenIdResult;
    do result = await check(name);
    while (closed() === 0);
    expect([result, closed()]).toEqual([no(/could not be asked: refused/), 2]);
  });

  test('are not shared by names at one address', async () => {
    const farm = await server((request, response) => answer(response, 200, { sub: `@alice:${request.headers.host}` }));
    const record = [srv('node1.farm.test', farm.port)];
    const check = checker({ srv: { '_matrix-fed._tcp.example.org': record, '_matrix-fed._tcp.fed.example.net': record } });
    for (const name of ['example.org', 'fed.example.net', 'example.org', 'fed.example.net']) expect(await check(name)).toEqual(is(name));
    expect(farm.serverNames).toEqual(['example.org', 'fed.example.net', 'example.org', 'fed.example.net']);
    expect(farm.connections()).toBeGreaterThanOrEqual(2);
  });

  test('are made to the endpoint for the first hop only', async () => {
    const second = await server(says({ here: 2 }));
    const first = await server((_, response) => answer(response, 302, {}, { location: `https://example.org:${second.port}/` }));
    const clock = systemClock();
    const loopback: AddressMode = 'loopback-too';
    const resolve: Resolve = async () => [{ address: '127.0.0.1', family: 4 }];
    const outbound = createOutbound({ clock, addresses: () => loopback, insecureTls: false, ca: FEDERATION_CERTIFICATE, resolve });
    closers.push(outbound.close);
    const at = { host: 'node1.farm.test', port: first.port, tlsName: 'example.org', addresses: loopback };
    const reply = await outbound.request({ method: 'GET', url: 'https://example.org/', at, redirects: 1, timeoutMs: 5000 });
    expect(reply).toMatchObject({ kind: 'answered', json: { here: 2 } });
    expect(second.headers[0]?.host).toBe(`example.org:${second.port}`);
  });
});

describe('a certificate', () => {
  test('must be for the name, not for the SRV target', async () => {
    const homeserver = await server(user('other.example'));
    const check = checker({ srv: { '_matrix-fed._tcp.other.example': [srv('example.org', homeserver.port)] } });
    expect(await check('other.example')).toEqual(no(/could not be asked: its certificate/));
    expect(homeserver.requests).toEqual([]);
  });

  test('must be for the delegate, not for the name', async () => {
    const homeserver = await server(user('example.org'));
    const web = await server(says({ 'm.server': `other.example:${homeserver.port}` }));
    expect(await checker({ web })('example.org')).toEqual(no(/its certificate/));
    expect(homeserver.requests).toEqual([]);
  });

  // Elsewhere only 127.0.0.1 is there by itself.
  test.skipIf(process.platform !== 'linux')('must be for the address', async () => {
    const homeserver = await server(user('127.0.0.2'), { address: '127.0.0.2' });
    expect(await checker()(`127.0.0.2:${homeserver.port}`)).toEqual(no(/its certificate/));
    expect(homeserver.requests).toEqual([]);
  });

  test('must be signed by one we trust', async () => {
    const homeserver = await server(user('localhost'), { tls: true });
    expect(await checker()(`localhost:${homeserver.port}`)).toEqual(no(/its certificate/));
  });

  test('must not belong to the web server alone: a well-known of a stranger is not followed', async () => {
    const homeserver = await server(user('other.example'));
    const web = await server(says({ 'm.server': `example.org:${homeserver.port}` }));
    expect((await checker({ web })('other.example')).kind).toBe('refused');
    expect(homeserver.requests).toEqual([]);
  });

  test('is not looked at when the operator says so', async () => {
    const homeserver = await server((request, response) => answer(response, 200, { sub: `@alice:${request.headers.host}` }), { tls: true });
    const name = `other.example:${homeserver.port}`;
    expect(await checker({ insecureTls: true })(name)).toEqual(is(name));
    expect(homeserver.serverNames).toEqual(['other.example']);
  });
});

describe('an answer', () => {
  const SELF = 'SELF';
  const asked = async (script: Script, setting: Setting = {}): Promise<{ result: OpenIdResult; homeserver: ScriptedServer }> => {
    const homeserver = await server(script);
    return { homeserver, result: await checker(setting)(`example.org:${homeserver.port}`) };
  };
  const sub =
    (text: string): Script =>
    (request, response) =>
      answer(response, 200, { sub: text.replace(SELF, request.headers.host ?? '') });

  test.each<[string, Script, RegExp]>([
    ['401', says({ errcode: 'M_UNKNOWN_TOKEN' }, 401), /status 401/],
    ['404', says({}, 404), /status 404/],
    ['500', says({ sub: '@alice:example.org' }, 500), /status 500/],
    ['a redirect', (request, response) => answer(response, 302, {}, { location: `https://${request.headers.host}/again` }), /status 302/],
    ['no JSON', says('<html>'), /named no user/],
    ['nothing', says(''), /named no user/],
    ['null', says('null'), /named no user/],
    ['an array', says([{ sub: '@alice:example.org' }]), /named no user/],
    ['no sub', says({ user: '@alice:example.org' }), /named no user/],
    ['a sub that is a number', says({ sub: 7 }), /named no user/],
    ['far too much', says({ sub: '@alice:example.org', more: 'x'.repeat(70_000) }), /too_large/],
    ['a cut connection', (request) => void request.socket.destroy(), /could not be asked/],
    ['the user of another server', sub('@alice:other.example'), /no user of its own/],
    ['the user of the same host without the port', sub('@alice:example.org'), /no user of its own/],
    ['another spelling of the server', (q, r) => answer(r, 200, { sub: `@alice:${q.headers.host?.toUpperCase()}` }), /no user of its own/],
    ['a user with two servers', sub(`@alice:other.example:${SELF}`), /no user of its own/],
    ['a longer server', sub(`@alice:${SELF}.other.example`), /no user of its own/],
    ['no @', sub(`alice:${SELF}`), /no user of its own/],
    ['no server', sub('@alice'), /no user of its own/],
    ['an empty sub', sub(''), /no user of its own/],
    ['a NUL', sub(`@al\0ice:${SELF}`), /no user of its own/],
    ['a line break', sub(`@al\nice:${SELF}`), /no user of its own/],
    ['a lone surrogate', (q, r) => answer(r, 200, `{"sub":"@al\\ud800ice:${q.headers.host}"}`), /no user of its own/],
    ['a space at the end', sub(`@alice:${SELF} `), /no user of its own/],
    ['too long a name', sub(`@${'a'.repeat(250)}:${SELF}`), /no user of its own/],
    ['too many bytes', sub(`@${'ä'.repeat(120)}:${SELF}`), /no user of its own/],
  ])('with %s is refused', async (_, script, why) => {
    const { result, homeserver } = await asked(script);
    expect(result).toEqual(no(why));
    expect(homeserver.requests).toHaveLength(1);
  });

  test.each(['@alice', '@', '@Alice=2f/_-.+', '@älice', '@a b'])('with %s is taken', async (localpart) => {
    const { result, homeserver } = await asked(sub(`${localpart}:${SELF}`));
    expect(result).toEqual({ kind: 'user', userId: `${localpart}:example.org:${homeserver.port}` });
  });

  test('that never comes, or never ends, is given up after ten seconds', async () => {
    const startMs = systemClock().nowMs();
    const slow: Script = (_, response) => void response.writeHead(200).write('{"sub":');
    for (const script of [() => {}, slow]) expect((await asked(script, { pace: 1 / 50 })).result).toEqual(no(/timeout/));
    expect(systemClock().nowMs() - startMs).toBeGreaterThanOrEqual(380);
  });
});

describe('no question goes out', () => {
  test.each(['', '\ud800', 'x'.repeat(5000)])('for a token that is none, %#', async (token) => {
    const homeserver = await server(user('example.org'));
    expect(await checker()(`example.org:${homeserver.port}`, token)).toEqual(no(/not a token/));
    expect(homeserver.connections()).toBe(0);
  });

  test('for a name that is none', async () => {
    expect(await checker()('example.org:99999')).toEqual(no(/can not be resolved: not a server name/));
  });
});

describe('an address that may not be called', () => {
  const local: Script = says({ sub: '@alice:example.org' });
  test.each([
    ['127.0.0.1', '127.0.0.1'],
    ['[::1]', '::1'],
    ['[::ffff:127.0.0.1]', '127.0.0.1'],
    ['localhost', '127.0.0.1'],
    ['127.1', '127.0.0.1'],
    ['0x7f.0.0.1', '127.0.0.1'],
    ['example.org', '127.0.0.1'],
  ])('is not, as a server name: %s', async (host, address) => {
    const homeserver = await server(local, { address: HAS_IPV6 ? address : '127.0.0.1' });
    expect(await checker({ addresses: 'public' })(`${host}:${homeserver.port}`)).toEqual(no(/address/));
    expect(homeserver.connections()).toBe(0);
  });

  test.each(['127.0.0.1', '169.254.169.254', '[::1]', '[::ffff:127.0.0.1]', '[fd00::1]', '10.0.0.1', 'localhost', '2130706433', '0.0.0.0'])(
    'is not, by a well-known: %s',
    async (host) => {
      const homeserver = await server(local);
      const web: Outbound['request'] = async () => ({
        kind: 'answered',
        status: 200,
        headers: {},
        json: delegation(host, homeserver.port),
        empty: false,
      });
      const clock = systemClock();
      const outbound = createOutbound({ clock, addresses: () => 'public', insecureTls: true });
      closers.push(outbound.close);
      const random = { roll: () => 0, bytes: (count: number) => new Uint8Array(count) };
      const federation = createFederation({ clock, random, outbound: { ...outbound, request: web }, addressesOf: () => 'public' });
      const result = await createOpenId({ clock, federation, outbound, limit: null }).check({
        accessToken: TOKEN,
        serverName: 'example.org' as ServerName,
      });
      expect(result).toEqual(no(/could not be asked: its address may not be called: name it in LIVEKIT_FULL_ACCESS_HOMESERVERS/));
      expect(homeserver.connections()).toBe(0);
    },
  );
  const delegation = (host: string, port: number): unknown => ({ 'm.server': `${host}:${port}` });

  test('is not, by SRV or by DNS, as soon as one of several is such', async () => {
    const homeserver = await server(local);
    const records = { '_matrix-fed._tcp.example.org': [srv('node1.farm.test', homeserver.port), srv('127.0.0.1', homeserver.port)] };
    const dns = { 'node1.farm.test': ['8.8.8.8', '127.0.0.1'] };
    expect(await checker({ addresses: 'public', srv: records, dns })('example.org')).toEqual(no(/address/));
    expect(homeserver.connections()).toBe(0);
  });

  test('is, where the name is trusted, on a connection that others do not share', async () => {
    const homeserver = await server(local);
    const clock = systemClock();
    const outbound = createOutbound({ clock, addresses: () => 'public', insecureTls: true });
    closers.push(outbound.close);
    const call = (addresses: AddressMode): Promise<unknown> =>
      outbound.request({
        method: 'GET',
        url: 'https://example.org/x',
        at: { host: '127.0.0.1', port: homeserver.port, tlsName: 'example.org', addresses },
        timeoutMs: 5000,
      });
    expect(await call('any')).toMatchObject({ kind: 'answered' });
    expect(await call('public')).toEqual({ kind: 'failed', reached: false, why: 'address' });
    expect(homeserver.requests).toHaveLength(1);
  });
});
