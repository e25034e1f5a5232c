// The MatrixRTC authorization API with the real engine behind it: who gets which token, what is kept for whom, and every
// refusal to the letter, in its order.
import fc from 'fast-check';
import { TokenVerifier } from 'livekit-server-sdk';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Identity, RoomName, UserId } from '../../src/delegation/ids.ts';
import { LEGACY_SLOT, legacyIdentity, memberIdentity, memberRoom } from '../../src/delegation/names.ts';
import { readRoom } from '../../src/store/store.ts';
import { joins, parts } from './comings.ts';
import { API_KEY, createHarness, type Harness, type Reply, SECRETS, SFU_URL } from './harness.ts';

let at: Harness;
beforeEach(() => {
  at = createHarness();
  at.engine.start();
});
afterEach(async () => {
  expect(at.log.join('\n')).not.toMatch(SECRETS);
  await at.close();
});

const HOME = 'example.org';
const ALICE = `@alice:${HOME}` as UserId;
const ROOM_ID = '!room:example.org';
const ROOM = memberRoom({ roomId: ROOM_ID, slotId: LEGACY_SLOT });
const MEMBER = { id: 'member-1', claimed_user_id: ALICE, claimed_device_id: 'DEV' };
const COMPATIBLE = { ...MEMBER, id: `${ALICE}:DEV` };
const HASHED = memberIdentity({ userId: ALICE, deviceId: 'DEV', memberId: 'member-1' });
const HASHED_COMPATIBLE = memberIdentity({ userId: ALICE, deviceId: 'DEV', memberId: `${ALICE}:DEV` });
const CLEAR = legacyIdentity(ALICE, 'DEV');
const DELEGATION = { delay_id: 'delay-secret-1', delay_timeout: 3_600_000, delay_cs_api_url: 'https://ignored.example' };

type Fields = Readonly<Record<string, unknown>>;
const openIdToken = (over: Fields = {}): Fields => {
  return { access_token: 'secret-alice', token_type: 'Bearer', matrix_server_name: HOME, expires_in: 3600, ...over };
};
const memberBody = (over: Fields = {}): Fields => {
  return { room_id: ROOM_ID, slot_id: LEGACY_SLOT, openid_token: openIdToken(), member: MEMBER, ...over };
};
const legacyBody = (over: Fields = {}): Fields => ({ room: ROOM_ID, openid_token: openIdToken(), device_id: 'DEV', ...over });

const post = (path: string, body: unknown): Promise<Reply> =>
  at.ask('POST', path, { body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body) });
const getToken = (over: Fields = {}) => post('/get_token', memberBody(over));
const legacy = (over: Fields = {}) => post('/sfu/get', legacyBody(over));
const leave = (over: Fields = {}) => post('/delegate_delayed_leave', memberBody({ ...DELEGATION, ...over }));

function of(serverName: string) {
  return { openid_token: openIdToken({ matrix_server_name: serverName }), member: { ...MEMBER, claimed_user_id: `@alice:${serverName}` } };
}

async function claimsOf({ json }: Reply): Promise<Record<string, unknown>> {
  return (await new TokenVerifier(API_KEY.key, API_KEY.secret).verify(String(json.jwt))) as Record<string, unknown>;
}

function expectCors({ headers }: Reply): void {
  expect(headers.get('access-control-allow-origin')).toBe('*');
  expect(headers.get('access-control-allow-methods')).toBe('POST');
  expect(headers.get('access-control-allow-headers')).toBe('Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token');
}

describe('a token', () => {
  test('of a user of a full-access homeserver: the room is made first', async () => {
    const reply = await getToken();
    expect([reply.status, reply.json.url]).toEqual([200, SFU_URL]);
    const claims = await claimsOf(reply);
    expect(claims).toMatchObject({ iss: API_KEY.key, sub: HASHED, identity: HASHED });
    expect(claims.video).toEqual({ room: ROOM, roomJoin: true, canPublish: true, canSubscribe: true, canUpdateOwnMetadata: true });
    expect(claims).not.toHaveProperty('aud');
    expect(Number(claims.exp) - Number(claims.nbf)).toBe(3600);
    expect(at.newRooms.made).toEqual([ROOM]);
    expect(at.openIds.looks).toEqual([{ accessToken: 'secret-alice', serverName: HOME }]);
    expect(await at.stored()).toBe(0);
    expectCors(reply);
  });

  test('of an older client: its one slot, its identity in the clear', async () => {
    const claims = await claimsOf(await legacy());
    expect(claims).toMatchObject({ sub: CLEAR, video: { room: ROOM } });
    expect(at.newRooms.made).toEqual([ROOM]);
  });

  test.each([undefined, null, ''])('of an older client with the device id %j', async (device_id) => {
    expect((await claimsOf(await legacy({ device_id }))).sub).toBe(`${ALICE}:`);
  });

  test('of a guest: no room is made', async () => {
    const claims = await claimsOf(await getToken(of('guest.example')));
    expect(claims.video).toMatchObject({ room: ROOM, canPublish: true });
    await legacy({ openid_token: of('guest.example').openid_token });
    expect(at.newRooms.made).toEqual([]);
  });

  test('says what is not allowed', async () => {
    await at.close();
    at = createHarness({ grants: { restrictedCanPublish: false, canUpdateOwnMetadata: false } });
    const video = { roomJoin: true, room: ROOM, canSubscribe: true, canUpdateOwnMetadata: false };
    expect((await claimsOf(await getToken())).video).toEqual({ ...video, canPublish: true });
    expect((await claimsOf(await getToken(of('guest.example')))).video).toEqual({ ...video, canPublish: false });
  });

  test('needs no store', async () => {
    at.storeAway = true;
    at.draining = true;
    expect((await getToken()).status).toBe(200);
    expect((await legacy()).status).toBe(200);
  });

  test('at a path with doubled slashes', async () => {
    expect((await post('//get_token', memberBody())).status).toBe(200);
    expect((await post('/livekit//sfu/get', legacyBody())).status).toBe(404);
  });
});

const join = (identity: Identity) => joins(at, ROOM, identity);
const part = (identity: Identity) => parts(at, ROOM, identity);

describe('a delegation', () => {
  type Way = (over?: Fields) => Promise<Reply>;
  const both: Way = (over = {}) => getToken({ ...DELEGATION, ...over });
  const bothLegacy: Way = (over = {}) => legacy({ ...DELEGATION, ...over });
  const compatible: Way = (over = {}) => both({ member: COMPATIBLE, ...over });
  const compatibleLeave: Way = (over = {}) => leave({ member: COMPATIBLE, ...over });

  test.each<[string, Way, Identity]>([
    ['/get_token, joined as that member', both, HASHED],
    ['/delegate_delayed_leave, joined as that member', leave, HASHED],
    ['/sfu/get, joined by the identity in the clear', bothLegacy, CLEAR],
    ['/sfu/get, joined by the hashed identity', bothLegacy, HASHED_COMPATIBLE],
    ['/get_token in compatibility mode, joined in the clear', compatible, CLEAR],
    ['/get_token in compatibility mode, joined by the hash', compatible, HASHED_COMPATIBLE],
    ['/delegate_delayed_leave in compatibility mode, joined in the clear', compatibleLeave, CLEAR],
  ])('by %s: kept alive, and sent at the departure', async (_name, way, identity) => {
    const reply = await way();
    expect(reply.status).toBe(200);
    expectCors(reply);
    await join(identity);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1']);
    await part(identity);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1', 'send delay-secret-1']);
  });

  test('by one who is connected already', async () => {
    await join(HASHED);
    await both();
    await at.clock.advance(1_000);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1']);
  });

  test('of a member does not follow another member of the same user and device', async () => {
    await both();
    await join(CLEAR);
    expect(at.homeservers.calls).toEqual([]);
  });

  test('alone makes no room and gives no token', async () => {
    const reply = await leave();
    expect([reply.status, reply.json]).toEqual([200, {}]);
    expect(at.newRooms.made).toEqual([]);
    expect(at.openIds.looks).toHaveLength(1);
  });

  test('again is the same; with a new delayed event it supersedes', async () => {
    await both();
    await leave();
    expect(await at.stored()).toBe(1);
    expect(await at.metric('lastwill_delegations_total{result="repeated"}')).toBe(1);
    await both({ delay_id: 'delay-secret-2' });
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual(['cancel delay-secret-1']);
    expect(await at.metric('lastwill_delegations_total{result="superseded"}')).toBe(1);
  });

  test.each([
    ['with a token', both],
    ['with a token for an older client', bothLegacy],
    ['alone', leave],
  ])('that came first is superseded, though its homeserver was asked about it for longer: %s', async (_how, handOver) => {
    const { check } = at.openIds;
    const { promise: later, resolve: answer } = Promise.withResolvers<void>();
    vi.spyOn(at.openIds, 'check').mockImplementationOnce((token) => later.then(() => check(token)));
    const older = handOver();
    await at.clock.advance(1);
    expect((await handOver({ delay_id: 'delay-secret-2' })).status).toBe(200);
    answer();
    expect((await older).status).toBe(200);
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual(['cancel delay-secret-1']);
    for (const delay_id of ['delay-secret-1', 'delay-secret-2']) await handOver({ delay_id });
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual(['cancel delay-secret-1']);
    expect(await at.store.count()).toMatchObject({ awaiting: 1, ended: 1 });
    expect(await at.metric('lastwill_delegations_total{result="superseded"}')).toBe(1);
  });

  test('supersedes across the modes of one membership', async () => {
    await bothLegacy();
    await compatible({ delay_id: 'delay-secret-2' });
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual(['cancel delay-secret-1']);
  });

  test.each<[string, Fields]>([
    ['member', { member: { ...MEMBER, id: 'member-2' } }],
    ['device', { member: { ...MEMBER, claimed_device_id: 'OTHER' } }],
    ['room', { room_id: '!other:example.org' }],
    ['slot', { slot_id: 'm.call#other' }],
    ['user', { member: { ...MEMBER, claimed_user_id: '@bob:example.org' }, openid_token: openIdToken({ access_token: 'secret-bob' }) }],
  ])('of another %s lives beside it', async (_name, over) => {
    await both();
    await both({ ...over, delay_id: 'delay-secret-2' });
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual([]);
    expect((await at.store.count()).awaiting).toBe(2);
  });

  test('at once, twenty times, is one', async () => {
    const replies = await Promise.all(Array.from({ length: 20 }, () => both()));
    expect(replies.every(({ status }) => status === 200)).toBe(true);
    expect(await at.stored()).toBe(1);
  });

  test('goes to the homeserver that the user is of, and carries the user', async () => {
    await both();
    const [row] = await rowsOf(ROOM);
    expect(row).toMatchObject({ userId: ALICE, homeserver: 'https://matrix.example.org', delayMs: 3_600_000, identities: [HASHED] });
  });

  test.each([1, 999, 9_223_372_036_854])('of %i ms', async (delay_timeout) => {
    expect((await leave({ delay_timeout })).status).toBe(200);
    expect(await rowsOf(ROOM)).toMatchObject([{ delayMs: delay_timeout }]);
  });

  const rowsOf = (room: RoomName) => readRoom(at.store, room);
});

describe('while delegations can not be kept', () => {
  const WAYS: [string, () => Promise<Reply>][] = [
    ['/get_token', () => getToken(DELEGATION)],
    ['/sfu/get', () => legacy(DELEGATION)],
    ['/delegate_delayed_leave', () => leave()],
  ];
  test.each(WAYS)('%s is answered 503', async (_name, way) => {
    at.storeAway = true;
    const away = await at.patient(way());
    expect([away.status, away.json.errcode, away.headers.get('retry-after')]).toEqual([503, 'M_UNKNOWN', '2']);
    expectCors(away);
    at.storeAway = false;
    at.draining = true;
    expect((await way()).status).toBe(503);
    expect(await at.stored()).toBe(0);
  });

  test('the probe is answered 404, and only then', async () => {
    const probe = () => at.ask('POST', '/delegate_delayed_leave');
    const possible = await probe();
    expect([possible.status, possible.json.errcode]).toEqual([400, 'M_NOT_JSON']);
    at.storeAway = true;
    const away = await probe();
    expect([away.status, away.json.errcode]).toEqual([404, 'M_UNRECOGNIZED']);
    for (const path of ['/get_token', '/sfu/get']) expect((await at.ask('POST', path)).status).toBe(400);
    at.storeAway = false;
    expect((await probe()).status).toBe(400);
    at.draining = true;
    expect((await probe()).status).toBe(404);
    for (const reply of [possible, away]) expectCors(reply);
    expect(at.openIds.looks).toEqual([]);
    expect(await at.metric('lastwill_delegations_total{result="rejected"}')).toBe(0);
  });

  test.each(['{}', 'null', '{"room_id":"!room:example.org"}'])('so is a probe that writes its empty body as %s', async (body) => {
    const probe = () => at.ask('POST', '/delegate_delayed_leave', { body });
    const possible = await probe();
    expect([possible.status, possible.json.errcode]).toEqual([400, 'M_BAD_JSON']);
    at.storeAway = true;
    expect((await probe()).status).toBe(404);
    at.storeAway = false;
    at.draining = true;
    const away = await probe();
    expect([away.status, away.json.errcode]).toEqual([404, 'M_UNRECOGNIZED']);
    expectCors(away);
  });
});

const PATHS = ['/get_token', '/sfu/get', '/delegate_delayed_leave'];

describe('methods', () => {
  test.each(PATHS)('%s', async (path) => {
    const preflight = await at.ask('OPTIONS', path);
    expect([preflight.status, preflight.text]).toEqual([200, '']);
    expectCors(preflight);
    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'PROPFIND']) {
      const reply = await at.ask(method, path);
      expect([reply.status, reply.text, reply.headers.get('allow')]).toEqual([405, '', 'POST, OPTIONS']);
      expectCors(reply);
    }
  });
});

/** Refused, before anyone was asked anything: `looks` OpenID look-ups, no room, nothing kept. */
async function refused(reply: Reply, status: number, errcode: string, error: string, looks = 0): Promise<void> {
  expect([reply.status, reply.json]).toEqual([status, { errcode, error }]);
  expect(reply.text).not.toMatch(SECRETS);
  expectCors(reply);
  expect(at.openIds.looks).toHaveLength(looks);
  expect(at.newRooms.made).toEqual([]);
  expect(await at.stored()).toBe(0);
}

describe('refused: not the JSON of a request', () => {
  const MEMBER_PATHS = ['/get_token', '/delegate_delayed_leave'];
  test.each(PATHS)('%s', async (path) => {
    const texts = ['{', 'nul', '{}{}', '\ufeff{}', "{'a':1}", '{"room":"a\u0001"}', '['.repeat(20_000)];
    for (const text of texts) await refused(await post(path, text), 400, 'M_NOT_JSON', 'The body is not JSON');
    await refused(await post(path, Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), 400, 'M_NOT_JSON', 'The body is not JSON');
    for (const text of ['[]', '1', '"x"', 'true']) await refused(await post(path, text), 400, 'M_NOT_JSON', 'The body must be an object');
  });

  test.each(MEMBER_PATHS)('an unknown field at %s', async (path) => {
    const body = memberBody(DELEGATION);
    await refused(await post(path, { ...body, room: 'x' }), 400, 'M_NOT_JSON', 'room is not known');
    const token = { ...body, openid_token: openIdToken({ secret: 1 }) };
    await refused(await post(path, token), 400, 'M_NOT_JSON', 'openid_token.secret is not known');
    await refused(await post(path, { ...body, member: { ...MEMBER, x: 1 } }), 400, 'M_NOT_JSON', 'member.x is not known');
  });

  test('an unknown field of an older client', async () => {
    await refused(await legacy({ member: MEMBER }), 400, 'M_NOT_JSON', 'member is not known');
    await refused(await legacy({ ROOM: 'x' }), 400, 'M_NOT_JSON', 'ROOM is not known');
  });

  const texts = [5, true, [], {}, ['x']];
  test.each(['room_id', 'slot_id', 'delay_id', 'delay_cs_api_url'])('%s of another type', async (field) => {
    for (const value of texts) await refused(await getToken({ [field]: value }), 400, 'M_NOT_JSON', `${field} must be a text`);
  });
  test.each(['id', 'claimed_user_id', 'claimed_device_id'])('member.%s of another type', async (field) => {
    for (const value of texts) {
      const reply = await leave({ member: { ...MEMBER, [field]: value } });
      await refused(reply, 400, 'M_NOT_JSON', `member.${field} must be a text`);
    }
  });
  test.each(['access_token', 'token_type', 'matrix_server_name'])('openid_token.%s of another type', async (field) => {
    for (const value of texts) {
      const reply = await legacy({ openid_token: openIdToken({ [field]: value }) });
      await refused(reply, 400, 'M_NOT_JSON', `openid_token.${field} must be a text`);
    }
  });
  test('objects and whole numbers of another type', async () => {
    for (const value of ['', 5, [], true]) {
      await refused(await getToken({ member: value }), 400, 'M_NOT_JSON', 'member must be an object');
      await refused(await legacy({ openid_token: value }), 400, 'M_NOT_JSON', 'openid_token must be an object');
    }
    for (const value of ['10', 1.5, 1e300, true, {}]) {
      await refused(await leave({ delay_timeout: value }), 400, 'M_NOT_JSON', 'delay_timeout must be a whole number');
      const reply = await getToken({ openid_token: openIdToken({ expires_in: value }) });
      await refused(reply, 400, 'M_NOT_JSON', 'openid_token.expires_in must be a whole number');
    }
    expect((await getToken({ openid_token: openIdToken({ expires_in: 9.2e18 }) })).status).toBe(200);
  });
});

describe('refused: a field is missing or wrong', () => {
  const missing = [undefined, null, ''];
  const bad = async (reply: Reply, error: string) => refused(reply, 400, 'M_BAD_JSON', error);

  test('any', async () => {
    for (const value of missing) {
      await bad(await getToken({ room_id: value }), 'room_id is required');
      await bad(await leave({ slot_id: value }), 'slot_id is required');
      await bad(await legacy({ room: value }), 'room is required');
      for (const field of ['id', 'claimed_user_id', 'claimed_device_id'])
        await bad(await getToken({ member: { ...MEMBER, [field]: value } }), `member.${field} is required`);
      for (const field of ['access_token', 'matrix_server_name']) {
        const openid_token = openIdToken({ [field]: value });
        await bad(await getToken({ openid_token }), `openid_token.${field} is required`);
        await bad(await legacy({ openid_token }), `openid_token.${field} is required`);
      }
    }
    await bad(await post('/get_token', 'null'), 'room_id is required');
    await bad(await leave({ member: null }), 'member.id is required');
    await bad(await legacy({ openid_token: null }), 'openid_token.access_token is required');
  });

  test('half a delegation', async () => {
    const half = 'delay_timeout is required beside delay_id';
    for (const way of [getToken, legacy, leave]) {
      await bad(await way({ delay_id: 'delay-secret-1', delay_timeout: null }), half);
      await bad(await way({ delay_id: 'delay-secret-1', delay_timeout: 0 }), half);
      await bad(await way({ delay_id: '', delay_timeout: 1 }), 'delay_id is required');
      await bad(await way({ delay_id: null, delay_timeout: 1 }), 'delay_id is required');
    }
    await bad(await leave({ delay_id: null, delay_timeout: null }), 'delay_id and delay_timeout are required');
  });

  test('a delay out of bounds', async () => {
    const error = 'delay_timeout must be from 1 to 9223372036854';
    for (const delay_timeout of [-1, 9_223_372_036_855, Number.MAX_SAFE_INTEGER]) await bad(await leave({ delay_timeout }), error);
  });

  test('a delay id that is none', async () => {
    for (const delay_id of ['.', '..', 'secret-a/b', 'secret a', 'secret-%2f', 'ü', 'x'.repeat(256), 'secret\u0000'])
      await bad(await getToken({ delay_id, delay_timeout: 1 }), 'delay_id must be 1 to 255 of 0-9 A-Z a-z . _ ~ -');
  });

  test('half a surrogate pair', async () => {
    await bad(await getToken({ room_id: 'a\ud800' }), 'room_id must be well-formed Unicode');
    await bad(await getToken({ member: { ...MEMBER, id: '\udc00' } }), 'member.id must be well-formed Unicode');
    await bad(await legacy({ device_id: '\udc00\ud800' }), 'device_id must be well-formed Unicode');
  });

  test('in the order of the fields, before anyone is asked', async () => {
    await bad(await getToken({ slot_id: null, member: null, openid_token: null, delay_id: 'x' }), 'slot_id is required');
    await bad(await getToken({ member: null, openid_token: null, delay_id: 'x' }), 'member.id is required');
    await bad(await getToken({ openid_token: null, delay_id: 'x' }), 'openid_token.access_token is required');
    await bad(await legacy({ openid_token: null, delay_id: 'x' }), 'openid_token.access_token is required');
  });
});

describe('refused: who it is', () => {
  const unauthorized = async (reply: Reply, looks = 1) =>
    refused(reply, 401, 'M_UNAUTHORIZED', 'The OpenID token does not prove this user', looks);

  test('the homeserver does not know the token', async () => {
    await unauthorized(await getToken({ openid_token: openIdToken({ access_token: 'stale' }), ...DELEGATION }));
  });

  test.each(['@bob:example.org', '@alice:other.example', 'alice', '@ALICE:example.org', `${ALICE} `])(
    'the claimed user is %s',
    async (claimed_user_id) => unauthorized(await leave({ member: { ...MEMBER, claimed_user_id } })),
  );

  test.each(['x y', 'a@b', 'http://example.org', 'example.org/', 'a:0', 'a:99999', '[::1', '1.2.3.4.5', '127.1', '\u0000', '\u202e'])(
    'the server name is %j: nobody is asked',
    async (matrix_server_name) => unauthorized(await legacy({ openid_token: openIdToken({ matrix_server_name }) }), 0),
  );

  test('is logged with the reason', async () => {
    await getToken({ openid_token: openIdToken({ access_token: 'stale' }) });
    expect(at.log.join()).toContain('told to be');
  });

  test('is said once a minute, however many a stranger sends', async () => {
    const said = (level: string) => at.log.filter((line) => line.includes('an OpenID token') && line.includes(`"level":"${level}"`));
    for (let n = 0; n < 5; n += 1) await getToken({ openid_token: openIdToken({ access_token: 'stale' }) });
    expect([said('info').length, said('debug').length]).toEqual([1, 4]);
    await at.clock.advance(60_000);
    await getToken({ openid_token: openIdToken({ access_token: 'stale' }) });
    expect(said('info')).toHaveLength(2);
  });
});

describe('refused: what it may', () => {
  const FULL_ACCESS_ONLY = 'Delayed events are delegated for users of full-access homeservers only';

  test('a delegation of a guest', async () => {
    const guest = of('guest.example');
    await refused(await getToken({ ...guest, ...DELEGATION }), 400, 'M_BAD_JSON', FULL_ACCESS_ONLY, 1);
    await refused(await legacy({ openid_token: guest.openid_token, ...DELEGATION }), 400, 'M_BAD_JSON', FULL_ACCESS_ONLY, 2);
    await refused(await leave(guest), 403, 'M_FORBIDDEN', FULL_ACCESS_ONLY, 3);
    expect(await at.metric('lastwill_delegations_total{result="rejected"}')).toBe(3);
  });

  test('a delegation where the client-server API can not be found: before a room is made', async () => {
    const lost = of('broken.example.org');
    const error = 'Unable to resolve client-server API';
    await refused(await getToken({ ...lost, ...DELEGATION }), 400, 'M_BAD_JSON', error, 1);
    await refused(await legacy({ openid_token: lost.openid_token, ...DELEGATION }), 400, 'M_BAD_JSON', error, 2);
    await refused(await leave(lost), 400, 'M_BAD_JSON', error, 3);
    expect((await getToken(lost)).status, 'without a delegation nobody needs it').toBe(200);
  });

  test('no room, no token, and nothing is kept', async () => {
    at.newRooms.fail = true;
    const error = 'The room could not be made on the SFU';
    await refused(await getToken(DELEGATION), 500, 'M_UNKNOWN', error, 1);
    await refused(await legacy(), 500, 'M_UNKNOWN', error, 2);
    expect((await leave()).status, 'a delegation alone needs no room').toBe(200);
  });
});

describe('refused: too large', () => {
  test.each(PATHS)('%s', async (path) => {
    const body = `{"room":"${'x'.repeat(1024 * 1024)}"}`;
    await refused(await post(path, body), 413, 'M_TOO_LARGE', 'The body is larger than 65536 bytes');
  });
});

const odd = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string(),
  fc.jsonValue(),
  fc.constantFrom(
    '\ud800',
    '\u0000',
    '\u202e',
    '127.1',
    HOME,
    'broken.example.org',
    'secret-alice',
    ALICE,
    'x'.repeat(10_000),
    -0,
    1,
    2 ** 53,
  ),
);
const FIELDS = ['room', 'room_id', 'slot_id', 'device_id', 'delay_id', 'delay_timeout', 'delay_cs_api_url', 'openid_token', 'member'];
const NESTED = ['access_token', 'matrix_server_name', 'id', 'claimed_user_id', 'claimed_device_id', 'expires_in'];
const overOf = (names: readonly string[]) => fc.dictionary(fc.oneof(fc.constantFrom(...names), fc.string()), odd, { maxKeys: 3 });

test('whatever is sent, the answer is one that clients know', async () => {
  const bodies = fc.oneof(
    fc.tuple(overOf(FIELDS), overOf(NESTED), overOf(NESTED)).map(([over, token, member]) => {
      return memberBody({ openid_token: openIdToken(token), member: { ...MEMBER, ...member }, ...over });
    }),
    fc.tuple(overOf(FIELDS), overOf(NESTED)).map(([over, token]) => legacyBody({ openid_token: openIdToken(token), ...over })),
    fc.jsonValue(),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...PATHS), bodies, async (path, body) => {
      const reply = await post(path, body);
      expect([200, 400, 401, 403, 413]).toContain(reply.status);
      expectCors(reply);
      if (reply.status !== 200) expect(reply.json).toEqual({ errcode: expect.stringMatching(/^M_[A-Z_]+$/), error: expect.any(String) });
    }),
    { numRuns: 500 },
  );
});
