// What replicas do together on one Redis, from outside: trips for each thing that happens, how soon a leave is on the wire, and how many
// webhooks so many replicas take, with what each part of the machine is busy with meanwhile.
import { availableParallelism } from 'node:os';
import { Fleet, pause, until } from '../replicas/fleet.ts';
import type { RedisServer } from '../support/redis-server.ts';
import { counter, nowMs } from './shared.ts';
import { quantile } from './stage.ts';
import { closedLoop } from './wire.ts';

export type Note = (label: string, value: number) => void;

const MEMBERS = 400;
const NO_WAIT = { LASTWILL_WAIT_LEFT_MS: '0' };
const HOUR_MS = 3_600_000;
const AT_ONCE = 48;
const LOAD_MS = 5_000;

async function info(server: RedisServer, section: string): Promise<Map<string, string>> {
  const text = String(await server.ask('INFO', section));
  return new Map(text.split('\r\n').map((line) => line.split(':') as [string, string]));
}

/** Commands of ours that Redis has taken; what its scripts call is not counted. */
async function trips(server: RedisServer): Promise<number> {
  const stats = await info(server, 'commandstats');
  const calls = (name: string): number => Number(/calls=(\d+)/.exec(stats.get(`cmdstat_${name}`) ?? '')?.[1] ?? 0);
  return calls('evalsha') + calls('eval') + calls('wait');
}

async function redisCpuMs(server: RedisServer): Promise<number> {
  const cpu = await info(server, 'cpu');
  return (Number(cpu.get('used_cpu_user')) + Number(cpu.get('used_cpu_sys'))) * 1_000;
}

async function withFleet(server: RedisServer, replicas: number, delayMs: number, act: (fleet: Fleet) => Promise<void>): Promise<void> {
  await server.ask('FLUSHALL');
  const fleet = await Fleet.start({ replicas, members: MEMBERS, rooms: 50, delayMs, redisUrl: server.url, env: NO_WAIT });
  try {
    await fleet.enterAll(0, MEMBERS, 200);
    await pause(2_000);
    await act(fleet);
    const { ghosts, falseLeaves, ranOut } = fleet.sins();
    if (ghosts + falseLeaves + ranOut > 0) throw new Error(`lost: ${fleet.explain()}`);
  } finally {
    await fleet.end();
  }
}

async function keepingAlive(server: RedisServer, note: Note): Promise<void> {
  await withFleet(server, 2, 10_000, async ({ world }) => {
    await pause(5_000);
    const [tripsBefore, restartsBefore] = [await trips(server), counter(world.shared, 'restarts')];
    await pause(16_000);
    note(
      'restart of a delay of 10 s, trips with the looks for due rows',
      ((await trips(server)) - tripsBefore) / (counter(world.shared, 'restarts') - restartsBefore),
    );
  });
}

async function departures(server: RedisServer, note: Note): Promise<void> {
  await withFleet(server, 2, HOUR_MS, async (fleet) => {
    const idleBefore = await trips(server);
    await pause(3_000);
    const before = await trips(server);
    note('two replicas with nothing to do, trips a second', (before - idleBefore) / 3);
    const startedMs = nowMs();
    await fleet.leaveAll(0, MEMBERS, 4_000);
    await until(10_000, () => fleet.owed().length === 0);
    const idle = ((nowMs() - startedMs) / 1_000) * ((before - idleBefore) / 3);
    note('departure with its leave, trips', ((await trips(server)) - before - idle) / MEMBERS);
    note('webhook to leave on the wire without a wait, p50, ms', quantile(Float64Array.from(fleet.tookMs()), 0.5));
    note('webhook to leave on the wire without a wait, p99, ms', quantile(Float64Array.from(fleet.tookMs()), 0.99));
  });
}

async function throughput(server: RedisServer, replicas: number, note: Note): Promise<void> {
  await withFleet(server, replicas, HOUR_MS, async (fleet) => {
    const texts = Array.from({ length: 20_000 }, (_, nth) => fleet.replica(0).webhook('participant_joined', nth % MEMBERS));
    const cpuBefore = [await redisCpuMs(server), ...fleet.replicas.map((one) => one.cpuMs())];
    const ownBefore = process.cpuUsage();
    const share = Math.floor(texts.length / replicas);
    const loads = await Promise.all(
      fleet.replicas.map((one, nth) => {
        const make = (at: number): string => texts[nth * share + at] as string;
        return closedLoop(one.port, Math.floor(AT_ONCE / replicas), share, make, LOAD_MS);
      }),
    );
    const tookMs = Math.max(...loads.map((load) => load.tookMs));
    const own = process.cpuUsage(ownBefore);
    const [redis = 0, ...each] = [await redisCpuMs(server), ...fleet.replicas.map((one) => one.cpuMs())].map(
      (now, nth) => now - (cpuBefore[nth] ?? 0),
    );
    const answered = loads.reduce((sum, { statuses }) => sum + (statuses.get(200) ?? 0), 0);
    const label = `${replicas} replica${replicas === 1 ? '' : 's'}`;
    note(`${label}, webhooks a second`, (answered * 1_000) / tookMs);
    note(`${label}, of a core: Redis`, redis / tookMs);
    note(`${label}, of a core: each replica`, each.reduce((sum, one) => sum + one, 0) / replicas / tookMs);
    note(`${label}, of a core: generator and world`, (own.user + own.system) / 1_000 / tookMs);
  });
}

export async function benchFleet(server: RedisServer, note: Note): Promise<void> {
  note('cores here', availableParallelism());
  await keepingAlive(server, note);
  await departures(server, note);
  for (const replicas of [1, 2, 3]) await throughput(server, replicas, note);
}
