import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { listenAt } from '../../src/http/listen.ts';

const V6 = { address: '::1', family: 6 };
const V4 = { address: '127.0.0.1', family: 4 };

test.each([
  ['::1 first', [V6, V4], '127.0.0.1'],
  ['127.0.0.1 first', [V4, V6], '127.0.0.1'],
  ['::1 alone', [V6], '::1'],
])('a name with %s', async (_, found, address) => {
  const server = createServer();
  onTestFinished(() => void server.close());
  listenAt(server, { host: 'localhost', port: 0 }, async () => found);
  await once(server, 'listening');
  expect((server.address() as AddressInfo).address).toBe(address);
});

test('an address is listened on as it is, and no host at all means every interface', async () => {
  for (const [host, address] of [
    ['127.0.0.1', '127.0.0.1'],
    ['', expect.stringMatching(/^(::|0\.0\.0\.0)$/)],
  ] as const) {
    const server = createServer();
    onTestFinished(() => void server.close());
    listenAt(server, { host, port: 0 });
    await once(server, 'listening');
    expect((server.address() as AddressInfo).address).toEqual(address);
  }
});

test('of a name that is not there the server tells as of an address that is not there', async () => {
  const server = createServer();
  listenAt(server, { host: 'nobody.test', port: 0 }, () => Promise.reject(Object.assign(new Error('no'), { code: 'ENOTFOUND' })));
  const [error] = await once(server, 'error', {}).catch((told: unknown) => [told]);
  expect(error).toMatchObject({ code: 'ENOTFOUND' });
});
