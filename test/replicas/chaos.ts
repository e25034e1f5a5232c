// `node test/replicas/chaos.ts [--replicas 3] [--minutes 2] [--members 300]`: the long form of test/e2e/replicas.test.ts. Replicas of a
// fleet are killed, stopped and replaced, and its Redis is killed and restarted, at random, while participants come and go. Exits 1 at the
// first sin, and shows what the replicas said of it.
import { parseArgs } from 'node:util';
import { RedisServer } from '../support/redis-server.ts';
import { Fleet, pause, until } from './fleet.ts';

const { values } = parseArgs({
  options: {
    replicas: { type: 'string', default: '3' },
    minutes: { type: 'string', default: '2' },
    members: { type: 'string', default: '300' },
  },
});
const [replicas, minutes, members] = [values.replicas, values.minutes, values.members].map(Number) as [number, number, number];
/** Long enough for a Redis that is away for some seconds. */
const DELAY_MS = 30_000;
const LONGEST_LEAVE_MS = 20_000;
const STAY = members / 3;

const say = (what: string): void => void process.stdout.write(`${new Date().toISOString()} ${what}\n`);
const any = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T;

const redis = await RedisServer.start(['--appendonly', 'yes', '--appendfsync', 'always']);
const fleet = await Fleet.start({ replicas, members, rooms: Math.ceil(members / 8), delayMs: DELAY_MS, redisUrl: redis.url });

const FAULTS: readonly (readonly [name: string, act: () => Promise<void>])[] = [
  ['a replica is killed', kill],
  ['a replica is killed', kill],
  ['a replica is replaced', replace],
  ['a replica is stopped for 8 s', stop],
  ['Redis is killed for 3 s', killRedis],
];

async function kill(): Promise<void> {
  const victim = any(fleet.replicas);
  await victim.kill();
  await victim.start();
}

async function replace(): Promise<void> {
  const victim = any(fleet.replicas);
  await victim.kill('SIGTERM');
  await victim.start();
}

async function stop(): Promise<void> {
  const victim = any(fleet.replicas);
  victim.signal('SIGSTOP');
  await pause(8_000);
  victim.signal('SIGCONT');
}

async function killRedis(): Promise<void> {
  await redis.kill();
  await pause(3_000);
  await redis.startAgain();
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
await fleet.enterAll(0, members);
say(`${members} are there`);
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
const leaving = fleet.leaveAll(STAY, members, Math.max(endMs - Date.now(), 1_000));
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
  `${count} faults; ${took.length} leaves, median ${Math.round(took[took.length >> 1] ?? 0)} ms, longest ${Math.round(took.at(-1) ?? 0)} ms; ${JSON.stringify(result)}`,
);
await fleet.end();
await redis.end();
process.exit(sins + result.ghosts + result.falseLeaves + result.ranOut === 0 ? 0 : 1);
