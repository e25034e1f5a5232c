import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { RoomName } from '../../src/delegation/ids.ts';
import { createRoomCreation, singleFlight } from '../../src/sfu/room-creation.ts';
import { type FakeSfu, startFakeSfu } from '../support/fake-sfu.ts';
import { callsTo } from '../support/sfu-calls.ts';

const ROOM = 'room-1' as RoomName;

describe('on an SFU', () => {
  let sfu: FakeSfu;
  const bodies: unknown[] = [];
  beforeEach(async () => {
    sfu = await startFakeSfu({ path: '/livekit' });
    bodies.length = 0;
    sfu.apiFault = (_method, body) => {
      bodies.push(body);
      return undefined;
    };
  });
  afterEach(() => sfu.close());

  test('a room is made with its two time limits, behind a path as well', async () => {
    expect(await createRoomCreation(sfu.apiUrl, sfu, callsTo(sfu.apiUrl)).create(ROOM)).toBe(true);
    expect(bodies).toEqual([{ name: 'room-1', emptyTimeout: 300, departureTimeout: 20 }]);
    expect(sfu.calls).toEqual({ CreateRoom: 1 });
  });

  test.each([403, 500, 503])('that answers %i', async (status) => {
    sfu.apiFault = () => ({ status });
    expect(await createRoomCreation(sfu.apiUrl, sfu, callsTo(sfu.apiUrl)).create(ROOM)).toBe(false);
    expect(sfu.calls).toEqual({ CreateRoom: 1 });
  });

  test('that knows another secret', async () => {
    const creation = createRoomCreation(
      sfu.apiUrl,
      { key: sfu.key, secret: 'another-secret-of-at-least-32-characters' },
      callsTo(sfu.apiUrl),
    );
    expect(await creation.create(ROOM)).toBe(false);
  });

  test('that is away', async () => {
    await sfu.killSfu();
    expect(await createRoomCreation(sfu.apiUrl, sfu, callsTo(sfu.apiUrl)).create(ROOM)).toBe(false);
  });
});

describe('who asks for a room that is being made', () => {
  const asked: { room: RoomName; answer: (made: boolean) => void }[] = [];
  const rooms = () => {
    asked.length = 0;
    return singleFlight((room) => new Promise((answer) => void asked.push({ room, answer })));
  };

  test('shares its answer', async () => {
    const { create } = rooms();
    const all = Promise.all([create(ROOM), create(ROOM), create('room-2' as RoomName), create(ROOM)]);
    expect(asked.map(({ room }) => room)).toEqual(['room-1', 'room-2']);
    asked[0]?.answer(true);
    asked[1]?.answer(false);
    expect(await all).toEqual([true, true, false, true]);
  });

  test('comes later, and asks again', async () => {
    const { create } = rooms();
    for (const made of [false, true]) {
      const answer = create(ROOM);
      asked.at(-1)?.answer(made);
      expect(await answer).toBe(made);
    }
    expect(asked).toHaveLength(2);
  });
});
