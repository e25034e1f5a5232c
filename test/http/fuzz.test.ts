// Anything at all, at every door: no answer is a 500, none is empty where an error is due, and nobody who is not let in leaves a trace.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  createHarness,
  type Harness,
  handOverBody,
  type Init,
  participantEvent,
  participantToken,
  SECRETS,
  webhookToken,
} from './harness.ts';

let at: Harness;
beforeAll(() => {
  at = createHarness();
  at.engine.start();
});
afterAll(async () => {
  expect(at.log.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  expect(at.log.join('\n')).not.toMatch(SECRETS);
  await at.close();
});

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
const DOORS = ['/', '/healthz', '/readyz', '/metrics', '/sfu_webhook', '/v1/webhook', '/v1/delegations', '/v1/delegations/'];
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
  ),
  header,
);

async function sane(method: string, path: string, init: Init): Promise<void> {
  const { status, text, json: answer } = await at.ask(method, path, init);
  expect(status, `${method} ${path} ${text}`).toBeLessThan(500);
  if (status >= 400 && method !== 'HEAD')
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
