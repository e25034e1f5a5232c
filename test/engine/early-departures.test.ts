// Which departures a hand-over may have been overtaken by.
import { expect, test } from 'vitest';
import type { EventOf } from '../../src/delegation/state.ts';
import { createEarlyDepartures } from '../../src/engine/early-departures.ts';
import { identity, room, sid } from '../support/fixtures.ts';

const left = (n: number): EventOf<'left'> => ({
  ...{ kind: 'left', identity: identity(n), sid: sid(n), joinedAtMs: null, roomSid: null },
  cause: 'left',
});

async function told(applied: { rows: number; duplicate: boolean }) {
  let nowMs = 0;
  const departures = createEarlyDepartures({ nowMs: () => nowMs });
  await departures.heard(room(1), left(1), async () => applied);
  return {
    departures,
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

test('those that concerned no delegation, for a while', async () => {
  const { departures, pass } = await told({ rows: 0, duplicate: false });
  expect(departures.of(room(1), [identity(2), identity(1)])).toEqual(left(1));
  expect(departures.of(room(2), [identity(1)])).toBeNull();
  expect(departures.of(room(1), [identity(2)])).toBeNull();
  pass(20_000);
  expect(departures.of(room(1), [identity(1)])).toBeNull();
});

test('nobody who is on their way back, and no session that seems to have begun after the hand-over', async () => {
  const departures = createEarlyDepartures({ nowMs: () => 0 });
  const applied = async () => ({ rows: 0, duplicate: false });
  for (const cause of ['replaced', 'sfu_down'] as const) {
    await departures.heard(room(1), { ...left(1), cause }, applied);
    expect(departures.of(room(1), [identity(1)])).toBeNull();
  }
  await departures.heard(room(1), { ...left(1), joinedAtMs: 3_000 }, applied);
  expect(departures.of(room(1), [identity(1)])).toEqual(left(1));
});

test('none that concerned one, then or when it was told before', async () => {
  for (const applied of [
    { rows: 1, duplicate: false },
    { rows: 0, duplicate: true },
  ]) {
    const { departures } = await told(applied);
    expect(departures.of(room(1), [identity(1)])).toBeNull();
  }
});
