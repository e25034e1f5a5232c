// Behind a homeserver there are two APIs beside one another, and each may name a membership's device or not: who got a token by one way and
// hands the leave over by another is the same member.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DelayId, Identity, UserId } from '../../src/delegation/ids.ts';
import { memberIdentity, memberRoom, proxiedOwner } from '../../src/delegation/names.ts';
import { readRoom } from '../../src/store/store.ts';
import { HOME_NAME } from '../support/our-homeserver.ts';
import { joins, parts } from './comings.ts';
import { createHarness, type Harness, type HarnessOptions, HS_TOKEN, type Reply, SECRETS, SFU_URL } from './harness.ts';

const ALICE = `@alice:${HOME_NAME}` as UserId;
const ROOM_ID = '!room:example.org';
const SLOT = 'm.call#ROOM';
const ROOM = memberRoom({ roomId: ROOM_ID, slotId: SLOT });
const MEMBER = { userId: ALICE, deviceId: 'DEV', memberId: 'member-1' };
const LONG = memberIdentity(MEMBER);
const OWNER = proxiedOwner({ roomId: ROOM_ID, slotId: SLOT, ...MEMBER });
const FIVE_MINUTES_MS = 300_000;

let at: Harness;
function begin(over: HarnessOptions = {}): void {
  at = createHarness({ behind: true, grants: { hasFullAccess: () => true }, ...over });
  at.engine.start();
  at.ours.rooms.set(ROOM_ID, new Set([ALICE, HOME_NAME, '@guest:other.example']));
  for (const n of [1, 2]) at.ours.events.set(`delay-secret-${n}` as DelayId, { roomId: ROOM_ID, userId: ALICE, delayMs: 3_600_000 });
}
beforeEach(() => begin());
afterEach(async () => {
  expect(at.log.join('\n')).not.toMatch(SECRETS);
  await at.close();
});

type Fields = Readonly<Record<string, unknown>>;
const HEADERS = { authorization: `Bearer ${HS_TOKEN}`, 'x-matrix-user-identifier': ALICE, 'x-matrix-origin': 'other.example' };
const post = async (path: string, body: Fields, headers: Record<string, string> = {}): Promise<Reply> => {
  const reply = await at.ask('POST', path, { headers, body: JSON.stringify(body) });
  expect([path, reply.status]).toEqual([path, 200]);
  return reply;
};
/** By the homeserver; as newer clients do, with the membership alone. */
const proxied = (end: string, over: Fields = {}) =>
  post(`/_matrix/client/v1/rtc/livekit/${end}`, { url: SFU_URL, room_id: ROOM_ID, slot_id: SLOT, member_id: 'member-1', ...over }, HEADERS);
/** By the API for clients alone. */
const alone = (path: string, over: Fields = {}, serverName: string = HOME_NAME) => {
  const openid_token = { access_token: 'secret-alice', token_type: 'Bearer', matrix_server_name: serverName, expires_in: 3600 };
  const member = { id: 'member-1', claimed_user_id: `@alice:${serverName}`, claimed_device_id: 'DEV' };
  return post(path, { room_id: ROOM_ID, slot_id: SLOT, openid_token, member, ...over });
};
const OLDER = { member_id: undefined, member: { id: 'member-1', claimed_device_id: 'DEV' } };
const event = (n: number): Fields => ({ delay_id: `delay-secret-${n}` });
const leaveAlone = (n: number) => alone('/delegate_delayed_leave', { ...event(n), delay_timeout: 3_600_000 });
const leaveProxied = (n: number, over: Fields = {}) => proxied('delegate_delayed_leave', { ...event(n), ...over });
const given = () => at.attendance.givenTo(ROOM, OWNER);

/** Kept for as long as they are there, and gone when they are. */
async function expectKept(identity: Identity): Promise<void> {
  await at.clock.advance(2 * FIVE_MINUTES_MS);
  expect(at.homeservers.calls.filter((call) => !call.startsWith('restart'))).toEqual([]);
  expect(at.homeservers.calls[0]).toBe('restart delay-secret-1');
  await parts(at, ROOM, identity);
  expect(at.homeservers.calls.at(-1)).toBe('send delay-secret-1');
}

const TOKENS: readonly [string, () => Promise<Reply>][] = [
  ['by the API for clients alone', () => alone('/get_token')],
  ['by the homeserver, with the older member object', () => proxied('get_token', OLDER)],
];

describe.each(TOKENS)('a token %s', (_name, getToken) => {
  test('and then a delegation by the membership alone, before they are there', async () => {
    await getToken();
    await leaveProxied(1);
    await joins(at, ROOM, LONG);
    await expectKept(LONG);
  });

  test('and then a delegation by the membership alone, when they are', async () => {
    await getToken();
    await joins(at, ROOM, LONG);
    await leaveProxied(1);
    await at.clock.advance(2_000);
    await expectKept(LONG);
  });

  test('after a delegation by the membership alone', async () => {
    await leaveProxied(1);
    await at.clock.advance(60_000);
    await getToken();
    await joins(at, ROOM, LONG);
    await expectKept(LONG);
  });

  test('while a delegation by the membership alone is under way', async () => {
    await Promise.all([leaveProxied(1), getToken()]);
    await joins(at, ROOM, LONG);
    await expectKept(LONG);
  });

  test('is remembered by the next process', async ({ onTestFinished }) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'lastwill-memberships-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    for (const what of [getToken, () => leaveProxied(1)]) {
      await at.close();
      begin({ file: path.join(folder, 'lastwill.sqlite') });
      await what();
    }
    await joins(at, ROOM, LONG);
    await expectKept(LONG);
  });
});

describe('a delegation by the one way', () => {
  test('that is repeated by the other is one, and knows what both say', async () => {
    await leaveProxied(1);
    await leaveAlone(1);
    expect(await at.stored()).toBe(1);
    await joins(at, ROOM, LONG);
    await expectKept(LONG);
  });

  test.each([
    ['the API for clients alone', leaveAlone, leaveProxied],
    ['the homeserver', leaveProxied, leaveAlone],
  ])('of %s is superseded by a new one of the other, which finds the member', async (_name, first, second) => {
    await first(1);
    await joins(at, ROOM, LONG);
    await second(2);
    await at.clock.advance(2_000);
    expect(at.homeservers.calls).toContain('cancel delay-secret-1');
    expect(at.homeservers.calls.at(-1)).toBe('restart delay-secret-2');
    await parts(at, ROOM, LONG);
    expect(at.homeservers.calls.at(-1)).toBe('send delay-secret-2');
  });
});

describe('nothing is remembered', () => {
  test('of what a delegation watches anyway', async () => {
    await proxied('get_token');
    const legacy = { room: ROOM_ID, device_id: 'DEV' };
    await alone('/sfu/get', { ...legacy, room_id: undefined, slot_id: undefined, member: undefined });
    expect([
      await given(),
      await at.attendance.givenTo(ROOM, proxiedOwner({ ...MEMBER, roomId: ROOM_ID, slotId: SLOT, memberId: `${ALICE}:DEV` })),
    ]).toEqual([[], []]);
  });

  test('of users whose leaves our homeserver does not pass on', async () => {
    await alone('/get_token', {}, 'other.example');
    const guest = { url: SFU_URL, room_id: ROOM_ID, slot_id: SLOT, ...OLDER, user_id: '@guest:other.example' };
    await post('/_matrix/federation/v1/rtc/livekit/get_token', guest, HEADERS);
    for (const userId of ['@alice:other.example', '@guest:other.example'] as UserId[])
      expect(await at.attendance.givenTo(ROOM, proxiedOwner({ ...MEMBER, roomId: ROOM_ID, slotId: SLOT, userId }))).toEqual([]);
  });

  test('where no homeserver passes anything on', async () => {
    await at.close();
    begin({ behind: false });
    await alone('/get_token');
    expect(await given()).toEqual([]);
  });
});

test('a token is given also when nothing can be remembered', async () => {
  at.storeAway = true;
  await alone('/get_token');
  at.storeAway = false;
  expect(await given()).toEqual([]);
  await alone('/get_token');
  expect(await given()).toEqual([LONG]);
});

test.each<[string, () => Promise<Reply>]>([
  ['with a token', () => alone('/get_token', { ...event(1), delay_timeout: 3_600_000 })],
  ['alone', () => leaveAlone(1)],
  ['by the homeserver', () => leaveProxied(1)],
])('an event that is handed over %s runs while it is looked up who asks', async (_, hand) => {
  const { check } = at.openIds;
  at.openIds.check = async (token) => {
    await at.clock.advance(3_000);
    return check(token);
  };
  const scheduled = at.ours.scheduled.bind(at.ours);
  at.ours.scheduled = async (...asked) => {
    await at.clock.advance(3_000);
    return scheduled(...asked);
  };
  const askedAtMs = at.clock.nowMs();
  await hand();
  expect(at.clock.nowMs()).toBeGreaterThanOrEqual(askedAtMs + 3_000);
  expect(await readRoom(at.store, ROOM)).toMatchObject([{ expiry: { earliestMs: askedAtMs + 3_600_000 } }]);
});
