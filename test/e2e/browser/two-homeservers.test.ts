// A call between two homeservers of which the service knows one: the other's users may take part, but neither make rooms on the SFU
// nor hand their leave over.
import { describe, expect, inject } from 'vitest';
import { Homeserver, register } from '../stack/homeserver.ts';
import { roomService } from '../stack/livekit.ts';
import type { Json } from '../stack/matrix.ts';
import { eventually, now } from '../stack/processes.ts';
import type { Credentials } from './page/contract.ts';
import { browserStory, Caller } from './stack/caller.ts';
import { Chromium } from './stack/chromium.ts';
import { noChromium } from './stack/chromium-binary.ts';
import { SOON_MS } from './stack/promises.ts';

const SLOT = 'm.call#ROOM';
const DELAY = { delay_id: 'syd_of_another_homeserver', delay_timeout: 3_600_000, delay_cs_api_url: 'http://127.0.0.1' };

async function post(url: string, body: object, token?: string): Promise<{ status: number; body: Json }> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  return { status: response.status, body: (await response.json()) as Json };
}

async function openIdToken({ baseUrl, userId, accessToken }: Credentials): Promise<Json> {
  const answer = await post(`${baseUrl}/_matrix/client/v3/user/${encodeURIComponent(userId)}/openid/request_token`, {}, accessToken);
  expect(answer.status).toBe(200);
  return answer.body;
}

/** The same person in the terms of each endpoint. */
const legacy = (bob: Credentials, room: string, openid: Json): Json => ({ room, openid_token: openid, device_id: bob.deviceId });
const newer = (bob: Credentials, room: string, openid: Json): Json => ({
  room_id: room,
  slot_id: SLOT,
  openid_token: openid,
  member: { id: 'bob', claimed_user_id: bob.userId, claimed_device_id: bob.deviceId },
});

describe.skipIf(noChromium !== undefined)('two homeservers', () => {
  browserStory('the remote one may take part, nothing more', async ({ newCaller, onTestFinished }) => {
    const call = inject('call');
    const remote = await Homeserver.start({ serviceUrl: call.serviceUrl });
    onTestFinished(() => remote.kill());
    const alice = await newCaller();
    const bob = await register(remote.url, 'bob');
    const local = alice.credentials.userId.slice(alice.credentials.userId.indexOf(':') + 1);
    await alice.room.admit(bob, [local]);
    const rooms = async (): Promise<string[]> => (await roomService(call.sfu).listRooms()).map(({ name }) => name);
    const before = await rooms();

    const openid = await openIdToken(bob);
    for (const [path, person] of [['/sfu/get', legacy] as const, ['/get_token', newer] as const]) {
      const token = await post(`${call.serviceUrl}${path}`, person(bob, alice.room.id, openid));
      expect([path, token.status, Object.keys(token.body).sort()]).toEqual([path, 200, ['jwt', 'url']]);
      const delegation = await post(`${call.serviceUrl}${path}`, { ...person(bob, alice.room.id, openid), ...DELAY });
      expect([path, delegation.status, delegation.body.errcode]).toEqual([path, 400, 'M_BAD_JSON']);
    }
    const delegation = await post(`${call.serviceUrl}/delegate_delayed_leave`, { ...newer(bob, alice.room.id, openid), ...DELAY });
    expect([delegation.status, delegation.body.errcode]).toEqual([403, 'M_FORBIDDEN']);
    expect(
      (await rooms()).filter((name) => !before.includes(name)),
      'rooms made for a remote user',
    ).toEqual([]);

    const here = await alice.join('legacy');
    expect(await rooms()).toContain(here.sfuRoom);
    const guest = new Caller(call, bob, alice.room, await Chromium.start());
    onTestFinished(() => guest.end());
    const there = await guest.join('legacy', { delegate: false });
    expect(there.sfuRoom).toBe(here.sfuRoom);
    expect(there.grant).not.toHaveProperty('roomCreate', true);
    await eventually('both to be on the SFU', 10_000, async () => {
      const identities = (await roomService(call.sfu).listParticipants(here.sfuRoom)).map(({ identity }) => identity).sort();
      return JSON.stringify(identities) === JSON.stringify([here.identity, there.identity].sort()) ? true : undefined;
    });

    await alice.expectPresentFor(2_000);
    const departedMs = now();
    await guest.chromium.page.evaluate('window.hangUp()');
    await guest.expectLeave('hang-up of a remote user (its own leave)', there, departedMs, SOON_MS);
    await alice.expectPresentFor(2_000);
    const wentMs = now();
    await alice.chromium.page.evaluate('window.leaveSfu()');
    await alice.expectLeave('goodbye to the SFU alone, after a remote user', here, wentMs, SOON_MS);
  });
});
