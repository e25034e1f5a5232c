import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { Resolve } from '../../src/dns/resolve.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';
import { createRoomService } from '../../src/sfu/room-service.ts';
import { callsTo, poolTo } from '../support/sfu-calls.ts';

const MINUTE_MS = 60_000;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function answering(host: string, port: number, status: number, lateMs = 0): Promise<number> {
  const server = createServer((request, response) => {
    request.resume();
    setTimeout(() => response.writeHead(status, { 'keep-alive': 'timeout=600' }).end('{}'), lateMs);
  });
  server.keepAliveTimeout = 10 * MINUTE_MS;
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  await new Promise<void>((listening) => void server.listen(port, host, listening));
  return (server.address() as AddressInfo).port;
}

/** A name that moves from one address to another while something still answers at the first; its clock goes on by hand. */
async function moving(lateMs = 0) {
  const port = await answering('127.0.0.1', 0, 502, lateMs);
  await answering('127.0.0.2', port, 200);
  const at = { address: '127.0.0.1', aheadMs: 0 };
  const resolve: Resolve = async () => [{ address: at.address, family: 4 }];
  const time = systemClock();
  return { port, at, resolve, clock: { ...time, nowMs: () => time.nowMs() + at.aheadMs } };
}

describe('who has moved is called at the new address, though the old one answers all the time', () => {
  test('a homeserver', async () => {
    const { port, at, resolve, clock } = await moving();
    const outbound = createOutbound({ clock, addresses: () => 'any', insecureTls: false, resolve, connections: 1 });
    closers.push(outbound.close);
    const call = () => outbound.request({ method: 'POST', url: `http://example.org:${port}/`, timeoutMs: 5_000 });
    expect(await call()).toMatchObject({ status: 502 });
    at.address = '127.0.0.2';
    expect(await call()).toMatchObject({ status: 502 });
    at.aheadMs += MINUTE_MS;
    expect(await call()).toMatchObject({ status: 200 });
  });

  test('the SFU', async () => {
    const { port, at, resolve, clock } = await moving();
    const url = `http://sfu.example.org:${port}`;
    const service = createRoomService(url, { key: 'key', secret: 'secret' }, callsTo(url, { pool: poolTo(url, { clock, resolve }) }));
    const call = () => service.call('ListRooms', { roomList: true }, {});
    expect(await call()).toMatchObject({ kind: 'failed' });
    at.address = '127.0.0.2';
    at.aheadMs += MINUTE_MS;
    expect(await call()).toMatchObject({ kind: 'answered' });
  });
});

test('what is under way meanwhile is answered', async () => {
  const { port, at, resolve, clock } = await moving(1_000);
  const outbound = createOutbound({ clock, addresses: () => 'any', insecureTls: false, resolve, connections: 1 });
  closers.push(outbound.close);
  const call = () => outbound.request({ method: 'POST', url: `http://example.org:${port}/`, timeoutMs: 10_000 });
  // The second waits for the only connection.
  const before = [call(), call()];
  at.aheadMs += MINUTE_MS;
  at.address = '127.0.0.2';
  expect(await call()).toMatchObject({ status: 200 });
  for (const reply of await Promise.all(before)) expect(reply).toMatchObject({ status: 502 });
});
