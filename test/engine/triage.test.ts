import { expect, test } from 'vitest';
import { createTriage } from '../../src/engine/triage.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

test('what ran out before there was a word of the homeserver may have been restarted by others', async () => {
  const clock = createVirtualClock();
  const triage = createTriage(clock.nowMs);
  const lostMs = clock.nowMs() - 1;
  await clock.advance(10);
  expect(triage.hasRunOut({ lostMs })).toBe(false);
  expect(triage.hasRunOut({ lostMs: clock.nowMs() - 1 })).toBe(true);
});

test('that some calls fail says nothing of time, where others are answered', async () => {
  const clock = createVirtualClock();
  const triage = createTriage(clock.nowMs);
  for (let n = 0; n < 10; n += 1) {
    triage.heard();
    await clock.advance(500);
    triage.failed();
  }
  expect(triage.hasRunOut({ lostMs: clock.nowMs() - 400 })).toBe(true);
});

test('of a homeserver that is away nothing has run out, nor what did so until it is heard of again', async () => {
  const clock = createVirtualClock();
  const triage = createTriage(clock.nowMs);
  triage.heard();
  await clock.advance(1_500);
  triage.failed();
  await clock.advance(10_000);
  const lostMs = clock.nowMs() - 1;
  expect(triage.hasRunOut({ lostMs })).toBe(false);
  triage.heard();
  await clock.advance(10);
  expect(triage.hasRunOut({ lostMs })).toBe(false);
  expect(triage.hasRunOut({ lostMs: clock.nowMs() - 1 })).toBe(true);
});
