import { expect, it } from 'vitest';
import type { HomeserverUrl, ServerName } from '../../src/delegation/ids.ts';
import type { Discovery } from '../../src/homeserver/discovery.ts';
import { createServed } from '../../src/homeserver/served.ts';
import { takeOver } from '../../src/takeover/take-over.ts';
import { createLogger } from '../../src/telemetry.ts';
import { EngineWorld } from '../engine/world.ts';
import { identity, room, sid } from '../support/fixtures.ts';
import { START_MS } from '../support/virtual-clock.ts';

const URL = 'https://matrix.example.org' as HomeserverUrl;
const field = (n: number) => JSON.stringify([room(n), identity(n)]);
const job = (n: number, serverName = 'example.org', restartedMs = START_MS - 1_000) =>
  JSON.stringify({
    Params: { DelayId: `delay-${n}`, DelayTimeout: 10e9, ServerName: serverName, LiveKitRoom: room(n), LiveKitIdentity: identity(n) },
    RestartedAt: new Date(restartedMs).toISOString(),
  });

function setUp(jobs: Record<string, string>, remove = false, free = true, away = false) {
  const world = new EngineWorld();
  let held = false;
  const hash = new Map(Object.entries(jobs));
  const served = createServed({
    ...{ fullAccess: { all: false, names: ['example.org' as ServerName] }, overrides: new Map([['example.org' as ServerName, URL]]) },
    ...{ allowPrivate: false, allowLoopback: false, insecureTls: false },
  });
  const discovery: Discovery = { resolve: async () => ({ kind: 'resolved', url: URL }), warm: () => () => {} };
  const run = async () => {
    const done = takeOver({
      hash: {
        claim: async () => {
          held ||= free;
          return free;
        },
        giveUp: async () => {
          held = false;
        },
        read: async () => {
          if (away) throw new Error('away');
          return hash;
        },
        remove: async (fields) => {
          for (const one of fields) hash.delete(one);
        },
        close: async () => {},
      },
      ...{ engine: world.engine, served, discovery, remove, log: createLogger('info', (line) => void world.lines.push(line)) },
    });
    await Promise.allSettled([done, world.clock.settle()]);
    return done;
  };
  return { world, hash, run, isHeld: () => held };
}

it('keeps those who are on the SFU alive at once, and sends the leave of those who are gone', async () => {
  const { world, run } = setUp({ [field(1)]: job(1), [field(2)]: job(2) });
  world.join(room(1), identity(1), sid(1));
  expect(await run()).toEqual({ taken: 2, known: 0, refused: 0 });
  await world.clock.advance(100);
  expect(world.actions('restart')).toMatchObject([{ target: 'delay-1' }]);
  await world.clock.advance(5_000);
  expect(world.actions('send')).toMatchObject([{ target: 'delay-2' }]);
});

it('does nothing the second time, and leaves the originals in place', async () => {
  const { world, hash, run } = setUp({ [field(1)]: job(1) });
  world.join(room(1), identity(1), sid(1));
  await run();
  await world.clock.advance(100);
  expect(await run()).toEqual({ taken: 0, known: 1, refused: 0 });
  expect(hash.size).toBe(1);
  expect(await world.store.count()).toMatchObject({ connected: 1 });
});

it('says what it can not take, without showing it, and removes only what is kept', async () => {
  const { world, hash, run } = setUp({ [field(1)]: job(1), [field(2)]: job(2, 'foreign.example'), broken: 'delay-secret' }, true);
  expect(await run()).toEqual({ taken: 1, known: 0, refused: 2 });
  expect([...hash.keys()]).toEqual([field(2), 'broken']);
  const said = world.lines.filter((line) => line.includes('could not be taken over'));
  expect(said).toHaveLength(2);
  expect(world.lines.join()).not.toMatch(/delay-/);
});

it('lets another one begin at once where the jobs can not be read', async () => {
  const { run, isHeld } = setUp({ [field(1)]: job(1) }, false, true, true);
  await expect(run()).rejects.toThrow('away');
  expect(isHeld()).toBe(false);
});
