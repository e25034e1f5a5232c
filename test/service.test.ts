// The service as a process, where the system has little left for it: no room for its log, no descriptors, no memory for strangers, no port.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { hmacKey, signJwt } from '../src/sfu/jwt.ts';
import { answer, FEDERATION_CERTIFICATE, startScriptedServer } from './support/scripted-server.ts';

const MAIN = resolve(import.meta.dirname, '../src/main.ts');

interface Options {
  readonly stdout?: string;
  readonly descriptors?: number;
  readonly settings?: Readonly<Record<string, string>>;
  /** Instead of the program alone. */
  readonly shell?: string;
}

interface Service {
  readonly child: ChildProcess;
  readonly url: string;
  readonly port: number;
  /** Of what it has written to stderr. */
  readonly told: () => string;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => void server.close(done));
  return port;
}

function start(port: number, options: Options = {}): Service {
  const folder = mkdtempSync(join(tmpdir(), 'lastwill-service-'));
  const env = {
    ...{ PATH: process.env.PATH ?? '', NODE_ENV: 'production', LASTWILL_DATA_DIR: folder, LIVEKIT_JWT_BIND: `127.0.0.1:${port}` },
    ...{ LIVEKIT_URL: 'ws://127.0.0.1:9', LIVEKIT_KEY: 'key', LIVEKIT_SECRET: 'secret-of-at-least-32-characters-here' },
    LIVEKIT_FULL_ACCESS_HOMESERVERS: 'example.org',
    ...options.settings,
  };
  const limited = options.shell ?? `ulimit -n ${options.descriptors ?? 1_024} && exec "$0" "$1"`;
  const stdout = openSync(options.stdout ?? '/dev/null', 'w');
  const cwd = resolve(MAIN, '../..');
  const child = spawn('sh', ['-c', limited, process.execPath, MAIN], { cwd, env, stdio: ['ignore', stdout, 'pipe'] });
  let told = '';
  child.stderr?.on('data', (bytes) => {
    told += bytes;
  });
  onTestFinished(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  });
  return { child, port, url: `http://127.0.0.1:${port}`, told: () => told };
}

async function started(options: Options = {}): Promise<Service> {
  const service = start(await freePort(), options);
  while (!(await answers(service))) {
    if (service.child.exitCode !== null) throw new Error(`ended with ${service.child.exitCode}: ${service.told()}`);
    await pause(50);
  }
  return service;
}

const pause = (delayMs: number) => new Promise((later) => void setTimeout(later, delayMs));
const answers = ({ url }: Service) =>
  fetch(`${url}/healthz`).then(
    ({ ok }) => ok,
    () => false,
  );

/** The leave of a member in a room of its own; the status of the answer. */
async function handOver(
  { url }: Service,
  n: number,
  delayMs: number,
  { homeserver = 'example.org', identity = `in-room-${n}` } = {},
): Promise<number> {
  const claims = {
    iss: 'key',
    sub: identity,
    exp: Math.floor(Date.now() / 1_000) + 600,
    video: { room: `room-${n}`, roomJoin: true },
  };
  const body = JSON.stringify({ homeserver, leave: { delay_id: `id-${n}` }, timeout_ms: delayMs });
  const headers = { authorization: `Bearer ${signJwt(claims, hmacKey('secret-of-at-least-32-characters-here'))}` };
  return (await fetch(`${url}/v1/delegations`, { method: 'POST', headers, body })).status;
}

function connected(port: number, count: number): Socket[] {
  const sockets = Array.from({ length: count }, () => connect(port, '127.0.0.1').on('error', () => {}));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
  });
  return sockets;
}

test('on a full disk lines of the log are lost and counted, and it goes on', async () => {
  const service = await started({ stdout: '/dev/full' });
  await fetch(`${service.url}/sfu_webhook`, { method: 'POST', body: '{}' });
  await pause(100);
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  expect(Number(/^lastwill_log_lines_lost_total (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThanOrEqual(2);
});

test('a pipe that nobody reads holds nothing up: what it does not take is lost and counted', { timeout: 20_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lastwill-service-pipe-'));
  const pipe = join(folder, 'pipe');
  expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
  // It has a reader, as long as this is open, which reads nothing.
  const reader = openSync(pipe, 'r+');
  onTestFinished(() => {
    closeSync(reader);
    rmSync(folder, { recursive: true, force: true });
  });
  const service = await started({ stdout: pipe, settings: { LIVEKIT_LOG_LEVEL: 'debug' } });
  // Each makes a line, and Linux gives a pipe 64 KiB.
  for (let n = 0; n < 800; n += 1) {
    const refused = await fetch(`${service.url}/sfu_webhook`, { method: 'POST', body: '{}', signal: AbortSignal.timeout(5_000) });
    expect(refused.status).toBe(401);
  }
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  expect(Number(/^lastwill_log_lines_lost_total (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(0);
});

test('strangers who take all the connections they can leave it the descriptors that it needs', async () => {
  const service = await started({ descriptors: 64 });
  const sockets = connected(service.port, 120);
  // Two of the looks it takes each second.
  await pause(2_200);
  for (const socket of sockets) socket.destroy();
  await pause(200);
  expect(await answers(service), service.told()).toBe(true);
});

test('with few descriptors its own calls wait for one another, whatever strangers take, and none fails', { timeout: 30_000 }, async () => {
  const MEMBERS = 60;
  const slow = (response: ServerResponse, body: unknown) => void setTimeout(() => answer(response, 200, body), 300);
  const sfu = await startScriptedServer((request, response) => {
    if (request.url?.endsWith('/ListParticipants') !== true) return answer(response, 200, { rooms: [] });
    const { room } = JSON.parse(sfu.bodies.at(-1) ?? '{}') as { room: string };
    slow(response, { participants: [{ sid: 'PA_1', identity: `in-${room}`, state: 'ACTIVE', joinedAtMs: String(Date.now()) }] });
  });
  const homeserver = await startScriptedServer(({ method }, response) =>
    method === 'GET' ? answer(response, 200, { versions: [], unstable_features: { 'org.matrix.msc4140': true } }) : slow(response, {}),
  );
  onTestFinished(() => Promise.all([sfu.close(), homeserver.close()]).then(() => {}));
  const service = await started({
    descriptors: 64,
    settings: {
      LIVEKIT_URL: `ws://127.0.0.1:${sfu.port}`,
      LIVEKIT_CS_API_URL_OVERRIDES: `example.org=http://127.0.0.1:${homeserver.port}`,
      LASTWILL_CONNECT_TIMEOUT_MS: '1000',
    },
  });
  for (let n = 0; n < MEMBERS; n += 1) expect(await handOver(service, n, 20_000)).toBe(201);
  const sockets = connected(service.port, 120);
  const restarted = () => new Set(homeserver.requests.filter((one) => one.endsWith('/restart'))).size;
  await vi.waitFor(() => expect(restarted()).toBe(MEMBERS), { timeout: 20_000, interval: 100 });
  for (const socket of sockets) socket.destroy();
  await pause(500);
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  expect(metrics).toContain('lastwill_restarts_total');
  const failed = metrics.match(/^lastwill_(sfu_requests_total\{result="failed"|homeserver_failures_total\{).* [1-9]\d*$/gm);
  expect([failed, service.told()]).toEqual([null, '']);
});

test("strangers' homeservers that hang take neither all connections nor what the operator's homeserver is asked by", async () => {
  const sfu = await startScriptedServer((_, response) => answer(response, 200, {}));
  const ours = await startScriptedServer((_, response) => answer(response, 200, { sub: `@alice:localhost:${ours.port}` }), { tls: true });
  const hang = await Promise.all(Array.from({ length: 3 }, () => startScriptedServer(() => {}, { tls: true })));
  onTestFinished(() => Promise.all([sfu, ours, ...hang].map((one) => one.close())).then(() => {}));
  const service = await started({
    descriptors: 256,
    settings: {
      LIVEKIT_URL: `ws://127.0.0.1:${sfu.port}`,
      LIVEKIT_FULL_ACCESS_HOMESERVERS: `localhost:${ours.port}`,
      LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING',
    },
  });
  const asking = (port: number): RequestInit => {
    const openid_token = { access_token: 'opaque', token_type: 'Bearer', matrix_server_name: `localhost:${port}`, expires_in: 60 };
    return { method: 'POST', body: JSON.stringify({ room: '!room:example.org', device_id: 'DEVICE', openid_token }) };
  };
  for (let n = 0; n < 120; n += 1) fetch(`${service.url}/sfu/get`, asking((hang[n % 3] as { port: number }).port)).catch(() => {});
  await vi.waitFor(() => expect(hang.every(({ requests }) => requests.length > 0)).toBe(true), 5_000);
  expect((await fetch(`${service.url}/sfu/get`, asking(ours.port))).status).toBe(200);
}, 30_000);

test('failures are told of the name that led to a homeserver, whichever host that is on', async () => {
  const gone = await freePort();
  const wellKnown = { 'm.homeserver': { base_url: `http://127.0.0.1:${gone}` } };
  const web = await startScriptedServer((_, response) => answer(response, 200, wellKnown), { tls: true });
  const sfu = await startScriptedServer((_, response) => answer(response, 200, {}));
  onTestFinished(() => Promise.all([web.close(), sfu.close()]).then(() => {}));
  const homeserver = `localhost:${web.port}`;
  const service = await started({
    settings: {
      LIVEKIT_URL: `ws://127.0.0.1:${sfu.port}`,
      LIVEKIT_FULL_ACCESS_HOMESERVERS: homeserver,
      LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING',
      LASTWILL_CONNECT_TIMEOUT_MS: '1000',
    },
  });
  expect(await handOver(service, 1, 20_000, { homeserver })).toBe(201);
  const failures = async () => {
    const told = await (await fetch(`${service.url}/metrics`)).text();
    return [...told.matchAll(/^lastwill_homeserver_failures_total\{(.*)\} [1-9]/gm)].map(([, labels]) => labels);
  };
  await vi.waitFor(async () => expect(await failures()).toEqual([`homeserver="${homeserver}",why="refused"`]), 10_000);
});

test('whose homeserver has moved meanwhile is not left to the old address, where nothing answers any more', async () => {
  const data = mkdtempSync(join(tmpdir(), 'lastwill-service-moved-'));
  const sfu = await startScriptedServer((_, response) => answer(response, 200, {}));
  const old = await startScriptedServer(() => {});
  const now = await startScriptedServer((_, response) => answer(response, 404, { errcode: 'M_NOT_FOUND' }));
  onTestFinished(async () => {
    await Promise.all([sfu.close(), old.close(), now.close()]);
    rmSync(data, { recursive: true, force: true });
  });
  const at = ({ port }: { port: number }): Promise<Service> =>
    started({
      settings: {
        LASTWILL_DATA_DIR: data,
        LIVEKIT_URL: `ws://127.0.0.1:${sfu.port}`,
        LIVEKIT_CS_API_URL_OVERRIDES: `example.org=http://127.0.0.1:${port}`,
        LASTWILL_CONNECT_TIMEOUT_MS: '1000',
        LASTWILL_ALLOW_PRIVATE_ADDRESSES: 'true',
      },
    });
  const before = await at(old);
  expect(await handOver(before, 1, 3_600_000, { identity: '@alice:example.org:PHONE' })).toBe(201);
  await vi.waitFor(() => expect(old.requests).not.toEqual([]), 10_000);
  before.child.kill('SIGKILL');
  await once(before.child, 'exit');
  const { url } = await at(now);
  const ended = async () => (await (await fetch(`${url}/metrics`)).text()).match(/^lastwill_leaves_total\{.*\} [1-9]/gm);
  await vi.waitFor(async () => expect(await ended()).not.toBeNull(), { timeout: 20_000, interval: 100 });
  expect(now.requests).toHaveLength(1);
}, 40_000);

test('bodies in single bytes take about the memory of those bytes', async () => {
  const service = await started();
  const rssMb = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${service.child.pid}/status`, 'utf8'))?.[1]) / 1_000;
  const beforeMb = rssMb();
  const pieces = '1\r\na\r\n'.repeat(60_000);
  const written = connected(service.port, 15).map(
    (socket) =>
      new Promise<void>((done) => {
        socket.write('POST /get_token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
        socket.write(pieces, () => done());
      }),
  );
  await Promise.all(written);
  let mostMb = 0;
  for (let looks = 0; looks < 20; looks += 1) {
    mostMb = Math.max(mostMb, rssMb());
    await pause(100);
  }
  expect(await answers(service)).toBe(true);
  expect(mostMb - beforeMb).toBeLessThan(60);
});

test('a port that is taken is worth another start: only for a configuration is the exit code 2', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const service = start((taken.address() as AddressInfo).port);
  const [code] = await once(service.child, 'exit');
  taken.close();
  expect([code, service.told()]).toEqual([1, expect.stringContaining('can not listen on 127.0.0.1')]);
});

test('a homeserver of its own that hangs does not keep it from listening', async () => {
  const { port, asked } = await silentServer();
  const name = `127.0.0.1:${port}`;
  const ours = { LIVEKIT_HS_SERVER_NAME: name, LIVEKIT_AS_TOKEN: 'as-secret', LIVEKIT_HS_TOKEN: 'hs-secret' };
  const beganMs = performance.now();
  await started({ settings: { ...ours, LASTWILL_ALLOW_PRIVATE_ADDRESSES: 'true', LIVEKIT_FULL_ACCESS_HOMESERVERS: name } });
  await asked;
  expect(performance.now() - beganMs).toBeLessThan(6_000);
});

describe('an SFU with a certificate of an authority of its own', () => {
  async function beside(settings: Readonly<Record<string, string>>): Promise<{ asked: number; log: string }> {
    const sfu = await startScriptedServer((_, response) => answer(response, 200, { rooms: [] }), { tls: 'federation' });
    const folder = mkdtempSync(join(tmpdir(), 'lastwill-service-'));
    onTestFinished(async () => {
      await sfu.close();
      rmSync(folder, { recursive: true, force: true });
    });
    const [stdout, ca] = [join(folder, 'log'), join(folder, 'ca.pem')];
    writeFileSync(ca, FEDERATION_CERTIFICATE);
    const named = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, value.replace('CA', ca)]));
    await started({ stdout, settings: { LIVEKIT_URL: `wss://127.0.0.1:${sfu.port}`, ...named } });
    await vi.waitFor(() => expect(sfu.connections()).toBeGreaterThan(0), 5_000);
    await pause(300);
    return { asked: sfu.requests.length, log: readFileSync(stdout, 'utf8') };
  }

  test('is not called, which is said', async () => {
    const { asked, log } = await beside({});
    expect(asked).toBe(0);
    expect(log).toMatch(/"advice":"[^"]*NODE_EXTRA_CA_CERTS/);
  });

  // The switch is that of lk-jwt-service, which makes rooms there as well.
  test.each([{ NODE_EXTRA_CA_CERTS: 'CA' }, { LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING' }])(
    'is called by %o',
    async (settings) => {
      const { asked, log } = await beside(settings);
      expect(asked).toBeGreaterThan(0);
      expect(log).not.toContain('does not do what it is asked');
    },
  );
});

const endOf = async ({ child }: Service) => (await once(child, 'exit')) as [code: number | null, signal: string | null];

test('told to end, it answers first what it was asked before', async () => {
  const asked = Promise.withResolvers<void>();
  const homeserver = await startScriptedServer(
    (_, response) => {
      asked.resolve();
      setTimeout(() => answer(response, 200, { sub: `@alice:localhost:${homeserver.port}` }), 2_000);
    },
    { tls: true },
  );
  onTestFinished(() => homeserver.close());
  const service = await started({ settings: { LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING' } });
  const openid_token = { access_token: 'opaque', token_type: 'Bearer', matrix_server_name: `localhost:${homeserver.port}`, expires_in: 60 };
  const body = JSON.stringify({ room: '!room:example.org', device_id: 'DEVICE', openid_token });
  const answered = fetch(`${service.url}/sfu/get`, { method: 'POST', body });
  await asked.promise;
  service.child.kill('SIGTERM');
  expect((await answered).status).toBe(200);
  expect(await endOf(service), service.told()).toEqual([0, null]);
});

test('told to end while a leave hangs, it takes no connection any more', async () => {
  const asked = Promise.withResolvers<void>();
  const homeserver = await startScriptedServer(({ method }, response) => {
    if (method === 'GET') return answer(response, 200, { versions: [], unstable_features: { 'org.matrix.msc4140': true } });
    asked.resolve();
  });
  const sfu = await startScriptedServer((_, response) => answer(response, 200, {}));
  onTestFinished(() => Promise.all([sfu.close(), homeserver.close()]).then(() => {}));
  const service = await started({
    settings: {
      LIVEKIT_URL: `ws://127.0.0.1:${sfu.port}`,
      LIVEKIT_CS_API_URL_OVERRIDES: `example.org=http://127.0.0.1:${homeserver.port}`,
      LASTWILL_CONNECT_TIMEOUT_MS: '1000',
    },
  });
  expect(await handOver(service, 1, 3_600_000)).toBe(201);
  await asked.promise;
  service.child.kill('SIGTERM');
  const refused = () => {
    const [socket] = connected(service.port, 1) as [Socket];
    return once(socket, 'connect').then(
      () => false,
      ({ code }: NodeJS.ErrnoException) => code === 'ECONNREFUSED',
    );
  };
  await vi.waitFor(async () => expect(await refused()).toBe(true), 10_000);
  expect(service.child.exitCode, 'it still waits for the leave').toBe(null);
});

test('its terminal is closed: it ends as when it is told to', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lastwill-service-hangup-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const stdout = join(folder, 'log');
  const service = await started({ stdout });
  service.child.kill('SIGHUP');
  expect(await endOf(service), service.told()).toEqual([0, null]);
  expect(readFileSync(stdout, 'utf8')).toMatch(/"signal":"SIGHUP".*draining[\s\S]*stopped/);
});

test('SIGUSR1 opens no debugger', async () => {
  const service = await started();
  service.child.kill('SIGUSR1');
  service.child.kill('SIGTERM');
  expect(await endOf(service), service.told()).toEqual([0, null]);
  expect(service.told()).not.toContain('Debugger');
});

test('it ends in time though its name servers say nothing, for which Node would wait', async ({ skip }) => {
  const folder = mkdtempSync(join(tmpdir(), 'lastwill-service-names-'));
  const silent = createSocket('udp4');
  onTestFinished(() => {
    silent.close();
    rmSync(folder, { recursive: true, force: true });
  });
  // A machine has no other port for them.
  const isThere = await new Promise<boolean>((told) => void silent.on('error', () => told(false)).bind(53, '127.0.5.3', () => told(true)));
  const names = join(folder, 'resolv.conf');
  writeFileSync(names, 'nameserver 127.0.5.3\n');
  const mount = `mount --bind ${names} /etc/resolv.conf`;
  if (!isThere || spawnSync('unshare', ['-m', 'sh', '-c', mount]).status !== 0) return skip('name servers can not be set here');
  const asked = once(silent, 'message');
  const service = await started({
    shell: `exec unshare -m sh -c '${mount} && exec "$0" "$1"' "$0" "$1"`,
    settings: { LIVEKIT_URL: 'ws://sfu.example.net' },
  });
  await asked;
  const toldMs = performance.now();
  service.child.kill('SIGTERM');
  expect(await endOf(service), service.told()).toEqual([0, null]);
  // The question is given up after ten seconds.
  expect(performance.now() - toldMs).toBeLessThan(5_000);
});

test('a signal to what `npm start` runs reaches it', async () => {
  const { scripts } = JSON.parse(readFileSync(resolve(MAIN, '../../package.json'), 'utf8')) as { scripts: { start: string } };
  const service = await started({ shell: scripts.start });
  service.child.kill('SIGTERM');
  expect(await endOf(service), service.told()).toEqual([0, null]);
});

describe('told to end while it starts', () => {
  function folderOf(): string {
    const folder = mkdtempSync(join(tmpdir(), 'lastwill-service-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    return folder;
  }

  const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
  test.each(signals)('it hears %s before anything of it is loaded, and opens no store any more', async (signal) => {
    const told = `process.on('newListener', (name) => name === '${signal}' && queueMicrotask(() => process.kill(process.pid, name)))`;
    const folder = folderOf();
    // A name server that does not answer would keep Node from ending for some seconds.
    const LIVEKIT_CS_API_URL_OVERRIDES = 'example.org=http://127.0.0.1:9';
    const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(told)}`;
    const service = start(await freePort(), { settings: { NODE_OPTIONS, LIVEKIT_CS_API_URL_OVERRIDES, LASTWILL_DATA_DIR: folder } });
    expect(await endOf(service), service.told()).toEqual([0, null]);
    expect(existsSync(join(folder, 'lastwill.sqlite'))).toBe(false);
  });

  test('it waits for Redis no longer', async () => {
    const stdout = join(folderOf(), 'log');
    const service = start(await freePort(), { stdout, settings: { LIVEKIT_REDIS_URL: 'redis://127.0.0.1:9' } });
    await vi.waitFor(() => expect(readFileSync(stdout, 'utf8')).toContain('can not be reached yet'), 5_000);
    service.child.kill('SIGTERM');
    expect(await endOf(service), service.told()).toEqual([0, null]);
  });

  test('it closes the store that it has opened, and does not listen', async () => {
    const { port, asked } = await silentServer();
    const name = `127.0.0.1:${port}`;
    const ours = { LIVEKIT_HS_SERVER_NAME: name, LIVEKIT_AS_TOKEN: 'as-secret', LIVEKIT_HS_TOKEN: 'hs-secret' };
    const folder = folderOf();
    const settings = {
      ...ours,
      LASTWILL_ALLOW_PRIVATE_ADDRESSES: 'true',
      LIVEKIT_FULL_ACCESS_HOMESERVERS: name,
      LASTWILL_DATA_DIR: folder,
    };
    const stdout = join(folder, 'log');
    const service = start(await freePort(), { stdout, settings });
    await asked;
    service.child.kill('SIGTERM');
    expect(await endOf(service), service.told()).toEqual([0, null]);
    expect(readFileSync(stdout, 'utf8')).toMatch(/"signal":"SIGTERM".*draining[\s\S]*stopped/);
    expect(readFileSync(stdout, 'utf8')).not.toContain('listening');
    // Of a store that was closed nothing is left to be found again.
    expect(existsSync(join(folder, 'lastwill.sqlite-wal'))).toBe(false);
  });

  test('a command ends by the signal: it was not done', async () => {
    const { port, asked } = await silentServer();
    const cwd = folderOf();
    const copying = ['store', 'copy', '--from', `redis://127.0.0.1:${port}`, '--to', 'sqlite:to'];
    const child = spawn(process.execPath, [MAIN, ...copying], { cwd, env: { PATH: process.env.PATH ?? '' }, stdio: 'ignore' });
    onTestFinished(() => void child.kill('SIGKILL'));
    await asked;
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([null, 'SIGTERM']);
  });
});

/** Takes connections, and says nothing. */
async function silentServer(): Promise<{ readonly port: number; readonly asked: Promise<unknown> }> {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => void sockets.add(socket.on('error', () => {}))).listen(0, '127.0.0.1');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
  await once(silent, 'listening');
  return { port: (silent.address() as AddressInfo).port, asked: once(silent, 'connection') };
}

/** Run until it ends by itself. */
function ended(args: readonly string[], settings: Readonly<Record<string, string>> = {}) {
  const cwd = mkdtempSync(join(tmpdir(), 'lastwill-service-'));
  onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
  const env = { PATH: process.env.PATH ?? '', LIVEKIT_JWT_BIND: '127.0.0.1:0', ...settings };
  return spawnSync(process.execPath, [MAIN, ...args], { cwd, env, encoding: 'utf8', timeout: 5_000 });
}

test.each([['--port'], ['start'], ['LIVEKIT_SECRET=hush-hush'], ['--hepl']])('%s is no way to start it', (argument) => {
  const { status, stdout, stderr } = ended([argument]);
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(/environment variables[\s\S]*Usage:\n {2}npm start/);
  expect(stderr).not.toContain('hush-hush');
});

test.each(['--help', '-h'])('%s lists the commands and the settings', (argument) => {
  const { status, stdout } = ended([argument]);
  expect(status).toBe(0);
  for (const part of ['npm start', 'npm run store', 'npm run registration', 'LIVEKIT_URL']) expect(stdout).toContain(part);
});

test.skipIf(!existsSync('/dev/full')).each([[['--help']], [['registration', 'example.org', 'http://lastwill:8080']]])(
  '%j to a disk that is full is an error',
  (args) => {
    const full = openSync('/dev/full', 'w');
    onTestFinished(() => closeSync(full));
    const { status, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
      timeout: 5_000,
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^what was to be printed could not be written: ENOSPC.*\n$/);
  },
);
