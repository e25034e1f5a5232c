// A false leave after the process was stopped has a reason in the log.
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Cancel } from '../../src/clock.ts';
import { watchStandstill } from '../../src/process/standstill.ts';
import { createVirtualClock, type VirtualClock } from '../support/virtual-clock.ts';

let clock: VirtualClock;
let told: { stoodStillMs: number }[];
let stop: Cancel;
beforeEach(() => {
  clock = createVirtualClock();
  told = [];
  stop = watchStandstill({ clock, log: { warn: (fields) => void told.push(fields as (typeof told)[number]) } });
});
afterEach(() => stop());

test.each(['stall', 'sleep'] as const)('a %s is told once, with how long it was', async (kind) => {
  await clock.advance(10_000);
  clock[kind](60_000);
  await clock.advance(10_000);
  expect(told).toHaveLength(1);
  expect(told[0]?.stoodStillMs).toBeGreaterThanOrEqual(59_000);
  expect(told[0]?.stoodStillMs).toBeLessThanOrEqual(60_000);
});

test('a busy moment is not', async () => {
  await clock.advance(10_000);
  clock.stall(1_500);
  await clock.advance(10_000);
  expect(told).toEqual([]);
});
