import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, Socket } from 'node:net';
import type { buildConnector } from 'undici';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { limitSockets } from '../../src/homeserver/open-sockets.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';
import { freePort } from '../support/redis-server.ts';
import { answer, startScriptedServer } from '../support/scripted-server.ts';

const TARGET = { hostname: 'example.org', protocol: 'https:', port: '443' };

test('who would open one too many waits until another is closed, or could not be opened', async () => {
  const dialled: buildConnector.Callback[] = [];
  const limited = limitSockets({ most: 2, mostATurn: 10 }, systemClock());
  const dials = [0, 1].map(() => limited((_, done) => void dialled.push(done)));
  const [sockets, errors]: [Socket[], Error[]] = [[], []];
  for (let nth = 0; nth < 5; nth += 1) {
    dials[nth % 2]?.(TARGET, (...[error, socket]) => void (error === null ? sockets.push(socket) : errors.push(error)));
  }
  expect(dialled).toHaveLength(2);
  dialled[0]?.(null, new Socket());
  expect([dialled.length, sockets.length]).toEqual([2, 1]);
  dialled[1]?.(new Error('refused'), null);
  expect([dialled.length, errors.length]).toEqual([3, 1]);
  sockets[0]?.destroy();
  await new Promise((closed) => sockets[0]?.once('close', closed));
  expect(dialled).toHaveLength(4);
});

test('so many are begun in a turn of the event loop, and the others in those after it', () => {
  const ends: (() => void)[] = [];
  const dialled: buildConnector.Callback[] = [];
  const limited = limitSockets({ most: 4, mostATurn: 2 }, { endOfTurn: (fire) => void ends.push(fire) });
  const dial = limited((_, done) => void dialled.push(done));
  const begun: number[] = [];
  for (let nth = 0; nth < 5; nth += 1) dial(TARGET, () => {});
  begun.push(dialled.length);
  dialled[0]?.(new Error('refused'), null);
  begun.push(dialled.length);
  for (let turn = 0; turn < 4; turn += 1) {
    for (const end of ends.splice(0)) end();
    begun.push(dialled.length);
  }
  expect(begun).toEqual([2, 2, 4, 5, 5, 5]);
});

test('with few sockets all homeservers are called, one after the other', async () => {
  const servers = await Promise.all(
    [1, 2, 3].map(() =>
      startScriptedServer((_, response) => void setTimeout(() => answer(response, 200, {}, { 'keep-alive': 'timeout=1' }), 20)),
    ),
  );
  const away = `http://127.0.0.1:${await freePort()}`;
  const urls = servers.flatMap(({ port }) => [away, `http://127.0.0.1:${port}`]);
  const outbound = createOutbound({ clock: systemClock(), addresses: () => 'any', insecureTls: false, sockets: 2 });
  const asked = [...urls, ...urls, ...urls].map((url) => outbound.request({ method: 'GET', url, timeoutMs: 8_000 }));
  const found = (await Promise.all(asked)).map((reply) => (reply.kind === 'failed' ? reply.why : reply.status));
  expect(found).toEqual(Array.from({ length: 9 }, () => ['refused', 200]).flat());
  await outbound.close();
  await Promise.all(servers.map((server) => server.close()));
});

test('a homeserver that asks for its connection to be kept for long takes the place of no other', async () => {
  const keeping = [1, 2].map(() =>
    createServer({ keepAliveTimeout: 600_000 }, (_, response) => response.setHeader('keep-alive', 'timeout=600').end('{}')),
  );
  const outbound = createOutbound({ clock: systemClock(), addresses: () => 'any', insecureTls: false, sockets: 1 });
  for (const server of keeping) {
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    expect(await outbound.request({ method: 'GET', url, timeoutMs: 8_000 })).toMatchObject({ kind: 'answered', status: 200 });
  }
  await outbound.close();
  for (const server of keeping) server.close();
});
