// A short run of `npm run chaos` with a seed of its own each time; the run tells it, and what became of everybody.
import { expect, test } from 'vitest';
import { reportOf } from '../../chaos/report.ts';
import { run, SHORT_MS } from '../../chaos/run.ts';
import { noNamespaces } from '../stack/network.ts';

const impossible = noNamespaces();
if (impossible !== undefined) console.warn(`The chaos is skipped: ${impossible}`);

test.skipIf(impossible !== undefined)(
  'twenty participants, and everything goes wrong: no ghost, no false leave',
  { timeout: 300_000 },
  async () => {
    const seed = Date.now() % 2 ** 31;
    const lines: string[] = [];
    const done = await run({ seed, wrongForMs: SHORT_MS, people: 20, peer: undefined, say: (line) => lines.push(line) });
    const sins = [...done.verdict.ghosts, ...done.verdict.falseLeaves];
    console.log([`seed ${seed}`, ...(sins.length > 0 ? lines : []), ...reportOf(done)].join('\n'));
    expect(done.evidence.sessions.length).toBeGreaterThan(20);
    expect(sins).toEqual([]);
  },
);
