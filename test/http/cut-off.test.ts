// Requests that do not come to their end, over node's own server: nobody's error, and nothing stays of them.
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createHarness, type Harness, HS_TOKEN, serve, webhookToken } from './harness.ts';

let at: Harness;
let served: Awaited<ReturnType<typeof serve>>;
let port: number;
beforeEach(async () => {
  at = createHarness({ behind: true });
  served = await serve(at);
  port = served.port;
});
afterEach(async () => {
  await served.close();
  await at.close();
});

const PROXIED = '/_matrix/client/v1/rtc/livekit/get_token';
const PATHS = ['/get_token', '/sfu/get', '/delegate_delayed_leave', '/v1/delegations', '/sfu_webhook', '/v1/webhook/', PROXIED];

/** Sends as much, and goes away unless it was sent away. */
async function sendOnly(path: string, head: string, body: string): Promise<void> {
  const authorization = path.includes('webhook') ? await webhookToken('{}') : `Bearer ${HS_TOKEN}`;
  const heads = [`POST ${path} HTTP/1.1`, 'host: x', `authorization: ${authorization}`, 'x-matrix-user-identifier: @a:example.org', head];
  const socket = connect(port, '127.0.0.1');
  const closed = new Promise((done) => void socket.once('close', done));
  socket.on('error', () => {}).resume();
  socket.write(`${heads.join('\r\n')}\r\n\r\n${body}`);
  await new Promise((later) => void setTimeout(later, 30));
  socket.destroy();
  await closed;
  await new Promise((later) => void setTimeout(later, 30));
}

test.each(PATHS)('%s: a body that is cut off, or that is none, is not told of', async (path) => {
  await sendOnly(path, 'content-length: 100', '{"room_id":');
  await sendOnly(path, 'transfer-encoding: chunked', '3\r\n{"r\r\n');
  await sendOnly(path, 'transfer-encoding: chunked', '3\r\n{"r\r\nno chunk\r\n');
  expect(at.log).toEqual([]);
});
