// `npm run chaos -- --replicas 3 [--minutes 2] [--members 500] [--delay 10000] [--sfu livekit]`: the long form of test/e2e/replicas.test.ts.
// Replicas of a fleet are killed, stopped and replaced, and its Redis is killed and restarted, at random, while participants come and go:
// real ones on a real livekit-server, of whom two cores bear a hundred at once, or with `--sfu model` all of them. Exits 1 at the first sin,
// and shows what the replicas said of it.
import { parseArgs } from 'node:util';
import { RedisServer } from '../support/redis-server.ts';
import { Fleet, pause, until } from './fleet.ts';

const { values } = parseArgs({
  options: {
    replicas: { type: 'string', default: '3' },
    minutes: { type: 'string', default: '2' },
    members: { type: 'string', default: '500' },
    delay: { type: 'string', default: '10000' },
    sfu: { type: 'string', default: 'livekit' },
  },
});
const numbers = [values.replicas, values.minutes, values.members, values.delay].map(Number);
const [replicas, minutes, members, delayMs] = numbers as [number, number, number, number];
const REDIS_AWAY_MS = 15_000;
const STOPPED_MS = 15_000;
/** Redis may be away all that time, and its next absence begin before everything has been looked at. */
const LONGEST_LEAVE_MS = 2 * REDIS_AWAY_MS + 10_000;
const IS_REAL = values.sfu === 'livekit';
const AT_ONCE = IS_REAL ? Math.min(members, 100) : members;
const STAY = Math.floor(AT_ONCE / 3);

const say = (what: string): void => void process.stdout.write(`${new Date().toISOString()} ${what}\n`);
const any = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T;

const redis = await RedisServer.start(['--appendonly', 'yes', '--appendfsync', 'always']);
const fleet = await Fleet.start({
  ...{ replicas, members, rooms: Math.ceil(members / 8), delayMs, redisUrl: redis.url },
  livekit: IS_REAL,
});

const FAULTS: readonly (readonly [name: string, act: () => Promise<void>])[] = [
  ['a replica is killed', kill],
  ['a replica is killed', kill],
  ['a replica is replaced', () => replace()],
  ['all replicas are replaced, one by one', replaceAll],
  [`a replica is stopped for ${STOPPED_MS / 1_000} s`, stop],
  ['Redis is killed', killRedis],
];
let kills = 0;

async function kill(): Promise<void> {
  const victim = any(fleet.replicas);
  kills += 1;
  await victim.kill();
  await victim.start();
}

async function replace(victim = any(fleet.replicas)): Promise<void> {
  await victim.kill('SIGTERM');
  await victim.start();
}

async function replaceAll(): Promise<void> {
  for (const one of fleet.replicas) await replace(one);
}

async function stop(): Promise<void> {
  const victim = any(fleet.replicas);
  victim.signal('SIGSTOP');
  await pause(STOPPED_MS);
  victim.signal('SIGCONT');
}

async function killRedis(): Promise<void> {
  await redis.kill();
  await pause(Math.random() * REDIS_AWAY_MS);
  await redis.startAgain();
}

/** One after the other leaves, and as long as there are any, another one comes instead. */
async function turnOver(withinMs: number): Promise<void> {
  const entered = new Map<number, Promise<void>>();
  const leaving: Promise<void>[] = [];
  for (let member = STAY; member < members && sins === 0; member += 1) {
    leaving.push((entered.get(member) ?? Promise.resolve()).then(() => fleet.leave(member)));
    const next = member - STAY + AT_ONCE;
    if (next < members) entered.set(next, fleet.enter(next));
    await pause(withinMs / (members - STAY));
  }
  await Promise.all(leaving);
}

let sins = 0;
function look(): void {
  const ranOut = fleet.ranOut();
  const late = fleet.owed().filter((member) => fleet.waitedMs(member) > LONGEST_LEAVE_MS);
  const { falseLeaves } = fleet.sins();
  if (ranOut.length + late.length + falseLeaves === 0) return;
  sins = ranOut.length + late.length + falseLeaves;
  say(`ran out ${ranOut}; late ${late}; false leaves ${falseLeaves}\n${fleet.explain()}`);
}

const endMs = Date.now() + minutes * 60_000;
// Real participants need more of two cores to connect than a model's.
await fleet.enterAll(0, AT_ONCE, IS_REAL ? 8 : 100);
say(`${AT_ONCE} are there`);
const faults = (async () => {
  let count = 0;
  while (Date.now() < endMs && sins === 0) {
    await pause(1_000 + Math.random() * 3_000);
    const [name, act] = any(FAULTS);
    say(name);
    await act();
    count += 1;
  }
  return count;
})();
const leaving = turnOver(Math.max(endMs - Date.now(), 1_000));
const watching = (async () => {
  while (Date.now() < endMs && sins === 0) {
    await pause(200);
    look();
  }
})();
await watching;
const count = await faults;
if (sins === 0) {
  await leaving;
  await until(LONGEST_LEAVE_MS, () => fleet.owed().length === 0);
  look();
}
const took = fleet.tookMs().sort((a, b) => a - b);
const result = fleet.sins();
say(
  `${count} faults, ${kills} of them kills; ${took.length} leaves, median ${Math.round(took[took.length >> 1] ?? 0)} ms, longest ${Math.round(took.at(-1) ?? 0)} ms; ${JSON.stringify(result)}`,
);
if (fleet.crowd !== null) say(`LiveKit's webhooks, by the answer that it got: ${JSON.stringify(Object.fromEntries(fleet.crowd.answers))}`);
await fleet.end();
await redis.end();
// Killed between the homeserver's answer and the commit: sent again, and the homeserver knows that it is final.
const again = Math.max(result.sentAgain - kills * 2, 0);
process.exit(sins + result.ghosts + result.falseLeaves + result.ranOut + again === 0 ? 0 : 1);
