import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ServerName } from '../../src/delegation/ids.ts';
import type { AddressMode } from '../../src/homeserver/address.ts';
import { createFederation, type FederationResolved } from '../../src/homeserver/federation.ts';
import type { Outbound, Reply, Request } from '../../src/homeserver/outbound.ts';
import type { SrvRecord } from '../../src/homeserver/srv.ts';
import { createSeededRandom, createVirtualClock, START_MS, type VirtualClock } from '../support/virtual-clock.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** What the world around a discovery says; a test may change it on the way. */
interface World {
  /** By host. */
  wellKnown: Record<string, Reply>;
  /** By the name of the record; what is missing is not found. */
  srv: Record<string, readonly SrvRecord[] | 'broken'>;
}
interface Bench {
  readonly world: World;
  readonly clock: VirtualClock;
  /** Hosts whose well-known was fetched, and names whose SRV was looked up, in order. */
  readonly asked: string[];
  readonly requests: Request[];
  ask(name?: string): Promise<FederationResolved>;
  /** In short: `host:port for Host header, certificate`. */
  targets(name?: string): Promise<string[]>;
}

function bench(world: Partial<World> = {}, addresses: AddressMode = 'public', delayMs = 0): Bench {
  const clock = createVirtualClock();
  const asked: string[] = [];
  const requests: Request[] = [];
  const here: World = { wellKnown: {}, srv: {}, ...world };
  const wait = (): Promise<void> => (delayMs === 0 ? Promise.resolve() : new Promise((resolve) => void clock.after(delayMs, resolve)));
  const outbound: Outbound = {
    request: async (request) => {
      const host = /^https:\/\/(.*)\/\.well-known\/matrix\/server$/.exec(request.url)?.[1] ?? request.url;
      asked.push(host);
      requests.push(request);
      await wait();
      return here.wellKnown[host] ?? status(404);
    },
    close: async () => {},
  };
  const resolveSrv = async (name: string): Promise<readonly SrvRecord[]> => {
    asked.push(name);
    await wait();
    const found = here.srv[name];
    if (found === 'broken') throw Object.assign(new Error('no'), { code: 'ESERVFAIL' });
    if (found === undefined) throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
    return found;
  };
  const federation = createFederation({ clock, random: createSeededRandom(1), outbound, resolveSrv, addressesOf: () => addresses });
  const ask = (name = 'example.org'): Promise<FederationResolved> => federation.resolve(name as ServerName);
  return {
    ...{ world: here, clock, asked, requests, ask },
    targets: async (name) => {
      const found = await ask(name);
      if (found.kind === 'unresolvable') return [];
      return found.targets.map(({ host, port, hostHeader, tlsName }) => `${host} ${port} as ${hostHeader}, ${tlsName}`);
    },
  };
}
const answered = (json: unknown, headers: Record<string, string> = {}): Reply => ({
  kind: 'answered',
  status: 200,
  headers,
  json,
  empty: false,
});
const status = (code: number): Reply => ({
  kind: 'answered',
  status: code,
  headers: {},
  json: { 'm.server': 'wrong.example:1' },
  empty: false,
});
const away: Reply = { kind: 'failed', reached: false, why: 'timeout' };
const delegating = (to: unknown, headers?: Record<string, string>): Pick<World, 'wellKnown'> => ({
  wellKnown: { 'example.org': answered({ 'm.server': to }, headers) },
});
const srv = (name: string, port = 443, priority = 1, weight = 1): SrvRecord => ({ name, port, priority, weight });

describe('a name that says it all', () => {
  test.each([
    ['1.2.3.4', '1.2.3.4 8448 as 1.2.3.4, 1.2.3.4'],
    ['1.2.3.4:443', '1.2.3.4 443 as 1.2.3.4:443, 1.2.3.4'],
    ['[2a00::1]', '2a00::1 8448 as [2a00::1], 2a00::1'],
    ['[2a00::1]:1', '2a00::1 1 as [2a00::1]:1, 2a00::1'],
    ['[2A00::A]:1', '2a00::a 1 as [2A00::A]:1, 2a00::a'],
    ['example.org:8448', 'example.org 8448 as example.org:8448, example.org'],
    ['example.org:443', 'example.org 443 as example.org:443, example.org'],
    ['Example.ORG:65535', 'example.org 65535 as Example.ORG:65535, example.org'],
    ['xn--bcher-kva.example:80', 'xn--bcher-kva.example 80 as xn--bcher-kva.example:80, xn--bcher-kva.example'],
  ])('%s is taken by its word', async (name, target) => {
    const { targets, asked } = bench();
    expect(await targets(name)).toEqual([target]);
    expect(asked).toEqual([]);
  });

  test.each(['', 'example.org:0', 'example.org:65536', '[::g]', 'a/b', 'user@example.org', 'exämple.org', 'a b', 'example.org:80:80'])(
    '%j is none',
    async (name) => expect(await bench().ask(name)).toEqual({ kind: 'unresolvable', why: 'not a server name' }),
  );
});

describe('a delegation', () => {
  test.each([
    ['5.6.7.8', '5.6.7.8 8448 as 5.6.7.8, 5.6.7.8'],
    ['5.6.7.8:443', '5.6.7.8 443 as 5.6.7.8:443, 5.6.7.8'],
    ['[2a00::2]', '2a00::2 8448 as [2a00::2], 2a00::2'],
    ['[2a00::2]:443', '2a00::2 443 as [2a00::2]:443, 2a00::2'],
    ['fed.example.net:443', 'fed.example.net 443 as fed.example.net:443, fed.example.net'],
    ['example.org:443', 'example.org 443 as example.org:443, example.org'],
  ])('to %s needs no further question', async (to, target) => {
    const { targets, asked } = bench(delegating(to));
    expect(await targets()).toEqual([target]);
    expect(asked).toEqual(['example.org']);
  });

  test('to a host goes by its SRV records, under the name of the host', async () => {
    const { targets, asked } = bench({ ...delegating('fed.example.net'), srv: { '_matrix-fed._tcp.fed.example.net': [srv('a.farm', 1)] } });
    expect(await targets()).toEqual(['a.farm 1 as fed.example.net, fed.example.net']);
    expect(asked).toEqual(['example.org', '_matrix-fed._tcp.fed.example.net']);
  });

  test('to a host goes by its deprecated SRV records', async () => {
    const { targets, asked } = bench({ ...delegating('fed.example.net'), srv: { '_matrix._tcp.fed.example.net': [srv('a.farm', 1)] } });
    expect(await targets()).toEqual(['a.farm 1 as fed.example.net, fed.example.net']);
    expect(asked).toEqual(['example.org', '_matrix-fed._tcp.fed.example.net', '_matrix._tcp.fed.example.net']);
  });

  test('to a host without them goes to port 8448', async () => {
    expect(await bench(delegating('fed.example.net')).targets()).toEqual(['fed.example.net 8448 as fed.example.net, fed.example.net']);
  });

  test('is not followed twice', async () => {
    const { world, targets, asked } = bench(delegating('fed.example.net'));
    world.wellKnown['fed.example.net'] = answered({ 'm.server': 'third.example:443' });
    expect(await targets()).toEqual(['fed.example.net 8448 as fed.example.net, fed.example.net']);
    expect(asked).not.toContain('fed.example.net');
  });

  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['a number', 8448],
    ['an object', { host: 'fed.example.net' }],
    ['an empty text', ''],
    ['credentials', 'user:secret@fed.example.net:443'],
    ['a URL', 'https://fed.example.net'],
    ['a path', 'fed.example.net/path'],
    ['a query', 'fed.example.net?x'],
    ['a port out of range', 'fed.example.net:65536'],
    ['port 0', 'fed.example.net:0'],
    ['no port after the colon', 'fed.example.net:'],
    ['an open bracket', '[::1'],
    ['no IPv6', '[fed.example.net]'],
    ['a zone', '[fe80::1%eth0]'],
    ['unicode', 'bücher.example'],
    ['spaces', ' fed.example.net'],
    ['a line break', 'fed.example.net\r\nx: y'],
    ['a NUL', 'fed.example.net\0'],
    ['far too much', 'x'.repeat(60_000)],
    ['an address that is none', '999.1.1.1'],
    ['the root', '.'],
    ['an empty label', 'fed..example.net'],
  ])('to %s is none', async (_, to) => {
    const { targets } = bench(delegating(to));
    expect(await targets()).toEqual(['example.org 8448 as example.org, example.org']);
  });
});

describe('a name without a usable well-known', () => {
  test.each<[string, Reply]>([
    ['404', status(404)],
    ['500', status(500)],
    ['a redirect without end', { kind: 'failed', reached: true, why: 'redirects' }],
    ['an address that may not be called', { kind: 'failed', reached: false, why: 'address' }],
    ['too much', { kind: 'failed', reached: true, why: 'too_large' }],
    ['no JSON', answered(undefined)],
    ['null', answered(null)],
    ['an array', answered(['m.server'])],
  ])('goes by its SRV records, after %s', async (_, reply) => {
    const { targets, asked } = bench({
      wellKnown: { 'example.org': reply },
      srv: { '_matrix-fed._tcp.example.org': [srv('a.farm', 1)], '_matrix._tcp.example.org': [srv('b.farm', 2)] },
    });
    expect(await targets()).toEqual(['a.farm 1 as example.org, example.org']);
    expect(asked).toEqual(['example.org', '_matrix-fed._tcp.example.org']);
  });

  test('goes by the deprecated ones, and to port 8448 without any', async () => {
    const { targets, world, clock } = bench({ srv: { '_matrix._tcp.example.org': [srv('b.farm', 2)] } });
    expect(await targets()).toEqual(['b.farm 2 as example.org, example.org']);
    world.srv = {};
    await clock.advance(6 * MINUTE_MS);
    expect(await targets()).toEqual(['example.org 8448 as example.org, example.org']);
  });

  test('goes to port 8448 where SRV is never answered', async () => {
    const { targets } = bench({ srv: { '_matrix-fed._tcp.example.org': 'broken', '_matrix._tcp.example.org': 'broken' } });
    expect(await targets()).toEqual(['example.org 8448 as example.org, example.org']);
  });

  test('has its targets by priority, four at most', async () => {
    const { targets } = bench({
      srv: { '_matrix-fed._tcp.example.org': [srv('c', 3, 30), srv('a', 1, 10), srv('e', 5, 50), srv('b', 2, 20), srv('d', 4, 40)] },
    });
    expect((await targets()).map((target) => target[0])).toEqual(['a', 'b', 'c', 'd']);
  });

  test('that offers no federation has none', async () => {
    const { ask } = bench({ srv: { '_matrix-fed._tcp.example.org': [srv('', 0)] } });
    expect((await ask()).kind).toBe('unresolvable');
  });

  test('is asked for under its own spelling, whatever the case or the dot at the end', async () => {
    const { targets, asked } = bench(delegating('Fed.Example.NET.'));
    expect(await targets('EXAMPLE.org.')).toEqual(['fed.example.net 8448 as Fed.Example.NET., fed.example.net']);
    await targets('Example.org');
    expect(asked).toEqual(['example.org', '_matrix-fed._tcp.fed.example.net', '_matrix._tcp.fed.example.net']);
  });
});

test('what a name leads to may be called as that name may', async () => {
  for (const mode of ['public', 'loopback-too', 'any'] as const) {
    const found = await bench(delegating('10.0.0.1:443'), mode).ask();
    expect(found).toMatchObject({ targets: [{ addresses: mode }] });
  }
});

test('any m.server is a usable target or none at all', async () => {
  const part = fc.oneof(
    fc.string(),
    fc.domain(),
    fc.ipV4(),
    fc.ipV6(),
    fc.integer().map(String),
    fc.constantFrom(':', '[', ']', '@', '..'),
  );
  const text = fc.array(part, { maxLength: 4 }).map((parts) => parts.join(''));
  await fc.assert(
    fc.asyncProperty(fc.oneof(text, fc.webAuthority(), fc.jsonValue()), async (to) => {
      const found = await bench(delegating(to)).ask();
      if (found.kind === 'unresolvable') throw new Error(found.why);
      for (const { host, port, hostHeader } of found.targets) {
        expect(port).toBeGreaterThan(0);
        expect(port).toBeLessThan(65536);
        expect(host).toMatch(/^[0-9a-z.:-]+$/);
        expect(hostHeader).toMatch(/^[0-9A-Za-z.:[\]-]+$/);
        expect(URL.parse(`https://${hostHeader}/`)?.pathname).toBe('/');
      }
    }),
  );
});

describe('what was found', () => {
  const at = (ms: number): string => new Date(START_MS + ms).toUTCString();
  test.each<[Record<string, string>, number]>([
    [{}, 24 * HOUR_MS],
    [{ 'cache-control': 'public, max-age=3600' }, HOUR_MS],
    [{ 'cache-control': 'MAX-AGE = "3600"' }, HOUR_MS],
    [{ 'cache-control': 'max-age=3600', age: '1800' }, HOUR_MS / 2],
    [{ 'cache-control': 'max-age=3600', expires: at(2 * HOUR_MS) }, HOUR_MS],
    [{ 'cache-control': 's-maxage=60' }, 24 * HOUR_MS],
    [{ 'cache-control': 'max-age=9999999999' }, 48 * HOUR_MS],
    [{ 'cache-control': 'max-age=1' }, 5 * MINUTE_MS],
    [{ 'cache-control': 'max-age=-1' }, 5 * MINUTE_MS],
    [{ 'cache-control': 'no-store' }, 5 * MINUTE_MS],
    [{ 'cache-control': 'no-cache, max-age=3600' }, 5 * MINUTE_MS],
    [{ expires: at(3 * HOUR_MS) }, 3 * HOUR_MS],
    [{ expires: at(3 * HOUR_MS), date: at(HOUR_MS) }, 2 * HOUR_MS],
    [{ expires: at(-HOUR_MS) }, 5 * MINUTE_MS],
    [{ expires: '0' }, 5 * MINUTE_MS],
    [{ expires: at(9999 * HOUR_MS) }, 48 * HOUR_MS],
  ])('holds by %j for %d ms', async (headers, validMs) => {
    const { targets, asked, clock } = bench(delegating('5.6.7.8', headers));
    await targets();
    await clock.advance(validMs - 1);
    await targets();
    expect(asked).toHaveLength(1);
    await clock.advance(1);
    await targets();
    expect(asked).toHaveLength(2);
  });

  test('as a failure holds a minute longer each time, up to five', async () => {
    const { targets, asked, clock } = bench({ wellKnown: { 'example.org': away }, srv: {} });
    const fetches = (): number => asked.filter((host) => host === 'example.org').length;
    await targets();
    for (const [index, minutes] of [1, 2, 3, 4, 5, 5, 5].entries()) {
      await clock.advance(minutes * MINUTE_MS - 1);
      await targets();
      expect(fetches()).toBe(index + 1);
      await clock.advance(1);
      await targets();
      expect(fetches()).toBe(index + 2);
    }
  });

  test('outlives a web server that is away, for two days', async () => {
    const { targets, world, clock } = bench(delegating('5.6.7.8', { 'cache-control': 'max-age=300' }));
    const delegated = await targets();
    for (const reply of [away, status(502), status(429)]) {
      world.wellKnown['example.org'] = reply;
      await clock.advance(HOUR_MS);
      expect(await targets()).toEqual(delegated);
    }
    await clock.advance(48 * HOUR_MS);
    expect(await targets()).toEqual(['example.org 8448 as example.org, example.org']);
  });

  test('is given up when the web server says that it is gone', async () => {
    const { targets, world, clock } = bench(delegating('5.6.7.8', { 'cache-control': 'max-age=300' }));
    await targets();
    world.wellKnown['example.org'] = status(404);
    await clock.advance(HOUR_MS);
    expect(await targets()).toEqual(['example.org 8448 as example.org, example.org']);
  });

  test('of SRV holds five minutes, an uncertain nothing one', async () => {
    const { targets, asked, clock, world } = bench({
      ...delegating('fed.example.net'),
      srv: { '_matrix-fed._tcp.fed.example.net': 'broken' },
    });
    await targets();
    world.srv['_matrix-fed._tcp.fed.example.net'] = [srv('a.farm', 1)];
    await clock.advance(MINUTE_MS);
    expect(await targets()).toEqual(['a.farm 1 as fed.example.net, fed.example.net']);
    const before = asked.length;
    await clock.advance(5 * MINUTE_MS - 1);
    await targets();
    expect(asked).toHaveLength(before);
    await clock.advance(1);
    await targets();
    expect(asked).toHaveLength(before + 1);
  });

  test('is asked for once by those who ask together', async () => {
    const { ask, asked, clock } = bench({ srv: { '_matrix-fed._tcp.example.org': [srv('a.farm', 1)] } }, 'public', 100);
    const asking = Promise.all(Array.from({ length: 30 }, () => ask()));
    await clock.advance(300);
    expect(new Set((await asking).map((found) => JSON.stringify(found))).size).toBe(1);
    expect(asked).toEqual(['example.org', '_matrix-fed._tcp.example.org']);
  });

  test('is forgotten past a thousand names', async () => {
    const { ask, asked } = bench();
    for (let n = 0; n <= 1000; n += 1) await ask(`n${n}.example`);
    const before = asked.length;
    await ask('n1000.example');
    expect(asked).toHaveLength(before);
    await ask('n0.example');
    expect(asked.length).toBeGreaterThan(before);
  });
});

test('a well-known is fetched with at most five redirects, in good time', async () => {
  const { ask, requests } = bench();
  await ask();
  expect(requests[0]).toMatchObject({ method: 'GET', redirects: 5, timeoutMs: 4000 });
});

test('a name whose every question hangs is answered within seven seconds', async () => {
  const { ask, clock } = bench({}, 'public', 4000);
  let found: FederationResolved | null = null;
  void ask().then((answer) => {
    found = answer;
  });
  await clock.advance(7000);
  expect(found).toMatchObject({ kind: 'targets' });
});
