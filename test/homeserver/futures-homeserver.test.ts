// Holds the model homeserver of dialect A to the text it follows (MSC4140 of June 2024), so that what passes against it means something.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type FuturesHomeserver, type FutureTokens, startFuturesHomeserver } from '../support/futures-homeserver.ts';
import { passed, until } from './contract.ts';

const ROOM = '!room:homeserver.test';
const ALICE = '@alice:homeserver.test';
const BOB = '@bob:homeserver.test';
const MEMBER = 'org.matrix.msc3401.call.member';

let homeserver: FuturesHomeserver;
let alice: string;
let bob: string;
beforeEach(async () => {
  homeserver = await startFuturesHomeserver({ maxTimeoutMs: 60_000, guesses: { most: 5, blockMs: 300 } });
  alice = homeserver.login(ALICE);
  bob = homeserver.login(BOB);
});
afterEach(() => homeserver.close());

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}
async function call(method: string, path: string, token: string | null, body: unknown = {}): Promise<Answer> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const sent = method === 'GET' ? null : JSON.stringify(body);
  const response = await fetch(`${homeserver.url}${path}`, { method, headers, body: sent });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}
const rooms = `rooms/${encodeURIComponent(ROOM)}`;
const stateFuture = (key: string, query: string, token = alice, prefix = 'v1'): Promise<Answer> =>
  call('PUT', `/_matrix/client/${prefix}/${rooms}/state_future/${MEMBER}/${key}?${query}`, token, { left: query });
const sendFuture = (type: string, txn: string, query: string, body: unknown, token = alice): Promise<Answer> =>
  call('PUT', `/_matrix/client/v1/${rooms}/send_future/${type}/${txn}?${query}`, token, body);
const use = async (token: unknown): Promise<number> => (await call('POST', `/_matrix/client/v1/future/${token}`, null)).status;
const tokensOf = ({ status, body }: Answer): FutureTokens => {
  expect(status).toBe(200);
  return body as unknown as FutureTokens;
};
const contents = (): unknown[] => homeserver.timeline(ROOM).map(({ content }) => content);

describe('scheduling', () => {
  test('a timeout future has all tokens, an action future none for refreshing', async () => {
    const timeout = tokensOf(await stateFuture('a', 'future_timeout=10000'));
    expect(Object.keys(timeout).toSorted()).toEqual(['cancel_token', 'future_group_id', 'refresh_token', 'send_token']);
    const action = tokensOf(await sendFuture('m.room.message', '1', `future_group_id=${timeout.future_group_id}`, { body: 'bye' }));
    expect(Object.keys(action).toSorted()).toEqual(['cancel_token', 'future_group_id', 'send_token']);
    expect(action.future_group_id).toBe(timeout.future_group_id);
  });

  test('is refused as the text says', async () => {
    expect((await stateFuture('a', '')).status).toBe(400);
    expect((await stateFuture('a', 'future_timeout=soon')).status).toBe(400);
    const long = await stateFuture('a', 'future_timeout=60001');
    expect([long.status, long.body.error]).toEqual([400, expect.stringContaining('60000')]);
    expect((await stateFuture('a', 'future_group_id=none')).status).toBe(409);
    await stateFuture('a', 'future_timeout=10000&future_group_id=g');
    expect((await stateFuture('b', 'future_timeout=10000&future_group_id=g', bob)).status).toBe(405);
    expect((await stateFuture('b', 'future_group_id=g', bob)).status).toBe(405);
    expect((await call('PUT', `/_matrix/client/v1/${rooms}/state_future/x/y?future_timeout=1`, null)).status).toBe(401);
    expect((await stateFuture('b', 'future_timeout=1', 'nonsense')).status).toBe(401);
  });

  test('again with the same transaction is the same future', async () => {
    const first = await sendFuture('m.room.message', 'txn', 'future_timeout=10000', {});
    expect(await sendFuture('m.room.message', 'txn', 'future_timeout=10000', {})).toEqual(first);
    expect((await sendFuture('m.room.message', 'other', 'future_timeout=10000', {})).body).not.toEqual(first.body);
  });

  test('shows running futures to their user only', async () => {
    const tokens = tokensOf(await stateFuture('a', 'future_timeout=10000'));
    const list = (await call('GET', '/_matrix/client/v1/future', alice)).body as unknown as { response: unknown; url: string }[];
    expect(list.map(({ response }) => response)).toEqual([tokens]);
    expect(list[0]?.url).toContain('/state_future/');
    expect((await call('GET', '/_matrix/client/v1/future', bob)).body).toEqual([]);
    expect((await call('GET', '/_matrix/client/v1/future', null)).status).toBe(401);
  });

  test.each(['stable', 'unstable'] as const)('is served on the %s paths only, if so chosen', async (paths) => {
    await homeserver.close();
    homeserver = await startFuturesHomeserver({ paths });
    alice = homeserver.login(ALICE);
    const prefixes = ['v1', 'unstable/org.matrix.msc4140'];
    const answers = await Promise.all(prefixes.map((prefix) => stateFuture('a', 'future_timeout=1000', alice, prefix)));
    expect(answers.map(({ status }) => status)).toEqual(paths === 'stable' ? [200, 404] : [404, 200]);
    expect(answers.find(({ status }) => status === 404)?.body.errcode).toBe('M_UNRECOGNIZED');
  });
});

describe('a group', () => {
  const group = async (): Promise<{ timeout: FutureTokens; action: FutureTokens }> => {
    const timeout = tokensOf(await stateFuture('a', 'future_timeout=10000&future_group_id=g'));
    return { timeout, action: tokensOf(await stateFuture('a', 'future_group_id=g')) };
  };
  test('sends one of its futures at most', async () => {
    const { timeout, action } = await group();
    expect(await use(action.send_token)).toBe(200);
    expect(contents()).toEqual([{ left: 'future_group_id=g' }]);
    for (const token of [timeout.send_token, timeout.refresh_token, timeout.cancel_token, action.send_token])
      expect(await use(token)).toBe(410);
    expect(contents()).toHaveLength(1);
  });
  test('survives the cancelling of an action, and ends with its last timeout', async () => {
    const { timeout, action } = await group();
    expect(await use(action.cancel_token)).toBe(200);
    expect(await use(action.send_token)).toBe(410);
    expect(await use(timeout.refresh_token)).toBe(200);
    const again = tokensOf(await stateFuture('a', 'future_group_id=g'));
    expect(await use(timeout.cancel_token)).toBe(200);
    expect(await use(again.send_token)).toBe(410);
    expect(contents()).toEqual([]);
  });
  test('sends its timeout future when the time is over, unless refreshed', async () => {
    const { refresh_token } = tokensOf(await stateFuture('a', 'future_timeout=1500&future_group_id=g'));
    await stateFuture('a', 'future_group_id=g');
    await passed(1000);
    expect(await use(refresh_token)).toBe(200);
    await passed(1000);
    expect(contents()).toEqual([]);
    await until(async () => contents().length === 1, 2000);
    expect(await use(refresh_token)).toBe(410);
  });
});

describe('a newer state event', () => {
  const join = (key: string, type = MEMBER): Promise<Answer> =>
    call('PUT', `/_matrix/client/v3/${rooms}/state/${type}/${key}`, alice, { joined: true });
  test('of the same key ends the future, and of another does not', async () => {
    const ended = tokensOf(await stateFuture('a', 'future_timeout=10000'));
    const other = tokensOf(await stateFuture('b', 'future_timeout=10000'));
    const message = tokensOf(await sendFuture(MEMBER, '1', 'future_timeout=10000', {}));
    await join('a');
    await join('b', 'some.other.type');
    expect(await use(ended.send_token)).toBe(410);
    expect(await use(other.refresh_token)).toBe(200);
    expect(await use(message.send_token)).toBe(200);
  });
  test('wins over a timeout that came first', async () => {
    await stateFuture('a', 'future_timeout=1');
    await until(async () => contents().length === 1, 2000);
    await join('a');
    expect(homeserver.rooms.state(ROOM, MEMBER, 'a')?.content).toEqual({ joined: true });
  });
});

describe('power levels', () => {
  test('count when the event enters the room', async () => {
    homeserver.rooms.maySend = () => false;
    const { send_token, refresh_token } = tokensOf(await stateFuture('a', 'future_timeout=10000'));
    expect(await use(send_token)).toBe(403);
    expect(await use(refresh_token)).toBe(200);
    homeserver.rooms.maySend = () => true;
    expect(await use(send_token)).toBe(200);
  });
  test('fail a timeout for good', async () => {
    homeserver.rooms.maySend = () => false;
    const { refresh_token } = tokensOf(await stateFuture('a', 'future_timeout=1'));
    await passed(60);
    homeserver.rooms.maySend = () => true;
    expect([await use(refresh_token), contents()]).toEqual([410, []]);
  });
});

test('unknown tokens in a row are limited, known ones in between start the count anew', async () => {
  const { refresh_token } = tokensOf(await stateFuture('a', 'future_timeout=10000'));
  for (let guess = 0; guess < 4; guess += 1) expect(await use(`guess-${guess}`)).toBe(410);
  expect(await use(refresh_token)).toBe(200);
  for (let guess = 0; guess < 5; guess += 1) expect(await use(`guess-${guess}`)).toBe(410);
  const blocked = await call('POST', `/_matrix/client/v1/future/${refresh_token}`, null);
  expect([blocked.status, blocked.body.errcode]).toEqual([429, 'M_LIMIT_EXCEEDED']);
  expect(blocked.body.retry_after_ms).toBeLessThanOrEqual(300);
  await until(async () => (await use(refresh_token)) === 200, 2000);
});

test('a scheduled redaction takes a message back when it arrives', async () => {
  const sent = await call('PUT', `/_matrix/client/v3/${rooms}/send/m.room.message/1`, alice, { body: 'gone soon' });
  const { send_token } = tokensOf(await sendFuture('m.room.redaction', '2', 'future_timeout=10000', { redacts: sent.body.event_id }));
  const message = (): unknown => homeserver.timeline(ROOM)[0]?.content;
  expect(message()).toEqual({ body: 'gone soon' });
  expect(await use(send_token)).toBe(200);
  expect(message()).toEqual({});
  const { body } = await call('GET', `/_matrix/client/v3/${rooms}/messages?dir=b`, alice);
  expect((body.chunk as { type: string }[]).map(({ type }) => type)).toEqual(['m.room.redaction', 'm.room.message']);
});

test('an outage loses nothing: what fell due is sent at the start, on the same port', async () => {
  const url = homeserver.url;
  await stateFuture('late', 'future_timeout=100');
  const kept = tokensOf(await stateFuture('kept', 'future_timeout=10000'));
  await homeserver.stop();
  await expect(fetch(`${url}/_matrix/client/versions`)).rejects.toThrow();
  await passed(150);
  expect(contents()).toEqual([]);
  await homeserver.start();
  await until(async () => contents().length === 1, 2000);
  expect(homeserver.url).toBe(url);
  expect(await use(kept.refresh_token)).toBe(200);
});
