import { Worker } from 'node:worker_threads';
import { Pool } from 'undici';
import { expect, test } from 'vitest';
import { systemClock } from '../src/clock.ts';
import { exchange } from '../src/exchange.ts';

/** Goes on answering while we stand still. */
const SERVER = `
  const { createServer } = require('node:net');
  const { parentPort } = require('node:worker_threads');
  const server = createServer((socket) => {
    socket.on('data', () => socket.write('HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}')).on('error', () => {});
  });
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
`;

test('an answer that waited to be read while we were stalled is in time', async () => {
  const worker = new Worker(SERVER, { eval: true });
  const port = await new Promise((resolve) => worker.once('message', resolve));
  const pool = new Pool(`http://127.0.0.1:${port}`);
  const clock = systemClock();
  const ask = (timeoutMs: number) =>
    exchange((handler) => pool.dispatch({ path: '/', method: 'GET' }, handler), clock, { timeoutMs, mostBytes: 100 });
  try {
    expect(await ask(10_000)).toMatchObject({ kind: 'answered' });
    // The connection is there, so the request is written in this turn; the answer comes while nobody looks.
    await new Promise((resolve) => setTimeout(resolve, 50));
    const asked = ask(100);
    await new Promise((resolve) => setImmediate(resolve));
    const untilMs = clock.nowMs() + 1_000;
    while (clock.nowMs() < untilMs);
    expect(await asked).toMatchObject({ kind: 'answered', status: 200 });
  } finally {
    await pool.destroy();
    await worker.terminate();
  }
});
