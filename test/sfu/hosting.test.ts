// Whether a node has a room: held against a real SFU with a Redis by test/e2e/sfu-with-redis.test.ts.
import { expect, test } from 'vitest';
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
  const hosting = createHosting({ call }, clock);
  const ask = () => {
    const asked: { answer?: boolean } = {};
    void hosting.isHosted(ROOM).then((answer) => (asked.answer = answer));
    return asked;
  };
  return { clock, hosting, at, ask };
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
