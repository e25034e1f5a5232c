// `npm run bench -- --store redis [--members N] [--runs N]`: what the store of several replicas costs on a real redis-server: memory for each held
// delegation, trips for each thing that happens, commits a second, how long the work of a killed replica waits for another, and what
// one to three replicas do together.
import { parseArgs } from 'node:util';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { HomeserverUrl, Identity, RoomName, Sid } from '../../src/delegation/ids.ts';
import type { LiveDelegation } from '../../src/delegation/state.ts';
import { parseRedisUrl, type RedisPlace } from '../../src/redis-url.ts';
import { connectRedis, type RedisConnection } from '../../src/store/redis/connection.ts';
import { openRedisStore, type RedisStore } from '../../src/store/redis/redis.ts';
import { FIRST_PART } from '../../src/store/store.ts';
import { row } from '../support/fixtures.ts';
import { RedisServer } from '../support/redis-server.ts';
import { benchFleet } from './redis-fleet.ts';
import { identityOf, sfuRoom } from './shared.ts';

const { values } = parseArgs({
  options: { store: { type: 'string' }, members: { type: 'string', default: '20000' }, runs: { type: 'string', default: '3' } },
});
const [members, runs] = [Number(values.members), Number(values.runs)];
const EACH_ROOM = 8;
const AT_ONCE = 256;
const NOBODY = { restarts: new Set<HomeserverUrl>(), leaves: new Set<HomeserverUrl>() };

const server = await RedisServer.start(['--appendonly', 'yes', '--appendfsync', 'everysec']);
let trips = 0;

async function open(): Promise<RedisStore> {
  const real = await connectRedis(parseRedisUrl(server.url, null) as RedisPlace, systemClock());
  const connection: RedisConnection = {
    ...real,
    run: (...args) => {
      trips += 1;
      return real.run(...args);
    },
  };
  return openRedisStore({
    connection,
    clock: systemClock(),
    random: systemRandom(),
    seal: null,
    waitFor: 0,
    cluster: false,
    leaseClock: null,
  });
}

function delegation(n: number): LiveDelegation {
  const room = sfuRoom(Math.floor(n / EACH_ROOM)) as RoomName;
  const identities = [identityOf(n, 'example.org') as Identity];
  const made = row(n + 1, { kind: 'connected', dueMs: Date.now() + 3_600_000, over: { room, identities } });
  if (made.state.kind !== 'connected') throw new Error('a connected row');
  return { ...made, state: { ...made.state, session: { ...made.state.session, sid: `PA_${n.toString(36)}xyzabc` as Sid } } };
}

const put = (store: RedisStore, one: LiveDelegation, leaseMs = 0) =>
  store.update({ by: 'owner', room: one.room, owner: one.owner }, null, () => ({ writes: [{ row: one, leaseMs }], value: null }));
const touch = (store: RedisStore, one: LiveDelegation, once: string | null) => {
  const identity = one.identities[0] as Identity;
  return store.update({ by: 'watched', room: one.room, identity, part: FIRST_PART }, once, ([before]) => {
    const next = { ...(before as LiveDelegation), delayMs: one.delayMs + 1 };
    return { writes: [{ row: next, leaseMs: 0 }], value: null };
  });
};

async function memory(): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(String(await server.ask('INFO', 'memory')))?.[1]);
}

async function each(
  list: readonly LiveDelegation[],
  act: (one: LiveDelegation, n: number) => Promise<unknown>,
): Promise<{ perSecond: number; trips: number }> {
  const [startedMs, before] = [performance.now(), trips];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let n = next++; n < list.length; n = next++) await act(list[n] as LiveDelegation, n);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { perSecond: list.length / ((performance.now() - startedMs) / 1_000), trips: (trips - before) / list.length };
}

const figures = new Map<string, number[]>();
const note = (label: string, value: number): void => void figures.set(label, [...(figures.get(label) ?? []), value]);

async function run(): Promise<void> {
  await server.ask('FLUSHALL');
  const [one, other] = [await open(), await open()];
  const all = Array.from({ length: members }, (_, n) => delegation(n));
  const emptyBytes = await memory();
  const handed = await each(all, (row) => put(one, row));
  note('memory in Redis for each held delegation, bytes', ((await memory()) - emptyBytes) / members);
  note('hand-overs, commits/s by one replica', handed.perSecond);
  note('hand-over, trips', handed.trips);
  const few = all.slice(-5_000);
  const cold = await each(few, (row, n) => touch(other, row, `cold ${n}`));
  note('webhook at another replica, commits/s', cold.perSecond);
  note('webhook at another replica, trips', cold.trips);
  const warm = await each(few, (row, n) => touch(other, row, `warm ${n}`));
  note('webhook at the replica that heard the last one, commits/s', warm.perSecond);
  note('webhook at the replica that heard the last one, trips', warm.trips);
  await takeOver(one, other);
  await one.close();
  await other.close();
}

/** A replica that dies with work in its hands: until another has it. */
async function takeOver(dying: RedisStore, other: RedisStore): Promise<void> {
  const due = delegation(members + 1);
  await put(dying, { ...due, state: { ...due.state, restartDueMs: Date.now() } as LiveDelegation['state'] });
  await dying.claimDue(Date.now(), 30_000, 10, NOBODY);
  await dying.close();
  const startedMs = performance.now();
  while ((await other.claimDue(Date.now(), 30_000, 10, NOBODY)).length === 0) await new Promise((done) => void setTimeout(done, 20));
  note('the work of a dead replica is taken over after, ms', performance.now() - startedMs);
}

for (let nth = 0; nth < runs; nth += 1) {
  await run();
  await benchFleet(server, note);
}
process.stdout.write(`| | min / **median** / max of ${runs} |\n|---|---|\n`);
for (const [label, list] of figures) {
  const sorted = list.toSorted((a, b) => a - b);
  const short = (value: number | undefined): string =>
    value === undefined ? '–' : value >= 100 ? String(Math.round(value)) : value.toFixed(2);
  process.stdout.write(`| ${label} | ${short(sorted[0])} / **${short(sorted[(sorted.length - 1) >> 1])}** / ${short(sorted.at(-1))} |\n`);
}
await server.end();
process.exit(0);
