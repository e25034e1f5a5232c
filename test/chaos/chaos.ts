// `npm run chaos`: breaks real servers under real participants, and says whether anybody became a ghost or was declared gone while there.
// Exit code 1: somebody did. With `--replicas`: test/replicas/chaos.ts.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { noNamespaces } from '../e2e/stack/network.ts';
import { repositoryDir } from '../e2e/stack/processes.ts';
import { orUsage } from '../support/usage.ts';
import { type Judged, writeDocs } from './docs.ts';
import type { Evidence } from './evidence.ts';
import { judge } from './judge.ts';
import { reportOf } from './report.ts';
import { type Run, run, SHORT_MS, WAITS } from './run.ts';

const USAGE = `npm run chaos [-- --seed N --times N --short --people N --peer "<command>" --write-docs]
npm run chaos -- --replicas N [--minutes N --members N --delay MS --sfu livekit|model]

--seed        the first of as many runs as --times tells
--short       faults for 35 s instead of 150 s
--people      how many participants
--peer        another service with the MatrixRTC authorization API, instead of lastwill
--write-docs  writes the newest runs of lastwill and of the peer into the documentation; with --times 0 nothing is run for it
--replicas    so many replicas on one Redis, which are killed, stopped and replaced
--delay       of the participants' delayed events, in ms
--sfu         real participants on a real livekit-server, or a model of it with all members at once
`;
const { values } = orUsage(USAGE, () =>
  parseArgs({
    options: {
      help: { type: 'boolean' },
      seed: { type: 'string' },
      times: { type: 'string', default: '1' },
      short: { type: 'boolean', default: false },
      people: { type: 'string', default: '20' },
      peer: { type: 'string' },
      'write-docs': { type: 'boolean', default: false },
      replicas: { type: 'string' },
      minutes: { type: 'string' },
      members: { type: 'string' },
      delay: { type: 'string' },
      sfu: { type: 'string' },
    },
  }),
);
if (values.replicas !== undefined) {
  await import('../replicas/chaos.ts');
  process.exit();
}
const impossible = noNamespaces();
if (impossible !== undefined) {
  console.error(`npm run chaos needs network namespaces: ${impossible}`);
  process.exit(2);
}
const folder = join(repositoryDir, 'node_modules/.cache/lastwill');
mkdirSync(folder, { recursive: true });
const keptOf = (who: 'lastwill' | 'peer'): string => join(folder, `chaos-${who}.json`);

const firstSeed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const runs: Run[] = [];
for (let seed = firstSeed; seed < firstSeed + Number(values.times); seed += 1) {
  console.log(`seed ${seed}`);
  const done = await run({
    seed,
    wrongForMs: values.short ? SHORT_MS : 150_000,
    people: Number(values.people),
    peer: values.peer,
    say: (line) => console.log(line),
  });
  runs.push(done);
  for (const line of reportOf(done)) console.log(line);
  console.log(`seed ${seed}; log of the service in ${done.serviceLog}`);
}
const kept = keptOf(values.peer === undefined ? 'lastwill' : 'peer');
if (runs.length > 0) writeFileSync(kept, `${JSON.stringify(runs, null, 1)}\n`);
if (values['write-docs']) writeDocs([...judged('lastwill', 'lastwill'), ...judged('peer', 'lk-jwt-service')]);
console.log(`evidence in ${kept}`);
process.exit(runs.every(({ verdict }) => verdict.ghosts.length + verdict.falseLeaves.length === 0) ? 0 : 1);

/** The newest runs of lastwill, or of the peer if it has had any. */
function judged(who: 'lastwill' | 'peer', name: string): Judged[] {
  const file = keptOf(who);
  if (!existsSync(file)) return [];
  const kept = JSON.parse(readFileSync(file, 'utf8')) as Run[];
  return [{ name, runs: kept.map((one) => ({ ...one, verdict: judge(endless(one.evidence), WAITS) })) }];
}

/** JSON knows no Infinity. */
function endless(evidence: Evidence): Evidence {
  return { ...evidence, sessions: evidence.sessions.map((one) => ({ ...one, toMs: one.toMs ?? Number.POSITIVE_INFINITY })) };
}
