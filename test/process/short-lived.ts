// Run by memory.test.ts in a process of its own, as V8's flags are of a whole process: requests one after the other that follow a crowd's.
// Prints how much of what each of them made was moved into the old generation, in KB; without its argument as V8 would have it.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getHeapSpaceStatistics } from 'node:v8';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { systemClock } from '../../src/clock.ts';
import { Pool } from '../../src/library-parts.ts';
import { exchange } from '../../src/outgoing/exchange.ts';
import { letShortLivedDie } from '../../src/process/memory.ts';
import { ListBody } from '../../src/sfu/list-body.ts';

const [crowd, settling, counted] = [200, 200, 200];
const one = { sid: 'PA_1', identity: '@alice:example.org:DEVICE', state: 'ACTIVE', joinedAtMs: '1795420800000', attributes: {} };
const answer = JSON.stringify({ participants: Array.from({ length: 100 }, () => one) });

/** In another thread, with a memory of its own. */
function serve(): void {
  const server = createServer((_, outgoing) => outgoing.end(answer));
  server.listen(0, '127.0.0.1', () => parentPort?.postMessage((server.address() as AddressInfo).port));
}

function oldBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space')?.space_used_size ?? 0;
}

async function measure(): Promise<void> {
  if (process.argv[2] === 'as-the-service') letShortLivedDie();
  const [port] = (await once(new Worker(import.meta.filename), 'message')) as [number];
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: crowd });
  const clock = systemClock();
  const ask = () => exchange((handler) => pool.dispatch({ path: '/', method: 'GET' }, handler), clock, 60_000, new ListBody(1e6));
  for (let round = 0; round < 3; round += 1) await Promise.all(Array.from({ length: crowd }, ask));
  let keptBytes = 0;
  for (let nth = 0; nth < settling + counted; nth += 1) {
    const beforeBytes = oldBytes();
    await ask();
    // Less afterwards: everything was collected.
    if (nth >= settling) keptBytes += Math.max(oldBytes() - beforeBytes, 0);
  }
  process.stdout.write(`${keptBytes / counted / 1000}\n`);
  process.exit(0);
}

if (isMainThread) await measure();
else serve();
