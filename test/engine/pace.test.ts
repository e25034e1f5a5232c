// Calls that nobody would miss, to a homeserver that may limit calls without our having seen it.
import { expect, it } from 'vitest';
import { createPace } from '../../src/engine/pace.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const END = { action: 'send' } as const;
const RESTART = { action: 'restart' } as const;

it('are three at once, and then few, whatever else is called', async () => {
  const clock = createVirtualClock();
  const pace = createPace(clock.nowMs);
  for (let n = 0; n < 3; n += 1) {
    pace.begun('restart');
    expect(pace.waitMs(END, false)).toBe(0);
    pace.begun('doubtful');
  }
  expect(pace.waitMs(END, false)).toBe(5_000);
  expect(pace.waitMs(END, true)).toBe(0);
  await clock.advance(5_000);
  expect(pace.waitMs(END, false)).toBe(0);
});

it('a homeserver that has let much more through has another limit, or none; until it refuses', () => {
  const pace = createPace(createVirtualClock().nowMs);
  for (let n = 0; n < 40; n += 1) {
    pace.begun('doubtful');
    pace.passed();
  }
  expect(pace.waitMs(END, false)).toBe(0);
  pace.refused();
  expect(pace.waitMs(END, false)).toBeGreaterThan(0);
});

it('what was carried out was no invention, and does not count among them', () => {
  const pace = createPace(createVirtualClock().nowMs);
  for (let n = 0; n < 12; n += 1) {
    expect(pace.waitMs(END, false)).toBe(0);
    pace.begun('doubtful');
    pace.passed();
    pace.proven();
  }
  for (let n = 0; n < 3; n += 1) pace.begun('doubtful');
  expect(pace.waitMs(END, false)).toBe(5_000);
});

it('calls that fail prove nothing', () => {
  const pace = createPace(createVirtualClock().nowMs);
  for (let n = 0; n < 40; n += 1) {
    pace.begun('doubtful');
    pace.failed();
    pace.passed();
  }
  expect(pace.waitMs(END, false)).toBeGreaterThan(0);
});

it('restarts among them leave the others what they may need at once', async () => {
  const clock = createVirtualClock();
  const pace = createPace(clock.nowMs);
  expect(pace.waitMs(RESTART, false)).toBe(0);
  for (let n = 0; n < 2; n += 1) pace.begun('restart');
  expect(pace.waitMs(RESTART, false)).toBe(1_000);
  expect(pace.waitMs(END, false)).toBe(0);
  await clock.advance(1_000);
  expect(pace.waitMs(RESTART, false)).toBe(0);
});
