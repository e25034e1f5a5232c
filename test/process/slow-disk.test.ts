// What a slow disk costs has a reason in the log.
import { expect, test } from 'vitest';
import { watchDisk } from '../../src/process/slow-disk.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

test('a slow disk is told of once a minute, and one that is not is not', async () => {
  const clock = createVirtualClock();
  const told: unknown[] = [];
  const synced = watchDisk({ clock, log: { warn: (fields) => void told.push(fields) } });
  for (const tookMs of [5, 200, 499]) synced(tookMs);
  expect(told).toEqual([]);
  for (const tookMs of [1_000, 2_000]) synced(tookMs);
  expect(told).toEqual([{ syncedMs: 1_000 }]);
  await clock.advance(60_000);
  synced(700);
  expect(told).toEqual([{ syncedMs: 1_000 }, { syncedMs: 700 }]);
});
