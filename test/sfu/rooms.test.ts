// Asking the SFU who is there: three answers, and unknown is never absent.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { Identity, RoomName, Sid } from '../../src/delegation/ids.ts';
import type { Seen } from '../../src/delegation/state.ts';
import type { Look, RoomsTold } from '../../src/sfu/rooms.ts';
import { type FakeSfu, type FakeSfuOptions, startFakeSfu } from '../support/fake-sfu.ts';
import { roomsAt } from '../support/sfu-calls.ts';

const ROOM = '!room:example.org' as RoomName;
const clock = systemClock();
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function begin(options: FakeSfuOptions = {}): Promise<{ sfu: FakeSfu; rooms: RoomsTold }> {
  const sfu = await startFakeSfu(options);
  closers.push(() => sfu.close());
  // We have run for an hour.
  let agoMs = 3_600_000;
  const rooms = roomsAt(sfu.apiUrl, sfu, { ...clock, nowMs: () => clock.nowMs() - agoMs });
  agoMs = 0;
  return { sfu, rooms };
}

/** Answers everything alike, and remembers what was asked for. */
async function scripted(status: number, body: string, type = 'application/json'): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server: Server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(status, { 'content-type': type }).end(body);
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => void server.close(() => resolve()));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

const presentOf = (look: Look): readonly Seen[] => (look.kind === 'list' ? look.present : []);

describe('who is in a room', () => {
  test('those who are, ACTIVE or on their way', async () => {
    const { sfu, rooms } = await begin();
    const alice = sfu.join(ROOM, 'alice');
    const bob = sfu.knock(ROOM, 'bob');
    const look = await rooms.look(ROOM);
    expect(look).toEqual({
      kind: 'list',
      present: [
        { identity: 'alice', sid: alice, joinedAtMs: expect.any(Number), active: true },
        { identity: 'bob', sid: bob, joinedAtMs: expect.any(Number), active: false },
      ],
      roomSid: undefined,
    });
    expect(sfu.calls, 'one call does where somebody is there').toEqual({ ListParticipants: 1 });
  });

  test('nobody, and which room that is', async () => {
    const { sfu, rooms } = await begin();
    sfu.join(ROOM, 'alice');
    sfu.leave(ROOM, 'alice');
    await sfu.settled();
    const { roomSid } = sfu.webhooks[0] ?? {};
    expect(await rooms.look(ROOM)).toEqual({ kind: 'list', present: [], roomSid });
    expect(await rooms.look('elsewhere' as RoomName)).toEqual({ kind: 'list', present: [], roomSid: null });
  });

  test('whatever metadata some of them have given themselves', { timeout: 60_000 }, async () => {
    // LiveKit takes half a megabyte of everybody, and JSON writes a control character as six.
    const metadata = '\u0001'.repeat(512 * 1024);
    const [first, ...others] = Array.from({ length: 22 }, (_, index) => ({
      identity: `${index}`,
      sid: `PA_${index}`,
      state: 'ACTIVE',
      metadata,
    }));
    const list = JSON.stringify({ participants: [first, { identity: 'alice', sid: 'PA_alice', state: 'ACTIVE' }, ...others] });
    expect(list.length).toBeGreaterThan(64 * 1024 * 1024);
    const { url } = await scripted(200, list);
    // However busy this machine is, it is not given up.
    const patient = { ...clock, after: () => () => {} };
    const look = await roomsAt(url, { key: 'key', secret: 'secret' }, patient).look(ROOM);
    expect(presentOf(look).map(({ identity }) => identity)).toContain('alice');
  });

  test('a room that an older SFU says is not found has nobody in it', async () => {
    const { url } = await scripted(404, JSON.stringify({ code: 'not_found', msg: 'requested room does not exist' }));
    expect(await roomsAt(url, { key: 'k', secret: 's' }).look(ROOM)).toEqual({ kind: 'list', present: [], roomSid: null });
  });

  test('a list may hold who has just gone, or entries that name nobody: they are not there', async () => {
    const participants = [
      { sid: 'PA_1', identity: 'gone', state: 'DISCONNECTED' },
      { sid: 'PA_2', identity: '', state: 'ACTIVE' },
      { sid: '', identity: 'unborn', state: 'JOINING' },
      { sid: 'PA_3', identity: 'alice', state: 'ACTIVE', joined_at: '1795420801', unheard_of: true },
    ];
    const { url } = await scripted(200, JSON.stringify({ participants, rooms: [] }));
    expect(await roomsAt(url, { key: 'k', secret: 's' }).look(ROOM)).toEqual({
      kind: 'list',
      present: [{ identity: 'alice', sid: 'PA_3', joinedAtMs: null, active: true }],
      roomSid: undefined,
    });
  });
});

describe('an SFU that asks the node of a room for its list (enable_psrpc_for_get_list_participants)', () => {
  const UNANSWERED_MS = 3_000;
  async function beginByNode(): Promise<Awaited<ReturnType<typeof begin>>> {
    const begun = await begin();
    const { sfu } = begun;
    sfu.apiFault = (method) =>
      method === 'ListParticipants'
        ? { delayMs: UNANSWERED_MS, status: 503, body: JSON.stringify({ code: 'unavailable', msg: 'no response from servers' }) }
        : undefined;
    return begun;
  }

  test('a room that does not exist is not waited for until the SFU gives up', async () => {
    const { rooms } = await beginByNode();
    const askedMs = clock.nowMs();
    expect(await rooms.look(ROOM)).toEqual({ kind: 'list', present: [], roomSid: null });
    expect(clock.nowMs() - askedMs).toBeLessThan(1_000);
  });

  test('one that exists, and that no node has, is', async () => {
    const { sfu, rooms } = await beginByNode();
    sfu.join(ROOM, 'alice');
    const askedMs = clock.nowMs();
    expect(await rooms.look(ROOM)).toEqual({ kind: 'list', present: [], roomSid: null });
    expect(clock.nowMs() - askedMs).toBeGreaterThanOrEqual(UNANSWERED_MS - 50);
  });

  test('a list that takes its time counts, whether the SFU can say which rooms there are or not', async () => {
    for (const also of [undefined, { status: 500 }, { hang: true }]) {
      const { sfu, rooms } = await begin();
      sfu.join(ROOM, 'alice');
      sfu.apiFault = (method) => (method === 'ListParticipants' ? { delayMs: 800 } : method === 'ListRooms' ? also : undefined);
      expect(await rooms.look(ROOM)).toMatchObject({ kind: 'list', present: [{ identity: 'alice' }] });
    }
  });

  test('one whose lists all take their time is asked no more for that', async () => {
    const { sfu, rooms } = await begin();
    sfu.join(ROOM, 'alice');
    sfu.apiFault = () => ({ delayMs: 400 });
    for (let time = 0; time < 6; time += 1) await rooms.look(ROOM);
    expect(sfu.calls).toEqual({ ListParticipants: 6, ListRooms: 4 });
    sfu.apiFault = null;
    await rooms.look(ROOM);
    sfu.apiFault = (method) => (method === 'ListParticipants' ? { delayMs: 400 } : undefined);
    await rooms.look(ROOM);
    expect(sfu.calls, 'quick again').toEqual({ ListParticipants: 8, ListRooms: 5 });
  });
});

describe('an SFU with a Redis, whose lists outlive a node that was killed', () => {
  const NOWHERE = ['no response from servers', 'twirp error unknown: no response from servers'];
  const nowhere = (msg: string) => ({ status: 503, body: JSON.stringify({ code: 'unavailable', msg }) });

  /** Of what a node is asked, whichever way. */
  const isForNodes = (method: string) => method === 'SendData' || method === 'UpdateSubscriptions';

  const LATER_MS = 300_000;
  async function beginLater() {
    const sfu = await startFakeSfu();
    closers.push(() => sfu.close());
    let nowMs = 0;
    const rooms = roomsAt(sfu.apiUrl, sfu, { ...clock, nowMs: () => nowMs });
    nowMs = LATER_MS;
    sfu.join(ROOM, 'alice');
    const look = async () => (await rooms.look(ROOM)) as Extract<Look, { kind: 'list' }>;
    return { sfu, rooms, look, pass: (ms: number) => (nowMs += ms) };
  }
  const there = { kind: 'list', present: [{ identity: 'alice' }], roomSid: undefined };
  const forgotten = { kind: 'list', present: [], roomSid: null };

  test('every five minutes a room is asked for on its node', async () => {
    const { sfu, look, pass } = await beginLater();
    for (let minute = 0; minute < 11; minute += 1) {
      expect(await look()).toMatchObject(there);
      pass(60_000);
    }
    await expect.poll(() => sfu.calls).toEqual({ ListParticipants: 11, UpdateSubscriptions: 2 });
  });

  test.each(NOWHERE)('who is on the list of a room that no node has (%s) is not there: the SFU has forgotten the room', async (msg) => {
    const { sfu, rooms, look, pass } = await beginLater();
    expect(await look()).toMatchObject(there);
    sfu.apiFault = (method) => (isForNodes(method) ? nowhere(msg) : undefined);
    pass(LATER_MS);
    expect(await look(), 'it is not waited for where nothing speaks against the list').toMatchObject(there);
    await expect.poll(look).toEqual(forgotten);
    const { SendData: before = 0 } = sfu.calls;
    expect(await Promise.all([rooms.look(ROOM), rooms.look(ROOM, { whichRoom: true })])).toEqual([forgotten, forgotten]);
    expect((sfu.calls.SendData ?? 0) - before, 'one question for all who ask at once').toBe(1);
    expect(await look(), 'asked again each time').toEqual(forgotten);
    sfu.apiFault = null;
    expect(await look(), 'somebody is back, and she is not').toMatchObject({ present: [], justLost: true });
    pass(10_000);
    await expect.poll(look, { message: 'asked for once more she is there: it was a mistake' }).toMatchObject(there);
  });

  test.each(['ListParticipants', 'ListRooms'])('nor is who was there before the SFU was away, as a failed %s shows', async (failing) => {
    const { sfu, rooms, look, pass } = await beginLater();
    expect(await look()).toMatchObject(there);
    pass(1_000);
    sfu.apiFault = (method) => (method === failing ? { status: 500 } : undefined);
    await Promise.all([rooms.look(ROOM), rooms.answers()]);
    pass(1_000);
    sfu.apiFault = (method) => (isForNodes(method) ? nowhere(NOWHERE[0] ?? '') : undefined);
    expect(await look()).toEqual(forgotten);
    pass(LATER_MS * 2);
    expect(await look()).toEqual(forgotten);
  });

  test('the others are asked for at once where one has lost its node: it was not alone there', async () => {
    const { sfu, rooms, look, pass } = await beginLater();
    const other = 'other' as RoomName;
    sfu.join(other, 'bob');
    await look();
    pass(LATER_MS / 2);
    expect(await rooms.look(other)).toMatchObject({ present: [{ identity: 'bob' }] });
    sfu.apiFault = (method) => (isForNodes(method) ? nowhere(NOWHERE[0] ?? '') : undefined);
    pass(LATER_MS / 2);
    expect(await rooms.look(other)).toMatchObject({ present: [{ identity: 'bob' }] });
    await expect.poll(look).toEqual(forgotten);
    pass(1);
    expect(await rooms.look(other)).toEqual(forgotten);
  });

  test('nor in a room that we hear of only when the SFU is back', async () => {
    const { sfu, rooms, look } = await beginLater();
    sfu.apiFault = () => ({ status: 500 });
    expect(await rooms.answers()).toBe(false);
    sfu.apiFault = (method) => (isForNodes(method) ? nowhere(NOWHERE[0] ?? '') : undefined);
    expect(await look()).toEqual(forgotten);
  });

  test('after our own start as well', async () => {
    const sfu = await startFakeSfu();
    closers.push(() => sfu.close());
    sfu.join(ROOM, 'alice');
    sfu.apiFault = (method) => (isForNodes(method) ? nowhere(NOWHERE[0] ?? '') : undefined);
    const rooms = roomsAt(sfu.apiUrl, sfu);
    expect(await rooms.look(ROOM), 'by the second look').toMatchObject(there);
    await expect.poll(() => rooms.look(ROOM)).toEqual(forgotten);
  });

  test('who died with a node, beside who came back to the room', async () => {
    const { sfu, rooms } = await begin();
    const startedAtMs = clock.nowMs();
    const look = () => rooms.look(ROOM, { startedAgoMs: clock.nowMs() - startedAtMs });
    const alice = sfu.join(ROOM, 'alice');
    const bob = sfu.join(ROOM, 'bob');
    sfu.apiFault = (method, { identity }) =>
      method === 'UpdateSubscriptions' && identity === 'alice' ? nowhere(NOWHERE[0] ?? '') : undefined;
    expect(await look()).toMatchObject({ present: [{ sid: alice }, { sid: bob }] });
    await expect.poll(look).toMatchObject({ present: [{ sid: bob }], justLost: true });
    expect(sfu.calls.UpdateSubscriptions).toBe(2);
  });

  test('nor is who died with a node, and nothing has told that others have the room on another one', async () => {
    const { sfu, look, pass } = await beginLater();
    const bob = sfu.join(ROOM, 'bob');
    sfu.apiFault = (method, { identity }) =>
      method === 'UpdateSubscriptions' && identity === 'alice' ? nowhere(NOWHERE[0] ?? '') : undefined;
    expect(await look()).toMatchObject({ present: [{ identity: 'alice' }, { sid: bob }] });
    pass(LATER_MS);
    await expect.poll(look).toMatchObject({ present: [{ sid: bob }], justLost: true });
  });

  test('who is expected, and listed, and on no node', async () => {
    const { sfu, rooms } = await begin();
    const [alice, bob] = [sfu.join(ROOM, 'alice'), sfu.join(ROOM, 'bob')];
    sfu.apiFault = (method, { identity }) =>
      method === 'UpdateSubscriptions' && identity === 'alice' ? nowhere(NOWHERE[0] ?? '') : undefined;
    expect(await rooms.look(ROOM)).toMatchObject({ present: [{ sid: alice }, { sid: bob }] });
    expect(sfu.calls.UpdateSubscriptions).toBeUndefined();
    const expected = [{ identity: 'alice' as Identity, sid: alice as Sid, joinedAtMs: null, active: true }];
    await expect.poll(() => rooms.look(ROOM, { expected })).toMatchObject({ present: [{ sid: bob }] });
  });

  test('who is on a node, though the list and the room have got lost; until a webhook tells of their departure', async () => {
    const { sfu, rooms } = await begin();
    const alice = sfu.join(ROOM, 'alice');
    await rooms.look(ROOM);
    sfu.apiFault = (method) => {
      if (method === 'ListParticipants') return { status: 200, body: '{"participants":[]}' };
      return method === 'ListRooms' ? { status: 200, body: '{"rooms":[]}' } : undefined;
    };
    for (let again = 0; again < 3; again += 1)
      expect(await rooms.look(ROOM, { whichRoom: true })).toMatchObject({ present: [{ identity: 'alice', sid: alice }], roomSid: null });
    const left = {
      kind: 'left',
      identity: 'alice' as Identity,
      sid: alice as Sid,
      joinedAtMs: null,
      roomSid: null,
      cause: 'left',
    } as const;
    rooms.told(ROOM, left);
    expect(await rooms.look(ROOM)).toEqual({ kind: 'list', present: [], roomSid: null });
    expect(sfu.calls.UpdateSubscriptions).toBe(3);
  });

  test('by the newer of two sessions, where the list comes from a node that knows the older one only', async () => {
    const { sfu, rooms } = await begin();
    const [alice, bob] = [sfu.join(ROOM, 'alice'), sfu.join(ROOM, 'bob')];
    const [first] = presentOf(await rooms.look(ROOM));
    const stale = { sid: 'PA_stale', identity: 'alice', state: 'ACTIVE', joinedAtMs: String((first?.joinedAtMs ?? 0) - 10_000) };
    const other = { sid: bob, identity: 'bob', state: 'ACTIVE' };
    const body = JSON.stringify({ participants: [stale, other] });
    sfu.apiFault = (method) => (method === 'ListParticipants' ? { status: 200, body } : undefined);
    expect(presentOf(await rooms.look(ROOM)).map(({ sid }) => sid)).toEqual([bob, alice]);
  });

  test.each([500, 403, 404])('where that can not be told (%i), the list is believed', async (status) => {
    const { sfu, look, pass } = await beginLater();
    expect(await look()).toMatchObject(there);
    sfu.apiFault = (method) => (isForNodes(method) ? { status } : undefined);
    pass(LATER_MS);
    expect(await look()).toMatchObject(there);
    await expect.poll(() => sfu.calls.SendData).toBe(1);
    expect(await look()).toMatchObject(there);
  });

  test.each([
    ['SendData', 'requested room does not exist'],
    ['UpdateSubscriptions', 'participant does not exist'],
  ])('that %s is not found (%s) says nothing of nodes: one of them, or whoever stands before it, has answered', async (asked, msg) => {
    const sfu = await startFakeSfu();
    closers.push(() => sfu.close());
    const rooms = roomsAt(sfu.apiUrl, sfu);
    const everybody = { present: [{ sid: sfu.join(ROOM, 'alice') }, { sid: sfu.join(ROOM, 'bob') }] };
    sfu.apiFault = (method) => (isForNodes(method) ? { status: 404, body: JSON.stringify({ code: 'not_found', msg }) } : undefined);
    for (let time = 0; time < 3; time += 1) {
      expect(await rooms.look(ROOM)).toMatchObject(everybody);
      await expect.poll(() => sfu.calls[asked] ?? 0).toBeGreaterThan(0);
    }
  });

  test('the node is asked for the list itself, as newer ones may be told to: a room that none has is empty, not unreachable', async () => {
    const { url } = await scripted(503, nowhere(NOWHERE[1] ?? '').body);
    const rooms = roomsAt(url, { key: 'k', secret: 's' });
    expect(await rooms.look(ROOM)).toEqual({ kind: 'list', present: [], roomSid: null });
    expect(await rooms.answers(), 'which is said of rooms alone').toBe(false);
  });
});

describe('an SFU behind a path', () => {
  test.each(['/livekit/sfu', '/livekit/sfu/'])('%s is called under that path', async (path) => {
    const { url, asked } = await scripted(200, '{}');
    const rooms = roomsAt(`${url}${path}`, { key: 'k', secret: 's' });
    expect(await rooms.look(ROOM)).toEqual({ kind: 'list', present: [], roomSid: null });
    expect(await rooms.answers()).toBe(true);
    expect(asked).toEqual([
      'POST /livekit/sfu/twirp/livekit.RoomService/ListParticipants',
      'POST /livekit/sfu/twirp/livekit.RoomService/ListRooms',
      'POST /livekit/sfu/twirp/livekit.RoomService/ListRooms',
    ]);
  });

  test('and at the root without one', async () => {
    const { url, asked } = await scripted(200, '{}');
    await roomsAt(url, { key: 'k', secret: 's' }).answers();
    expect(asked).toEqual(['POST /twirp/livekit.RoomService/ListRooms']);
  });

  test('the grants still fit', async () => {
    const { sfu, rooms } = await begin({ path: '/livekit/sfu' });
    const sid = sfu.join(ROOM, 'alice');
    expect(await rooms.look(ROOM)).toMatchObject({ present: [{ sid }] });
    expect(await rooms.answers()).toBe(true);
  });
});

describe('an SFU that can not be asked is unreachable, never empty', () => {
  const expectUnreachable = async (rooms: RoomsTold): Promise<void> => {
    expect(await rooms.look(ROOM)).toEqual({ kind: 'unreachable', why: expect.any(String) });
    expect(await rooms.answers()).toBe(false);
  };

  test('refused', async () => {
    const { sfu, rooms } = await begin();
    await sfu.killSfu();
    await expectUnreachable(rooms);
  });

  test('cut off', async () => {
    const { sfu, rooms } = await begin();
    sfu.apiFault = () => ({ reset: true });
    await expectUnreachable(rooms);
  });

  test('a wrong secret', async () => {
    const { sfu } = await begin();
    await expectUnreachable(roomsAt(sfu.apiUrl, { key: sfu.key, secret: 'a-wrong-secret-of-at-least-32-characters' }));
  });

  test.each([500, 502, 503, 429, 403, 404])('%i', async (status) => {
    const { sfu, rooms } = await begin();
    sfu.join(ROOM, 'alice');
    sfu.apiFault = () => ({ status });
    await expectUnreachable(rooms);
  });

  test("a proxy's page of its own instead of an answer", async () => {
    const { url } = await scripted(200, '<html>Welcome</html>', 'text/html');
    await expectUnreachable(roomsAt(url, { key: 'k', secret: 's' }));
    const missing = await scripted(404, '<html>not_found</html>', 'text/html');
    await expectUnreachable(roomsAt(missing.url, { key: 'k', secret: 's' }));
  });

  test('the second of two questions fails: the emptiness that the first one told is not passed on', async () => {
    const { sfu, rooms } = await begin();
    sfu.apiFault = (method) => (method === 'ListRooms' ? { status: 503 } : undefined);
    expect((await rooms.look(ROOM)).kind).toBe('unreachable');
  });

  test('nor is a list without its room an answer to which room it is', async () => {
    const { sfu, rooms } = await begin();
    const sid = sfu.join(ROOM, 'alice');
    sfu.apiFault = (method) => (method === 'ListRooms' ? { status: 503 } : undefined);
    expect(await rooms.look(ROOM, { whichRoom: true })).toEqual({ kind: 'unreachable', why: expect.stringContaining('503') });
    expect(await rooms.look(ROOM)).toMatchObject({ present: [{ sid }], roomSid: undefined });
  });

  test('slow is still an answer; silent is given up after 5 s', { timeout: 15_000 }, async () => {
    const { sfu, rooms } = await begin();
    const sid = sfu.join(ROOM, 'alice');
    sfu.apiFault = () => ({ delayMs: 300 });
    expect(await rooms.look(ROOM)).toMatchObject({ present: [{ sid }] });
    sfu.apiFault = () => ({ hang: true });
    const startedMs = clock.nowMs();
    expect((await rooms.look(ROOM)).kind).toBe('unreachable');
    expect(clock.nowMs() - startedMs).toBeGreaterThan(4_500);
    expect(clock.nowMs() - startedMs).toBeLessThan(8_000);
  });
});
