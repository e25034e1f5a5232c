// Several replicas on a real Redis: whichever of them is killed, stopped or replaced, and whatever becomes of Redis, nobody who is there
// is sent away and nobody who went is forgotten. Hundreds of participants of a model SFU, and dozens of a real one, whose delayed events a
// model homeserver counts.
import { afterEach, describe, expect, it } from 'vitest';
import type { RoomName } from '../../src/delegation/ids.ts';
import { prefixOf, shardOf } from '../../src/store/redis/keys.ts';
import { counter, sfuRoom } from '../bench/shared.ts';
import { Fleet, type FleetOptions, pause, until } from '../replicas/fleet.ts';
import { startCluster, startSentinels } from '../replicas/topologies.ts';
import { NO_REDIS, RedisServer } from '../support/redis-server.ts';

const AOF = ['--appendonly', 'yes', '--appendfsync', 'always'];
const NOTHING = { ghosts: 0, falseLeaves: 0, ranOut: 0, lost: [] };
/** A wait of 1 s, and a second for the work. */
const SOON_MS = 2_500;
/** And the lease of a replica that died with the work in its hands, or LiveKit's next attempts after it. */
const AFTER_A_DEATH_MS = 12_000;
/** While a part of the store says nothing, the rest is looked at every second. */
const AMONG_OTHERS_MS = 4_000;

const ending: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

async function redis(args: readonly string[] = AOF): Promise<RedisServer> {
  const server = await RedisServer.start(args);
  ending.push(() => server.end());
  return server;
}

async function fleet(
  redisUrl: string,
  replicas: number,
  members: number,
  delayMs: number,
  more: Partial<FleetOptions> = {},
): Promise<Fleet> {
  const started = await Fleet.start({ replicas, members, rooms: Math.ceil(members / 8), delayMs, redisUrl, ...more });
  ending.push(() => started.end());
  return started;
}

describe.skipIf(NO_REDIS !== null)(`several replicas${NO_REDIS === null ? '' : `: ${NO_REDIS}`}`, { sequential: true }, () => {
  it.each([
    ['a model SFU', 300, 100, {}],
    ['a real livekit-server and its own webhooks', 60, 15, { livekit: true }],
  ])('are killed at random, one after the other, beside %s', async (_, members, perSecond, more) => {
    const server = await redis();
    const crowd = await fleet(server.url, 3, members, 20_000, more);
    await crowd.enterAll(0, members, perSecond);
    let playing = true;
    let kills = 0;
    const killer = (async () => {
      while (playing) {
        await pause(2_500);
        const victim = crowd.replica(Math.floor(Math.random() * 3));
        await victim.kill();
        kills += 1;
        await victim.start();
      }
    })();
    await crowd.leaveAll(0, (members * 2) / 3, 20_000);
    const done = await until(AFTER_A_DEATH_MS, () => crowd.owed().length === 0);
    playing = false;
    await killer;
    expect(done, crowd.explain()).toBe(true);
    const { sentAgain, ...sins } = crowd.sins();
    expect(sins, crowd.explain()).toEqual(NOTHING);
    // Killed between the homeserver's answer and the commit: sent again, and the homeserver knows that it is final.
    expect(sentAgain).toBeLessThanOrEqual(kills * 2);
    expect(Math.max(...crowd.tookMs())).toBeLessThan(AFTER_A_DEATH_MS);
  });

  it('are replaced one by one, and nobody notices', async () => {
    const server = await redis();
    const crowd = await fleet(server.url, 3, 200, 20_000);
    await crowd.enterAll(0, 100);
    const rolling = (async () => {
      for (const replica of crowd.replicas) {
        await replica.kill('SIGTERM');
        await replica.start();
      }
    })();
    await Promise.all([rolling, crowd.enterAll(100, 200, 20), crowd.leaveAll(0, 100, 8_000)]);
    expect(await until(SOON_MS, () => crowd.owed().length === 0), crowd.explain()).toBe(true);
    expect(crowd.sins()).toEqual({ ...NOTHING, sentAgain: 0 });
  });

  it('one is stopped for longer than its leases: the others do its work, and it does nothing twice', async () => {
    const server = await redis();
    const crowd = await fleet(server.url, 2, 200, 60_000);
    await crowd.enterAll(0, 200);
    const leaving = crowd.leaveAll(0, 100, 6_000);
    await pause(2_000);
    crowd.replica(0).signal('SIGSTOP');
    await pause(15_000);
    crowd.replica(0).signal('SIGCONT');
    await leaving;
    expect(await until(AFTER_A_DEATH_MS, () => crowd.owed().length === 0), crowd.explain()).toBe(true);
    await pause(3_000);
    expect(crowd.sins()).toEqual({ ...NOTHING, sentAgain: 0 });
  });

  it('ask the SFU as often as one alone would, for what one has seen serves all', async () => {
    const questions = async (replicas: number): Promise<number> => {
      const server = await redis();
      const crowd = await fleet(server.url, replicas, 96, 10_000);
      await crowd.enterAll(0, 96);
      await pause(5_000);
      const before = counter(crowd.world.shared, 'ListParticipants');
      await pause(20_000);
      expect(crowd.ranOut(), crowd.explain()).toEqual([]);
      return counter(crowd.world.shared, 'ListParticipants') - before;
    };
    const [alone, three] = [await questions(1), await questions(3)];
    // Two who find the newest look too old in the same moment both ask.
    expect(three, `${alone} for one alone`).toBeLessThan(alone * 1.5);
  });

  it('Redis is killed and comes back: refused meanwhile, reconciled at once, no false leave', async () => {
    const server = await redis();
    const crowd = await fleet(server.url, 2, 120, 40_000);
    await crowd.enterAll(0, 120);
    await pause(1_500);
    await server.kill();
    const left = Promise.all([crowd.leaveAll(0, 60, 2_000)]);
    await pause(3_000);
    const ready = await fetch(`http://127.0.0.1:${crowd.replica(0).port}/readyz`);
    expect([ready.status, counter(crowd.world.shared, 'sends')]).toEqual([503, 0]);
    await server.startAgain();
    expect(await until(6_000, () => crowd.owed().length === 0), crowd.explain()).toBe(true);
    await left;
    expect(crowd.sins()).toEqual({ ...NOTHING, sentAgain: 0 });
  });

  it.each([
    ['is killed', (server: RedisServer) => server.kill(), (server: RedisServer) => server.startAgain()],
    ['hangs', async (server: RedisServer) => server.signal('SIGSTOP'), async (server: RedisServer) => server.signal('SIGCONT')],
  ])('Redis %s for 25 s: with events of 10 s nobody who is there is lost, and who went is gone', async (_, takeAway, bringBack) => {
    const server = await redis();
    const crowd = await fleet(server.url, 3, 90, 10_000);
    await crowd.enterAll(0, 90);
    await pause(10_000);
    await takeAway(server);
    const left = crowd.leaveAll(0, 30, 25_000);
    await pause(25_000);
    expect([crowd.ranOut(), counter(crowd.world.shared, 'sends')], crowd.explain()).toEqual([[], 0]);
    const restarts = counter(crowd.world.shared, 'restarts');
    await bringBack(server);
    // A list, the wait for an absence that no webhook told of, and a second list.
    expect(await until(7_000, () => crowd.owed().length === 0), crowd.explain()).toBe(true);
    await left;
    await pause(12_000);
    expect(crowd.sins(), crowd.explain()).toMatchObject({ ...NOTHING, lost: expect.anything(), sentAgain: 0 });
    // The rows learnt of the restarts that were made meanwhile: all who are there were not restarted anew at once.
    expect(counter(crowd.world.shared, 'restarts') - restarts).toBeLessThan(60 * 4);
  });

  it('Redis comes back empty: it is said, and nobody is taken to have left', async () => {
    const server = await redis([]);
    const crowd = await fleet(server.url, 2, 60, 600_000);
    await crowd.enterAll(0, 60);
    await pause(1_000);
    await server.kill();
    await pause(500);
    await server.startAgain();
    const said = () => crowd.replicas.every((one) => one.log().includes('Redis has lost its data'));
    expect(await until(10_000, said)).toBe(true);
    await pause(2_000);
    expect([counter(crowd.world.shared, 'sends'), crowd.sins()]).toEqual([0, { ...NOTHING, sentAgain: 0 }]);
    // What is handed over from now on is kept again.
    crowd.world.shared.startedAt.fill(0);
    await crowd.enter(0);
    // Until it has been found on the SFU: who hands over after joining and goes before that is waited for, not taken to have left.
    await pause(1_500);
    await crowd.leave(0);
    expect(await until(SOON_MS, () => crowd.owed().length === 0), crowd.explain()).toBe(true);
  });

  it('on a cluster of three masters, one of which is killed and comes back', async () => {
    const cluster = await startCluster();
    ending.push(() => cluster.end());
    const crowd = await fleet(cluster.url, 2, 100, 60_000);
    await crowd.enterAll(0, 100);
    const leaving = crowd.leaveAll(0, 60, 6_000);
    await pause(2_000);
    const [victim] = cluster.servers;
    await victim?.kill();
    await pause(3_000);
    await victim?.startAgain();
    await leaving;
    expect(await until(AFTER_A_DEATH_MS, () => crowd.owed().length === 0), crowd.explain()).toBe(true);
    expect(crowd.sins(), crowd.explain()).toEqual({ ...NOTHING, sentAgain: 0 });
  });

  it.each([
    ['is killed', (server: RedisServer) => server.kill(), (server: RedisServer) => server.startAgain()],
    ['hangs', async (server: RedisServer) => server.signal('SIGSTOP'), async (server: RedisServer) => server.signal('SIGCONT')],
  ])('on a cluster, one master of which %s for 12 s: the work in the others goes on', async (_, takeAway, bringBack) => {
    const cluster = await startCluster(['--cluster-require-full-coverage', 'no']);
    ending.push(() => cluster.end());
    const crowd = await fleet(cluster.url, 2, 120, 20_000);
    await crowd.enterAll(0, 120);
    const victim = cluster.servers[0] as RedisServer;
    const rooms = Array.from({ length: 15 }, (_, room) => room);
    const slots = await Promise.all(rooms.map((room) => victim.ask('CLUSTER', 'KEYSLOT', prefixOf(shardOf(sfuRoom(room) as RoomName)))));
    // Of three masters the first has the first third of the slots.
    const isAway = (member: number) => Number(slots[member % 15]) <= 5_460;
    await pause(4_000);
    await takeAway(victim);
    const leaving = crowd.leaveAll(0, 60, 6_000);
    await pause(6_000 + AMONG_OTHERS_MS);
    const owed = crowd.owed();
    await pause(6_000 - AMONG_OTHERS_MS);
    await bringBack(victim);
    expect(
      owed.filter((member) => !isAway(member)),
      crowd.explain(),
    ).toEqual([]);
    expect(owed.length).toBeGreaterThan(5);
    await leaving;
    expect(await until(AFTER_A_DEATH_MS, () => crowd.owed().length === 0), crowd.explain()).toBe(true);
    await pause(20_000);
    const { lost: _lost, ...sins } = crowd.sins();
    expect(sins, crowd.explain()).toEqual({ ghosts: 0, falseLeaves: 0, ranOut: 0, sentAgain: 0 });
  });

  it.each([
    ['open to all', null],
    ['with a password', 'a-password'],
  ])('on a master, %s, that dies, and whose replica the sentinels put in its place', async (_, password) => {
    const sentinels = await startSentinels(password);
    ending.push(() => sentinels.end());
    const crowd = await fleet(sentinels.url, 2, 100, 60_000);
    await crowd.enterAll(0, 100);
    const leaving = crowd.leaveAll(0, 60, 6_000);
    await pause(2_000);
    await sentinels.servers[0]?.kill();
    await leaving;
    expect(await until(AFTER_A_DEATH_MS, () => crowd.owed().length === 0), crowd.explain()).toBe(true);
    const { lost: _lost, ...sins } = crowd.sins();
    expect(sins, crowd.explain()).toEqual({ ghosts: 0, falseLeaves: 0, ranOut: 0, sentAgain: 0 });
  });
});
