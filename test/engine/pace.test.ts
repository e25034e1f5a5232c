// Calls that nobody would miss, to a homeserver that may limit calls without our having seen it.
import { expect, it } from 'vitest';
import { createPace } from '../../src/engine/pace.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

it('leaves what Synapse lets through by default to others, and takes what they leave', async () => {
  const clock = createVirtualClock();
  const pace = createPace(clock.nowMs);
  for (let n = 0; n < 3; n += 1) {
    expect(pace.waitMs(false)).toBe(0);
    pace.begun('doubtful');
  }
  expect(pace.waitMs(false)).toBe(1_000);
  // Somebody else's.
  pace.begun('restart');
  expect(pace.waitMs(false)).toBe(2_000);
  await clock.advance(2_000);
  expect(pace.waitMs(false)).toBe(0);
});

it('a homeserver that has let much more through has another limit, or none; until it refuses', () => {
  const pace = createPace(createVirtualClock().nowMs);
  pace.begun('doubtful');
  for (let n = 0; n < 40; n += 1) {
    pace.begun('restart');
    pace.passed();
  }
  expect(pace.waitMs(false)).toBe(0);
  pace.refused();
  expect(pace.waitMs(false)).toBe(3_000);
});

it('calls that fail prove nothing, and cost nothing', () => {
  const pace = createPace(createVirtualClock().nowMs);
  pace.begun('doubtful');
  for (let n = 0; n < 40; n += 1) pace.begun('restart');
  expect(pace.waitMs(false)).toBeGreaterThan(0);
  for (let n = 0; n < 40; n += 1) pace.failed();
  expect(pace.waitMs(false)).toBe(0);
});
