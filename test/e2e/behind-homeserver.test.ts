// Behind a real homeserver (protocol of MSC4195 through MSC4512 and MSC4502): tokens and leaves by its API, by nobody's OpenID token, and
// the as_token for everything that lastwill asks it.
import { afterAll, beforeAll, describe, expect } from 'vitest';
import type { Member } from './stack/call.ts';
import { roomService, sfuUrl } from './stack/livekit.ts';
import { type Json, MatrixClient, MatrixError } from './stack/matrix.ts';
import { Participant } from './stack/participant.ts';
import { type PlaceBehindHomeserver, Stage, story } from './stack/place.ts';
import { eventually, now } from './stack/processes.ts';
import type { SeatNames } from './stack/seat.ts';
import { callsAbout } from './stack/synapse.ts';

const SOON_MS = 3_000;
/** LiveKit takes 20 s and a little to notice a crash. */
const CRASH_MS = 22_000 + SOON_MS;
const SLOT = 'm.call#ROOM';
const STABLE = '/_matrix/client/v1/rtc/livekit';
const UNSTABLE = '/_matrix/client/unstable/io.element.msc4195/rtc/livekit';

const stage = new Stage();
let place: PlaceBehindHomeserver;
beforeAll(async () => {
  place = await stage.behindHomeserver();
});
afterAll(() => stage.close());

/** What both endpoints are asked about one's own membership. */
const membership = (room: string, member: Json = { member_id: 'member-1' }): Json => {
  return { url: sfuUrl(place.sfu), room_id: room, slot_id: SLOT, ...member };
};

function seatOf({ jwt }: Json): SeatNames {
  const claims = JSON.parse(Buffer.from(String(jwt).split('.')[1] ?? '', 'base64url').toString()) as { sub: string; video: Json };
  return { sfuRoom: String(claims.video.room), identity: claims.sub, token: String(jwt) };
}

/** A token by the homeserver's path, in a room that is one's own. */
const seated =
  (api = UNSTABLE, member?: Json) =>
  async (matrix: MatrixClient, room: string): Promise<SeatNames> =>
    seatOf(await matrix.call('POST', `${api}/get_token`, membership(room, member)));

async function delegate(alice: Member, delayMs: number, api = UNSTABLE, member?: Json): Promise<string> {
  const delayId = await alice.scheduleLeave(delayMs);
  expect(
    await alice.matrix.call('POST', `${api}/delegate_delayed_leave`, { ...membership(alice.room, member), delay_id: delayId }),
  ).toEqual({});
  await eventually('the first restart', 5_000, () => callsAbout(place.synapseLog, delayId).find(({ action }) => action === 'restart'));
  return delayId;
}

async function refusal(asked: Promise<Json>): Promise<[number, unknown]> {
  const answer = await asked.then(
    (body) => expect.fail(`not refused: ${Object.keys(body).join()}`),
    (error: unknown) => error,
  );
  return answer instanceof MatrixError ? [answer.status, answer.body.errcode] : expect.fail(String(answer));
}

/** A room of somebody else's, which members join and announce themselves in. */
async function openRoom(host: MatrixClient): Promise<string> {
  const powers = { events: { 'org.matrix.msc3401.call.member': 0 } };
  return host.createRoom({ preset: 'public_chat', power_level_content_override: powers });
}

const entering =
  (room: string) =>
  async (matrix: MatrixClient): Promise<string> =>
    String((await matrix.call('POST', `/_matrix/client/v3/join/${encodeURIComponent(room)}`, {})).room_id);

describe('by the homeserver', () => {
  story.for([
    ['unstable', UNSTABLE, undefined],
    ['stable', STABLE, undefined],
    ['older proposal', UNSTABLE, { member: { id: 'member-1', claimed_device_id: 'DEVICE' } }],
  ] as const)('token, participant, delegation, goodbye: %s', async ([name, api, member], { stage }) => {
    const alice = await stage.member(place, { seat: seated(api, member) });
    const participant = await alice.join();
    await delegate(alice, 3_600_000, api, member);
    await alice.expectLeave(`goodbye, by the homeserver (${name})`, await participant.leave(), SOON_MS);
    await alice.expectClean();
  });

  story('delegated before it connects, then killed', async ({ stage }) => {
    const alice = await stage.member(place, { seat: seated() });
    const delayId = await alice.scheduleLeave(3_600_000);
    await alice.matrix.call('POST', `${UNSTABLE}/delegate_delayed_leave`, { ...membership(alice.room), delay_id: delayId });
    const participant = await alice.join({ publish: true });
    await alice.expectPresentFor(1_000);
    await alice.expectLeave('crash, by the homeserver', await participant.crash(), CRASH_MS);
    await alice.expectClean();
  });

  story('the probe is answered, and a bad delegation leaves the event to its owner', async ({ stage }) => {
    const alice = await stage.member(place, { seat: seated() });
    const other = await alice.matrix.createRoom();
    const path = `${UNSTABLE}/delegate_delayed_leave`;
    expect(await refusal(alice.matrix.call('POST', path))).toEqual([400, 'M_NOT_JSON']);
    const delayId = await alice.scheduleLeave(60_000);
    const asked = (over: Json) => alice.matrix.call('POST', path, { ...membership(alice.room), delay_id: delayId, ...over });
    expect(await refusal(asked({ delay_id: 'syd_nobody_has' }))).toEqual([400, 'M_INVALID_PARAM']);
    expect(await refusal(asked({ room_id: other }))).toEqual([400, 'M_INVALID_PARAM']);
    expect(await refusal(asked({ url: 'wss://elsewhere.example.org' }))).toEqual([400, 'M_INVALID_PARAM']);
    const mallory = await MatrixClient.register(place.synapseUrl, 'mallory');
    expect(await refusal(mallory.call('POST', path, { ...membership(alice.room), delay_id: delayId }))).toEqual([400, 'M_INVALID_PARAM']);
    expect(callsAbout(place.synapseLog, delayId).filter(({ action }) => action !== 'other')).toEqual([]);
  });

  story('members of the room only', async ({ stage }) => {
    const alice = await stage.member(place, { seat: seated() });
    const mallory = await MatrixClient.register(place.synapseUrl, 'mallory');
    for (const api of [STABLE, UNSTABLE]) {
      expect(await refusal(mallory.call('POST', `${api}/get_token`, membership(alice.room)))).toEqual([403, 'M_FORBIDDEN']);
      expect(await refusal(mallory.call('POST', `${api}/get_token`, membership('!nowhere:example.org')))).toEqual([403, 'M_FORBIDDEN']);
    }
    const stranger = await fetch(`${place.synapseUrl}${UNSTABLE}/get_token`, { method: 'POST', body: '{}' });
    expect(stranger.status).toBe(401);
  });

  story('a page of any origin may read the answers', async ({ stage }) => {
    const alice = await stage.member(place, { seat: seated() });
    const path = `${place.synapseUrl}${UNSTABLE}/get_token`;
    const preflight = await fetch(path, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://call.example.org',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization',
      },
    });
    expect(preflight.ok).toBe(true);
    const answer = await alice.matrix.raw('POST', `${UNSTABLE}/get_token`, membership(alice.room));
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([200, '*']);
  });
});

describe('who leaves the Matrix room leaves the call', () => {
  story.for(['kick', 'ban', 'leave'] as const)('%s', async (how, { stage }) => {
    const host = await MatrixClient.register(place.synapseUrl, 'host');
    const room = await openRoom(host);
    const enters = { room: entering(room), seat: seated() };
    const [alice, bob] = await Promise.all([stage.member(place, enters), stage.member(place, enters)]);
    const [hers, his] = await Promise.all([alice.join(), bob.join()]);
    const delayId = await delegate(alice, 3_600_000);
    await delegate(bob, 3_600_000);

    const goneMs = now();
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/${how}`;
    if (how === 'leave') await alice.matrix.call('POST', path, {});
    else await host.call('POST', path, { user_id: alice.matrix.userId });
    await eventually('the SFU to throw her out', 10_000, () => (hers.events.includes('disconnected') ? true : undefined));
    expect(now() - goneMs).toBeLessThan(8_000);
    // A homeserver takes no event of somebody who is not in the room, and drops what was scheduled: that others see her as gone is the
    // work of her Matrix membership. lastwill tries, is told so, and counts no ghost.
    const sends = await eventually('the leave to be tried, and to be over', 10_000, () => {
      const tried = callsAbout(place.synapseLog, delayId).filter(({ action }) => action === 'send');
      return tried.some(({ status }) => status === 404) ? tried.map(({ status }) => status) : undefined;
    });
    expect(sends).toEqual([403, 404]);
    await alice.expectNoFalseLeave();
    expect(await place.lastwill.metric('lastwill_ghosts_total', 'cause="removed"')).toBe(0);
    await bob.expectPresentFor(1_000);
    expect(his.events).toEqual([]);
  });
});

story('beside it, the API for clients alone', async ({ stage }) => {
  const member = { member: { id: 'member-1', claimed_device_id: 'DEVICE' } };
  const alice = await stage.member(place, { seat: seated(UNSTABLE, member) });
  const { userId } = alice.matrix;
  const openid = await alice.matrix.call('POST', `/_matrix/client/v3/user/${encodeURIComponent(userId)}/openid/request_token`, {});
  const body = {
    ...{ room_id: alice.room, slot_id: SLOT, openid_token: openid },
    member: { id: 'member-1', claimed_user_id: userId, claimed_device_id: 'DEVICE' },
  };
  const post = async (path: string, more: Json = {}): Promise<Json> =>
    (await (await fetch(`${place.lastwill.url}${path}`, { method: 'POST', body: JSON.stringify({ ...body, ...more }) })).json()) as Json;
  const { sfuRoom, identity } = seatOf(await post('/get_token'));
  expect([sfuRoom, identity]).toEqual([alice.sfuRoom, alice.identity]);
  const participant = await alice.join();
  const delayId = await alice.scheduleLeave(60_000);
  expect(await post('/delegate_delayed_leave', { delay_id: delayId, delay_timeout: 60_000 })).toEqual({});
  await eventually('the first restart', 5_000, () => callsAbout(place.synapseLog, delayId)[0]);
  await alice.expectLeave('the API for clients alone, beside it', await participant.leave(), SOON_MS);
  await alice.expectClean();
});

describe('two homeservers, each with a lastwill', () => {
  story("a user of the other's gets a token that may not publish, by both homeservers", async ({ stage }) => {
    const there = await stage.behindHomeserver();
    const host = await MatrixClient.register(place.synapseUrl, 'host');
    const room = await openRoom(host);
    const alice = await stage.member(place, { room: entering(room), seat: seated() });
    const bob = await MatrixClient.register(there.synapseUrl, 'bob');
    const asked = { ...membership(room), server_name: place.homeserver.serverName };
    expect(await refusal(bob.call('POST', `${UNSTABLE}/get_token`, asked))).toEqual([403, 'M_FORBIDDEN']);
    const via = encodeURIComponent(place.homeserver.serverName);
    await bob.call('POST', `/_matrix/client/v3/join/${encodeURIComponent(room)}?server_name=${via}&via=${via}`, {});
    const speaker = await alice.join({ publish: true });
    await eventually('her homeserver to know of him', 10_000, async () => {
      const { joined } = await host.call('GET', `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/joined_members`);
      return bob.userId in (joined as Json) ? true : undefined;
    });

    for (const api of [UNSTABLE, STABLE]) {
      const answer = await bob.call('POST', `${api}/get_token`, asked);
      expect(Object.keys(answer)).toEqual(['jwt']);
      const [, claims = ''] = String(answer.jwt).split('.');
      expect(JSON.parse(Buffer.from(claims, 'base64url').toString()).video).toEqual({
        ...{ room: alice.sfuRoom, roomJoin: true, roomCreate: false, canPublish: false, canSubscribe: true, canUpdateOwnMetadata: true },
      });
    }
    const { token, identity } = seatOf(await bob.call('POST', `${UNSTABLE}/get_token`, asked));
    const listener = await Participant.join(sfuUrl(place.sfu), token);
    stage.later(() => listener.end());
    await eventually('both to be on her SFU', 5_000, async () => {
      const present = (await roomService(place.sfu).listParticipants(alice.sfuRoom)).map(({ identity: one }) => one).sort();
      return JSON.stringify(present) === JSON.stringify([alice.identity, identity].sort()) ? true : undefined;
    });
    const publisher = await Participant.prepare();
    stage.later(() => publisher.end());
    await expect(publisher.connect(sfuUrl(place.sfu), token, { publish: true })).rejects.toThrow();
    expect(await refusal(bob.call('POST', `${UNSTABLE}/get_token`, { ...asked, url: 'wss://elsewhere.example.org' }))).toEqual([
      ...[400, 'M_INVALID_PARAM'],
    ]);
    expect(await refusal(bob.call('POST', `${UNSTABLE}/get_token`, { ...asked, server_name: 'localhost:1' }))).toEqual([502, 'M_UNKNOWN']);

    await host.call('POST', `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/ban`, { user_id: bob.userId });
    await eventually('her SFU to throw him out', 10_000, () => (publisher.events.includes('disconnected') ? true : undefined));
    await alice.expectPresentFor(1_000);
    expect(speaker.events).toEqual([]);
  });
});

// By itself: so many participants slow everybody down on few cores, and the others are judged by time.
describe('many at once', { concurrent: false }, () => {
  story("ten participants with a delay of 10 s, under Synapse's default rate limit", async ({ stage }) => {
    const seats: Member[] = [];
    for (let count = 0; count < 10; count += 1) seats.push(await stage.member(place, { seat: seated() }));
    const joined = await Promise.all(
      seats.map(async (one) => {
        const participant = await one.join();
        return { one, participant, delayId: await delegate(one, 10_000) };
      }),
    );
    await Promise.all(seats.map((one) => one.expectPresentFor(30_000)));
    const calls = joined.flatMap(({ delayId }) => callsAbout(place.synapseLog, delayId)).filter(({ action }) => action !== 'other');
    expect(calls.filter(({ status }) => status !== 200)).toEqual([]);
    expect(calls.length).toBeGreaterThan(10 * 3);
    await Promise.all(
      joined.map(async ({ one, participant }) => one.expectLeave('one of ten with 10 s, as_token', await participant.leave(), 2 * SOON_MS)),
    );
    expect(await place.lastwill.metric('lastwill_false_leaves_total')).toBe(0);
  });
});
