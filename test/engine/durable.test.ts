// Nobody is promised anything before the disk has it; what follows from a commit does not wait for the disk.
import { expect, test } from 'vitest';
import { StoreUnavailable } from '../../src/store/store.ts';
import { handOver, identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

/** A store whose disk says when it has written all down. */
function onSlowDisk(leftMs: number): { world: EngineWorld; disk: { wrote: () => void; failed: () => void } } {
  const world = new EngineWorld({
    waitMs: { left: leftMs, lost: leftMs, replaced: 1_000, sfuDown: 15_000, aborted: 30_000, missing: 4_000 },
  });
  const disk = { wrote: () => {}, failed: () => {} };
  world.store.durable = () =>
    new Promise((resolve, reject) => {
      disk.wrote = resolve;
      disk.failed = () => reject(new StoreUnavailable(new Error('EIO: i/o error, fdatasync')));
    });
  return { world, disk };
}

function watch<T>(promise: Promise<T>): { state: unknown } {
  const seen: { state: unknown } = { state: 'waits' };
  promise.then(
    (value) => {
      seen.state = value;
    },
    (error: unknown) => {
      seen.state = error;
    },
  );
  return seen;
}

async function inCall(world: EngineWorld, disk: { wrote: () => void }): Promise<void> {
  world.join(room(), identity(1), sid(1));
  const { id: _, ...rest } = handOver(1, { room: room() });
  const handed = watch(world.engine.handOver(rest));
  await world.clock.advance(50);
  expect(handed.state).toBe('waits');
  disk.wrote();
  await world.clock.advance(2_000);
  expect(handed.state).toMatchObject({ kind: 'created' });
}

test('a webhook is answered when the disk has it, and its leave is sent before', async () => {
  const { world, disk } = onSlowDisk(0);
  await inCall(world, disk);
  world.leave(room(), identity(1));
  const told = watch(world.webhook(room(), identity(1), sid(1), 'left'));
  await world.clock.advance(50);
  expect(world.actions('send')).toHaveLength(1);
  expect(told.state).toBe('waits');
  disk.wrote();
  await world.clock.advance(1);
  expect(told.state).toBe('applied');
});

test('a disk that fails: the webhook is refused, and when it comes again it is not taken for kept', async () => {
  const { world, disk } = onSlowDisk(1_000);
  await inCall(world, disk);
  world.leave(room(), identity(1));
  const told = watch(world.webhook(room(), identity(1), sid(1), 'left'));
  await world.clock.advance(50);
  disk.failed();
  await world.clock.advance(1);
  expect(told.state).toBeInstanceOf(StoreUnavailable);
  expect(world.lines.find((line) => line.includes('can not make writes durable'))).toContain('"why":"EIO: i/o error, fdatasync"');
  expect(await world.metric('lastwill_store_up')).toBe(0);
  const again = watch(world.webhook(room(), identity(1), sid(1), 'left'));
  await world.clock.advance(50);
  expect(again.state).toBe('waits');
  disk.wrote();
  await world.clock.advance(1);
  expect(again.state).toBe('ignored');
  expect(await world.metric('lastwill_store_up')).toBe(1);
});

test('a store that stays away is told of once a minute, with why it is by then: a connection first ends, and only then is refused', async () => {
  const world = new EngineWorld();
  world.engine.start();
  let why = 'Socket closed unexpectedly';
  const { update, ping, claimDue } = world.store;
  const refused = async (): Promise<never> => {
    throw new StoreUnavailable(new Error(why));
  };
  Object.assign(world.store, { update: refused, ping: refused, claimDue: refused });
  expect(await world.engine.canKeep()).toBe(false);
  why = 'WRONGPASS';
  await world.clock.advance(150_000);
  const told = world.lines.filter((line) => line.includes('can not make writes durable')).map((line) => JSON.parse(line).why);
  expect(told).toEqual(['Socket closed unexpectedly', 'WRONGPASS', 'WRONGPASS']);
  Object.assign(world.store, { update, ping, claimDue });
  await world.clock.advance(2_000);
  expect(world.lines.filter((line) => line.includes('writable again'))).toHaveLength(1);
});
