// What lastwill asks its own homeserver, over real connections: which paths, by which token, and what it makes of each answer.
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { DelayId, HomeserverUrl, ServerName, UserId } from '../../src/delegation/ids.ts';
import { type ApplicationService, createApplicationService } from '../../src/homeserver/application-service.ts';
import type { Home } from '../../src/homeserver/home.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';
import { answer, type Script, type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const clock = systemClock();
const ALICE = '@alice:example.org' as UserId;
const EXAMPLE = 'example.org' as ServerName;
const ROOM = '!a/b?c:example.org';
const ROOM_SEGMENT = '!a%2Fb%3Fc%3Aexample.org';
const DELAY = 'syd_1' as DelayId;

interface Bench {
  readonly server: ScriptedServer;
  readonly service: ApplicationService;
  readonly failures: string[];
}

async function bench(script: Script, { found = true } = {}): Promise<Bench> {
  const server = await startScriptedServer(script);
  const url = `http://127.0.0.1:${server.port}` as HomeserverUrl;
  const home: Home = { serverName: EXAMPLE, url: found ? url : null, resolve: async () => (found ? url : null), watch: () => () => {} };
  const outbound = createOutbound({ clock, addresses: () => 'any', insecureTls: false });
  closers.push(outbound.close, server.close);
  const failures: string[] = [];
  const onFailure = (_: HomeserverUrl, why: string) => void failures.push(why);
  return { server, failures, service: createApplicationService({ clock, home, outbound, asToken: 'as-secret', onFailure }) };
}
const says =
  (status: number, body: unknown, headers: Record<string, string> = {}): Script =>
  (_, response) =>
    answer(response, status, body, headers);
const UNRECOGNISED = { errcode: 'M_UNRECOGNIZED', error: 'Unrecognized request' };
/** Knows only paths that start so. */
const only =
  (prefix: string, body: unknown): Script =>
  (request, response) =>
    request.url?.startsWith(prefix) ? answer(response, 200, body) : answer(response, 404, UNRECOGNISED);

type Ask = (service: ApplicationService) => Promise<unknown>;
const QUESTIONS: readonly [name: string, ask: Ask, unstable: string, stable: string | null, good: unknown, understood: unknown][] = [
  [
    'who is in a room',
    (service) => service.isJoined(ROOM, { userId: ALICE }),
    `GET /_matrix/client/unstable/io.element.msc4502/rooms/${ROOM_SEGMENT}/is_joined?mxid=%40alice%3Aexample.org`,
    `GET /_matrix/client/v3/rooms/${ROOM_SEGMENT}/is_joined?mxid=%40alice%3Aexample.org`,
    { joined: true },
    { kind: 'joined' },
  ],
  [
    'which server is in a room',
    (service) => service.isJoined(ROOM, { serverName: 'other.example:8448' as ServerName }),
    `GET /_matrix/client/unstable/io.element.msc4502/rooms/${ROOM_SEGMENT}/is_joined?server_name=other.example%3A8448`,
    `GET /_matrix/client/v3/rooms/${ROOM_SEGMENT}/is_joined?server_name=other.example%3A8448`,
    { joined: false },
    { kind: 'not_joined' },
  ],
  [
    'all who are in a room',
    (service) => service.joinedMembers(ROOM),
    `GET /_matrix/client/v3/rooms/${ROOM_SEGMENT}/joined_members`,
    null,
    { joined: { [ALICE]: { display_name: null }, '@bob:other.example': {} } },
    { kind: 'members', userIds: new Set([ALICE, '@bob:other.example']) },
  ],
  [
    'a delayed event',
    (service) => service.scheduled(DELAY, ALICE),
    'GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events/syd_1?user_id=%40alice%3Aexample.org',
    'GET /_matrix/client/v1/delayed_events/syd_1?user_id=%40alice%3Aexample.org',
    { delay_id: 'syd_1', room_id: ROOM, delay: 10_000, type: 'm', content: {} },
    { kind: 'scheduled', roomId: ROOM, delayMs: 10_000 },
  ],
  [
    'another homeserver',
    (service) => service.relay({ destination: 'other.example' as ServerName, path: '/_matrix/federation/v1/x', body: { a: 1 } }),
    'POST /_matrix/client/unstable/io.element.msc4512/appservice/fed_proxy',
    'POST /_matrix/client/v1/appservice/fed_proxy',
    { status: 403, content: { errcode: 'M_FORBIDDEN' } },
    { kind: 'relayed', status: 403, content: { errcode: 'M_FORBIDDEN' } },
  ],
];

describe.each(QUESTIONS)('asked about %s', (_name, ask, unstable, stable, good, understood) => {
  test('by the as_token, and answered', async () => {
    const { server, service, failures } = await bench(says(200, good));
    expect(await ask(service)).toEqual(understood);
    expect(server.requests).toEqual([unstable]);
    expect(server.headers[0]?.authorization).toBe('Bearer as-secret');
    expect(failures).toEqual([]);
  });

  test.runIf(stable !== null)('by the stable path where that one is known, and from then on', async () => {
    const { server, service } = await bench(only(stable?.split(/ |\?/)[1] ?? '', good));
    for (const _ of [1, 2]) expect(await ask(service)).toEqual(understood);
    expect(server.requests).toEqual([unstable, stable, stable]);
  });

  test.runIf(stable !== null)('by the unstable path again when the stable one is gone', async () => {
    let known = stable;
    const { server, service } = await bench((request, response) =>
      known === `${request.method} ${request.url}` ? answer(response, 200, good) : answer(response, 404, UNRECOGNISED),
    );
    await ask(service);
    known = unstable;
    for (const _ of [1, 2]) expect(await ask(service)).toEqual(understood);
    expect(server.requests).toEqual([unstable, stable, stable, unstable, unstable]);
  });

  test.each<[string, Script, string, number | null]>([
    ['no JSON', says(200, '<html>'), 'garbage', null],
    ['a list', says(200, []), 'garbage', null],
    ['nothing of use', says(200, {}), 'garbage', null],
    ['an error', says(500, good), 'status_5xx', null],
    ['a limit', says(429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 1_234 }), 'limited', 1_234],
    ['a limit in its header', says(429, {}, { 'retry-after': '3' }), 'limited', 3_000],
    ['a refusal', says(403, { errcode: 'M_FORBIDDEN' }), 'forbidden', null],
    ['an unknown token', says(401, { errcode: 'M_UNKNOWN_TOKEN' }), 'unauthorized', null],
    ['a missing token', says(401, { errcode: 'M_MISSING_TOKEN' }), 'unauthorized', null],
    ['no such endpoint', says(404, UNRECOGNISED), 'dialect', null],
    ['a page that is not there', says(404, '<html>'), 'dialect', null],
    ['a redirect', says(302, {}, { location: 'https://elsewhere.example' }), 'redirect', null],
    ['a cut connection', (request) => void request.socket.destroy(), 'refused', null],
  ])('and answered %s: nothing is concluded', async (_what, script, why, retryAfterMs) => {
    const { service, failures } = await bench(script);
    expect(await ask(service)).toEqual({ kind: 'failed', why, retryAfterMs });
    expect(failures).toEqual([why]);
  });

  test('while it can not be found', async () => {
    const { server, service, failures } = await bench(says(200, good), { found: false });
    expect(await ask(service)).toEqual({ kind: 'failed', why: 'refused', retryAfterMs: null });
    expect([server.requests, failures]).toEqual([[], []]);
  });
});

test('a request to another homeserver is told whole', async () => {
  const { server, service } = await bench(says(200, { status: 200, content: null }));
  await service.relay({ destination: 'other.example' as ServerName, path: '/_matrix/federation/v1/x', body: { a: '\u2028' } });
  expect(JSON.parse(server.bodies[0] ?? '')).toEqual({
    ...{ destination: 'other.example', method: 'POST', path: '/_matrix/federation/v1/x', body: { a: '\u2028' } },
  });
  expect(server.headers[0]?.['content-type']).toBe('application/json');
});

test.each([
  [{ status: 200 }, { kind: 'relayed', status: 200, content: undefined }],
  [
    { status: 99, content: {} },
    { kind: 'failed', why: 'garbage', retryAfterMs: null },
  ],
  [
    { status: '200', content: {} },
    { kind: 'failed', why: 'garbage', retryAfterMs: null },
  ],
  [{ content: {} }, { kind: 'failed', why: 'garbage', retryAfterMs: null }],
])('of another homeserver it hears %j', async (body, heard) => {
  const { service } = await bench(says(200, body));
  expect(await service.relay({ destination: 'other.example' as ServerName, path: '/x', body: {} })).toEqual(heard);
});

test('who can not be in a room is not in it', async () => {
  const { service } = await bench(says(400, { errcode: 'M_INVALID_PARAM' }));
  expect(await service.isJoined('no room', { userId: ALICE })).toEqual({ kind: 'not_joined' });
  // A server of which somebody was there is asked about a room that can be: this is no answer to that.
  expect(await service.isJoined('no room', { serverName: 'example.org' as ServerName })).toMatchObject({ kind: 'failed' });
});

test.each<[string, unknown]>([
  ['the newer name of its delay', { room_id: ROOM, delay_ms: 10_000, delay: 1 }],
  ['its older name', { room_id: ROOM, delay: 10_000 }],
])('a delayed event with %s', async (_name, body) => {
  const { service } = await bench(says(200, body));
  expect(await service.scheduled(DELAY, ALICE)).toEqual({ kind: 'scheduled', roomId: ROOM, delayMs: 10_000 });
});

test.each<[string, number, unknown]>([
  ['that is unknown', 404, { errcode: 'M_NOT_FOUND' }],
  ['that is over', 200, { room_id: ROOM, delay: 10_000, finalised_ts: 1 }],
  // As the accepted text has it; one that was cancelled by its sender has no more than the time.
  ['that was cancelled', 200, { room_id: ROOM, delay_ms: 10_000, delayed_since_ts: 1, finalised: { finalised_ts: 2 } }],
  ['that was sent', 200, { room_id: ROOM, delay_ms: 10_000, delayed_since_ts: 1, finalised: { finalised_ts: 2, event_id: '$sent' } }],
])('a delayed event %s is none', async (_name, status, body) => {
  const { service, failures } = await bench(says(status, body));
  expect(await service.scheduled(DELAY, ALICE)).toEqual({ kind: 'none' });
  expect(failures).toEqual([]);
});

test.each([
  { delay_ms: 10_000, finalised_ts: null },
  { delay_ms: 10_000, finalised: null },
  { delay_ms: 10_000, delay: null },
  { delay_ms: null, delay: 10_000 },
])('null is no value: a delayed event of which it is said %j is scheduled', async (body) => {
  const { service } = await bench(says(200, { room_id: ROOM, ...body }));
  expect(await service.scheduled(DELAY, ALICE)).toEqual({ kind: 'scheduled', roomId: ROOM, delayMs: 10_000 });
});

test.each([{ room_id: ROOM }, { delay: 10_000 }, { room_id: ROOM, delay: 0 }, { room_id: ROOM, delay: 1.5 }, { room_id: 1, delay: 1 }])(
  'a delayed event of which it is said %j is not understood',
  async (body) => {
    const { service } = await bench(says(200, body));
    expect(await service.scheduled(DELAY, ALICE)).toEqual({ kind: 'failed', why: 'garbage', retryAfterMs: null });
  },
);

test.each(['.', '..'])('nobody is in a room named %s, and no other path is asked in its place', async (roomId) => {
  const { server, service, failures } = await bench(says(200, { joined: true }));
  expect(await service.isJoined(roomId, { userId: ALICE })).toEqual({ kind: 'not_joined' });
  expect(await service.joinedMembers(roomId)).toEqual({ kind: 'members', userIds: new Set() });
  expect([server.requests, failures]).toEqual([[], []]);
});

test('a room of two hundred thousand', async () => {
  const joined = Object.fromEntries(Array.from({ length: 200_000 }, (_, n) => [`@user-${n}:example.org`, {}]));
  const { service } = await bench(says(200, { joined }));
  const members = await service.joinedMembers(ROOM);
  expect(members.kind === 'members' && members.userIds.size).toBe(200_000);
});
