// Which room is listed is asked once for all who come into it, and anew whenever it may be another one.
import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { RoomName } from '../../src/delegation/ids.ts';
import type { Look } from '../../src/sfu/rooms.ts';
import { type FakeSfu, startFakeSfu } from '../support/fake-sfu.ts';
import { roomsAt } from '../support/sfu-calls.ts';

const ROOM = '!room:example.org' as RoomName;
const AN_HOUR_MS = 3_600_000;
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** We have run for an hour, with a clock that can be put forward. */
async function begin(): Promise<{
  sfu: FakeSfu;
  sid: (startedAgoMs?: number) => Promise<Look>;
  asked: () => number;
  pass: (ms: number) => void;
}> {
  const sfu = await startFakeSfu();
  closers.push(() => sfu.close());
  const clock = systemClock();
  let passedMs = -AN_HOUR_MS;
  const rooms = roomsAt(sfu.apiUrl, sfu, { ...clock, nowMs: () => clock.nowMs() + passedMs });
  passedMs = 0;
  return {
    sfu,
    sid: (startedAgoMs = Number.POSITIVE_INFINITY) => rooms.look(ROOM, { whichRoom: true, startedAgoMs }),
    asked: () => sfu.calls.ListRooms ?? 0,
    pass: (ms) => {
      passedMs += ms;
    },
  };
}

test('asked once as long as one of those stays who were there', async () => {
  const { sfu, sid, asked, pass } = await begin();
  sfu.join(ROOM, 'alice');
  sfu.join(ROOM, 'bob');
  const first = await sid();
  expect(first).toMatchObject({ roomSid: expect.stringMatching(/^RM_/) });
  sfu.join(ROOM, 'carol');
  sfu.leave(ROOM, 'alice');
  pass(AN_HOUR_MS);
  expect(await sid()).toMatchObject({
    present: [{ identity: 'bob' }, { identity: 'carol' }],
    roomSid: (first as { roomSid: string }).roomSid,
  });
  expect(asked()).toBe(1);
  sfu.leave(ROOM, 'bob');
  await sid();
  expect(asked(), 'none of those who were there is there').toBe(2);
  await sid();
  expect(asked(), 'and the next time one of them is').toBe(2);
});

test('another room of the same name has another SID', async () => {
  const { sfu, sid } = await begin();
  sfu.join(ROOM, 'alice');
  const before = await sid();
  sfu.deleteRoom(ROOM);
  await vi.waitFor(() => expect(sfu.webhooks.some(({ event }) => event === 'room_finished')).toBe(true));
  sfu.join(ROOM, 'alice');
  const after = await sid();
  expect(after).toMatchObject({ roomSid: expect.stringMatching(/^RM_/) });
  expect((after as { roomSid: string }).roomSid).not.toBe((before as { roomSid: string }).roomSid);
});

test('asked anew after a call that came to nothing, and where a webhook has told that the room has started', async () => {
  const { sfu, sid, asked, pass } = await begin();
  sfu.join(ROOM, 'alice');
  await sid();
  pass(1_000);
  sfu.apiFault = () => ({ status: 503 });
  expect(await sid()).toMatchObject({ kind: 'unreachable' });
  sfu.apiFault = null;
  pass(1_000);
  await sid();
  expect(asked()).toBe(2);
  pass(1_000);
  await sid(500);
  expect(asked()).toBe(3);
  pass(1_000);
  await sid(1_500);
  expect(asked(), 'by then it had').toBe(3);
});

test('an empty room is asked for each time: none of its sessions speaks for it', async () => {
  const { sfu, sid, asked } = await begin();
  sfu.join(ROOM, 'alice');
  sfu.leave(ROOM, 'alice');
  await sid();
  await sid();
  expect(asked()).toBe(2);
});
