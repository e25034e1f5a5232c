// Asking the SFU who is there: three answers, and unknown is never absent.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { RoomName } from '../../src/delegation/ids.ts';
import { createRooms } from '../../src/sfu/rooms.ts';
import { type FakeSfu, type FakeSfuOptions, startFakeSfu } from '../support/fake-sfu.ts';

const ROOM = '!room:example.org' as RoomName;
const clock = systemClock();
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function begin(options: FakeSfuOptions = {}): Promise<{ sfu: FakeSfu; rooms: ReturnType<typeof createRooms> }> {
  const sfu = await startFakeSfu(options);
  closers.push(() => sfu.close());
  return { sfu, rooms: createRooms(sfu.apiUrl, sfu) };
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

  test('a room that an older SFU says is not found has nobody in it', async () => {
    const { url } = await scripted(404, JSON.stringify({ code: 'not_found', msg: 'requested room does not exist' }));
    expect(await createRooms(url, { key: 'k', secret: 's' }).look(ROOM)).toEqual({ kind: 'list', present: [], roomSid: null });
  });

  test('a list may hold who has just gone, or entries that name nobody: they are not there', async () => {
    const participants = [
      { sid: 'PA_1', identity: 'gone', state: 'DISCONNECTED' },
      { sid: 'PA_2', identity: '', state: 'ACTIVE' },
      { sid: '', identity: 'unborn', state: 'JOINING' },
      { sid: 'PA_3', identity: 'alice', state: 'ACTIVE', joined_at: '1795420801', unheard_of: true },
    ];
    const { url } = await scripted(200, JSON.stringify({ participants, rooms: [] }));
    expect(await createRooms(url, { key: 'k', secret: 's' }).look(ROOM)).toEqual({
      kind: 'list',
      present: [{ identity: 'alice', sid: 'PA_3', joinedAtMs: null, active: true }],
      roomSid: undefined,
    });
  });
});

describe('an SFU behind a path', () => {
  test.each(['/livekit/sfu', '/livekit/sfu/'])('%s is called under that path', async (path) => {
    const { url, asked } = await scripted(200, '{}');
    const rooms = createRooms(`${url}${path}`, { key: 'k', secret: 's' });
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
    await createRooms(url, { key: 'k', secret: 's' }).answers();
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
  const expectUnreachable = async (rooms: ReturnType<typeof createRooms>): Promise<void> => {
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
    await expectUnreachable(createRooms(sfu.apiUrl, { key: sfu.key, secret: 'a-wrong-secret-of-at-least-32-characters' }));
  });

  test.each([500, 502, 503, 429, 403, 404])('%i', async (status) => {
    const { sfu, rooms } = await begin();
    sfu.join(ROOM, 'alice');
    sfu.apiFault = () => ({ status });
    await expectUnreachable(rooms);
  });

  test("a proxy's page of its own instead of an answer", async () => {
    const { url } = await scripted(200, '<html>Welcome</html>', 'text/html');
    await expectUnreachable(createRooms(url, { key: 'k', secret: 's' }));
    const missing = await scripted(404, '<html>not_found</html>', 'text/html');
    await expectUnreachable(createRooms(missing.url, { key: 'k', secret: 's' }));
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
    expect(await rooms.look(ROOM, true)).toEqual({ kind: 'unreachable', why: expect.stringContaining('503') });
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
