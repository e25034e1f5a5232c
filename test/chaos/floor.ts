// `npm run floor`: how soon a leave can be, at best. How long LiveKit takes to miss a killed participant, by what its configuration offers;
// and what lastwill and the homeserver add to LiveKit's word, beyond the wait.
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { LiveKit, participantToken, sfuUrl } from '../e2e/stack/livekit.ts';
import { Network, noNamespaces } from '../e2e/stack/network.ts';
import { Participant } from '../e2e/stack/participant.ts';
import { eventually, sleep } from '../e2e/stack/processes.ts';
import { WebhookTap } from '../e2e/stack/webhooks.ts';
import { spread } from './report.ts';
import { runCalm, WAITS } from './run.ts';

/** Everything in LiveKit's `rtc` section that has to do with how a connection is kept or given up. */
const CONFIGURATIONS: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
  ['as it is', {}],
  ['use_ice_lite: true', { use_ice_lite: true }],
  ['force_tcp: true', { force_tcp: true }],
  ['allow_tcp_fallback: false', { allow_tcp_fallback: false }],
];
const MISSED_MS = 40_000;
const PEOPLE = 10;

const { values } = parseArgs({ options: { times: { type: 'string', default: '10' }, killed: { type: 'string', default: '4' } } });
const impossible = noNamespaces();
if (impossible !== undefined) {
  console.error(`npm run floor: ${impossible}`);
  process.exit(2);
}

const network = await Network.lay();
console.log(`killed, ${values.killed} participants each: s until LiveKit says so, min / median / max`);
for (const [name, rtc] of CONFIGURATIONS) console.log(`  ${name.padEnd(28)} ${spread(await untilMissed(rtc, Number(values.killed)))}`);
await network.remove();

const calm = await runCalm({ seed: 1, people: PEOPLE, peer: undefined, say: () => {} }, Number(values.times));
const added = calm.verdict.departures
  .flatMap(({ leftMs, goneMs }) => (leftMs === null ? [] : [leftMs - goneMs - WAITS.left]))
  .toSorted((a, b) => a - b);
const at = (part: number): string => `${added[Math.min(Math.floor(added.length * part), added.length - 1)]?.toFixed(0)} ms`;
console.log(`from LiveKit's word to the leave that Synapse took, beyond the wait of ${WAITS.left} ms, of ${added.length} that hung up:`);
console.log(`  min ${at(0)}, median ${at(0.5)}, p90 ${at(0.9)}, p99 ${at(0.99)}, max ${at(1)}`);
process.exit(0);

async function untilMissed(rtc: Readonly<Record<string, unknown>>, people: number): Promise<number[]> {
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
