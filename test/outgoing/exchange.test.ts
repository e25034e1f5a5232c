import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Worker } from 'node:worker_threads';
import { Pool } from 'undici';
import { expect, test } from 'vitest';
import { BodyBuffer } from '../../src/body-buffer.ts';
import { onceSent, systemClock } from '../../src/clock.ts';
import { exchange } from '../../src/outgoing/exchange.ts';

/** Goes on answering while we stand still. */
const SERVER = `
  const { createServer } = require('node:net');
  const { parentPort } = require('node:worker_threads');
  const server = createServer((socket) => {
    socket.on('data', () => socket.write('HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}')).on('error', () => {});
  });
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
`;

const clock = systemClock();

async function withServer(use: (ask: (timeoutMs: number) => ReturnType<typeof exchange>) => Promise<void>): Promise<void> {
  const worker = new Worker(SERVER, { eval: true });
  const port = await new Promise((resolve) => worker.once('message', resolve));
  const pool = new Pool(`http://127.0.0.1:${port}`);
  try {
    await use((timeoutMs) =>
      exchange((handler) => pool.dispatch({ path: '/', method: 'GET' }, handler), clock, timeoutMs, new BodyBuffer(100)),
    );
  } finally {
    await pool.destroy();
    await worker.terminate();
  }
}

const aWhile = () => new Promise((resolve) => setTimeout(resolve, 50));

test('an answer that waited to be read while we were stalled is in time', () =>
  withServer(async (ask) => {
    expect(await ask(10_000)).toMatchObject({ kind: 'answered' });
    // The connection is there, so the request is written in this turn; the answer comes while nobody looks.
    await aWhile();
    const asked = ask(100);
    await new Promise((resolve) => setImmediate(resolve));
    const untilMs = clock.nowMs() + 1_000;
    while (clock.nowMs() < untilMs);
    expect(await asked).toMatchObject({ kind: 'answered', status: 200 });
  }));

// What is told of a leave, and the disk, are not to be in its way; at the end of the turn they would be.
test('a request over a connection that was idle is written at the end of its turn, and what waits for that comes after', () =>
  withServer(async (ask) => {
    const order: string[] = [];
    const written = () => void order.push('written');
    await ask(10_000);
    await aWhile();
    subscribe('undici:client:sendHeaders', written);
    try {
      const afterwards = new Promise<void>((resolve) => {
        onceSent(clock, () => {
          order.push('afterwards');
          resolve();
        });
      });
      // The answer of another thread may be here before that.
      await Promise.all([ask(10_000), afterwards]);
    } finally {
      unsubscribe('undici:client:sendHeaders', written);
    }
    expect(order).toEqual(['written', 'afterwards']);
  }));
