// `npm run chaos [-- --seed N --short --people N --peer "<command>" --write-docs]`: breaks real servers under real participants, and says
// whether anybody became a ghost or was declared gone while there. Exit code 1: somebody did.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { noNamespaces } from '../e2e/stack/network.ts';
import { repositoryDir } from '../e2e/stack/processes.ts';
import { type Judged, writeDocs } from './docs.ts';
import { reportOf } from './report.ts';
import { type Run, run, SHORT_MS } from './run.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    short: { type: 'boolean', default: false },
    people: { type: 'string', default: '20' },
    peer: { type: 'string' },
    'write-docs': { type: 'boolean', default: false },
  },
});
const impossible = noNamespaces();
if (impossible !== undefined) {
  console.error(`npm run chaos needs network namespaces: ${impossible}`);
  process.exit(2);
}
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
console.log(`seed ${seed}`);
const done = await run({
  seed,
  wrongForMs: values.short ? SHORT_MS : 150_000,
  people: Number(values.people),
  peer: values.peer,
  say: (line) => console.log(line),
});
const folder = join(repositoryDir, 'node_modules/.cache/lastwill');
mkdirSync(folder, { recursive: true });
const kept = join(folder, `chaos-${values.peer === undefined ? 'lastwill' : 'peer'}.json`);
writeFileSync(kept, `${JSON.stringify(done, null, 1)}\n`);
for (const line of reportOf(done)) console.log(line);
if (values['write-docs']) writeDocs(judged(['lastwill', 'lk-jwt-service']));
console.log(`seed ${seed}; evidence in ${kept}; log of the service in ${done.serviceLog}`);
process.exit(done.verdict.ghosts.length + done.verdict.falseLeaves.length === 0 ? 0 : 1);

/** The newest run of lastwill, and of the peer if it has had one. */
function judged(names: readonly string[]): Judged[] {
  return names.flatMap((name, place) => {
    const file = join(folder, `chaos-${place === 0 ? 'lastwill' : 'peer'}.json`);
    return existsSync(file) ? [{ ...(JSON.parse(readFileSync(file, 'utf8')) as Run), name }] : [];
  });
}
