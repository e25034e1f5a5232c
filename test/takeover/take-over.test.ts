import { describe, expect, it } from 'vitest';
import type { Cancel } from '../../src/clock.ts';
import { type DelayId, type HomeserverUrl, participantOwner, type ServerName } from '../../src/delegation/ids.ts';
import type { Discovery, Resolved } from '../../src/homeserver/discovery.ts';
import { createServed } from '../../src/homeserver/served.ts';
import { createLogger } from '../../src/log.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import type { JobHash } from '../../src/takeover/redis.ts';
import { takeOver } from '../../src/takeover/take-over.ts';
import { EngineWorld } from '../engine/world.ts';
import { handOver, identity, room, sid } from '../support/fixtures.ts';
import { START_MS } from '../support/virtual-clock.ts';

const URL = 'https://matrix.example.org' as HomeserverUrl;
const field = (n: number) => JSON.stringify([room(n), identity(n)]);
const job = (n: number, serverName = 'example.org', restartedMs = START_MS - 1_000) =>
  JSON.stringify({
    Params: { DelayId: `delay-${n}`, DelayTimeout: 10e9, ServerName: serverName, LiveKitRoom: room(n), LiveKitIdentity: identity(n) },
    RestartedAt: new Date(restartedMs).toISOString(),
  });

const hour = (n: number) => job(n).replace('10000000000', '3600000000000');

interface Place {
  readonly remove?: boolean;
  /** Whether another replica is at it. */
  readonly held?: boolean;
  readonly away?: boolean;
  readonly found?: () => Promise<Resolved>;
}
const FOUND: Resolved = { kind: 'resolved', url: URL };
const LOST: Resolved = { kind: 'unresolvable', why: 'told to be' };

function setUp(jobs: Record<string, string>, place: Place = {}) {
  const world = new EngineWorld();
  const at = {
    away: place.away ?? false,
    heldBy: place.held ? 'another' : null,
    open: 0,
    isOpen: true,
    found: place.found ?? (async () => FOUND),
  };
  const hash = new Map(Object.entries(jobs));
  const served = createServed({
    ...{ fullAccess: { all: false, names: ['example.org' as ServerName] }, overrides: new Map([['example.org' as ServerName, URL]]) },
    strangers: 'public',
  });
  const discovery: Discovery = { resolve: () => at.found(), warm: () => () => {} };
  const open = async (): Promise<JobHash> => {
    at.open += 1;
    return {
      claim: async () => {
        if (at.heldBy !== null) return false;
        at.heldBy = 'us';
        return true;
      },
      release: async () => {
        if (at.heldBy === 'us') at.heldBy = null;
      },
      read: async () => {
        if (at.away) throw new Error('away');
        return new Map(hash);
      },
      remove: async (jobs) => {
        for (const [one, value] of jobs) if (hash.get(one) === value) hash.delete(one);
      },
      close: async () => {
        at.open -= 1;
      },
    };
  };
  const { clock, engine } = world;
  const log = createLogger('info', (line) => void world.lines.push(line));
  const counts = () => world.lines.map((line) => JSON.parse(line)).findLast(({ msg }) => msg === 'took over the jobs of lk-jwt-service');
  /** Until it no longer keeps us from listening. */
  const run = async (): Promise<Cancel> => {
    let stop: Cancel | null = null;
    const deps = { open, engine, served, discovery, clock, remove: place.remove ?? false, log, isOpen: () => at.isOpen };
    void takeOver(deps).then((done) => {
      stop = done;
    });
    await clock.settle();
    if (stop === null) await clock.advance(1_000);
    if (stop === null) throw new Error('still at it after a second');
    return stop;
  };
  return { world, hash, run, counts, at };
}

it('keeps those who are on the SFU alive at once, and sends the leave of those who are gone', async () => {
  const { world, run, counts } = setUp({ [field(1)]: job(1), [field(2)]: job(2) });
  world.join(room(1), identity(1), sid(1));
  // Somebody else: a room that is gone as well would be a sign of an SFU that forgot.
  world.join(room(2), identity(3), sid(3));
  await run();
  expect(counts()).toMatchObject({ taken: 2, known: 0, refused: 0, waiting: 0 });
  await world.clock.advance(100);
  expect(world.actions('restart')).toMatchObject([{ target: 'delay-1' }]);
  await world.clock.advance(5_000);
  expect(world.actions('send')).toMatchObject([{ target: 'delay-2' }]);
});

it('does nothing the second time, and leaves the originals in place', async () => {
  const { world, hash, run, counts } = setUp({ [field(1)]: job(1) });
  world.join(room(1), identity(1), sid(1));
  await run();
  await world.clock.advance(100);
  await run();
  expect(counts()).toMatchObject({ taken: 0, known: 1, refused: 0 });
  expect(hash.size).toBe(1);
  expect(await world.store.count()).toMatchObject({ connected: 1 });
});

it('says what it can not take, without showing it, and removes only what is kept', async () => {
  const jobs = { [field(1)]: job(1), [field(2)]: job(2, 'foreign.example'), broken: 'delay-secret' };
  const { world, hash, run, counts } = setUp(jobs, { remove: true });
  await run();
  expect(counts()).toMatchObject({ taken: 1, known: 0, refused: 2, removed: 1 });
  expect([...hash.keys()]).toEqual([field(2), 'broken']);
  const said = world.lines.filter((line) => line.includes('could not be taken over'));
  expect(said).toHaveLength(2);
  expect(world.lines.join()).not.toMatch(/delay-/);
});

it('lets the next one begin at once, also where the jobs can not be read', async () => {
  const { run, at } = setUp({ [field(1)]: job(1) });
  await run();
  expect(at).toMatchObject({ heldBy: null, open: 0 });
  const away = setUp({ [field(1)]: job(1) }, { away: true });
  await away.run();
  expect(away.at).toMatchObject({ heldBy: null, open: 0 });
  expect(away.world.lines.join()).toContain('could not be taken over');
});

it('keeps nobody waiting while another replica is at it, and looks at what that one leaves', async () => {
  const { world, run, at, counts } = setUp({ [field(1)]: job(1) }, { held: true });
  world.join(room(1), identity(1), sid(1));
  const beganMs = world.clock.nowMs();
  await run();
  expect(world.clock.nowMs()).toBe(beganMs);
  await world.clock.advance(3_500);
  expect([at.heldBy, counts()]).toEqual(['another', undefined]);
  expect(world.lines.filter((line) => line.includes('another replica'))).toHaveLength(1);
  at.heldBy = null;
  await world.clock.advance(1_100);
  expect(counts()).toMatchObject({ taken: 1 });
  expect(world.actions('restart')).toMatchObject([{ target: 'delay-1' }]);
});

it('takes a job whose homeserver is not found as soon as it is, and says once that it waits', async () => {
  const { world, hash, run, at, counts } = setUp({ [field(1)]: hour(1) }, { found: async () => LOST, remove: true });
  world.join(room(1), identity(1), sid(1));
  await run();
  expect(counts()).toMatchObject({ taken: 0, refused: 0, waiting: 1, removed: 0 });
  await world.clock.advance(60_000);
  expect(world.lines.filter((line) => line.includes('not be taken over yet'))).toHaveLength(1);
  expect(hash.size).toBe(1);
  at.found = async () => FOUND;
  await world.clock.advance(11_000);
  expect(await world.store.count()).toMatchObject({ connected: 1 });
  expect([hash.size, at.open]).toEqual([0, 0]);
});

it('listens after a second though a well-known hangs, and then takes the job when it answers', async () => {
  const answer = Promise.withResolvers<Resolved>();
  const { world, run } = setUp({ [field(1)]: job(1) }, { found: () => answer.promise });
  world.join(room(1), identity(1), sid(1));
  await run();
  await world.clock.advance(2_000);
  answer.resolve(FOUND);
  await world.clock.advance(100);
  expect(world.actions('restart')).toMatchObject([{ target: 'delay-1' }]);
});

it('looks for no homeserver any more when the event must have run out, or it is told to stop', async () => {
  let looks = 0;
  const found = async () => {
    looks += 1;
    return LOST;
  };
  const { world, run } = setUp({ [field(1)]: job(1), [field(2)]: hour(2) }, { found });
  const stop = await run();
  await world.clock.advance(35_000);
  expect(looks).toBe(2 + 1 + 3);
  stop();
  await world.clock.advance(60_000);
  expect(looks).toBe(6);
});

it('begins nothing more once it is told to stop, also where it had waited for another replica', async () => {
  const answer = Promise.withResolvers<Resolved>();
  const { world, run, at } = setUp({ [field(1)]: job(1) }, { held: true, found: () => answer.promise });
  const stop = await run();
  at.heldBy = null;
  await world.clock.advance(1_100);
  stop();
  answer.resolve(FOUND);
  await world.clock.advance(5_000);
  expect(await world.store.count()).toMatchObject({ settling: 0, connected: 0, leaving: 0, ended: 0 });
  expect(at).toMatchObject({ heldBy: null, open: 0 });
});

it('takes no more once we are to end, and leaves the rest to the next', async () => {
  const { world, hash, run, at } = setUp({ [field(1)]: job(1), [field(2)]: job(2) }, { remove: true });
  at.found = async () => {
    at.isOpen = false;
    return FOUND;
  };
  await run();
  expect([hash.size, at.heldBy, at.open]).toEqual([2, null, 0]);
  expect(await world.store.count()).toMatchObject({ awaiting: 0, connected: 0 });
});

describe('what has failed once is tried again', () => {
  const HOUR_MS = 3_600_000;
  const ofAnHour = (n: number) => job(n).replace('10000000000', String(HOUR_MS * 1e6));

  it('where the jobs can not be read for a while, which is said once', async () => {
    const { world, run, at, counts } = setUp({ [field(1)]: ofAnHour(1) }, { away: true });
    world.join(room(1), identity(1), sid(1));
    await run();
    await world.clock.advance(60_000);
    at.away = false;
    await world.clock.advance(300_000);
    expect(counts()).toMatchObject({ taken: 1 });
    expect(world.lines.filter((line) => line.includes('could not be taken over'))).toHaveLength(1);
    expect(at).toMatchObject({ heldBy: null, open: 0 });
  });

  it('where one of them can not be kept', async () => {
    const { world, run, counts } = setUp(Object.fromEntries([1, 2, 3].map((n) => [field(n), ofAnHour(n)])));
    for (const n of [1, 2, 3]) world.join(room(n), identity(n), sid(n));
    const update = world.store.update.bind(world.store);
    let updates = 0;
    world.store.update = (where, once, step, urgency) => {
      updates += 1;
      if (updates === 2) return Promise.reject(new StoreUnavailable(new Error('told to be')));
      return update(where, once, step, urgency);
    };
    await run();
    await world.clock.advance(20_000);
    expect(counts()).toMatchObject({ taken: 2, known: 1 });
    expect(await world.store.count()).toMatchObject({ connected: 3 });
  });
});

it('an old job does not take the place of what its participant has delegated to us since', async () => {
  const { world, run } = setUp({ [field(1)]: job(1) });
  world.join(room(1), identity(1), sid(1));
  const handles = { kind: 'delay', delayId: 'delay-newer' as DelayId } as const;
  const owner = participantOwner(room(1), identity(1));
  const { id: _, ...rest } = handOver(1, { owner, room: room(1), identities: [identity(1)], handles, delayMs: 60_000 });
  await world.engine.handOver(rest);
  await run();
  await world.clock.advance(10_000);
  expect(world.actions('cancel')).toEqual([]);
  expect(await world.store.count()).toMatchObject({ connected: 1, cancelling: 0 });
});

it('a job that another one has replaced while it waited for its homeserver is not removed', async () => {
  const { world, hash, run, at } = setUp({ [field(1)]: job(1) }, { found: async () => LOST, remove: true });
  await run();
  hash.set(field(1), job(1).replace('delay-1', 'delay-newer'));
  at.found = async () => FOUND;
  await world.clock.advance(11_000);
  expect([...hash.keys()]).toEqual([field(1)]);
});
