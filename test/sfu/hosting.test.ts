// Whether a node has a room: held against a real SFU with a Redis by test/e2e/sfu-with-redis.test.ts.
import { describe, expect, test } from 'vitest';
import type { RoomName } from '../../src/delegation/ids.ts';
import { createHosting } from '../../src/sfu/hosting.ts';
import type { Called } from '../../src/sfu/room-service.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const ROOM = 'room' as RoomName;
const NOWHERE_MS = 3_000;

/** An SFU that has just been away, and has the room on a node or not; answers to be had as they come. */
function begin() {
  const clock = createVirtualClock();
  const at = { isThere: false, asked: 0 };
  const call = (): Promise<Called> => {
    at.asked += 1;
    const called: Called = at.isThere ? { kind: 'answered', message: {} } : { kind: 'nowhere' };
    return new Promise((resolve) => void clock.after(at.isThere ? 2 : NOWHERE_MS, () => resolve(called)));
  };
  let doubts = 0;
  const hosting = createHosting({ call }, clock, () => {
    doubts += 1;
  });
  /** Who was there first is on a node, until told otherwise. */
  const oldest = { asked: 0, answer: 'answered' as Called['kind'] | null };
  const askOldest = async () => {
    oldest.asked += 1;
    await new Promise<void>((resolve) => void clock.after(2, resolve));
    return oldest.answer;
  };
  const ask = () => {
    const asked: { answer?: boolean } = {};
    void hosting.isHosted(ROOM, askOldest).then((answer) => (asked.answer = answer));
    return asked;
  };
  const look = async () => {
    const asked = ask();
    await clock.advance(10);
    return asked.answer;
  };
  return { clock, hosting, at, oldest, ask, look, doubts: () => doubts };
}

test('who comes back to the room while a node is looked for in vain is not lost by that', async () => {
  const { clock, hosting, at, ask } = begin();
  await clock.advance(1_000);
  hosting.failed();
  await clock.advance(1);
  const before = ask();
  await clock.advance(1_000);
  at.isThere = true;
  const after = ask();
  await clock.advance(10);
  expect([before.answer, after.answer]).toEqual([undefined, true]);
  await clock.advance(NOWHERE_MS);
  expect(before.answer, 'of those who were listed before').toBe(false);
  const asked = at.asked;
  expect([ask(), await clock.advance(10)][0]).toEqual({ answer: true });
  expect(at.asked, 'the older answer, which came last, counts for nobody else').toBe(asked);
});

test('all who look in the same moment share a question', async () => {
  const { clock, hosting, at, ask } = begin();
  await clock.advance(1_000);
  hosting.failed();
  await clock.advance(1);
  const all = [ask(), ask()];
  await clock.advance(NOWHERE_MS);
  expect(all).toEqual([{ answer: false }, { answer: false }]);
  expect(at.asked).toBe(1);
});

describe('while nothing speaks against a room', () => {
  test('who was there first is asked for after our start, and every five minutes: one call for each', async () => {
    const { clock, at, oldest, ask, look } = begin();
    const all = [ask(), ask()];
    await clock.advance(1);
    expect([all, oldest.asked], 'nobody waits for that').toEqual([[{ answer: true }, { answer: true }], 1]);
    for (let minute = 0; minute < 10; minute += 1) {
      expect(await look()).toBe(true);
      await clock.advance(60_000);
    }
    expect([oldest.asked, at.asked]).toEqual([2, 0]);
  });

  test('who was there first is on no node: then the next look asks for the room, and another for who came next', async () => {
    const { clock, at, oldest, look, doubts } = begin();
    at.isThere = true;
    expect(await look()).toBe(true);
    expect(doubts()).toBe(0);
    oldest.answer = 'nowhere';
    await clock.advance(300_000);
    expect([await look(), at.asked]).toEqual([true, 0]);
    expect(doubts(), 'that look is to be soon').toBe(1);
    oldest.answer = 'answered';
    expect([await look(), at.asked, oldest.asked]).toEqual([true, 1, 2]);
    expect([await look(), at.asked, oldest.asked]).toEqual([true, 1, 3]);
    expect([await look(), at.asked, oldest.asked]).toEqual([true, 1, 3]);
  });

  test('nor has any node the room', async () => {
    const { clock, oldest, ask, look } = begin();
    oldest.answer = 'nowhere';
    await look();
    const after = ask();
    await clock.advance(NOWHERE_MS);
    expect(after.answer).toBe(false);
  });

  test.each(['not_found', 'failed', null] as const)('who was there first can not be asked for (%s): the room is', async (answer) => {
    const { clock, at, oldest, ask, look } = begin();
    oldest.answer = answer;
    await look();
    expect([at.asked, oldest.asked]).toEqual([1, 1]);
    await clock.advance(NOWHERE_MS);
    const after = ask();
    await clock.advance(NOWHERE_MS);
    expect(after.answer).toBe(false);
  });

  test('failures of the SFU, however many, do not put it off', async () => {
    const { clock, hosting, at, oldest, look } = begin();
    at.isThere = true;
    await look();
    for (let minute = 0; minute < 9; minute += 1) {
      await clock.advance(60_000);
      hosting.failed();
      await clock.advance(1);
      await look();
      await look();
    }
    expect(oldest.asked).toBe(2);
  });
});
