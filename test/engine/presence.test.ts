// What a look at a room is evidence of.
import { expect, test } from 'vitest';
import type { Identity, RoomName, RoomSid, Sid } from '../../src/delegation/ids.ts';
import { createPresence, type Evidence, type Presence } from '../../src/engine/presence.ts';
import type { Look } from '../../src/sfu/rooms.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const ROOM = 'room' as RoomName;
const people = (...sids: string[]): Look => ({
  kind: 'list',
  present: sids.map((sid) => ({ identity: `of ${sid[3]}` as Identity, sid: sid as Sid, joinedAtMs: null, active: true })),
  roomSid: sids.length > 0 ? undefined : (null as RoomSid | null),
});

/** The evidence of one look after the other, an interval apart. */
async function evidenceOf(...looks: readonly Look[]): Promise<Evidence[]> {
  const clock = createVirtualClock();
  const left = [...looks];
  const look = async (): Promise<Look> => left.shift() as Look;
  const presence: Presence = createPresence({
    ...{ rooms: { look, answers: async () => true }, clock },
    ...{ onReturn: () => {}, onAnswer: () => {} },
  });
  const found: Evidence[] = [];
  for (let count = 0; count < looks.length; count += 1) {
    found.push(await presence.ask(ROOM, clock.nowMs(), 0));
    await clock.advance(30_000);
  }
  return found;
}
const afterRestart = async (...looks: readonly Look[]) => ({ afterRestart: true, ...(await evidenceOf(...looks)).at(-1) }).afterRestart;

test('of all who were there nobody is, and somebody else is: the SFU forgot them, and some are back', async () => {
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people('PA_a2'))).toBe(true);
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people(), people('PA_a2'))).toBe(true);
});

test('one of them still there, one alone, or nobody yet, is no sign of that', async () => {
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people('PA_b1', 'PA_a2'))).toBe(false);
  expect(await afterRestart(people('PA_a1'), people('PA_b1'))).toBe(false);
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people())).toBe(false);
  expect(await afterRestart(people('PA_a1', 'PA_b1'))).toBe(false);
});

test('the sign is one of that look, not of those after it', async () => {
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people('PA_a2', 'PA_b2'), people('PA_a2'))).toBe(false);
});
