// The SFU's door: 200 means committed, everything else that nothing was done.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { identity, room, sid } from '../support/fixtures.ts';
import {
  createHarness,
  FOREIGN_KEY,
  type Harness,
  handOverBody,
  participantEvent,
  participantToken,
  SECRETS,
  seen,
  webhookToken,
} from './harness.ts';

let at: Harness;
let id: string;
beforeEach(async () => {
  at = createHarness();
  at.engine.start();
  id = String((await at.post(handOverBody())).json.id);
  await at.clock.settle();
});
afterEach(async () => {
  expect(at.log.join('\n')).not.toMatch(SECRETS);
  await at.close();
});

const state = async () =>
  (await at.ask('GET', `/v1/delegations/${id}`, { headers: { authorization: `Bearer ${await participantToken()}` } })).json.state;
const counted = (event: string, verdict: string) => at.metric(`lastwill_webhooks_total{event="${event}",verdict="${verdict}"}`);

describe('a webhook', () => {
  test('that concerns a delegation is applied, and answered with nothing', async () => {
    const { status, text } = await at.hook(participantEvent('participant_joined'));
    expect([status, text]).toEqual([200, '']);
    expect(await state()).toBe('connected');
    expect(await counted('participant_joined', 'applied')).toBe(1);
  });

  test('is told to whoever judges the lists of the SFU, also of a participant who concerns no delegation', async () => {
    await at.hook(participantEvent('participant_joined', 2));
    await at.hook(participantEvent('participant_left', 1, { reason: 'CLIENT_INITIATED' }));
    await at.hook({ event: 'room_finished', id: 'EV_1', room: { name: room(1), sid: 'RM_1' } });
    expect(at.told).toMatchObject([
      { where: room(2), about: { kind: 'joined', identity: identity(2), sid: sid(2) } },
      { where: room(1), about: { kind: 'left', identity: identity(1), sid: sid(1) } },
    ]);
  });

  test('of a session from before the hand-over ends nothing, though the wall clock has been set ahead since the start', async () => {
    at.clock.setWall(3_600_000);
    const joinedAtMs = at.clock.wallMs() - 10_000;
    expect((await at.hook(participantEvent('participant_left', 1, { reason: 'CLIENT_INITIATED', joinedAtMs }))).status).toBe(200);
    await at.clock.advance(5_000);
    expect(await state()).toBe('awaiting');
  });

  test.each(['/v1/webhook', '/v1/webhook/', '/sfu_webhook/', '//sfu_webhook'])('is taken at %s as well', async (path) => {
    const body = JSON.stringify(participantEvent('participant_joined'));
    const { status } = await at.ask('POST', path, { body, headers: { authorization: await webhookToken(body) } });
    expect([status, await state()]).toEqual([200, 'connected']);
  });

  test('that comes again is answered 200 and does nothing', async () => {
    at.sfu.inRooms.set(room(1), [seen()]);
    const joined = participantEvent('participant_joined');
    const left = participantEvent('participant_left', 1, { reason: 'CLIENT_INITIATED' });
    await at.hook(joined);
    await at.hook(left);
    await at.hook(participantEvent('participant_joined', 1));
    const before = await state();
    for (let n = 0; n < 3; n += 1) expect((await at.hook(left)).status).toBe(200);
    expect(await state()).toBe(before);
    expect(await counted('participant_left', 'duplicate')).toBe(3);
    expect(await counted('participant_left', 'applied')).toBe(1);
  });

  test('with the id of another, about another, is not taken for it', async () => {
    const { id: second } = (await at.post(handOverBody(2), { n: 2 })).json;
    await at.hook(participantEvent('participant_joined', 1, { id: 'EV_same' }));
    await at.hook(participantEvent('participant_joined', 2, { id: 'EV_same' }));
    expect(await at.store.count()).toMatchObject({ connected: 2, awaiting: 0 });
    expect(second).not.toBe(id);
  });

  test('about somebody else is irrelevant', async () => {
    expect((await at.hook(participantEvent('participant_joined', 9))).status).toBe(200);
    expect((await at.hook({ event: 'room_finished', id: 'EV_r', room: { sid: 'RM_9', name: room(9) } })).status).toBe(200);
    expect([await counted('participant_joined', 'irrelevant'), await counted('room_finished', 'irrelevant')]).toEqual([1, 1]);
    expect(await state()).toBe('awaiting');
  });

  test.each(['track_published', 'egress_started', 'ingress_ended', 'something_of_tomorrow'])(
    'about something else, %s, is answered 200',
    async (event) => {
      expect((await at.hook(participantEvent(event))).status).toBe(200);
      expect(await counted(event.startsWith('something') ? 'other' : event, 'irrelevant')).toBe(1);
      expect(await state()).toBe('awaiting');
    },
  );

  test('may hold what this version does not know', async () => {
    const event = { ...participantEvent('participant_joined'), tomorrow: { a: 1 } };
    expect([(await at.hook(event)).status, await state()]).toEqual([200, 'connected']);
  });

  test('may have as much metadata as LiveKit takes', async () => {
    const metadata = '\u0001'.repeat(512 * 1024);
    const event = { event: 'participant_joined', id: 'EV_long', room: { name: room(1), metadata } };
    const participant = { identity: identity(1), sid: sid(1), metadata };
    expect([(await at.hook({ ...event, participant })).status, await state()]).toEqual([200, 'connected']);
  });

  test('of a departure leads to the leave', async () => {
    at.sfu.inRooms.set(room(1), [seen()]);
    await at.hook(participantEvent('participant_joined'));
    at.sfu.inRooms.delete(room(1));
    await at.hook(participantEvent('participant_left', 1, { reason: 'SIGNAL_CLOSE' }));
    await at.clock.advance(1_500);
    expect([await state(), at.homeservers.calls]).toEqual(['ended', ['restart delay-secret-1', 'send delay-secret-1']]);
    expect(await at.metric('lastwill_leaves_total{cause="lost",outcome="sent"}')).toBe(1);
    expect(await at.metric('lastwill_ghosts_avoided_total{cause="lost"}')).toBe(1);
  });
});

describe('refused, and nothing done', () => {
  const joined = JSON.stringify(participantEvent('participant_joined'));
  const REFUSED: readonly [string, () => Promise<Record<string, string>>][] = [
    ['without a signature', async () => ({})],
    ['with an empty one', async () => ({ authorization: '' })],
    ['with garbage', async () => ({ authorization: 'Bearer x.y.z' })],
    ['signed by another key', async () => ({ authorization: await webhookToken(joined, FOREIGN_KEY) })],
    [
      'signed by another secret',
      async () => ({ authorization: await webhookToken(joined, { key: 'key-of-the-sfu', secret: FOREIGN_KEY.secret }) }),
    ],
    ['signed long ago', async () => ({ authorization: await webhookToken(joined, undefined, -3_600) })],
    ['signed for another body', async () => ({ authorization: await webhookToken(`${joined} `) })],
    ["with a participant's own token", async () => ({ authorization: await participantToken() })],
  ];
  test.each(REFUSED)('401 %s', async (_name, headers) => {
    const { status, json, text } = await at.ask('POST', '/sfu_webhook', { body: joined, headers: await headers() });
    expect([status, json.errcode]).toEqual([401, 'M_UNAUTHORIZED']);
    expect(text).not.toMatch(SECRETS);
    expect([await state(), await counted('other', 'rejected')]).toEqual(['awaiting', 1]);
  });

  test('and it is said once a minute, however many a stranger sends', async () => {
    const said = (level: string) => at.log.filter((line) => line.includes('a webhook was refused') && line.includes(`"level":"${level}"`));
    for (let n = 0; n < 5; n += 1) await at.ask('POST', '/sfu_webhook', { body: joined });
    expect([said('warn').length, said('debug').length]).toEqual([1, 4]);
    await at.clock.advance(60_000);
    await at.ask('POST', '/sfu_webhook', { body: joined });
    expect(said('warn')).toHaveLength(2);
  });

  test.each([
    ['no JSON', 'nonsense'],
    ['nothing', ''],
    ['a list', '[]'],
    ['null', 'null'],
    ['a number', '7'],
    ['an event that is none', '{"event":7}'],
    ['a participant that is none', `{"event":"participant_left","id":"EV_x","room":{"name":"${room(1)}"},"participant":7}`],
    ['nobody', `{"event":"participant_left","id":"EV_x","room":{"name":"${room(1)}"}}`],
    [
      'a reason that is none',
      `{"event":"participant_left","room":{"name":"${room(1)}"},"participant":{"identity":"a","disconnectReason":{}}}`,
    ],
    ['a time that is none', `{"event":"participant_left","room":{"name":"${room(1)}"},"participant":{"identity":"a","joinedAtMs":"soon"}}`],
  ])('400 signed, but %s', async (_name, body) => {
    const { status, json } = await at.ask('POST', '/sfu_webhook', { body, headers: { authorization: await webhookToken(body) } });
    expect([status, json.errcode]).toEqual([400, 'M_NOT_JSON']);
    expect(await state()).toBe('awaiting');
  });

  test('413 too large, with its length and without', async () => {
    const body = JSON.stringify({ ...participantEvent('participant_joined'), padding: 'x'.repeat(16 * 1024 * 1024) });
    const authorization = await webhookToken(body);
    for (const headers of [{ authorization }, { authorization, 'content-length': String(body.length) }]) {
      const { status, json } = await at.ask('POST', '/sfu_webhook', { body, headers });
      expect([status, json]).toEqual([413, { errcode: 'M_TOO_LARGE', error: 'The body is larger than 16777216 bytes' }]);
    }
    expect(await state()).toBe('awaiting');
    expect(await at.metric('lastwill_webhooks_total{event="other",verdict="rejected"}')).toBe(2);
    expect(at.log.join('\n')).toContain('a webhook could not be read');
  });

  test('503 while the store is away, so that the SFU sends it again, and then it counts', async () => {
    const event = participantEvent('participant_joined');
    at.storeAway = true;
    const { status, json, headers } = await at.hook(event);
    expect([status, json.errcode, headers.get('retry-after')]).toEqual([503, 'M_UNKNOWN', '2']);
    expect(await counted('participant_joined', 'failed')).toBe(1);
    at.storeAway = false;
    expect(await state()).toBe('awaiting');
    expect((await at.hook(event)).status).toBe(200);
    expect([await state(), await counted('participant_joined', 'applied')]).toEqual(['connected', 1]);
  });

  test('503 while draining', async () => {
    at.draining = true;
    const { status, headers } = await at.hook(participantEvent('participant_joined'));
    expect([status, headers.get('retry-after'), await state()]).toEqual([503, '2', 'awaiting']);
  });
});

test('a departure that was lost while the store was away is found by asking, in time', async () => {
  at.sfu.inRooms.set(room(1), [seen()]);
  await at.hook(participantEvent('participant_joined'));
  at.storeAway = true;
  at.sfu.inRooms.delete(room(1));
  expect((await at.hook(participantEvent('participant_left', 1, { reason: 'CLIENT_INITIATED' }))).status).toBe(503);
  await at.clock.advance(2_000);
  at.storeAway = false;
  // One presence interval, the wait for one who is missing, and a second.
  await at.clock.advance(35_000);
  expect([await state(), at.homeservers.calls.at(-1)]).toEqual(['ended', 'send delay-secret-1']);
});
