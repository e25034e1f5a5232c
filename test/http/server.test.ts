import type { RequestListener, Server, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { createWebServer } from '../../src/http/server.ts';
import { createHarness } from './harness.ts';

async function listening(server: Server): Promise<number> {
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** What a connection is sent until it is closed. */
function written(port: number, requests: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(requests));
    socket.setEncoding('utf8').on('data', (part) => {
      text += part;
    });
    socket.on('close', () => resolve(text)).on('error', reject);
  });
}

test('the answers of one turn wait for its end, and one end is enough for all of them', async () => {
  const ends: (() => void)[] = [];
  const told: string[] = [];
  const bothCame = Promise.withResolvers<void>();
  const listener: RequestListener = (incoming, outgoing) => {
    outgoing.end(`answer to ${incoming.url}`, () => told.push(`sent ${incoming.url}`));
    told.push(`came ${incoming.url}`);
    if (told.length === 2) bothCame.resolve();
  };
  const port = await listening(createWebServer(listener, { endOfTurn: (fire) => void ends.push(fire) }));
  const answers = Promise.all(['/one', '/other'].map(async (path) => (await fetch(`http://127.0.0.1:${port}${path}`)).text()));
  await bothCame.promise;
  expect(told.filter((what) => what.startsWith('sent'))).toEqual([]);
  expect(ends).toHaveLength(1);
  ends[0]?.();
  expect(await answers).toEqual(['answer to /one', 'answer to /other']);
  expect(told.slice(2).sort()).toEqual(['sent /one', 'sent /other']);
});

test.each(['/by-head', '/by-end'])(
  'a connection that is kept ends with the answer that it waits for while the server closes, %s',
  async (path) => {
    const came = Promise.withResolvers<ServerResponse>();
    const listener: RequestListener = (_, outgoing) => came.resolve(outgoing);
    const server = createWebServer(listener, systemClock());
    const text = written(await listening(server), `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
    const outgoing = await came.promise;
    const closed = new Promise((done) => void server.close(done));
    if (path === '/by-head') outgoing.writeHead(200);
    outgoing.end('answer');
    expect(await text).toMatch(/^connection: close\r\n[\s\S]*answer/im);
    await closed;
  },
);

test('requests that come together on one connection are answered in their order', async () => {
  const listener: RequestListener = (incoming, outgoing) => {
    outgoing.writeHead(200, { 'Content-Length': 4 });
    outgoing.write(incoming.url?.slice(1, 3));
    outgoing.end(incoming.url?.slice(3));
  };
  const port = await listening(createWebServer(listener, systemClock()));
  const paths = ['/aaa1', '/bbb2', '/ccc3'];
  const text = await written(
    port,
    paths.map((path, nth) => `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: ${nth === 2 ? 'close' : 'keep-alive'}\r\n\r\n`).join(''),
  );
  expect(text.match(/^(?:aaa1|bbb2|ccc3)/gm)).toEqual(['aaa1', 'bbb2', 'ccc3']);
});

test('of requests that come at once some are begun in one turn, and the others in those after it, but for who has gone', async () => {
  const ends: (() => void)[] = [];
  const begun: string[] = [];
  let came = 0;
  const server = createWebServer((incoming) => void begun.push(incoming.url ?? ''), { endOfTurn: (fire) => void ends.push(fire) });
  server.on('request', () => {
    came += 1;
  });
  const port = await listening(server);
  const comeTogether = async (name: string): Promise<Socket> => {
    const before = came;
    const socket = connect(port, '127.0.0.1');
    socket.write(Array.from({ length: 40 }, (_, nth) => `GET /${name}${nth} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''));
    await vi.waitFor(() => expect(came - before).toBe(40), 5_000);
    return socket;
  };
  const turn = (): void => {
    for (const end of ends.splice(0)) end();
  };
  const closed = new Promise((done) => server.once('connection', (socket: Socket) => socket.once('close', done)));
  const goes = await comeTogether('goes');
  await comeTogether('stays');
  expect([begun.length, ends.length]).toEqual([32, 1]);
  goes.destroy();
  await closed;
  turn();
  expect([begun.length, begun.at(-1)]).toEqual([64, '/stays31']);
  turn();
  turn();
  expect(begun.slice(32)).toEqual(Array.from({ length: 40 }, (_, nth) => `/stays${nth}`));
  expect(ends).toEqual([]);
});

test('a request whose body comes in chunks is begun at once: as long as it waited, each chunk would take memory of its own', async () => {
  const begun: string[] = [];
  const server = createWebServer((incoming) => void begun.push(incoming.url ?? ''), { endOfTurn: () => {} });
  const port = await listening(server);
  const [waits, chunked] = [
    'GET /waits HTTP/1.1\r\nHost: x\r\n\r\n',
    'POST /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n',
  ];
  connect(port, '127.0.0.1').write(waits.repeat(40) + chunked);
  await vi.waitFor(() => expect(begun).toContain('/chunked'), 5_000);
  expect(begun).toHaveLength(33);
});

test('a request has a quarter of a minute to come, and its head less', () => {
  const { requestTimeout, headersTimeout } = createWebServer(() => {}, systemClock());
  expect(requestTimeout).toBe(15_000);
  expect(headersTimeout).toBeLessThan(requestTimeout);
});

test('a connection that idles is left to the proxy to close, which may keep it for an hour, unless very many are open', async () => {
  const port = await listening(createWebServer((_, outgoing) => void outgoing.end(), systemClock()));
  const kept = async (): Promise<string | null> => (await fetch(`http://127.0.0.1:${port}/`)).headers.get('keep-alive');
  expect(await kept()).toBe('timeout=3700');
  const strangers = Array.from({ length: 520 }, () => connect(port, '127.0.0.1'));
  await expect.poll(kept).toBe('timeout=5');
  for (const one of strangers) one.destroy();
  await expect.poll(kept).toBe('timeout=3700');
});

test('a caller who has gone meanwhile takes nobody else with it', async () => {
  const ends: (() => void)[] = [];
  const came = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  const listener: RequestListener = (incoming, outgoing) => {
    outgoing.end(incoming.url);
    if (incoming.url === '/stays') came.resolve();
    else outgoing.once('close', gone.resolve);
  };
  const port = await listening(createWebServer(listener, { endOfTurn: (fire) => void ends.push(fire) }));
  const socket = connect(port, '127.0.0.1', () => socket.end('GET /goes HTTP/1.1\r\nHost: x\r\n\r\n', () => socket.destroy()));
  await gone.promise;
  const answer = fetch(`http://127.0.0.1:${port}/stays`);
  await came.promise;
  for (const end of ends) end();
  expect(await (await answer).text()).toBe('/stays');
});

test.each([
  ['GET /healthz HTTP/1.0', '', 200],
  ['HEAD /healthz HTTP/1.0', '', 200],
  ['GET /readyz HTTP/1.0', '', 200],
  ['GET /healthz HTTP/1.1', 'Host:\r\nConnection: close\r\n', 200],
  ['POST /sfu/get HTTP/1.0', 'Content-Length: 2\r\n', 400],
])('%s is answered to a caller who names no host, as HAProxy does when it looks', async (line, headers, status) => {
  const at = createHarness();
  onTestFinished(() => at.close());
  const port = await listening(createWebServer(at.listener, systemClock()));
  const answer = await written(port, `${line}\r\n${headers}\r\n${status === 400 ? '{}' : ''}`);
  expect(answer).toContain(`HTTP/1.1 ${status} `);
  if (status === 400) expect(answer).toMatch(/^access-control-allow-origin: \*\r\n[\s\S]*"errcode":"M_BAD_JSON"/im);
});

test.each(['/v1/delegations/../../metrics', '/v1/delegations/%2e%2e/%2E%2e/metrics', '/./metrics'])(
  'what is behind a page is not reached from it: %s',
  async (path) => {
    const harness = createHarness();
    const port = await listening(createWebServer(harness.listener, systemClock()));
    const text = await written(port, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    await harness.close();
    expect(text).toMatch(/^HTTP\/1.1 404 /);
    expect(text).toContain('M_UNRECOGNIZED');
  },
);

test('a query may have dots, and a head much of what is of no interest', async () => {
  const harness = createHarness();
  const port = await listening(createWebServer(harness.listener, systemClock()));
  const head = `Host: x\r\nCookie: ${'c'.repeat(40_000)}\r\nConnection: close\r\n\r\n`;
  expect(await written(port, `GET /healthz?from=/../ HTTP/1.1\r\n${head}`)).toMatch(/^HTTP\/1.1 200 /);
  await harness.close();
});

test('who sends ever more requests without an answer to any is cut off, and who waits for them is not', async () => {
  const waiting: ServerResponse[] = [];
  const port = await listening(createWebServer((_, outgoing) => void waiting.push(outgoing), systemClock()));
  const request = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
  let read = '';
  const patient = connect(port, '127.0.0.1').on('data', (part) => {
    read += part;
  });
  for (let turn = 1; turn <= 3; turn += 1) {
    patient.write(request.repeat(64));
    await vi.waitFor(() => expect(waiting).toHaveLength(64));
    for (const outgoing of waiting.splice(0)) outgoing.end();
    await vi.waitFor(() => expect(read.match(/HTTP\/1.1 200 OK/g)).toHaveLength(64 * turn));
  }
  const hasty = connect(port, '127.0.0.1', () => hasty.write(request.repeat(5_000))).on('error', () => {});
  await new Promise((closed) => hasty.once('close', closed));
  expect(waiting.length).toBeLessThanOrEqual(64);
  expect(patient.destroyed).toBe(false);
  patient.destroy();
});

test('of what comes together with one request too many nothing is parsed any more', async () => {
  const server = createWebServer(() => {}, systemClock());
  let parsed = 0;
  server.on('request', () => {
    parsed += 1;
  });
  const port = await listening(server);
  await written(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1_000)).catch(() => {});
  expect(parsed).toBe(65);
});

test('of many connections together each may have fewer requests without an answer, and as many as ever when they are gone', async () => {
  let waiting = 0;
  const count = (): void => {
    waiting += 1;
  };
  const port = await listening(createWebServer(count, systemClock()));
  const open = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    const before = waiting;
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(64));
    await vi.waitFor(() => expect(socket.destroyed || waiting === before + 64).toBe(true));
    return socket;
  };
  const sockets: Socket[] = [];
  for (let nth = 0; nth < 40; nth += 1) sockets.push(await open());
  expect(sockets.map(({ destroyed }) => destroyed)).toEqual([...Array(32).fill(false), ...Array(8).fill(true)]);
  expect(waiting).toBe(32 * 64 + 8 * 4);
  for (const socket of sockets) socket.destroy();
  await vi.waitFor(async () => {
    const socket = await open();
    expect(socket.destroyed).toBe(false);
    socket.destroy();
  });
});

describe('where as many connections are open as may be', () => {
  const MOST = 8;
  const REQUEST = 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n';

  async function crowded(listener: RequestListener): Promise<{ port: number; dropped: () => number }> {
    const server = createWebServer(listener, systemClock());
    server.maxConnections = MOST;
    let dropped = 0;
    server.on('drop', () => {
      dropped += 1;
    });
    return { port: await listening(server), dropped: () => dropped };
  }

  /** Comes, says it, and reads nothing. */
  async function comes(port: number, says: string): Promise<Socket> {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    onTestFinished(() => void socket.destroy());
    await new Promise<void>((done) => socket.once('connect', () => socket.write(says || '\r\n', () => done())));
    return socket;
  }

  test.each([
    ['says nothing', ''],
    ['does not end its head', 'POST / HTTP/1.1\r\nHost: x\r\nX-Slow: '],
    ['does not end its body', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{'],
    ['does not read its answers', REQUEST.repeat(20)],
  ])('who %s keeps nobody out', async (_, says) => {
    const long = 'x'.repeat(4 * 1024 * 1024);
    const { port, dropped } = await crowded((incoming, outgoing) => {
      if (incoming.url === '/metrics') return void outgoing.end(long);
      incoming.resume().on('end', () => outgoing.end('answer'));
    });
    for (let nth = 0; nth < 3 * MOST; nth += 1) await comes(port, says);
    await vi.waitFor(() => expect(dropped()).toBeGreaterThan(MOST));
    for (let nth = 0; nth < 3; nth += 1) expect(await written(port, 'GET / HTTP/1.0\r\n\r\n')).toMatch(/answer$/);
  });

  test('whose request is being worked on stays, and who came first goes first, however often they have asked', async () => {
    const waiting: ServerResponse[] = [];
    const { port } = await crowded((incoming, outgoing) => {
      if (incoming.url === '/waits') waiting.push(outgoing);
      else outgoing.end('answer');
    });
    const idle = [await comes(port, ''), await comes(port, '')];
    const worked = Array.from({ length: MOST - 3 }, () => written(port, 'GET /waits HTTP/1.0\r\n\r\n'));
    await vi.waitFor(() => expect(waiting).toHaveLength(MOST - 3));
    const answered = new Promise((done) => idle[0]?.once('data', done));
    idle[0]?.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await answered;
    const ends = idle.map((socket, nth) => new Promise((done) => socket.once('close', () => done(nth))));
    expect(await written(port, 'GET / HTTP/1.0\r\n\r\n')).toMatch(/answer$/);
    expect(await Promise.race(ends)).toBe(0);
    expect(idle[1]?.destroyed).toBe(false);
    for (const outgoing of waiting) outgoing.end('after all');
    for (const text of await Promise.all(worked)) expect(text).toMatch(/after all$/);
  });

  test.each([
    ['the next one has not come completely', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{', ''],
    ['the one before it has been answered', '', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'],
  ])('a request is being worked on also where %s', async (_, next, before) => {
    const waiting: ServerResponse[] = [];
    let came = 0;
    const { port } = await crowded((incoming, outgoing) => {
      came += 1;
      if (incoming.url === '/waits') waiting.push(outgoing);
      else if (incoming.method === 'GET') outgoing.end('answer');
    });
    const socket = await comes(port, `${before}GET /waits HTTP/1.1\r\nHost: x\r\n\r\n${next}`);
    let text = '';
    socket.on('data', (part) => {
      text += part;
    });
    await vi.waitFor(() => expect(came).toBe(2));
    for (let nth = 0; nth < 3 * MOST; nth += 1) await comes(port, '');
    expect(await written(port, 'GET / HTTP/1.0\r\n\r\n')).toMatch(/answer$/);
    for (const outgoing of waiting) outgoing.end('after all');
    await vi.waitFor(() => expect(text).toMatch(/after all$/));
  });
});

test('a connection on which nothing has moved for a minute is closed', () => {
  expect(createWebServer(() => {}, systemClock()).timeout).toBe(60_000);
});
