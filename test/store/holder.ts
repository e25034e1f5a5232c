// A process of its own that holds a store: `holder.ts <file> try` opens and closes it, `holder.ts <file> hold` takes orders on stdin.
import { createInterface } from 'node:readline';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import type { Store } from '../../src/store/store.ts';
import { row } from '../support/fixtures.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

// A write past the limit on file sizes raises this, which would end the process before the write could fail.
process.on('SIGXFSZ', () => {});

const [file = '', mode] = process.argv.slice(2);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const codeOf = (error: unknown): string => String((error as { code?: unknown }).code);

try {
  const store = openSqliteStore({ path: file, clock: createVirtualClock(), seal: null });
  say('opened');
  if (mode === 'try') await store.close();
  else await takeOrders(store);
} catch (error) {
  say(`${codeOf(error)} ${(error as Error).message}`);
}

async function takeOrders(store: Store): Promise<void> {
  let kept = 0;
  const put = async (count: number): Promise<string> => {
    for (const until = kept + count; kept < until; kept += 1) {
      const one = row(kept + 1);
      await store.update({ by: 'id', room: one.room, id: one.id }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null }));
    }
    return `kept ${kept}`;
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const [order, count] = line.split(' ');
    try {
      if (order === 'put') say(await put(Number(count)));
      else if (order === 'ping') say(await store.ping().then(() => 'pong'));
      else say(`count ${(await store.count()).awaiting}`);
    } catch (error) {
      say(`refused ${codeOf(error)}${order === 'put' ? ` after ${kept}` : ''}`);
    }
  }
}
