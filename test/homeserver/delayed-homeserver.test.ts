// Holds the model homeserver of dialects B, C and D to what was measured (B, C) and to the newest text (D), and shows the client
// what only a homeserver with faults can: outages, limits, an upgrade, answers lost on their way.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { HomeserverUrl, UserId } from '../../src/delegation/ids.ts';
import type { Answer } from '../../src/delegation/state.ts';
import { type Call, createDelayedEvents, type DelayedEvents } from '../../src/homeserver/delayed-events.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';
import { type DelayedHomeserver, type DelayedOptions, startDelayedHomeserver } from '../support/delayed-homeserver.ts';
import { delayTarget, type Target } from './contract.ts';

const ROOM = '!room:homeserver.test';
const ALICE = '@alice:homeserver.test' as UserId;
const AS_TOKEN = 'as_secret';

let homeserver: DelayedHomeserver;
let alice: string;
let client: DelayedEvents;
async function begin(options: DelayedOptions): Promise<void> {
  await client?.close();
  await homeserver?.close();
  homeserver = await startDelayedHomeserver({ asToken: AS_TOKEN, ...options });
  alice = homeserver.login(ALICE);
  const clock = systemClock();
  const applicationService = { homeserver: homeserver.url as HomeserverUrl, asToken: AS_TOKEN };
  client = createDelayedEvents({
    clock,
    outbound: createOutbound({ clock, addresses: () => 'any', insecureTls: false }),
    applicationService,
  });
}
beforeEach(() => begin({}));
afterEach(async () => {
  await client.close();
  await homeserver.close();
});

async function request(
  method: string,
  path: string,
  token: string | null,
  body: unknown = {},
): Promise<{ status: number; body: Record<string, unknown> }> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(`${homeserver.url}${path}`, { method, headers, body: method === 'GET' ? null : JSON.stringify(body) });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}
async function scheduled(delayMs = 60_000, key = 'key'): Promise<Target & { id: string }> {
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(ROOM)}/state/m.test/${key}?org.matrix.msc4140.delay=${delayMs}`;
  const id = String((await request('PUT', path, alice, { left: true })).body.delay_id);
  return { ...delayTarget(id), id };
}
const act = (call: Call, userId: UserId | null = null, timeoutMs = 3000): Promise<Answer> =>
  client.act(homeserver.url as HomeserverUrl, call, { timeoutMs, userId });
const arrived = (): number => homeserver.timeline(ROOM).length;

describe('dialect D', () => {
  beforeEach(() => begin({ dialect: 'D' }));
  test('acts for the owner only', async () => {
    const target = await scheduled();
    expect(await act(target.restart, ALICE)).toEqual({ kind: 'ok' });
    expect(await act(target.restart, null)).toEqual({ kind: 'refused' });
    expect(await act(target.restart, '@bob:homeserver.test' as UserId)).toEqual({ kind: 'final', how: 'gone' });
  });
  test('remembers how an event ended', async () => {
    const sent = await scheduled();
    const cancelled = await scheduled();
    const outcomes = [sent.send, sent.send, sent.cancel, sent.restart, cancelled.cancel, cancelled.cancel, cancelled.send];
    const heard: Answer[] = [];
    for (const call of outcomes) heard.push(await act(call, ALICE));
    expect(heard.map(({ kind }) => kind)).toEqual(['ok', 'ok', 'final', 'final', 'ok', 'ok', 'final']);
    expect(heard[2]).toEqual({ kind: 'final', how: 'conflict' });
  });
  test('schedules by the newest text too, and shows an event to its owner', async () => {
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(ROOM)}/delayed_event/m.test/txn`;
    const { body } = await request('PUT', path, alice, { delay_ms: 5000, state_key: 'k', content: { left: true } });
    const look = (user: string): ReturnType<typeof request> =>
      request('GET', `/_matrix/client/v1/delayed_events/${body.delay_id}?user_id=${encodeURIComponent(user)}`, AS_TOKEN);
    expect((await look(ALICE)).body).toMatchObject({ room_id: ROOM, type: 'm.test', state_key: 'k', delay_ms: 5000 });
    expect((await look('@bob:homeserver.test')).status).toBe(404);
  });
});

test('an event that may not be sent now stays scheduled', async () => {
  const target = await scheduled();
  homeserver.rooms.maySend = () => false;
  expect(await act(target.send)).toEqual({ kind: 'refused' });
  homeserver.rooms.maySend = () => true;
  expect(await act(target.send)).toEqual({ kind: 'ok' });
  expect(arrived()).toBe(1);
});

test('calls are limited by address, but not those of the application service', async () => {
  await begin({ rateLimit: { perSecond: 0.5, burst: 3 } });
  const target = await scheduled();
  const round = async (userId: UserId | null): Promise<string[]> => {
    const heard: string[] = [];
    for (let turn = 0; turn < 5; turn += 1) heard.push((await act(target.restart, userId)).kind);
    return heard;
  };
  expect(await round(null)).toEqual(['ok', 'ok', 'ok', 'limited', 'limited']);
  expect(await round(ALICE)).toEqual(Array(5).fill('ok'));
  const heard = await act(target.restart);
  expect(heard.kind === 'limited' && heard.retryAfterMs).toBeGreaterThan(1000);
});

test('an upgrade to another dialect in the middle of a call is followed', async () => {
  const target = await scheduled();
  for (const dialect of ['C', 'B', 'D', 'C'] as const) {
    homeserver.setDialect(dialect);
    expect([dialect, await act(target.restart, ALICE)]).toEqual([dialect, { kind: 'ok' }]);
  }
});

test('an outage ends, on the same port, with the same events', async () => {
  const target = await scheduled();
  expect(await act(target.restart)).toEqual({ kind: 'ok' });
  await homeserver.stop();
  // The first may still have been written to a connection that was cut at that moment.
  expect((await act(target.restart)).kind).toBe('failed');
  expect(await act(target.restart)).toEqual({ kind: 'failed', reached: false });
  await homeserver.start();
  expect(await act(target.send)).toEqual({ kind: 'ok' });
  expect(arrived()).toBe(1);
});

describe('faults', () => {
  test('an answer that is lost leaves the event sent', async () => {
    const target = await scheduled();
    await act(target.restart);
    for (const fault of [
      { reset: true, after: true },
      { status: 502, body: '<html>bad gateway</html>', after: true },
    ]) {
      homeserver.server.fault = ({ path }) => (path.endsWith('/send') ? fault : undefined);
      const again = await scheduled();
      const before = arrived();
      expect(await act(again.send)).toEqual({ kind: 'failed', reached: true });
      expect(arrived()).toBe(before + 1);
      homeserver.server.fault = null;
      expect(await act(again.send)).toEqual({ kind: 'final', how: 'gone' });
    }
  });
  test('a request that is lost leaves it unsent', async () => {
    const target = await scheduled();
    for (const fault of [{ reset: true }, { hang: true }, { status: 503 }]) {
      homeserver.server.fault = () => fault;
      expect((await act(target.send, null, 300)).kind).toBe('failed');
    }
    expect(arrived()).toBe(0);
    homeserver.server.fault = () => ({ delayMs: 50 });
    expect(await act(target.send)).toEqual({ kind: 'ok' });
  });
  test('the log shows calls and their times', async () => {
    const target = await scheduled();
    await act(target.restart);
    const call = homeserver.calls.find(({ path }) => path.endsWith(`/${target.id}/restart`));
    expect(call).toMatchObject({ method: 'POST', status: 200, token: null, body: {} });
    expect(call?.atMs).toBeGreaterThan(0);
  });
});
