// The native API with the real engine behind it: what is answered, and what has happened then.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { identity, room } from '../support/fixtures.ts';
import { START_MS } from '../support/virtual-clock.ts';
import {
  createHarness,
  FOREIGN_KEY,
  type Harness,
  handOverBody,
  participantEvent,
  participantToken,
  SECRETS,
  seen,
  signed,
  type TokenOptions,
} from './harness.ts';

let at: Harness;
beforeEach(() => {
  at = createHarness();
  at.engine.start();
});
afterEach(async () => {
  expect(at.log.join('\n')).not.toMatch(SECRETS);
  await at.close();
});

const bearer = async (n = 1, options: TokenOptions = {}) => ({
  headers: { authorization: `Bearer ${await participantToken(n, options)}` },
});
const GRANT = { roomJoin: true, room: room(1) };
const jwt = (claims: object, header?: object) => ({ authorization: `Bearer ${signed(claims, header)}` });
const FUTURES = {
  leave: { send_token: 'secret-send', refresh_token: 'secret-refresh', cancel_token: 'secret-cancel' },
  lost: { send_token: 'secret-lost' },
};

describe('handing over', () => {
  test('is answered 201 with what was promised', async () => {
    const { status, json, headers } = await at.post(handOverBody());
    expect(status).toBe(201);
    expect(headers.get('content-type')).toBe('application/json');
    expect(json).toEqual({
      id: expect.stringMatching(/^dg_[0-9A-Za-z_-]{22}$/),
      state: 'awaiting',
      restart_due_at: null,
      expires_at: START_MS + 10_000,
    });
    expect(await at.stored()).toBe(1);
  });

  test('by tokens, with a second ending', async () => {
    const { status } = await at.post(handOverBody(1, FUTURES));
    expect(status).toBe(201);
    at.sfu.inRooms.set(room(1), [seen(1)]);
    await at.hook(participantEvent('participant_joined'));
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual(['secret-refresh']);
    at.sfu.inRooms.set(room(1), []);
    await at.hook(participantEvent('participant_left', 1, { reason: 'CONNECTION_TIMEOUT' }));
    await at.clock.advance(1_200);
    expect(at.homeservers.calls).toEqual(['secret-refresh', 'secret-lost']);
  });

  test.each([
    ['a server name', 'example.org'],
    ['a base URL with a slash', 'https://matrix.example.org/'],
    ['a base URL with a port', 'https://matrix.example.org:443'],
  ])('names the homeserver by %s', async (_name, homeserver) => {
    expect((await at.post(handOverBody(1, { homeserver }))).status).toBe(201);
    expect((await at.post(handOverBody(1, { homeserver: 'https://matrix.example.org' }))).status).toBe(200);
  });

  test.each([1, 2_678_400_000])('for a delay of %i ms', async (timeout_ms) => {
    const { status, json } = await at.post(handOverBody(1, { timeout_ms }));
    expect([status, json.expires_at]).toEqual([201, START_MS + timeout_ms]);
  });

  test('the same again is answered 200 with the same id, and changes nothing', async () => {
    const first = await at.post(handOverBody());
    await at.clock.advance(500);
    const again = await at.post(handOverBody());
    expect([again.status, again.json]).toEqual([200, first.json]);
    expect(await at.stored()).toBe(1);
    expect(await at.metric('lastwill_delegations_total{result="repeated"}')).toBe(1);
  });

  test('the same twenty times at once is one delegation', async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => at.post(handOverBody())));
    expect(all.map(({ status }) => status).sort()).toEqual([...Array.from({ length: 19 }, () => 200), 201]);
    expect(new Set(all.map(({ json }) => json.id)).size).toBe(1);
  });

  test('other handles supersede: the older event is cancelled', async () => {
    const first = await at.post(handOverBody(1));
    const second = await at.post(handOverBody(2));
    expect([second.status, second.json.id === first.json.id]).toEqual([201, false]);
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual(['cancel delay-secret-1']);
    const old = await at.ask('GET', `/v1/delegations/${first.json.id}`, await bearer());
    expect(old.json).toMatchObject({ state: 'ended', outcome: 'superseded' });
    expect(await at.metric('lastwill_delegations_total{result="superseded"}')).toBe(1);
  });

  test('an older one that takes longer to be taken is superseded by the one that came after it', async () => {
    const { promise: later, resolve: answer } = Promise.withResolvers<void>();
    const slowly = new ReadableStream({
      async start(body) {
        await later;
        body.enqueue(Buffer.from(JSON.stringify(handOverBody(1))));
        body.close();
      },
    });
    const older = at.ask('POST', '/v1/delegations', { ...(await bearer()), body: slowly });
    await at.clock.advance(1);
    const newer = await at.post(handOverBody(2));
    answer();
    expect((await older).json.state).toBe('ended');
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual(['cancel delay-secret-1']);
    expect((await at.ask('GET', `/v1/delegations/${newer.json.id}`, await bearer())).json.state).toBe('awaiting');
  });

  test('a participant who is on the SFU already is found and its event kept alive', async () => {
    at.sfu.inRooms.set(room(1), [seen(1)]);
    const { json } = await at.post(handOverBody());
    await at.clock.advance(2_000);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1']);
    expect((await at.ask('GET', `/v1/delegations/${json.id}`, await bearer())).json.state).toBe('connected');
  });

  test('another participant supersedes nobody', async () => {
    await at.post(handOverBody(1), { n: 1 });
    await at.post(handOverBody(2), { n: 2 });
    expect((await at.store.count()).awaiting).toBe(2);
  });
});

describe('looking', () => {
  test('shows the session, the next restart, the outcome and the history, and no secret', async () => {
    const { json: created } = await at.post(handOverBody());
    const look = async () => (await at.ask('GET', `/v1/delegations/${created.id}`, await bearer())).json;
    expect(await look()).toEqual({
      ...created,
      sid: null,
      created_at: START_MS,
      outcome: null,
      cause: null,
      history: [{ at: START_MS, event: 'delegated', state: 'awaiting', detail: null }],
    });
    at.sfu.inRooms.set(room(1), [seen(1)]);
    await at.hook(participantEvent('participant_joined'));
    await at.clock.settle();
    const connected = await look();
    expect(connected).toMatchObject({ state: 'connected', sid: 'PA_1', outcome: null, cause: null });
    expect(connected.restart_due_at).toBeGreaterThan(START_MS + 6_000);
    expect(connected.restart_due_at).toBeLessThanOrEqual(START_MS + 9_000);
    at.sfu.inRooms.set(room(1), []);
    await at.hook(participantEvent('participant_left', 1, { reason: 'CLIENT_INITIATED' }));
    expect(await look()).toMatchObject({ state: 'settling', sid: 'PA_1', cause: 'left' });
    await at.clock.advance(1_500);
    expect(await look()).toMatchObject({ state: 'ended', sid: null, restart_due_at: null, outcome: 'sent', cause: 'left' });
    const history = Object.values((await look()).history ?? {});
    expect(history.map(({ state }) => state)).toEqual(['awaiting', 'connected', 'settling', 'leaving', 'ended']);
    expect(JSON.stringify(await look())).not.toMatch(SECRETS);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1', 'send delay-secret-1']);
  });

  test('is for the participant alone', async () => {
    const { json } = await at.post(handOverBody());
    const path = `/v1/delegations/${json.id}`;
    const stranger = { status: 404, json: { errcode: 'M_NOT_FOUND', error: expect.any(String) } };
    expect(await at.ask('GET', path, await bearer(2))).toMatchObject(stranger);
    expect(await at.ask('DELETE', path, await bearer(2))).toMatchObject(stranger);
    expect(await at.ask('GET', path, await bearer(1, { identity: identity(2) }))).toMatchObject(stranger);
    expect(await at.ask('GET', path, await bearer(1, { grant: { roomJoin: true, room: room(2) } }))).toMatchObject(stranger);
    expect(await at.ask('GET', path)).toMatchObject({ status: 401, json: { errcode: 'M_UNAUTHORIZED' } });
    expect((await at.ask('GET', path, await bearer(1))).status).toBe(200);
  });

  test.each(['dg_', 'dg_AAAAAAAAAAAAAAAAAAAAAA', 'nonsense', '..', '%2e%2e', '%00', '%', 'a%2Fb', '%ff', 'dg_AAAAAAAAAAAAAAAAAAAAAA%0A'])(
    'an id that is none, %s, is answered 404',
    async (id) => {
      const { status, json } = await at.ask('GET', `/v1/delegations/${id}`, await bearer());
      expect([status, typeof json.error]).toEqual([404, 'string']);
    },
  );
});

describe('handing back', () => {
  test('forgets without sending anything, and is repeatable', async () => {
    const { json } = await at.post(handOverBody());
    const path = `/v1/delegations/${json.id}`;
    const back = await at.ask('DELETE', path, await bearer());
    expect([back.status, back.json.state, back.json.outcome, back.json.restart_due_at]).toEqual([200, 'ended', 'handed-back', null]);
    expect((await at.ask('DELETE', path, await bearer())).json).toEqual(back.json);
    await at.hook(participantEvent('participant_left', 1, { reason: 'CLIENT_INITIATED' }));
    await at.clock.advance(600_000);
    expect(at.homeservers.calls).toEqual([]);
  });

  test('lets the same event be handed over anew', async () => {
    const { json } = await at.post(handOverBody());
    await at.ask('DELETE', `/v1/delegations/${json.id}`, await bearer());
    const again = await at.post(handOverBody());
    expect([again.status, again.json.id === json.id]).toEqual([201, false]);
  });
});

describe('who may', () => {
  const REFUSED: readonly [string, () => Promise<Record<string, string>>][] = [
    ['nothing', async () => ({})],
    ['an empty header', async () => ({ authorization: '' })],
    ['another scheme', async () => ({ authorization: `Basic ${await participantToken()}` })],
    ['no scheme', async () => ({ authorization: await participantToken() })],
    ['a token and more', async () => ({ authorization: `Bearer ${await participantToken()} more` })],
    ['no JWT', async () => ({ authorization: 'Bearer abc' })],
    ['dots', async () => ({ authorization: 'Bearer ..' })],
    ['an expired token', async () => (await bearer(1, { ttlSeconds: -120 })).headers],
    ['a token of another key', async () => (await bearer(1, { key: FOREIGN_KEY })).headers],
    ['a token of another secret', async () => (await bearer(1, { key: { key: 'key-of-the-sfu', secret: FOREIGN_KEY.secret } })).headers],
    ['a token that may not join', async () => (await bearer(1, { grant: { roomCreate: true, room: room(1) } })).headers],
    ['a token that joins no room', async () => (await bearer(1, { grant: { roomJoin: true } })).headers],
    ['a token of nobody', async () => jwt({ sub: '', video: GRANT })],
    ['a token of somebody without a name', async () => jwt({ sub: undefined, video: GRANT })],
    ['a token of a number', async () => jwt({ sub: 7, video: GRANT })],
    ['a token without grants', async () => jwt({})],
    ['a token whose grants are none', async () => jwt({ video: null })],
    ['a token that may perhaps join', async () => jwt({ video: { ...GRANT, roomJoin: 'true' } })],
    ['a token for a room without a name', async () => jwt({ video: { ...GRANT, room: '' } })],
    ['a token for a list of rooms', async () => jwt({ video: { ...GRANT, room: [room(1)] } })],
    ['a token for later', async () => jwt({ nbf: 4_000_000_000, video: GRANT })],
    ['an unsigned token', async () => jwt({ video: GRANT }, { alg: 'none' })],
    ['a token signed in another way than it says', async () => jwt({ video: GRANT }, { alg: 'RS256' })],
    ['a token of nobody we know', async () => jwt({ iss: '__proto__', video: GRANT })],
    ['a token without end', async () => ({ authorization: `Bearer ${'a'.repeat(20_000)}.b.c` })],
  ];
  test.each(REFUSED)('%s is answered 401, and nothing is stored', async (_name, headers) => {
    for (const [method, path] of [
      ['POST', '/v1/delegations'],
      ['GET', '/v1/delegations/dg_AAAAAAAAAAAAAAAAAAAAAA'],
      ['DELETE', '/v1/delegations/dg_AAAAAAAAAAAAAAAAAAAAAA'],
    ] as const) {
      const body = method === 'POST' ? { body: JSON.stringify(handOverBody()) } : {};
      const reply = await at.ask(method, path, { ...body, headers: await headers() });
      expect([reply.status, reply.json.errcode]).toEqual([401, 'M_UNAUTHORIZED']);
      expect(reply.text).not.toMatch(SECRETS);
    }
    expect(await at.stored()).toBe(0);
  });

  test('the scheme may be written in any case', async () => {
    const authorization = `bearer ${await participantToken()}`;
    expect((await at.post(handOverBody(), { headers: { authorization } })).status).toBe(201);
  });
});

describe('too often', () => {
  test('is answered 429 with the time to wait, and well again after it', async () => {
    for (let n = 0; n < 100; n += 1) expect((await at.post(handOverBody())).status).toBeLessThan(300);
    const { status, json, headers } = await at.post(handOverBody());
    expect([status, json.errcode]).toEqual([429, 'M_LIMIT_EXCEEDED']);
    expect(json.retry_after_ms).toBeGreaterThan(0);
    expect(json.retry_after_ms).toBeLessThanOrEqual(100);
    expect(headers.get('retry-after')).toBe('1');
    expect((await at.post(handOverBody(2), { n: 2 })).status).toBe(201);
    at.clock.stall(Number(json.retry_after_ms));
    expect((await at.post(handOverBody())).status).toBe(200);
    expect((await at.post(handOverBody())).status).toBe(429);
  });
});

describe('other pages may ask', () => {
  test('a preflight is answered for any origin', async () => {
    for (const path of ['/v1/delegations', '/v1/delegations/dg_AAAAAAAAAAAAAAAAAAAAAA']) {
      const { status, headers } = await at.ask('OPTIONS', path, {
        headers: {
          origin: 'https://call.example.org',
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'authorization,content-type',
        },
      });
      expect(status).toBe(204);
      expect(headers.get('access-control-allow-origin')).toBe('*');
      expect(headers.get('access-control-allow-methods')?.split(',').sort()).toEqual(['DELETE', 'GET', 'POST']);
      expect(headers.get('access-control-allow-headers')?.toLowerCase()).toBe('authorization,content-type');
      expect(headers.get('access-control-allow-credentials')).toBeNull();
    }
  });

  test('every answer may be read, refusals too', async () => {
    const origin = { origin: 'https://call.example.org' };
    const replies = [
      await at.post(handOverBody(), { headers: origin }),
      await at.post('{', { headers: origin }),
      await at.post('x'.repeat(70_000), { headers: origin }),
      await at.ask('GET', '/v1/delegations/x', { headers: origin }),
      await at.ask('PUT', '/v1/delegations', { headers: origin }),
    ];
    at.storeAway = true;
    replies.push(await at.patient(at.post(handOverBody(2), { headers: origin })));
    // A page may read no other header than it is told of, and a 503 says when to come again in no other place.
    for (const { headers } of replies) expect(headers.get('access-control-expose-headers')).toBe('Retry-After');
    expect(replies.map(({ status, headers }) => [status, headers.get('access-control-allow-origin')])).toEqual(
      [201, 400, 413, 401, 405, 503].map((status) => [status, '*']),
    );
  });
});

describe('wrong doors', () => {
  test.each([
    ['PUT', '/v1/delegations', 'POST'],
    ['GET', '/v1/delegations', 'POST'],
    ['DELETE', '/v1/delegations', 'POST'],
    ['POST', '/v1/delegations/x', 'GET, DELETE'],
    ['PATCH', '/v1/delegations/x', 'GET, DELETE'],
    ['GET', '/sfu_webhook', 'POST'],
    ['PUT', '/v1/webhook', 'POST'],
    ['POST', '/healthz', 'GET, HEAD'],
    ['DELETE', '/readyz', 'GET, HEAD'],
    ['POST', '/metrics', 'GET, HEAD'],
  ])('%s %s is answered 405 with what is allowed', async (method, path, allowed) => {
    const { status, json, headers } = await at.ask(method, path);
    expect([status, json.errcode, headers.get('allow')]).toEqual([405, 'M_UNRECOGNIZED', allowed]);
  });

  test.each([
    '/',
    '/v1',
    '/v2/delegations',
    '/v1/delegations/x/y',
    '/sfu_webhook/x',
    '/metrics/x',
    '/healthz%00',
    '/healthzx',
    '/xmetrics',
  ])('%s is answered 404', async (path) => {
    const { status, json } = await at.ask('GET', path);
    expect([status, json]).toEqual([404, { errcode: 'M_UNRECOGNIZED', error: 'No such endpoint' }]);
  });
});

describe('when no promise can be kept', () => {
  test('a store that is away is answered 503, nothing is stored, and well again', async () => {
    at.storeAway = true;
    const { status, json, headers } = await at.patient(at.post(handOverBody()));
    expect([status, json.errcode, headers.get('retry-after')]).toEqual([503, 'M_UNKNOWN', '2']);
    expect(await at.ask('DELETE', '/v1/delegations/dg_AAAAAAAAAAAAAAAAAAAAAA', await bearer())).toMatchObject({ status: 503 });
    expect(await at.stored()).toBe(0);
    at.storeAway = false;
    expect((await at.post(handOverBody())).status).toBe(201);
  });

  test('a store that is away for a moment is waited for', async () => {
    at.storeAway = true;
    at.clock.after(1_000, () => {
      at.storeAway = false;
    });
    const { status, json } = await at.patient(at.post(handOverBody()));
    expect([status, json.expires_at]).toEqual([201, START_MS + 10_000]);
  });

  test('while draining nothing new is taken, but one may look', async () => {
    const { json } = await at.post(handOverBody());
    at.draining = true;
    const refused = [await at.post(handOverBody(2)), await at.ask('DELETE', `/v1/delegations/${json.id}`, await bearer())];
    for (const { status, headers } of refused) expect([status, headers.get('retry-after')]).toEqual([503, '2']);
    expect((await at.ask('GET', `/v1/delegations/${json.id}`, await bearer())).json.state).toBe('awaiting');
    expect(await at.stored()).toBe(1);
  });
});
