// Anything at all, at every door: no answer is a 500, none is empty where an error is due, and nobody who is not let in leaves a trace.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DelayId, UserId } from '../../src/delegation/ids.ts';
import { HOME_NAME } from '../support/our-homeserver.ts';
import {
  createHarness,
  type Harness,
  HS_TOKEN,
  handOverBody,
  type Init,
  participantEvent,
  participantToken,
  SECRETS,
  SFU_URL,
  webhookToken,
} from './harness.ts';

let at: Harness;
beforeAll(() => {
  at = createHarness({ behind: true });
  at.engine.start();
});
afterAll(async () => {
  expect(at.log.filter((line) => line.includes('"level":"error"') && !line.includes('another hs_token'))).toEqual([]);
  expect(at.log.join('\n')).not.toMatch(SECRETS);
  await at.close();
});

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
const DOORS = ['/', '/healthz', '/readyz', '/metrics', '/sfu_webhook', '/v1/webhook', '/v1/delegations', '/v1/delegations/'];
const TOKEN_DOORS = ['/get_token', '/sfu/get', '/delegate_delayed_leave'];
const PROXIED_DOORS = ['v1', 'unstable/io.element.msc4195'].flatMap((edition) => [
  `/_matrix/client/${edition}/rtc/livekit/get_token`,
  `/_matrix/client/${edition}/rtc/livekit/delegate_delayed_leave`,
  `/_matrix/federation/${edition}/rtc/livekit/get_token`,
]);
DOORS.push(...TOKEN_DOORS, ...PROXIED_DOORS, '/_matrix/app/v1/ping', '/_matrix/app/v1/transactions/1');
const json = fc.json({ maxDepth: 6 });
const scalar = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.double(),
  fc.maxSafeInteger(),
  fc.boolean(),
  fc.constantFrom(null, [], {}, '', '..', 'example.org', 'https://matrix.example.org', 'http://[::1]:1', 1, 10_000),
);
const header = fc.oneof(
  fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) }),
  fc.constantFrom(
    'Bearer',
    'Bearer ',
    'Bearer a.b.c',
    'bytes=0-',
    '*/*',
    'gzip',
    'chunked',
    '-1',
    '1e9',
    'application/json; charset=utf-16',
  ),
);
const headers = fc.dictionary(
  fc.constantFrom(
    'authorization',
    'content-type',
    'content-length',
    'origin',
    'accept',
    'x-forwarded-for',
    'content-encoding',
    'range',
    'host',
    'x-matrix-user-identifier',
    'x-matrix-origin',
  ),
  header,
);

async function sane(method: string, path: string, init: Init): Promise<void> {
  const { status, text, json: answer, headers: given } = await at.ask(method, path, init);
  expect(status, `${method} ${path} ${text}`).toBeLessThan(500);
  // An empty one, as the services do whose API it is.
  if (status === 405 && text === '') expect(given.get('allow')).not.toBe(null);
  else if (status >= 400 && method !== 'HEAD')
    expect(answer).toMatchObject({ errcode: expect.stringMatching(/^M_[A-Z_]+$/), error: expect.any(String) });
}

describe('no 500', () => {
  test('for any path, method, headers and body of a stranger', async () => {
    const path = fc.oneof(
      fc.webPath(),
      fc.constantFrom(...DOORS),
      fc
        .tuple(fc.constantFrom(...DOORS), fc.string({ unit: 'binary' }))
        .map(([door, rest]) => door + encodeURIComponent(rest.toWellFormed())),
      fc.tuple(fc.constantFrom(...DOORS), fc.stringMatching(/^[%0-9a-fA-F./?#&;=]{0,20}$/)).map(([door, rest]) => door + rest),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...METHODS), path, headers, fc.oneof(json, fc.uint8Array()), async (method, to, some, body) => {
        const before = await at.stored();
        await sane(method, to, method === 'GET' || method === 'HEAD' ? { headers: some } : { headers: some, body });
        expect(await at.stored()).toBe(before);
      }),
      { numRuns: 1_500 },
    );
  });

  test('for any body of a participant', async () => {
    const authorization = `Bearer ${await participantToken(77)}`;
    const body = fc.oneof(
      json,
      fc.uint8Array(),
      fc
        .tuple(
          fc.record({ homeserver: scalar, leave: scalar, lost: scalar, timeout_ms: scalar }, { requiredKeys: [] }),
          fc.record({ delay_id: scalar, send_token: scalar, refresh_token: scalar, cancel_token: scalar }, { requiredKeys: [] }),
          fc.constantFrom('leave', 'lost', 'other'),
        )
        .map(([over, handles, where]) => JSON.stringify({ ...handOverBody(77), ...over, [where]: handles })),
    );
    await fc.assert(
      fc.asyncProperty(body, async (text) => {
        at.clock.stall(200);
        await sane('POST', '/v1/delegations', { headers: { authorization }, body: text });
      }),
      { numRuns: 1_500 },
    );
  });

  test('for any body of a user of a token endpoint', async () => {
    const openid_token = fc.record(
      { access_token: fc.oneof(fc.constant('secret-alice'), scalar), matrix_server_name: scalar, expires_in: scalar },
      { requiredKeys: [] },
    );
    const member = fc.record({ id: scalar, claimed_user_id: scalar, claimed_device_id: scalar }, { requiredKeys: [] });
    const fields = { room: scalar, room_id: scalar, slot_id: scalar, device_id: scalar, delay_id: scalar, delay_timeout: scalar };
    const body = fc.oneof(
      json,
      fc.record({ ...fields, openid_token, member }, { requiredKeys: [] }).map((value) => JSON.stringify(value)),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...TOKEN_DOORS), body, (door, text) => sane('POST', door, { body: text })),
      { numRuns: 1_000 },
    );
  });

  test('for anything that the homeserver passes on', async () => {
    const alice = `@alice:${HOME_NAME}`;
    at.ours.rooms.set('!room', new Set([alice, '@guest:other.example', HOME_NAME]));
    at.ours.events.set('delay-secret-1' as DelayId, { roomId: '!room', userId: alice as UserId, delayMs: 10_000 });
    const often = (value: string) => fc.oneof({ weight: 3, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: scalar });
    const member = fc.option(fc.oneof(scalar, fc.record({ id: scalar, claimed_device_id: scalar }, { requiredKeys: [] })), { freq: 1 });
    const fields = {
      ...{
        url: fc.oneof({ weight: 4, arbitrary: often(SFU_URL) }, fc.constant('https://sfu.other.example')),
        room_id: fc.oneof({ weight: 4, arbitrary: often('!room') }, fc.constant('!elsewhere')),
        slot_id: often('m.call#ROOM'),
        member_id: often('member-1'),
        member,
      },
      ...{
        delay_id: often('delay-secret-1'),
        user_id: often('@guest:other.example'),
        server_name: fc.constantFrom(null, HOME_NAME, 'other.example'),
      },
    };
    const body = fc.oneof(
      json,
      fc.uint8Array(),
      // Mostly, for every kind of answer is to come.
      { weight: 6, arbitrary: fc.record(fields, { requiredKeys: [] }).map((value) => JSON.stringify(value)) },
    );
    const by = (value: string) => fc.oneof({ weight: 5, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: header });
    const whole = fc.record({ 'x-matrix-user-identifier': by(alice), 'x-matrix-origin': by('other.example') }, { requiredKeys: [] });
    const answers = new Set<number>();
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...PROXIED_DOORS), whole, body, fc.json(), async (door, who, text, relayed) => {
        at.ours.relayed = { kind: 'relayed', status: 200, content: JSON.parse(relayed) };
        const authorization = `Bearer ${HS_TOKEN}`;
        const { status } = await at.ask('POST', door, { headers: { authorization, ...who }, body: text });
        answers.add(status);
        // 502: what the other server said is no token.
        if (status !== 502) await sane('POST', door, { headers: { authorization, ...who }, body: text });
      }),
      { numRuns: 1_500 },
    );
    // By chance one user may have had a hundred tokens before the end.
    answers.delete(429);
    expect([...answers].sort()).toEqual([200, 400, 401, 403, 502]);
  });

  test('for any id that a participant looks for', async () => {
    const authorization = `Bearer ${await participantToken(78)}`;
    const id = fc.oneof(
      fc.string({ unit: 'binary' }).map((text) => encodeURIComponent(text.toWellFormed())),
      fc.webFragments(),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('GET', 'DELETE', 'HEAD'), id, (method, one) =>
        sane(method, `/v1/delegations/${one}`, { headers: { authorization } }),
      ),
      { numRuns: 500 },
    );
  });

  test('for anything that the SFU signs', async () => {
    await at.post(handOverBody(79), { n: 79 });
    const event = fc
      .tuple(
        fc.constantFrom(
          'participant_joined',
          'participant_left',
          'participant_connection_aborted',
          'room_started',
          'room_finished',
          'track_published',
          '',
        ),
        fc.record(
          { id: scalar, room: fc.oneof(scalar, fc.record({ name: scalar, sid: scalar }, { requiredKeys: [] })), createdAt: scalar },
          { requiredKeys: [] },
        ),
        fc.record(
          { identity: scalar, sid: scalar, joinedAt: scalar, joinedAtMs: scalar, disconnectReason: scalar, state: scalar },
          { requiredKeys: [] },
        ),
      )
      .map(([name, over, participant]) => {
        const whole = participantEvent(name, 79) as { participant: object };
        return JSON.stringify({ ...whole, ...over, participant: { ...whole.participant, ...participant } });
      });
    await fc.assert(
      fc.asyncProperty(fc.oneof(json, event), async (body) => {
        await sane('POST', '/sfu_webhook', { headers: { authorization: await webhookToken(body) }, body });
      }),
      { numRuns: 1_000 },
    );
  });
});
