// A process that writes to a store as fast as it can and says on stdout what was answered, until it is killed: `writer.ts <file> <first>`.
import { writeSync } from 'node:fs';
import { systemClock } from '../../src/clock.ts';
import type { LiveDelegation } from '../../src/delegation/state.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { FIRST_PART } from '../../src/store/store.ts';
import { ended, handOver, identity, room, row } from '../support/fixtures.ts';

const [file = '', first = '1'] = process.argv.slice(2);
const store = openSqliteStore({ path: file, clock: systemClock(), seal: null });
/** Written at once, into the pipe: what was said before the kill is heard after it. One that nobody has read for a moment is full. */
function say(line: string): void {
  for (let left = Buffer.from(`${line}\n`); left.length > 0; ) {
    try {
      left = left.subarray(writeSync(1, left));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
  }
}
say('opened');

/** A participant's story of three commits; the last writes two rows. The second number of each three is the superseding delegation. */
async function story(n: number): Promise<void> {
  await store.update({ by: 'owner', room: room(n), owner: handOver(n).owner }, null, () => ({
    writes: [{ row: row(n), leaseMs: 0 }],
    value: null,
  }));
  say(`delegated ${n}`);
  await store.update({ by: 'watched', room: room(n), identity: identity(n), part: FIRST_PART }, `webhook ${n}`, () => ({
    writes: [{ row: row(n, { kind: 'connected' }), leaseMs: 0 }],
    value: null,
  }));
  say(`joined ${n}`);
  await store.update({ by: 'id', room: room(n), id: row(n).id }, null, ([before]) => {
    const next = row(n + 1, { over: { owner: handOver(n).owner, room: room(n) } });
    return {
      writes: [ended(before as LiveDelegation, { outcome: 'superseded' }), next].map((one) => ({ row: one, leaseMs: 0 })),
      value: null,
    };
  });
  say(`superseded ${n}`);
}

async function worker(from: number, step: number): Promise<void> {
  for (let n = from; ; n += step) await story(n);
}

const WORKERS = 8;
await Promise.all(Array.from({ length: WORKERS }, (_, index) => worker(Number(first) + index * 2, WORKERS * 2)));
