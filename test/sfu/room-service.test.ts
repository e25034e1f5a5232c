import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { lastKnown } from '../../src/dns/last-known.ts';
import { hmacKey, verifyJwt } from '../../src/sfu/jwt.ts';
import { createRoomService, type Grant } from '../../src/sfu/room-service.ts';
import { answer, startScriptedServer } from '../support/scripted-server.ts';
import { callsTo, poolTo } from '../support/sfu-calls.ts';

const KEY = { key: 'key', secret: 'secret of at least thirty-two characters' };

afterEach(() => void vi.restoreAllMocks());

test('a call has a token for what it does that holds now, and is used again for some minutes', async () => {
  const given: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    given.push(request.headers.authorization);
    expect(request.headers).toMatchObject({ 'user-agent': 'lastwill', 'accept-encoding': 'identity' });
    response.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  let nowMs = Date.now();
  vi.spyOn(Date, 'now').mockImplementation(() => nowMs);
  try {
    const apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const service = createRoomService(apiUrl, KEY, callsTo(apiUrl));
    const tokenFor = async (grant: Grant) => {
      expect(await service.call('Any', grant, {})).toMatchObject({ kind: 'answered' });
      const token = (given.at(-1) ?? '').replace('Bearer ', '');
      expect(verifyJwt(token, () => hmacKey(KEY.secret), nowMs / 1_000)).toMatchObject({ iss: 'key', video: grant });
      return token;
    };
    const first = await tokenFor({ roomCreate: true });
    nowMs += 239_000;
    expect(await tokenFor({ roomCreate: true })).toBe(first);
    const admin = await tokenFor({ roomAdmin: true, room: 'a' });
    await tokenFor({ roomAdmin: true, room: 'b' });
    expect(await tokenFor({ roomAdmin: true, room: 'a' })).toBe(admin);
    nowMs += 1_000;
    const second = await tokenFor({ roomCreate: true });
    expect(second).not.toBe(first);
    // An operator sets the clock right, which was ahead; or the SFU's is as far behind.
    nowMs -= 3_600_000;
    expect(await tokenFor({ roomCreate: true })).toBe(second);
    for (let nth = 0; nth < 1_001; nth += 1) await tokenFor({ roomAdmin: true, room: String(nth) });
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a connection that is closed as a call is on its way does not take it along', async () => {
  const known = new WeakSet<object>();
  let closed = 0;
  const server = createServer(({ socket }, response) => {
    if (known.has(socket)) {
      closed += 1;
      socket.destroy();
    } else {
      known.add(socket);
      response.end('{}');
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const failures: string[] = [];
  const onFailed = (why: string) => void failures.push(why);
  try {
    const apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const service = createRoomService(apiUrl, KEY, callsTo(apiUrl, { onFailed }));
    while (closed === 0)
      expect(await service.call('CreateRoom', { roomCreate: true }, { name: 'room' })).toMatchObject({ kind: 'answered' });
    expect([closed, failures]).toEqual([1, []]);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});

test('an SFU whose name can not be asked for any more is called where it was', async () => {
  const server = createServer((_, response) => response.writeHead(200, { connection: 'close' }).end('{}'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  let questions = 0;
  const resolve = lastKnown({
    clock: systemClock(),
    resolve: async (host) => {
      questions += 1;
      expect(host).toBe('sfu.test');
      return questions === 1 ? [{ address: '127.0.0.1', family: 4 }] : new Promise(() => {});
    },
  });
  try {
    const apiUrl = `http://sfu.test:${(server.address() as AddressInfo).port}`;
    const service = createRoomService(apiUrl, KEY, callsTo(apiUrl, { pool: poolTo(apiUrl, { resolve }) }));
    for (let call = 0; call < 3; call += 1) expect(await service.call('Any', { roomList: true }, {})).toMatchObject({ kind: 'answered' });
    expect(questions).toBe(2);
  } finally {
    await new Promise((done) => server.close(done));
  }
});

test.each([
  { insecureTls: false, node: '1', called: 'failed' },
  { insecureTls: false, node: '0', called: 'answered' },
  { insecureTls: true, node: '1', called: 'answered' },
])('an SFU with a certificate that nobody trusts, insecureTls $insecureTls, NODE_TLS_REJECT_UNAUTHORIZED=$node: $called', async (row) => {
  const { insecureTls, node, called } = row;
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', node);
  const sfu = await startScriptedServer((_, response) => answer(response, 200), { tls: true });
  try {
    const apiUrl = `https://localhost:${sfu.port}`;
    const service = createRoomService(apiUrl, KEY, callsTo(apiUrl, { pool: poolTo(apiUrl, { insecureTls }) }));
    expect(await service.call('Any', { roomList: true }, {})).toMatchObject({ kind: called });
  } finally {
    vi.unstubAllEnvs();
    await sfu.close();
  }
});
