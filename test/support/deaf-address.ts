// An address at which a host takes no connection, and says nothing either: behind a firewall, of a network that is no more, or too busy. Here
// a thread listens there, stands still, and has as many connections waiting as fit.
import { connect, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';

const LISTEN_AND_STAND_STILL = `
const { parentPort, workerData } = require('node:worker_threads');
const server = require('node:net').createServer((socket) => {
  socket.on('error', () => {});
  socket.once('data', () => socket.end('HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}'));
});
server.listen({ host: workerData.address, port: workerData.port, backlog: 1 }, () => {
  parentPort.postMessage(server.address().port);
  Atomics.wait(new Int32Array(workerData.still), 0, 0);
});
`;
/** On loopback a connection is there in no time, or not at all. */
const NEVER_MS = 300;

export interface DeafAddress {
  readonly port: number;
  /** It takes connections from now on, and answers each request. */
  hear(): void;
  close(): Promise<void>;
}

export async function startDeafAddress(address: string, port = 0): Promise<DeafAddress> {
  const still = new SharedArrayBuffer(4);
  const worker = new Worker(LISTEN_AND_STAND_STILL, { eval: true, workerData: { address, port, still } });
  const found = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  const waiting: Socket[] = [];
  while (await isTaken(address, found, waiting));
  return {
    port: found,
    hear: () => {
      for (const socket of waiting.splice(0)) socket.destroy();
      Atomics.store(new Int32Array(still), 0, 1);
      Atomics.notify(new Int32Array(still), 0);
    },
    close: async () => {
      for (const socket of waiting.splice(0)) socket.destroy();
      await worker.terminate();
    },
  };
}

function isTaken(host: string, port: number, waiting: Socket[]): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    waiting.push(socket);
    socket.on('error', () => resolve(false));
    socket.on('connect', () => resolve(true));
    setTimeout(() => resolve(false), NEVER_MS);
  });
}
