// A host with more than one address, of which some are dead, and some far away.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';
import { createRoomService } from '../../src/sfu/room-service.ts';
import { startDeafAddress } from '../support/deaf-address.ts';
import { answer, startScriptedServer } from '../support/scripted-server.ts';
import { callsTo, poolTo } from '../support/sfu-calls.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function deaf(address: string, port = 0) {
  const server = await startDeafAddress(address, port);
  closers.push(server.close);
  return server;
}

async function answering(host: string, port = 0): Promise<number> {
  const server = createServer((_, response) => response.end('{}'));
  closers.push(() => void server.close());
  await new Promise<void>((listening) => void server.listen(port, host, listening));
  return (server.address() as AddressInfo).port;
}

const resolveTo =
  (...addresses: string[]) =>
  async () =>
    addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));

function outboundTo(...addresses: string[]) {
  const outbound = createOutbound({
    ...{ clock: systemClock(), addresses: () => 'any' as const, insecureTls: true },
    resolve: resolveTo(...addresses),
  });
  closers.push(outbound.close);
  return (port: number, scheme = 'http') => outbound.request({ method: 'GET', url: `${scheme}://host.test:${port}/`, timeoutMs: 9_000 });
}

/** Longer than Node's own way waits for an address that is not the last. */
const FAR_MS = 700;

describe('an address that is slow to answer is not given up because there is another, which is dead', () => {
  test.each([
    ['the last', ['127.0.0.1', '127.0.0.2']],
    ['the first', ['127.0.0.2', '127.0.0.1']],
  ])('%s of a homeserver', async (_, addresses) => {
    const far = await deaf('127.0.0.1');
    await deaf('127.0.0.2', far.port);
    setTimeout(far.hear, FAR_MS);
    expect(await outboundTo(...addresses)(far.port)).toMatchObject({ kind: 'answered', status: 200 });
  });

  test('the last of the SFU', async () => {
    const far = await deaf('127.0.0.1');
    await deaf('127.0.0.2', far.port);
    setTimeout(far.hear, FAR_MS);
    const url = `http://sfu.test:${far.port}`;
    const pool = poolTo(url, { resolve: resolveTo('127.0.0.1', '127.0.0.2') });
    const service = createRoomService(url, { key: 'key', secret: 'secret' }, callsTo(url, { pool }));
    expect(await service.call('ListRooms', { roomList: true }, {})).toMatchObject({ kind: 'answered' });
  });
});

test('an address that refuses costs nothing, and one of five that answers is found', async () => {
  const port = await answering('127.0.0.6');
  await deaf('127.0.0.2', port);
  const call = outboundTo('127.0.0.3', '127.0.0.2', '127.0.0.4', '127.0.0.5', '127.0.0.6');
  expect(await call(port)).toMatchObject({ status: 200 });
});

test('by TLS, too', async () => {
  const server = await startScriptedServer((_, response) => answer(response, 200), { tls: true });
  closers.push(server.close);
  expect(await outboundTo('127.0.0.2', '127.0.0.1')(server.port, 'https')).toMatchObject({ status: 200 });
});

test('with no address that answers, what was wrong with the first is told', async () => {
  const port = await answering('127.0.0.1');
  expect(await outboundTo('127.0.0.2', '127.0.0.3')(port)).toEqual({ kind: 'failed', reached: false, why: 'refused' });
});
