// `npm run floor [-- --times N --killed N --write-docs]`: how soon a leave can be, at best. How long LiveKit takes to miss a killed
// participant, by what its configuration offers; and what is added to LiveKit's word beyond the wait, step by step.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { LiveKit, participantToken, sfuUrl } from '../e2e/stack/livekit.ts';
import { Network, noNamespaces } from '../e2e/stack/network.ts';
import { Participant } from '../e2e/stack/participant.ts';
import { eventually, sleep } from '../e2e/stack/processes.ts';
import { WebhookTap } from '../e2e/stack/webhooks.ts';
import { writeBetween } from '../e2e/stack/written.ts';
import { spread } from './report.ts';
import { runCalm, WAITS } from './run.ts';
import { addedBy } from './steps.ts';

/** Everything in LiveKit's `rtc` section that has to do with how a connection is kept or given up. */
const CONFIGURATIONS: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
  ['as it is', {}],
  ['`use_ice_lite: true`', { use_ice_lite: true }],
  ['`force_tcp: true`', { force_tcp: true }],
  ['`allow_tcp_fallback: false`', { allow_tcp_fallback: false }],
];
const MISSED_MS = 40_000;
const PEOPLE = 10;

const { values } = parseArgs({
  options: {
    times: { type: 'string', default: '15' },
    killed: { type: 'string', default: '4' },
    'write-docs': { type: 'boolean', default: false },
  },
});
const impossible = noNamespaces();
if (impossible !== undefined) {
  console.error(`npm run floor: ${impossible}`);
  process.exit(2);
}

const killed = await tableOfKilled(Number(values.killed));
const added = await tableOfAdded(Number(values.times));
if (values['write-docs']) {
  if (Number(values.killed) > 0) writeBetween('deploy/reasons.md', 'killed', killed);
  writeBetween('deploy/reasons.md', 'added', added);
}
process.exit(0);

async function tableOfKilled(people: number): Promise<string[]> {
  const table = [
    `| \`rtc\` in LiveKit's configuration, ${people} killed each | s until LiveKit says so: min / median / max |`,
    '|---|---|',
  ];
  const network = await Network.lay();
  if (people > 0) for (const [name, rtc] of CONFIGURATIONS) table.push(`| ${name} | ${spread(await untilMissed(network, rtc, people))} |`);
  await network.remove();
  for (const line of table) console.log(line);
  return table;
}

async function untilMissed(network: Network, rtc: Readonly<Record<string, unknown>>, people: number): Promise<number[]> {
  const tap = await WebhookTap.start();
  const livekit = await LiveKit.start([tap.url], { network, rtc });
  const one = async (): Promise<number> => {
    const [room, identity] = [`room-${randomBytes(6).toString('hex')}`, `identity-${randomBytes(6).toString('hex')}`];
    const cable = await network.cable();
    const participant = await Participant.prepare(cable.namespace);
    await participant.connect(sfuUrl(livekit.address), await participantToken(room, identity), { publish: true });
    await sleep(3_000);
    const killedMs = await participant.crash();
    const left = await eventually('LiveKit to miss it', MISSED_MS, () => tap.find('participant_left', identity)[0]);
    return left.atMs - killedMs;
  };
  const took = await Promise.all(Array.from({ length: people }, one));
  await livekit.kill();
  tap.stop();
  return took.toSorted((a, b) => a - b);
}

async function tableOfAdded(times: number): Promise<string[]> {
  const calm = await runCalm({ seed: 1, people: PEOPLE, peer: undefined, say: () => {} }, times);
  const steps = addedBy(calm.evidence, calm.verdict.departures, readFileSync(calm.serviceLog, 'utf8'), WAITS.left);
  const count = steps.at(-1)?.inOrderMs.length ?? 0;
  const table = [
    `| What is added to the wait of ${WAITS.left / 1_000} s, of ${count} that hung up, ms | median | p90 | p99 | max |`,
    '|---|---|---|---|---|',
    ...steps.map(({ step, inOrderMs }) => `| ${step} | ${[0.5, 0.9, 0.99, 1].map((part) => percentile(inOrderMs, part)).join(' | ')} |`),
  ];
  // A busy machine makes everybody wait for a core, Synapse first.
  const [load = Number.NaN] = loadavg();
  table.push('', `The machine had ${availableParallelism()} cores, and ${load.toFixed(1)} processes that wanted one (its load average).`);
  for (const line of table) console.log(line);
  return table;
}

function percentile(inOrderMs: readonly number[], part: number): string {
  return (inOrderMs[Math.max(Math.ceil(inOrderMs.length * part) - 1, 0)] ?? Number.NaN).toFixed(0);
}
