import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.ts';
import type { HomeserverUrl, ServerName } from '../../src/delegation/ids.ts';
import { createDiscovery, type Discovery, type Resolved } from '../../src/homeserver/discovery.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';
import { createServed, type ServedConfig } from '../../src/homeserver/served.ts';
import { answer, type Script, type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts';
import { until } from './contract.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

interface Bench {
  readonly server: ScriptedServer;
  readonly name: ServerName;
  readonly discovery: Discovery;
  ask(): Promise<Resolved>;
  /** Lets the clock jump. */
  later(ms: number): void;
}
const WELL_KNOWN = 'GET /.well-known/matrix/client';
const TARGET = { 'm.homeserver': { base_url: 'https://matrix.example.org/' } };

/** A server over TLS on this machine, by the name localhost, and a discovery that may call it (but not 127.0.0.1 by number). */
async function bench(script: Script, overrides: ServedConfig['overrides'] = new Map(), pace: { timers?: number } = {}): Promise<Bench> {
  const server = await startScriptedServer(script, { tls: true });
  const real = systemClock();
  let jumpedMs = 0;
  const clock: Clock = {
    ...real,
    nowMs: () => real.nowMs() + jumpedMs,
    after: (delayMs, fire) => real.after(delayMs * (pace.timers ?? 1), fire),
  };
  const name = `localhost:${server.port}` as ServerName;
  const config = { fullAccess: { all: true, names: [name] }, overrides, strangers: 'public' } as const;
  const served = createServed(config);
  const outbound = createOutbound({ clock, addresses: served.addresses, insecureTls: true });
  closers.push(outbound.close, server.close);
  const discovery = createDiscovery({ clock, served, outbound });
  const later = (ms: number): void => {
    jumpedMs += ms;
  };
  return { server, name, discovery, ask: () => discovery.resolve({ kind: 'name', name }), later };
}
const says =
  (status: number, body: unknown, headers: Record<string, string> = {}): Script =>
  (_, response) =>
    answer(response, status, body, headers);
const FOUND: Resolved = { kind: 'resolved', url: 'https://matrix.example.org' as HomeserverUrl };

describe('a server name', () => {
  test('leads to the base URL of its well-known', async () => {
    const { ask, server } = await bench(says(200, TARGET));
    expect(await ask()).toEqual(FOUND);
    expect(server.requests).toEqual([WELL_KNOWN]);
  });

  test('may have a well-known that is kept packed, and comes so to all', async () => {
    const { ask, server } = await bench((_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(JSON.stringify(TARGET)));
    });
    expect(await ask()).toEqual(FOUND);
    expect(server.headers[0]).toMatchObject({ 'accept-encoding': 'identity' });
  });

  test('has no well-known that is too large once it is unpacked, or packed in a way that it does not say', async () => {
    const large = JSON.stringify({ ...TARGET, more: 'x'.repeat(65_536) });
    for (const [encoding, body] of [
      ['gzip', gzipSync(large)],
      ['gzip', JSON.stringify(TARGET)],
      ['__proto__', gzipSync('{}')],
      ['br', brotliCompressSync(JSON.stringify(TARGET))],
    ] as const) {
      const { ask } = await bench((_, response) => void response.writeHead(200, { 'content-encoding': encoding }).end(body));
      expect(await ask()).toMatchObject({ kind: 'unresolvable', why: 'the well-known holds no m.homeserver.base_url' });
    }
  });

  test('may have a well-known that begins with a byte order mark, which browsers leave out', async () => {
    const { ask } = await bench(says(200, `\uFEFF${JSON.stringify(TARGET)}`));
    expect(await ask()).toEqual(FOUND);
  });

  test('leads to its override without a question', async () => {
    const { discovery, server } = await bench(
      says(200, TARGET),
      new Map([['other.org' as ServerName, 'http://synapse:8008' as HomeserverUrl]]),
    );
    expect(await discovery.resolve({ kind: 'name', name: 'other.org' as ServerName })).toEqual({
      kind: 'resolved',
      url: 'http://synapse:8008',
    });
    expect(await discovery.resolve({ kind: 'url', url: 'https://given.org' as HomeserverUrl })).toEqual({
      kind: 'resolved',
      url: 'https://given.org',
    });
    expect(server.requests).toEqual([]);
  });

  test.each<[string, Script]>([
    ['nothing there', says(404, {})],
    ['an error', says(500, TARGET)],
    ['no JSON', says(200, '<html>hello</html>')],
    ['an array', says(200, [])],
    ['no homeserver', says(200, {})],
    ['a base URL that is none', says(200, { 'm.homeserver': { base_url: 7 } })],
    ['a base URL without TLS', says(200, { 'm.homeserver': { base_url: 'http://matrix.example.org' } })],
    ['a base URL with credentials', says(200, { 'm.homeserver': { base_url: 'https://a:b@matrix.example.org' } })],
    ['a base URL with a query', says(200, { 'm.homeserver': { base_url: 'https://matrix.example.org/?x' } })],
    ['far too much', says(200, { ...TARGET, more: 'x'.repeat(70_000) })],
    ['a redirect in circles', (request, response) => answer(response, 302, '', { location: request.url ?? '' })],
    ['a redirect off TLS', says(302, '', { location: 'http://localhost/' })],
    ['a redirect to nowhere', says(302, '')],
    ['a cut connection', (request) => void request.socket.destroy()],
  ])('is unresolvable after %s', async (_, script) => {
    const { ask, server } = await bench(script);
    expect((await ask()).kind).toBe('unresolvable');
    expect(server.requests.length).toBeLessThanOrEqual(6);
  });

  test('may be redirected five times, not six', async () => {
    const hops =
      (most: number): Script =>
      (request, response) => {
        const hop = Number(/\d+$/.exec(request.url ?? '')?.[0] ?? 0);
        if (hop === most) answer(response, 200, TARGET);
        else answer(response, 301, '', { location: `/hop${hop + 1}` });
      };
    expect(await (await bench(hops(5))).ask()).toEqual(FOUND);
    expect((await (await bench(hops(6))).ask()).kind).toBe('unresolvable');
  });

  test('is not redirected to an address that may not be called', async () => {
    const { ask, server } = await bench((request, response) => {
      const port = request.headers.host?.split(':')[1];
      answer(response, 302, '', { location: `https://127.0.0.1:${port}/` });
    });
    expect(await ask()).toEqual({ kind: 'unresolvable', why: expect.any(String) });
    expect(server.requests).toEqual([WELL_KNOWN]);
  });

  test('that never answers is given up after ten seconds', async () => {
    const { ask } = await bench(() => {}, new Map(), { timers: 1 / 50 });
    const startMs = systemClock().nowMs();
    expect((await ask()).kind).toBe('unresolvable');
    expect(systemClock().nowMs() - startMs).toBeGreaterThanOrEqual(190);
  });
});

describe('what was found', () => {
  test.each([
    [{}, 59 * 60_000, 2 * 60_000],
    [{ 'cache-control': 'public, max-age=600' }, 599_000, 2000],
    [{ 'cache-control': 'max-age=1' }, 59_000, 2000],
    [{ 'cache-control': 'no-store' }, 59_000, 2000],
    [{ 'cache-control': 'max-age=99999999' }, 86_399_000, 2000],
  ] as [Record<string, string>, number, number][])('is remembered, %j', async (headers, keptMs, moreMs) => {
    const { ask, later, server } = await bench(says(200, TARGET, headers));
    await ask();
    later(keptMs);
    expect(await ask()).toEqual(FOUND);
    expect(server.requests).toHaveLength(1);
    later(moreMs);
    expect(await ask()).toEqual(FOUND);
    expect(server.requests).toHaveLength(2);
  });

  test('is remembered for some seconds only if it was nothing', async () => {
    let status = 404;
    const { ask, later } = await bench((_, response) => answer(response, status, TARGET));
    expect((await ask()).kind).toBe('unresolvable');
    status = 200;
    later(3_000);
    expect((await ask()).kind).toBe('unresolvable');
    later(3_000);
    expect(await ask()).toEqual(FOUND);
  });

  test.each([500, 503, 429])('stays while the web server is away (%d), but not when it says otherwise', async (away) => {
    let status = 200;
    const { ask, later } = await bench((_, response) => answer(response, status, TARGET, { 'cache-control': 'max-age=60' }));
    expect(await ask()).toEqual(FOUND);
    status = away;
    for (let minutes = 0; minutes < 5; minutes += 1) {
      later(61_000);
      expect(await ask()).toEqual(FOUND);
    }
    status = 404;
    later(61_000);
    expect((await ask()).kind).toBe('unresolvable');
  });

  test('is asked for once by those who ask together', async () => {
    const { ask, server } = await bench(says(200, TARGET));
    expect(await Promise.all(Array.from({ length: 30 }, ask))).toEqual(Array(30).fill(FOUND));
    expect(server.requests).toHaveLength(1);
  });

  test('is there for listed names before anyone asks', async () => {
    const { discovery, server, ask } = await bench(says(200, TARGET));
    const stop = discovery.warm();
    await until(async () => server.requests.length === 1, 5000);
    stop();
    expect(await ask()).toEqual(FOUND);
    expect(server.requests).toHaveLength(1);
  });

  test('is looked up again when its answer holds no longer, though nobody asks', async () => {
    const { ask, discovery, server, later } = await bench(says(200, TARGET), new Map(), { timers: 1 / 30 });
    closers.unshift(async () => stop());
    const stop = discovery.warm();
    // It has to be remembered before time goes on, or it holds from then on.
    expect(await ask()).toEqual(FOUND);
    later(61 * 60_000);
    await until(async () => server.requests.length > 1, 10_000);
  }, 20_000);
});
