// What our homeserver passes on to us, with the real engine behind it: who gets which token, what is kept for whom, and
// every refusal to the letter, in its order.
import { TokenVerifier } from 'livekit-server-sdk';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type DelayId, type Identity, type Sid, sha256, type UserId } from '../../src/delegation/ids.ts';
import { legacyIdentity, memberIdentity, memberRoom } from '../../src/delegation/names.ts';
import { HOME_NAME } from '../support/our-homeserver.ts';
import { START_MS } from '../support/virtual-clock.ts';
import { joins, parts } from './comings.ts';
import { API_KEY, createHarness, type Harness, HS_TOKEN, type Init, type Reply, SECRETS, SFU_URL } from './harness.ts';

let at: Harness;
beforeEach(() => {
  at = createHarness({ behind: true });
  at.engine.start();
  at.ours.rooms.set(ROOM_ID, new Set([ALICE, HOME_NAME, GUEST]));
  at.ours.events.set(DELAY_ID, { roomId: ROOM_ID, userId: ALICE, delayMs: 3_600_000 });
});
afterEach(async () => {
  expect(at.log.join('\n')).not.toMatch(SECRETS);
  await at.close();
});

const ALICE = `@alice:${HOME_NAME}` as UserId;
const GUEST = '@guest:other.example' as UserId;
const ROOM_ID = '!room:example.org';
const SLOT = 'm.call#ROOM';
const DELAY_ID = 'delay-secret-1' as DelayId;
const ROOM = memberRoom({ roomId: ROOM_ID, slotId: SLOT });
const SHORT = sha256(JSON.stringify([ALICE, 'member-1'])) as Identity;
const LONG = memberIdentity({ userId: ALICE, deviceId: 'DEV', memberId: 'member-1' });
const OLDER = { member_id: undefined, member: { id: 'member-1', claimed_device_id: 'DEV' } };

type Fields = Readonly<Record<string, unknown>>;
const EDITIONS = ['v1', 'unstable/io.element.msc4195'] as const;
const [CLIENT, FEDERATION] = ['/_matrix/client/v1/rtc/livekit', '/_matrix/federation/v1/rtc/livekit'];
const [TOKEN, DELEGATE, GUEST_TOKEN] = [`${CLIENT}/get_token`, `${CLIENT}/delegate_delayed_leave`, `${FEDERATION}/get_token`];
const AUTHORIZED = { authorization: `Bearer ${HS_TOKEN}` };
const BY_ALICE = { ...AUTHORIZED, 'x-matrix-user-identifier': ALICE };
const BY_OTHER = { ...AUTHORIZED, 'x-matrix-origin': 'other.example' };

const tokenBody = (over: Fields = {}): Fields => ({ url: SFU_URL, room_id: ROOM_ID, slot_id: SLOT, member_id: 'member-1', ...over });
const leaveBody = (over: Fields = {}): Fields => tokenBody({ delay_id: DELAY_ID, ...over });
const guestBody = (over: Fields = {}): Fields => tokenBody({ user_id: GUEST, ...over });

const post = (path: string, body: unknown, headers: Record<string, string> = BY_ALICE): Promise<Reply> => {
  const init: Init = { headers, body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body) };
  return at.ask('POST', path, init);
};
const getToken = (over: Fields = {}) => post(TOKEN, tokenBody(over));
const delegate = (over: Fields = {}) => post(DELEGATE, leaveBody(over));
const guestToken = (over: Fields = {}, headers = BY_OTHER) => post(GUEST_TOKEN, guestBody(over), headers);

async function claimsOf({ json }: Reply): Promise<Record<string, unknown>> {
  return (await new TokenVerifier(API_KEY.key, API_KEY.secret).verify(String(json.jwt))) as Record<string, unknown>;
}
function expectRefusal(reply: Reply, status: number, errcode: string, error: string | RegExp): void {
  expect([reply.status, reply.json]).toEqual([
    status,
    { errcode, error: typeof error === 'string' ? error : expect.stringMatching(error) },
  ]);
}
const corsOf = ({ headers }: Reply) => ['origin', 'methods', 'headers'].map((name) => headers.get(`access-control-allow-${name}`));
const CORS = ['*', 'POST, OPTIONS', 'X-Requested-With, Content-Type, Authorization'];

describe('a token', () => {
  test.each(EDITIONS)('of a member, by %s: the room is made first, the stay is on record', async (edition) => {
    const reply = await post(`/_matrix/client/${edition}/rtc/livekit/get_token`, tokenBody());
    expect([reply.status, Object.keys(reply.json).sort(), reply.json.url]).toEqual([200, ['jwt', 'url'], SFU_URL]);
    const claims = await claimsOf(reply);
    expect(claims).toMatchObject({ sub: SHORT, identity: SHORT });
    expect(claims.video).toEqual({ room: ROOM, roomJoin: true, canPublish: true, canSubscribe: true, canUpdateOwnMetadata: true });
    expect(at.newRooms.made).toEqual([ROOM]);
    expect(at.ours.asked).toEqual([`joined ${ROOM_ID} ${ALICE}`]);
    expect(await at.attendance.trackedIn(ROOM_ID)).toEqual([
      { roomId: ROOM_ID, room: ROOM, identity: SHORT, userId: ALICE, grantedAtMs: START_MS },
    ]);
    expect(corsOf(reply)).toEqual(CORS);
  });

  test('of the older member object: the identity of a device', async () => {
    expect((await claimsOf(await getToken(OLDER))).sub).toBe(LONG);
    const { member_id, member } = { member_id: undefined, member: { id: 'member-1' } };
    expect((await claimsOf(await getToken({ member_id, member }))).sub).toBe(SHORT);
    expect((await claimsOf(await getToken({ ...OLDER, member_id: 'member-1' }))).sub).toBe(SHORT);
  });

  test('is the same where server_name is our own', async () => {
    expect((await getToken({ server_name: HOME_NAME })).status).toBe(200);
    expect((await getToken({ server_name: null })).status).toBe(200);
    expect(at.ours.relays).toEqual([]);
  });

  test('says what is not allowed', async () => {
    await at.close();
    at = createHarness({ behind: true, grants: { canUpdateOwnMetadata: false } });
    at.ours.rooms.set(ROOM_ID, new Set([ALICE]));
    expect((await claimsOf(await getToken())).video).toMatchObject({ canPublish: true, canUpdateOwnMetadata: false });
  });

  test('is for members only: 403, whether the room exists or not', async () => {
    at.ours.rooms.set(ROOM_ID, new Set([HOME_NAME]));
    for (const room_id of [ROOM_ID, '!nowhere:example.org', 'no room id'])
      expectRefusal(await getToken({ room_id }), 403, 'M_FORBIDDEN', 'Only members of the room may do this');
    expect([at.newRooms.made, await at.attendance.trackedRooms()]).toEqual([[], []]);
  });

  test('is not given while nobody knows who is a member', async () => {
    at.ours.failed = { kind: 'failed', why: 'timeout', retryAfterMs: 7_000 };
    const reply = await getToken();
    expectRefusal(reply, 503, 'M_UNKNOWN', 'The homeserver can not be asked now');
    expect(reply.headers.get('retry-after')).toBe('7');
    expect(at.newRooms.made).toEqual([]);
  });

  test('is not given without its room, nor without its record', async () => {
    at.newRooms.fail = true;
    expectRefusal(await getToken(), 500, 'M_UNKNOWN', 'The room could not be made on the SFU');
    at.newRooms.fail = false;
    at.storeAway = true;
    expectRefusal(await getToken(), 503, 'M_UNKNOWN', 'The store can not keep a promise now');
  });
});

describe("a token of another server's SFU", () => {
  const remote = { server_name: 'other.example', url: 'wss://sfu.other.example' };
  const body = { user_id: ALICE, url: 'wss://sfu.other.example', room_id: ROOM_ID, slot_id: SLOT };

  test.each(EDITIONS)('is fetched by the homeserver, by %s', async (edition) => {
    const reply = await post(`/_matrix/client/${edition}/rtc/livekit/get_token`, tokenBody(remote));
    expect([reply.status, reply.json]).toEqual([200, { jwt: 'secret-of-another-server' }]);
    expect(at.ours.relays).toEqual([
      {
        destination: 'other.example',
        path: `/_matrix/federation/${edition}/rtc/livekit/get_token`,
        body: { ...body, member_id: 'member-1' },
      },
    ]);
    expect([at.newRooms.made, await at.attendance.trackedRooms()]).toEqual([[], []]);
    expect(corsOf(reply)).toEqual(CORS);
  });

  test('is asked for as the client named it', async () => {
    await getToken({ ...remote, ...OLDER });
    expect(at.ours.relays[0]?.body).toEqual({ ...body, member: OLDER.member });
    await getToken({ ...remote, url: undefined });
    expect(at.ours.relays[1]?.body).toEqual({ user_id: ALICE, room_id: ROOM_ID, slot_id: SLOT, member_id: 'member-1' });
  });

  test('is for members of the room only', async () => {
    at.ours.rooms.get(ROOM_ID)?.delete(ALICE);
    expectRefusal(await getToken(remote), 403, 'M_FORBIDDEN', 'Only members of the room may do this');
    expect(at.ours.relays).toEqual([]);
  });

  test.each<[number, unknown, number, string]>([
    [403, { errcode: 'M_FORBIDDEN', error: 'secret-words' }, 403, 'M_FORBIDDEN'],
    [400, { errcode: 'M_INVALID_PARAM', error: 'secret-words' }, 400, 'M_INVALID_PARAM'],
    [403, { errcode: 'M_OTHER' }, 502, 'M_UNKNOWN'],
    [400, { errcode: 'M_BAD_JSON' }, 502, 'M_UNKNOWN'],
    [401, { errcode: 'M_UNAUTHORIZED' }, 502, 'M_UNKNOWN'],
    [404, { errcode: 'M_UNRECOGNIZED' }, 502, 'M_UNKNOWN'],
    [429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 1 }, 502, 'M_UNKNOWN'],
    [500, 'secret-words', 502, 'M_UNKNOWN'],
    [200, undefined, 502, 'M_UNKNOWN'],
    [200, null, 502, 'M_UNKNOWN'],
    [200, ['secret-words'], 502, 'M_UNKNOWN'],
    [200, { jwt: '' }, 502, 'M_UNKNOWN'],
    [200, { jwt: 1 }, 502, 'M_UNKNOWN'],
    [202, { jwt: 'secret-of-another-server' }, 502, 'M_UNKNOWN'],
  ])('that is answered %i %j', async (status, content, ours, errcode) => {
    at.ours.relayed = { kind: 'relayed', status, content };
    const reply = await getToken(remote);
    expect([reply.status, reply.json.errcode]).toEqual([ours, errcode]);
    expect(reply.text).not.toMatch(SECRETS);
  });

  test('that nobody fetches', async () => {
    at.ours.relayed = { kind: 'failed', why: 'status_5xx', retryAfterMs: null };
    expectRefusal(await getToken(remote), 502, 'M_UNKNOWN', 'The other server could not be asked');
  });
});

describe('a token for a guest of another server', () => {
  test.each(EDITIONS)('may listen, by %s', async (edition) => {
    const reply = await post(`/_matrix/federation/${edition}/rtc/livekit/get_token`, guestBody(), BY_OTHER);
    expect([reply.status, reply.json.url]).toEqual([200, SFU_URL]);
    const claims = await claimsOf(reply);
    expect(claims.sub).toBe(sha256(JSON.stringify([GUEST, 'member-1'])));
    expect(claims.video).toEqual({
      ...{ room: ROOM, roomJoin: true, roomCreate: false, canPublish: false, canSubscribe: true, canUpdateOwnMetadata: true },
    });
    expect(at.newRooms.made).toEqual([]);
    expect(at.ours.asked).toEqual([`joined ${ROOM_ID} ${HOME_NAME}`, `joined ${ROOM_ID} ${GUEST}`]);
    expect(await at.attendance.trackedIn(ROOM_ID)).toMatchObject([{ userId: GUEST }]);
    expect(corsOf(reply)).toEqual([null, null, null]);
  });

  test('is for those whom the asking server may speak for', async () => {
    expectRefusal(await guestToken({ user_id: ALICE }), 403, 'M_FORBIDDEN', 'user_id is of another server than the one that asks');
    for (const origin of ['evil-other.example', 'OTHER.example', 'other.example:8448'])
      expect((await guestToken({}, { ...BY_OTHER, 'x-matrix-origin': origin })).status).toBe(403);
    expect(at.ours.asked).toEqual([]);
  });

  test.each([HOME_NAME, GUEST])('is for rooms that %s is in', async (missing) => {
    at.ours.rooms.get(ROOM_ID)?.delete(missing);
    expectRefusal(await guestToken(), 403, 'M_FORBIDDEN', 'Only members of the room may do this');
    expect(await at.attendance.trackedRooms()).toEqual([]);
  });

  test('is not given while nobody knows', async () => {
    at.ours.failed = { kind: 'failed', why: 'limited', retryAfterMs: null };
    expectRefusal(await guestToken(), 503, 'M_UNKNOWN', 'The homeserver can not be asked now');
  });
});

const join = (identity: Identity) => joins(at, ROOM, identity);
const part = (identity: Identity) => parts(at, ROOM, identity);

describe('a delegation', () => {
  const compatible = { member_id: `${ALICE}:DEV` };
  test.each<[string, Fields, Identity]>([
    ['member_id, joined by it', {}, SHORT],
    ['the older object, joined by it', OLDER, LONG],
    ['the older object, joined by member_id', OLDER, SHORT],
    ['compatibility mode, joined by member_id', compatible, sha256(JSON.stringify([ALICE, `${ALICE}:DEV`])) as Identity],
    ['compatibility mode, joined in the clear', compatible, legacyIdentity(ALICE, 'DEV')],
    ['compatibility mode, joined by the hash', compatible, memberIdentity({ userId: ALICE, deviceId: 'DEV', memberId: `${ALICE}:DEV` })],
  ])('by %s: kept alive, and sent at the departure', async (_name, over, identity) => {
    const reply = await delegate(over);
    expect([reply.status, reply.json]).toEqual([200, {}]);
    expect(corsOf(reply)).toEqual(CORS);
    await join(identity);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1']);
    await part(identity);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1', 'send delay-secret-1']);
  });

  test('by the API for clients alone follows a member who joined by this one', async () => {
    const openid_token = { access_token: 'secret-alice', token_type: 'Bearer', matrix_server_name: HOME_NAME, expires_in: 3600 };
    const member = { id: 'member-1', claimed_user_id: ALICE, claimed_device_id: 'DEV' };
    const body = { room_id: ROOM_ID, slot_id: SLOT, openid_token, member, delay_id: DELAY_ID, delay_timeout: 3_600_000 };
    await at.close();
    at = createHarness({ behind: true, grants: { hasFullAccess: () => true } });
    at.engine.start();
    expect((await post('/delegate_delayed_leave', body, {})).status).toBe(200);
    await join(SHORT);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1']);
  });

  test.each<[string, Fields]>([
    ['member_id', {}],
    ['the older member', OLDER],
  ])('by %s and no url, as MSC4195 has it: our own SFU is meant', async (_name, over) => {
    expect((await delegate({ ...over, url: undefined })).status).toBe(200);
    expect((await delegate({ ...over, url: null })).status).toBe(200);
    await join(SHORT);
    await part(SHORT);
    expect(at.homeservers.calls).toEqual(['restart delay-secret-1', 'send delay-secret-1']);
  });

  test('is looked up once, makes no room, and has no record of its own', async () => {
    await delegate();
    expect(at.ours.asked).toEqual([`scheduled ${DELAY_ID} ${ALICE}`]);
    expect([at.newRooms.made, await at.attendance.trackedRooms()]).toEqual([[], []]);
    expect(await at.metric('lastwill_delegations_total{result="created"}')).toBe(1);
  });

  test.each(EDITIONS)('again is the same; with a new delayed event it supersedes, by %s', async (edition) => {
    const path = `/_matrix/client/${edition}/rtc/livekit/delegate_delayed_leave`;
    for (const over of [{}, OLDER]) expect((await post(path, leaveBody(over))).status).toBe(200);
    expect(await at.stored()).toBe(1);
    at.ours.events.set('delay-secret-2' as DelayId, { roomId: ROOM_ID, userId: ALICE, delayMs: 10_000 });
    await post(path, leaveBody({ delay_id: 'delay-secret-2' }));
    await at.clock.settle();
    expect(at.homeservers.calls).toEqual(['cancel delay-secret-1']);
    expect(await at.metric('lastwill_delegations_total{result="superseded"}')).toBe(1);
  });

  test('that came first is superseded, though it was looked up for longer; the identities that it names are watched', async () => {
    const secondId = 'delay-secret-2' as DelayId;
    at.ours.events.set(secondId, { roomId: ROOM_ID, userId: ALICE, delayMs: 3_600_000 });
    const { promise: later, resolve: answer } = Promise.withResolvers<void>();
    const scheduled = at.ours.scheduled.bind(at.ours);
    vi.spyOn(at.ours, 'scheduled').mockImplementationOnce((...asked) => later.then(() => scheduled(...asked)));
    const older = delegate(OLDER);
    await at.clock.advance(1);
    await delegate({ delay_id: secondId });
    await at.clock.advance(2_000);
    at.sfu.inRooms.set(ROOM, [{ identity: LONG, sid: 'PA_1' as Sid, joinedAtMs: START_MS, active: true }]);
    answer();
    expect((await older).status).toBe(200);
    await at.clock.advance(2_000);
    expect(at.homeservers.calls).toEqual(['cancel delay-secret-1', 'restart delay-secret-2']);
  });

  test.each<[string, Fields, Record<string, string>]>([
    ['unknown', { delay_id: 'delay-secret-9' }, BY_ALICE],
    ["another user's", {}, { ...BY_ALICE, 'x-matrix-user-identifier': `@bob:${HOME_NAME}` }],
    ['of another room', { room_id: '!other:example.org' }, BY_ALICE],
  ])('of an event that is %s', async (_name, over, headers) => {
    const why = 'delay_id is not a delayed event of this user in this room';
    expectRefusal(await post(DELEGATE, leaveBody(over), headers), 400, 'M_INVALID_PARAM', why);
    expect(await at.stored()).toBe(0);
    expect(await at.metric('lastwill_delegations_total{result="rejected"}')).toBe(1);
  });

  test('is not taken while it can not be looked up', async () => {
    at.ours.failed = { kind: 'failed', why: 'timeout', retryAfterMs: null };
    const reply = await delegate();
    expectRefusal(reply, 503, 'M_UNKNOWN', 'The homeserver can not be asked now');
    expect(reply.headers.get('retry-after')).toBe('2');
    at.ours.failed = null;
    at.ours.home.url = null;
    expectRefusal(await delegate(), 503, 'M_UNKNOWN', 'The homeserver can not be asked now');
  });

  test('is not taken while it can not be kept', async () => {
    at.storeAway = true;
    expectRefusal(await at.patient(delegate()), 503, 'M_UNKNOWN', 'The store can not keep a promise now');
    at.storeAway = false;
    at.draining = true;
    expectRefusal(await delegate(), 503, 'M_UNKNOWN', 'Shutting down');
    expect(at.ours.asked.filter((one) => one.startsWith('scheduled'))).toHaveLength(1);
  });
});

describe('the probe of Element Call', () => {
  const probe = () => post(DELEGATE, '');
  test('is answered while delegations can be kept', async () => {
    const reply = await probe();
    expectRefusal(reply, 400, 'M_NOT_JSON', 'The body is not JSON');
    expect(corsOf(reply)).toEqual(CORS);
  });

  test.each(['', '{}', 'null', '{"room_id":"!room:example.org"}'])(
    'is answered 404 while they can not, if it is written as %j',
    async (body) => {
      at.storeAway = true;
      expectRefusal(await post(DELEGATE, body), 404, 'M_UNRECOGNIZED', 'Delegations can not be kept now');
      at.storeAway = false;
      at.draining = true;
      expectRefusal(await post(DELEGATE, body), 404, 'M_UNRECOGNIZED', 'Delegations can not be kept now');
    },
  );
});

describe('order', () => {
  const LARGE = ' '.repeat(64 * 1024 + 1);
  const DOORS = [TOKEN, DELEGATE, GUEST_TOKEN];
  const METHODS = ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE'];

  test.each(DOORS)('%s: the method comes first', async (path) => {
    for (const method of METHODS) {
      const { status, headers } = await at.ask(method, path);
      expect([method, status, headers.get('allow')]).toEqual([method, 405, path === GUEST_TOKEN ? 'POST' : 'POST, OPTIONS']);
    }
    const options = await at.ask('OPTIONS', path);
    expect([options.status, options.text === '']).toEqual(path === GUEST_TOKEN ? [405, false] : [200, true]);
    expect(corsOf(options)).toEqual(path === GUEST_TOKEN ? [null, null, null] : CORS);
  });

  test.each([...DOORS, '/_matrix/app/v1/ping'])('%s: then the hs_token', async (path) => {
    for (const authorization of ['', 'Bearer', 'Bearer ', HS_TOKEN, `Basic ${HS_TOKEN}`, `Bearer ${HS_TOKEN} x`])
      expectRefusal(await post(path, LARGE, { authorization }), 401, 'M_MISSING_TOKEN', 'The hs_token is required');
    expectRefusal(await post(path, LARGE, {}), 401, 'M_MISSING_TOKEN', 'The hs_token is required');
    for (const token of ['x', `${HS_TOKEN}x`, HS_TOKEN.slice(1), HS_TOKEN.toUpperCase(), 'as-token', 'x'.repeat(5_000)])
      expectRefusal(await post(path, LARGE, { authorization: `Bearer ${token}` }), 401, 'M_UNKNOWN_TOKEN', 'This is not the hs_token');
    expect((await post(`${path}?access_token=${HS_TOKEN}`, LARGE, {})).status).toBe(401);
    const said = () => at.log.filter((line) => line.includes('another hs_token'));
    expect(said()).toHaveLength(1);
    at.clock.stall(60_000);
    await post(path, LARGE, { authorization: 'Bearer x' });
    expect(said()).toHaveLength(2);
  });

  test.each([TOKEN, DELEGATE])('%s: then the user', async (path) => {
    expectRefusal(await post(path, LARGE, AUTHORIZED), 401, 'M_UNAUTHORIZED', 'X-Matrix-User-Identifier is required');
    for (const user of [
      'alice',
      '@alice',
      '@alice:',
      'alice:example.org',
      '@a:b c',
      `@a:${HOME_NAME}, @b:${HOME_NAME}`,
      `@${'a'.repeat(255)}:x`,
    ])
      expectRefusal(
        await post(path, LARGE, { ...AUTHORIZED, 'x-matrix-user-identifier': user }),
        ...([400, 'M_INVALID_PARAM', 'X-Matrix-User-Identifier is not a user id'] as const),
      );
  });

  test('%s: then the server', async () => {
    expectRefusal(await post(GUEST_TOKEN, LARGE, AUTHORIZED), 401, 'M_UNAUTHORIZED', 'X-Matrix-Origin is required');
    for (const origin of ['@a:b', 'b c', 'http://b', '[::1', 'b:0', 'b, c'])
      expectRefusal(
        await post(GUEST_TOKEN, LARGE, { ...AUTHORIZED, 'x-matrix-origin': origin }),
        ...([400, 'M_INVALID_PARAM', 'X-Matrix-Origin is not a server name'] as const),
      );
  });

  test.each([
    [TOKEN, BY_ALICE],
    [DELEGATE, BY_ALICE],
    [GUEST_TOKEN, BY_OTHER],
  ])('%s: then the size, the JSON, the fields, the SFU, and only then the homeserver', async (path, headers) => {
    expectRefusal(await post(path, LARGE, headers), 413, 'M_TOO_LARGE', 'The body is larger than 65536 bytes');
    expectRefusal(await post(path, '{', headers), 400, 'M_NOT_JSON', 'The body is not JSON');
    const elsewhere = { ...guestBody({ delay_id: DELAY_ID }), url: 'wss://elsewhere.example.org' };
    expectRefusal(await post(path, { ...elsewhere, room_id: 1 }, headers), 400, 'M_BAD_JSON', 'room_id must be a text');
    for (const room_id of ['.', '..'])
      expectRefusal(await post(path, { ...elsewhere, room_id }, headers), 400, 'M_INVALID_PARAM', 'room_id is not a room id');
    expectRefusal(await post(path, elsewhere, headers), 400, 'M_INVALID_PARAM', 'url is not an SFU of this server');
    expect(at.ours.asked).toEqual([]);
  });
});

describe('bad input', () => {
  const ODD: readonly unknown[] = [1, -0, 1.5, true, [], ['x'], {}];
  const ENDPOINTS = [
    ['get_token', TOKEN, tokenBody, BY_ALICE, ['room_id', 'slot_id', 'member_id', 'url']],
    ['delegate_delayed_leave', DELEGATE, leaveBody, BY_ALICE, ['room_id', 'slot_id', 'member_id', 'url', 'delay_id']],
    ['get_token of guests', GUEST_TOKEN, guestBody, BY_OTHER, ['room_id', 'slot_id', 'member_id', 'url', 'user_id']],
  ] as const;
  afterEach(async () => {
    expect([at.newRooms.made, await at.attendance.trackedRooms(), await at.stored(), at.ours.asked]).toEqual([[], [], 0, []]);
  });

  for (const [name, path, bodyOf, headers, fields] of ENDPOINTS) {
    test.each(fields)(`${name}: %s`, async (field) => {
      const refused = async (value: unknown, error: string) =>
        expectRefusal(await post(path, bodyOf({ [field]: value }), headers), 400, 'M_BAD_JSON', error);
      const isOptional = path === DELEGATE && field === 'url';
      for (const value of isOptional ? [''] : [undefined, null, '']) await refused(value, `${field} is required`);
      for (const value of ODD) await refused(value, `${field} must be a text`);
      await refused('\ud800', `${field} must be well-formed Unicode`);
      await refused('a\udfffb', `${field} must be well-formed Unicode`);
      const large = await post(path, bodyOf({ [field]: 'x'.repeat(1_000_000) }), headers);
      expect([large.status, large.json.errcode]).toEqual([413, 'M_TOO_LARGE']);
    });

    test.each([
      ['null', 'null', 'The body must be an object'],
      ['a list', '[]', 'The body must be an object'],
      ['a text', '"secret-x"', 'The body must be an object'],
      ['nothing in it', '{}', /is required$/],
      ['a member of another kind', JSON.stringify(bodyOf({ member: [] })), 'member must be an object'],
      ['a member without its id', JSON.stringify(bodyOf({ member_id: undefined, member: {} })), 'member.id is required'],
      ['a member id that is none', JSON.stringify(bodyOf({ member_id: undefined, member: { id: 1 } })), 'member.id must be a text'],
      [
        'a device of nothing',
        JSON.stringify(bodyOf({ ...OLDER, member: { id: 'a', claimed_device_id: '' } })),
        'member.claimed_device_id is required',
      ],
    ])(`${name}: %s`, async (_what, body, error) => expectRefusal(await post(path, body, headers), 400, 'M_BAD_JSON', error));

    test(`${name}: bytes that are no UTF-8`, async () => {
      const body = Buffer.concat([Buffer.from('{"room_id":"'), Buffer.from([0xff]), Buffer.from('"}')]);
      expectRefusal(await post(path, body, headers), 400, 'M_NOT_JSON', 'The body is not JSON');
    });
  }

  test.each(['', '.', '..', 'a/b', 'a%2Fb', 'a b', 'a\u0000', '\u202e', 'a?b', 'a'.repeat(256)])('delay_id %j', async (delay_id) => {
    const error = delay_id === '' ? 'delay_id is required' : 'delay_id must be 1 to 255 of 0-9 A-Z a-z . _ ~ -';
    expectRefusal(await delegate({ delay_id }), 400, 'M_BAD_JSON', error);
  });

  test.each(['', 'b c', 'https://other.example', 'other.example/', '[::1', 'x:99999', '\u0000', '\u202e', '\ud800', 'b\u00fccher.example'])(
    'server_name %j',
    async (server_name) => expectRefusal(await getToken({ server_name }), 400, 'M_INVALID_PARAM', 'server_name is not a server name'),
  );

  test.each(['guest', '@guest', '@guest:', 'guest:other.example', '@g:other.example:x', '@g\u0000:other.example', `@${'g'.repeat(255)}:x`])(
    'user_id %j',
    async (user_id) => expectRefusal(await guestToken({ user_id }), 400, 'M_INVALID_PARAM', 'user_id is not a user id'),
  );
});

describe('odd, and taken as it is', () => {
  test('right-to-left marks, NUL and any script in the names of a membership', async () => {
    const odd = '\u202e\u0000\u{1F600}"<&>\u2028';
    at.ours.rooms.set(odd, new Set([ALICE]));
    const claims = await claimsOf(await getToken({ room_id: odd, slot_id: odd, member_id: odd }));
    expect(claims).toMatchObject({ sub: sha256(JSON.stringify([ALICE, odd])), video: { room: sha256(JSON.stringify([odd, odd])) } });
  });

  test('fields that are not known, and fields that come twice', async () => {
    const body = JSON.stringify({ ...tokenBody({ member_id: 'member-1' }), constructor: 1, delegation: {} });
    const twice = `{"member_id":"other","__proto__":{"member_id":"other"},${body.slice(1)}`;
    expect((await claimsOf(await post(TOKEN, twice))).sub).toBe(SHORT);
  });

  test('a path with doubled slashes', async () => {
    expect((await post(`/${TOKEN}`, tokenBody())).status).toBe(200);
  });
});

describe('of an application service besides', () => {
  test('a ping is answered', async () => {
    const reply = await post('/_matrix/app/v1/ping', { transaction_id: 'x' }, AUTHORIZED);
    expect([reply.status, reply.json]).toEqual([200, {}]);
    expect((await at.ask('GET', '/_matrix/app/v1/ping', { headers: AUTHORIZED })).status).toBe(405);
  });

  test('transactions are taken, and nothing comes of them', async () => {
    const path = '/_matrix/app/v1/transactions/secret-1';
    const body = JSON.stringify({ events: [{ type: 'm.room.message', content: { body: 'secret-words' } }] });
    const reply = await at.ask('PUT', path, { headers: AUTHORIZED, body });
    expect([reply.status, reply.json]).toEqual([200, {}]);
    expectRefusal(await at.ask('PUT', path, { body }), 401, 'M_MISSING_TOKEN', 'The hs_token is required');
    expect((await at.ask('POST', path, { headers: AUTHORIZED, body })).status).toBe(405);
  });

  test('none of it is there without a homeserver that can prove itself', async () => {
    await at.close();
    at = createHarness();
    for (const path of [TOKEN, DELEGATE, GUEST_TOKEN, '/_matrix/app/v1/ping'])
      expectRefusal(await post(path, tokenBody()), 404, 'M_UNRECOGNIZED', 'No such endpoint');
  });
});

test('a user who asks for ever more tokens has to wait, and nobody else', async () => {
  const slots = Array.from({ length: 100 }, (_, nth) => getToken({ slot_id: `m.call#${nth}` }));
  for (const { status } of await Promise.all(slots)) expect(status).toBe(200);
  const { status, json } = await getToken({ slot_id: 'm.call#one-more' });
  expect([status, json]).toEqual([429, expect.objectContaining({ errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: expect.any(Number) })]);
  expect((await guestToken()).status).toBe(200);
});
