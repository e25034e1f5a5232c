// The store of several replicas on a real Redis: the contract, what only two clients at once can show, and what only Redis can do to us.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type Clock, systemClock, systemRandom } from '../../src/clock.ts';
import { eventHashesOf } from '../../src/delegation/handles.ts';
import type { DelegationId, Owner, Sid, UserId } from '../../src/delegation/ids.ts';
import type { Delegation, LiveDelegation } from '../../src/delegation/state.ts';
import { parseRedisUrl, type RedisPlace } from '../../src/redis-url.ts';
import type { Attendance } from '../../src/store/attendance.ts';
import { connectRedis } from '../../src/store/redis/connection.ts';
import { ALL_SHARDS, idIn, PART_ROWS, prefixOf } from '../../src/store/redis/keys.ts';
import { openRedisStore, type RedisStore, type RedisStoreOptions } from '../../src/store/redis/redis.ts';
import { createRedisSightings } from '../../src/store/redis/sightings.ts';
import { createSeal } from '../../src/store/seal.ts';
import type { Sightings } from '../../src/store/sightings.ts';
import { type Claimed, type Excluded, FIRST_PART, type RoomPart, type Store, type Updated, type Where } from '../../src/store/store.ts';
import { DELAY_MS, ended, HOMESERVER, identity, idOf, room, row } from '../support/fixtures.ts';
import { KINDS, RedisServer } from '../support/redis-server.ts';
import { storeContract } from './contract.ts';

let server: RedisServer;

async function open(clock: Clock, over: Partial<RedisStoreOptions> = {}): Promise<RedisStore> {
  const place = parseRedisUrl(server.url, null) as RedisPlace;
  const connection = await connectRedis(place, systemClock());
  const basics = { connection, clock, random: systemRandom(), seal: null, waitFor: 0, cluster: false, leaseClock: null };
  return openRedisStore({ ...basics, ...over });
}

for (const { name, binary, missing } of KINDS)
  describe.skipIf(missing !== null)(`on a real ${name}${missing === null ? '' : `: ${missing}`}`, () => {
    beforeAll(async () => {
      server = await RedisServer.start([], undefined, binary);
    });
    afterAll(() => server.end());

    storeContract(name, async (clock) => {
      await server.ask('FLUSHALL');
      const again = (): Promise<Store & Attendance> => open(clock, { leaseClock: clock });
      return { store: await again(), reopen: again, kill: again };
    });

    test('why there is no connection to it is told', async () => {
      const redis = await RedisServer.start(['--user', 'lastwill', 'on', '>before', '~*', '+@all'], undefined, binary);
      onTestFinished(() => redis.end());
      const place = parseRedisUrl(redis.url.replace('://', '://lastwill:before@'), null) as RedisPlace;
      const connection = await connectRedis(place, systemClock());
      onTestFinished(() => connection.close());
      const told = () => connection.command(0, ['PING']).catch(({ message }: Error) => message);
      await redis.ask('ACL', 'SETUSER', 'lastwill', 'resetpass', '>after');
      await redis.ask('CLIENT', 'KILL', 'USER', 'lastwill');
      await expect.poll(told, { timeout: 10_000 }).toMatch(/^WRONGPASS/);
      await redis.kill();
      await expect.poll(told, { timeout: 10_000 }).toMatch(/ECONNREFUSED/);
    });

    describe('two replicas', () => {
      let [one, other]: RedisStore[] = [];
      const stores = () => [one, other] as [RedisStore, RedisStore];
      const put = (store: Store, written: Delegation, leaseMs = 0) =>
        store.update({ by: 'id', room: written.room, id: written.id }, null, () => ({ writes: [{ row: written, leaseMs }], value: null }));
      const longer = (store: Store, n: number) =>
        store.update({ by: 'id', room: room(n), id: idOf(n) }, null, ([before]) => {
          const next = { ...(before as LiveDelegation), delayMs: (before?.delayMs ?? 0) + 1 };
          return { writes: [{ row: next, leaseMs: 0 }], value: next.delayMs };
        });

      beforeEach(async () => {
        await server.ask('FLUSHALL');
        one = await open(systemClock());
        other = await open(systemClock());
      });
      afterEach(async () => {
        for (const store of stores()) await store.close();
      });

      test('write one row at once: each write is made on the one before it, and none is lost', async () => {
        const [a, b] = stores();
        await put(a, row(1));
        const all = await Promise.all(Array.from({ length: 60 }, (_, n) => longer(n % 2 === 0 ? a : b, 1)));
        const values = all.map((result) => (result.kind === 'done' ? result.value : 0)).sort((x, y) => x - y);
        expect(values).toEqual(Array.from({ length: 60 }, (_, n) => DELAY_MS + 1 + n));
      });

      test('decide on the same row: one is first, the other decides anew on what it left', async () => {
        const [a, b] = stores();
        await put(a, row(1));
        await longer(b, 1);
        const end = (store: Store) =>
          store.update({ by: 'watched', room: room(1), identity: identity(1), part: FIRST_PART }, null, ([before]) => {
            if (before === undefined || before.handles === null) return { writes: [], value: 'nobody' };
            return { writes: [{ row: ended(before), leaseMs: 0 }], value: `ended ${before.delayMs}` };
          });
        const answers = await Promise.all([end(a), end(b)]);
        expect(answers.map((answer) => answer.kind === 'done' && answer.value).sort()).toEqual([`ended ${DELAY_MS + 1}`, 'nobody']);
      });

      test('hear the same webhook: one of them applies it', async () => {
        const [a, b] = stores();
        await put(a, row(1));
        const hear = (store: Store) =>
          store.update({ by: 'watched', room: room(1), identity: identity(1), part: FIRST_PART }, 'hook', () => ({ writes: [], value: 1 }));
        const kinds = (await Promise.all([hear(a), hear(b), hear(a), hear(b)])).map(({ kind }) => kind);
        expect(kinds.filter((kind) => kind === 'done')).toHaveLength(1);
      });

      test('watch one identity by more than one of them believes: all are met, in parts', async () => {
        const [a, b] = stores();
        const over = { room: room(1), identities: [identity(1)] };
        const met: DelegationId[] = [];
        const hear = async (store: Store, part: RoomPart, once: string) => {
          const longer = (one: Delegation) => ({ row: { ...(one as LiveDelegation), delayMs: one.delayMs + 1 }, leaseMs: 0 });
          const where = { by: 'watched', room: room(1), identity: identity(1), part } as const;
          const done = await store.update(where, once, (rows) => ({ writes: rows.map(longer), value: rows.map(({ id }) => id) }));
          if (done.kind === 'done') met.push(...done.value);
          return done.kind === 'done' ? done.next : undefined;
        };
        for (let n = 1; n <= 60; n += 1) await put(a, row(n, { over }));
        expect(await hear(b, FIRST_PART, 'before')).toBeUndefined();
        for (let n = 61; n <= 130; n += 1) await put(a, row(n, { over }));
        for (const [store, once] of [
          [b, 'hook-1'],
          [a, 'hook-2'],
          [b, 'hook-3'],
        ] as const) {
          met.length = 0;
          let parts = 0;
          for (let part: RoomPart | undefined = FIRST_PART; part !== undefined; parts += 1) part = await hear(store, part, once);
          expect([parts, met.toSorted()]).toEqual([3, Array.from({ length: 130 }, (_, n) => idOf(n + 1)).toSorted()]);
        }
        for (let n = 1; n <= 70; n += 1) await put(a, ended(row(n, { over })));
        met.length = 0;
        expect(await hear(b, FIRST_PART, 'after')).toBeUndefined();
        expect(met).toHaveLength(60);
        expect(
          await b.update({ by: 'id', room: room(1), id: idOf(100) }, null, ([one]) => ({ writes: [], value: one?.delayMs })),
        ).toMatchObject({
          value: DELAY_MS + 4,
        });
      });

      test('watch one identity by just as many as a part has, and one more than one of them believes: that one is met as well', async () => {
        const [a, b] = stores();
        const over = { room: room(1), identities: [identity(1)] };
        const hear = async (once: string) => {
          const met: DelegationId[] = [];
          for (let part: RoomPart | undefined = FIRST_PART; part !== undefined; ) {
            const where: Where = { by: 'watched', room: room(1), identity: identity(1), part };
            const done: Updated<DelegationId[]> = await b.update(where, once, (rows) => ({ writes: [], value: rows.map(({ id }) => id) }));
            if (done.kind === 'done') met.push(...done.value);
            part = done.kind === 'done' ? done.next : undefined;
          }
          return met.length;
        };
        for (let n = 1; n <= PART_ROWS; n += 1) await put(a, row(n, { over }));
        expect(await hear('hook-1')).toBe(PART_ROWS);
        await put(a, row(PART_ROWS + 1, { over }));
        expect(await hear('hook-2')).toBe(PART_ROWS + 1);
      });

      test('an owner who hands over more at once than an update is tried, after many that are kept: all are taken', async () => {
        const [a, b] = stores();
        const over = { owner: 'owner' as Owner, room: room(1) };
        const handOver = (store: Store, n: number) =>
          store.update({ by: 'owner', ...over }, null, (rows) => {
            const older = rows.filter(({ handles }) => handles !== null).map((one) => ({ row: ended(one as LiveDelegation), leaseMs: 0 }));
            return { writes: [...older, { row: row(n, { over }), leaseMs: 0 }], value: rows.map(({ id }) => id) };
          });
        for (let n = 1; n <= 70; n += 1) await handOver(b, n);
        const done = await Promise.all(Array.from({ length: 40 }, (_, n) => handOver(a, 71 + n)));
        for (const [n, one] of done.entries()) expect(one).toMatchObject({ kind: 'done', value: expect.arrayContaining([idOf(70 + n)]) });
        expect(await a.count()).toMatchObject({ awaiting: 1, ended: 109 });
      });

      test('hand over for one owner: the second sees the first', async () => {
        const [a, b] = stores();
        const over = { owner: 'owner' as Owner, room: room(1) };
        const handOver = (store: Store, n: number) =>
          store.update({ by: 'owner', ...over }, null, (rows) => ({ writes: [{ row: row(n, { over }), leaseMs: 0 }], value: rows.length }));
        const seen = (await Promise.all([handOver(a, 1), handOver(b, 2), handOver(a, 3)])).map(
          (done) => done.kind === 'done' && done.value,
        );
        expect(seen.sort()).toEqual([0, 1, 2]);
      });

      test('hand one event over for two owners: the second sees the first, and with their end nothing is left of it', async () => {
        const [a, b] = stores();
        const { handles } = row(1);
        const of = (n: number) => row(n, { over: { room: room(1), handles } });
        const events = eventHashesOf(row(1));
        const handOver = (store: Store, n: number) =>
          store.update({ by: 'owner', room: room(1), owner: of(n).owner, events }, null, (rows) => {
            const older = rows.map((one) => ({ row: ended(one as LiveDelegation), leaseMs: 0 }));
            return { writes: [...older, { row: of(n), leaseMs: 0 }], value: rows.length };
          });
        const seen = (await Promise.all([handOver(a, 1), handOver(b, 2), handOver(a, 3)])).map(
          (done) => done.kind === 'done' && done.value,
        );
        expect(seen.sort()).toEqual([0, 1, 1]);
        expect(await a.count()).toMatchObject({ awaiting: 1, ended: 2 });
        for (const n of [1, 2, 3]) await put(b, ended(of(n)));
        const [index] = (await server.ask('KEYS', 'lastwill*r:*')) as [string];
        expect(((await server.ask('HKEYS', index)) as string[]).filter((field) => !field.startsWith('o'))).toEqual([]);
      });

      test('a row that can not be read keeps no other of its owner and identity from being written', async () => {
        const [a, b] = stores();
        const over = { owner: 'owner' as Owner, room: room(1), identities: [identity(1)] };
        await put(a, row(1, { over }));
        const [key] = (await server.ask('KEYS', 'lastwill*d:*')) as [string];
        await server.ask('SET', key, '5 1damaged');
        const written = { writes: [{ row: row(2, { over }), leaseMs: 0 }], value: null };
        await b.update({ by: 'owner', owner: over.owner, room: room(1) }, null, () => written);
        for (const once of ['hook-1', 'hook-2']) {
          const heard = await b.update({ by: 'watched', room: room(1), identity: identity(1), part: FIRST_PART }, once, (rows) => {
            return { writes: rows.map((one) => ({ row: one, leaseMs: 0 })), value: rows.map(({ id }) => id) };
          });
          expect(heard).toMatchObject({ kind: 'done', value: [idOf(2)] });
        }
      });

      test('claim: no row is taken by both, and none is left', async () => {
        const [a, b] = stores();
        await Promise.all(Array.from({ length: 300 }, (_, n) => put(a, row(n + 1))));
        const claimed = (await Promise.all([a, b, a, b].map((store) => store.claimDue(Date.now(), 60_000, 100, NOBODY)))).flat();
        const ids = claimed.map(({ row: { id } }) => id);
        expect([new Set(ids).size, ids.length]).toEqual([300, 300]);
      });

      test('a claim is held until another has taken the row, or written it', async () => {
        const [a, b] = stores();
        await put(a, row(1));
        const [first] = await a.claimDue(Date.now(), 60_000, 10, NOBODY);
        if (first === undefined) throw new Error('nothing was claimed');
        expect(await a.holds(first.claim)).toBe(true);
        await longer(b, 1);
        // An old answer is not asked for anew by who says that it will do.
        expect(await a.holds(first.claim, 60_000)).toBe(true);
        expect(await a.holds(first.claim)).toBe(false);
        expect(await a.holds(first.claim, 60_000)).toBe(false);
        const [second] = await b.claimDue(Date.now(), 60_000, 10, NOBODY);
        expect(second?.row.delayMs).toBe(DELAY_MS + 1);
        await a.release(first.claim);
        expect(await a.claimDue(Date.now(), 60_000, 10, NOBODY)).toEqual([]);
      });

      test('a replica that is stopped loses its claims within seconds, one that lives keeps them for as long as it wants', async () => {
        const still = stoppable();
        const stopped = await open(still.clock);
        const [a] = stores();
        await put(a, row(1));
        await put(a, row(2));
        const [theirs] = await stopped.claimDue(Date.now(), 60_000, 1, NOBODY);
        const [ours] = await a.claimDue(Date.now(), 60_000, 10, NOBODY);
        still.stop();
        const taken = await until(6_000, () => other?.claimDue(Date.now(), 60_000, 10, NOBODY) ?? Promise.resolve([]));
        expect(taken.map(({ row: { id } }) => id)).toEqual([theirs?.row.id]);
        expect([await stopped.holds((theirs as Claimed).claim), await a.holds((ours as Claimed).claim)]).toEqual([false, true]);
        await stopped.close();
      });

      test('of an event that is short another replica, and one after that, can still make the restart of one that died', async () => {
        const still = stoppable();
        const stopped = await open(still.clock);
        const [a] = stores();
        const all = ['connected', 'awaiting', 'settling', 'leaving', 'cancelling'] as const;
        for (const [n, kind] of all.entries()) await put(a, row(n + 1, { kind }));
        expect(await stopped.claimDue(Date.now(), 60_000, 10, NOBODY)).toHaveLength(5);
        still.stop();
        expect(await a.claimDue(Date.now(), 60_000, 10, NOBODY)).toEqual([]);
        await new Promise((done) => setTimeout(done, 850));
        const kinds = (await a.claimDue(Date.now(), 60_000, 10, NOBODY)).map(({ row: { state } }) => state.kind);
        expect(kinds.sort()).toEqual(['awaiting', 'connected', 'settling']);
        await stopped.close();
      });

      test('the rooms of a slot are given out once in a while', async () => {
        const [a, b] = stores();
        for (let n = 1; n <= 20; n += 1) await put(a, row(n));
        const given = (await Promise.all([a.rooms(0, 1024, 60_000), b.rooms(0, 1024, 60_000)])).flat();
        expect([given.length, new Set(given).size]).toEqual([20, 20]);
        expect(await b.rooms(0, 1024, 60_000)).toEqual([]);
        expect(await b.rooms(0, 1024)).toHaveLength(20);
      });

      test('those who were given a token are looked after by one of them at a time', async () => {
        const [a, b] = stores();
        await a.track({ roomId: '!a:b', room: room(1), identity: identity(1), userId: '@u:b' as UserId, grantedAtMs: 1 });
        expect([await b.trackedRooms(60_000), await a.trackedRooms(60_000), await a.trackedRooms()]).toEqual([['!a:b'], [], ['!a:b']]);
        // An older version takes its turn when the key is gone.
        for (const shard of ALL_SHARDS) expect(Number(await server.ask('PTTL', `${prefixOf(shard)}attended`))).toBeGreaterThan(50_000);
      });

      test('what ended is forgotten wholly or not at all, also where Redis has no memory left', async () => {
        const [a] = stores();
        await put(a, row(1));
        await a.update({ by: 'id', room: room(1), id: idOf(1) }, null, () => ({
          writes: [{ row: ended(row(1), { atMs: 1_000 }), leaseMs: 0 }],
          value: null,
        }));
        const old = { endedBeforeMs: 2_000, mostEnded: 1_000, onceBeforeMs: 0, limit: 10 };
        await server.ask('CONFIG', 'SET', 'maxmemory', '1');
        try {
          await expect(a.purge(old)).rejects.toThrow();
        } finally {
          await server.ask('CONFIG', 'SET', 'maxmemory', '0');
        }
        expect([(await a.count()).ended, await a.purge(old), (await a.count()).ended]).toEqual([1, 1, 0]);
      });

      test('what ended is forgotten without keeping Redis from the others, however many their owner has handed over', async () => {
        const [a] = stores();
        const over = { owner: 'owner' as Owner, room: room(1) };
        for (let n = 1; n <= 250; n += 1) await put(a, ended(row(n, { over }), { atMs: 1_000 }));
        const [index] = (await server.ask('KEYS', 'lastwill*r:*')) as [string];
        const [field] = (await server.ask('HKEYS', index)) as [string];
        const others = Array.from({ length: 30_000 }, (_, n) => idIn(idOf(1_000 + n))).join('');
        await server.ask('HSET', index, field, `${others}${await server.ask('HGET', index, field)}`);
        expect(await a.purge({ endedBeforeMs: 2_000, mostEnded: 10_000, onceBeforeMs: 0, limit: 250 })).toBe(250);
        expect(await server.ask('HGET', index, field)).toBe(others);
      });

      test('the identities that a membership was given are known to all, and go by themselves after a day', async () => {
        const [a, b] = stores();
        await a.give(room(1), 'owner' as Owner, identity(1));
        expect(await b.givenTo(room(1), 'owner' as Owner)).toEqual([identity(1)]);
        const [key] = (await server.ask('KEYS', '*g:*')) as [string];
        const leftMs = Number(await server.ask('PTTL', key));
        expect([leftMs > 86_390_000, leftMs <= 86_400_000]).toEqual([true, true]);
      });

      test('a homeserver that wants no calls is left alone by all of them', async () => {
        const [a, b] = stores();
        await put(a, row(1, { kind: 'connected' }));
        await put(a, row(2, { kind: 'leaving' }));
        await put(a, row(3, { kind: 'settling' }));
        await a.pause(HOMESERVER, Date.now() + 400);
        expect((await b.claimDue(Date.now(), 60_000, 10, NOBODY)).map(({ row: { id } }) => id)).toEqual([idOf(3)]);
        expect(await until(2_000, () => b.claimDue(Date.now(), 60_000, 10, NOBODY))).toHaveLength(2);
      });

      test('leave the restarts with a homeserver that limits calls to one of them, for as long as it lives', async () => {
        const [a, b] = stores();
        expect(await a.reserve(HOMESERVER, { perMs: 0.001, refusedAgoMs: 10 })).toBe(true);
        expect(await b.reserve(HOMESERVER, { perMs: null, refusedAgoMs: 0 })).toBe(false);
        expect(await a.reserve(HOMESERVER, { perMs: 0.002, refusedAgoMs: 20 })).toBe(true);
        expect(await a.reservations()).toEqual(new Map());
        const found = (await b.reservations()).get(HOMESERVER);
        expect(found?.perMs).toBe(0.002);
        expect(found?.refusedAgoMs).toBeGreaterThanOrEqual(20);
        expect(found?.refusedAgoMs).toBeLessThan(1_500);
        const theirs = await until(4_000, async () => ((await b.reserve(HOMESERVER, { perMs: null, refusedAgoMs: 0 })) ? ['b'] : []));
        expect(theirs).toEqual(['b']);
        expect((await a.reservations()).get(HOMESERVER)?.perMs).toBe(null);
      });

      test('tell one another what they see of a room, for a while', async () => {
        const place = parseRedisUrl(server.url, null) as RedisPlace;
        const connections = await Promise.all([connectRedis(place, systemClock()), connectRedis(place, systemClock())]);
        const [a, b] = connections.map(createRedisSightings) as [Sightings, Sightings];
        expect(await b.last(room(1))).toBe(null);
        const people = [
          { identity: identity(1), sid: 'PA_1' as Sid, joinedAtMs: 1_795_000_000_000, active: true },
          { identity: identity(2), sid: 'PA_2' as Sid, joinedAtMs: null, active: false },
        ];
        await a.tell(room(1), { askedAtMs: 1_000, present: people });
        expect(await b.last(room(1))).toEqual({ askedAtMs: 1_000, present: people });
        await b.tell(room(1), { askedAtMs: 2_000, present: [] });
        expect(await a.last(room(1))).toEqual({ askedAtMs: 2_000, present: [] });
        expect(await a.last(room(2))).toBe(null);
        const [key] = (await server.ask('KEYS', '*seen:*')) as [string];
        expect(Number(await server.ask('PTTL', key))).toBeGreaterThan(50_000);
        // Of another version, or damaged: as if nothing had been told.
        await server.ask('SET', key, '{"askedAt":1}');
        expect(await a.last(room(1))).toBe(null);
        for (const connection of connections) await connection.close();
      });

      test('let nobody in who has another key: what one of them sealed the others could not read', async () => {
        const clock: Clock = { ...systemClock(), after: (delayMs, fire) => systemClock().after(delayMs / 20, fire) };
        const withKey = () => open(clock, { seal: createSeal('a key of enough letters') });
        const beating = setInterval(() => void one?.ping(), 50);
        await expect(withKey()).rejects.toThrow('another lastwill runs on this Redis without this LASTWILL_STORE_KEY');
        clearInterval(beating);
        for (const store of stores()) await store.close();
        // Who are started together have the same.
        const both = await Promise.all([withKey(), withKey()]);
        expect(await both[0].ping()).toBe(undefined);
        for (const store of both) await store.close();
      });

      test("have one time, Redis'", async () => {
        const early: Clock = { ...systemClock(), nowMs: () => Date.now() - 5_000 };
        const third = await open(early);
        expect(Math.abs(third.shiftMs - 5_000)).toBeLessThan(500);
        await third.close();
      });

      test('have it still when the clock of Redis is set back, or a server with another takes its place', async () => {
        const HOUR_MS = 3_600_000;
        for (const shard of ALL_SHARDS) await server.ask('SET', `${prefixOf(shard)}ahead`, String(HOUR_MS));
        const ahead = await open(systemClock());
        expect(Math.abs(ahead.shiftMs - HOUR_MS)).toBeLessThan(500);
        // To whoever looks at the clock there it has gone back by an hour.
        for (const shard of ALL_SHARDS) await server.ask('DEL', `${prefixOf(shard)}ahead`);
        await ahead.ping();
        expect(Math.abs(ahead.shiftMs - HOUR_MS)).toBeLessThan(500);
        const later = await open(systemClock());
        expect(Math.abs(later.shiftMs - HOUR_MS)).toBeLessThan(500);
        // Leases are measured by the same: what one has claimed nobody else finds due.
        await put(ahead, row(1, { kind: 'leaving', dueMs: 1_000 }));
        const nowMs = Date.now() + HOUR_MS;
        expect(await ahead.claimDue(nowMs, 5_000, 9, NOBODY)).toHaveLength(1);
        expect(await later.claimDue(nowMs, 5_000, 9, NOBODY)).toHaveLength(0);
        for (const store of [ahead, later]) await store.close();
        // And while none of them ran.
        for (const shard of ALL_SHARDS) await server.ask('DEL', `${prefixOf(shard)}ahead`);
        const last = await open(systemClock());
        expect(Math.abs(last.shiftMs - HOUR_MS)).toBeLessThan(5_000);
        await last.close();
      });
    });
  });

const NOBODY: Excluded = { restarts: new Set(), leaves: new Set() };

/** A clock whose owner is stopped: its timers fire no more. */
function stoppable(): { readonly clock: Clock; stop(): void } {
  const clock = systemClock();
  let stopped = false;
  return {
    clock: { ...clock, after: (delayMs, fire) => clock.after(delayMs, () => (stopped ? undefined : fire())) },
    stop: () => {
      stopped = true;
    },
  };
}

async function until<T>(ms: number, look: () => Promise<readonly T[]>): Promise<readonly T[]> {
  const endMs = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found.length > 0 || Date.now() > endMs) return found;
    await new Promise((done) => void setTimeout(done, 50));
  }
}
