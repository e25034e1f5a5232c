// Reading webhooks: nothing unsigned gets through, nothing signed is lost, and every reason has its cause.
import { createHash } from 'node:crypto';
import { DisconnectReason } from '@livekit/protocol';
import { AccessToken } from 'livekit-server-sdk';
import { describe, expect, test } from 'vitest';
import { createKeys } from '../../src/sfu/keys.ts';
import type { Webhook } from '../../src/sfu/webhook.ts';
import { sign } from '../support/fake-sfu.ts';
import { readSigned } from './signed.ts';

const KEY = 'key-one';
const SECRET = 'secret-one-of-at-least-32-characters';
const OTHER = { key: 'key-two', secret: 'secret-two-of-at-least-32-characters' };
const keys = createKeys([{ key: KEY, secret: SECRET }, OTHER]);

/** As livekit-server 1.13.5 sends them: 64-bit numbers are strings, enums their names, empty fields left out. */
const ROOM = {
  sid: 'RM_CvEdjzxWYrTk',
  name: 'O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc',
  emptyTimeout: 300,
  departureTimeout: 20,
  creationTime: '1795420800',
  creationTimeMs: '1795420800123',
  enabledCodecs: [{ mime: 'audio/opus' }],
};
const PARTICIPANT = {
  sid: 'PA_3mkHnv2qPZTa',
  identity: '@alice:example.org:DEVICE',
  state: 'ACTIVE',
  joinedAt: '1795420801',
  joinedAtMs: '1795420801456',
  version: 2,
  permission: { canSubscribe: true, canPublish: true, canPublishData: true },
  kindDetails: [],
};
const JOINED = { event: 'participant_joined', room: ROOM, participant: PARTICIPANT, id: 'EV_dvNzVQmGcgPb', createdAt: '1795420801' };
const LEFT = {
  event: 'participant_left',
  room: { ...ROOM, numParticipants: 1 },
  participant: { ...PARTICIPANT, state: 'DISCONNECTED', disconnectReason: 'CLIENT_INITIATED' },
  id: 'EV_Yx4LmQb9pQKe',
  createdAt: '1795420810',
};

async function read(json: unknown, signer = { key: KEY, secret: SECRET }): Promise<Webhook> {
  const body = typeof json === 'string' ? json : JSON.stringify(json);
  return readSigned(Buffer.from(body), await sign(body, signer.key, signer.secret), keys);
}
const about = async (json: unknown) => {
  const webhook = await read(json);
  return webhook.kind === 'participant' || webhook.kind === 'room' ? webhook.about : webhook;
};
const onceKey = async (json: unknown): Promise<string> => {
  const webhook = await read(json);
  if (webhook.kind !== 'participant' && webhook.kind !== 'room') throw new Error(`it is ${webhook.kind}`);
  return webhook.onceKey;
};
const without = (json: typeof LEFT, ...fields: (keyof (typeof LEFT)['participant'])[]) => ({
  ...json,
  participant: Object.fromEntries(Object.entries(json.participant).filter(([name]) => !(fields as string[]).includes(name))),
});

describe('who signed it', () => {
  const body = JSON.stringify(JOINED);
  const refused = { kind: 'unauthorized' };
  const tokenOf = async (change: (token: AccessToken) => void, signer = { key: KEY, secret: SECRET }): Promise<string> => {
    const token = new AccessToken(signer.key, signer.secret, { ttl: 300 });
    change(token);
    return token.toJwt();
  };

  test.each([{ key: KEY, secret: SECRET }, OTHER])('each of our keys: $key', async (signer) => {
    expect(await read(JOINED, signer)).toMatchObject({ kind: 'participant', event: 'participant_joined' });
  });

  test('with and without "Bearer"', async () => {
    const jwt = await sign(body, KEY, SECRET);
    for (const header of [jwt, `Bearer ${jwt}`, `bearer  ${jwt} `]) {
      expect(readSigned(Buffer.from(body), header, keys)).toMatchObject({ kind: 'participant' });
    }
  });

  test('a wrong secret, an unknown key, and the secret of another key are refused', async () => {
    expect(await read(JOINED, { key: KEY, secret: 'a-wrong-secret-of-at-least-32-characters' })).toEqual(refused);
    expect(await read(JOINED, { key: 'key-three', secret: SECRET })).toEqual(refused);
    expect(await read(JOINED, { key: OTHER.key, secret: SECRET })).toEqual(refused);
  });

  test('expired is refused', async () => {
    expect(readSigned(Buffer.from(body), await sign(body, KEY, SECRET, -120), keys)).toEqual(refused);
  });

  test('a hash of something else, of another kind, empty or missing is refused', async () => {
    const hashes = [
      createHash('sha256').update('{}').digest('base64'),
      createHash('sha256').update(body).digest('hex'),
      createHash('sha512').update(body).digest('base64'),
      '',
      undefined,
    ];
    for (const hash of hashes) {
      const jwt = await tokenOf((token) => {
        token.sha256 = hash;
      });
      expect(readSigned(Buffer.from(body), jwt, keys), String(hash)).toEqual(refused);
    }
  });

  test("a participant's own token is no signature", async () => {
    const jwt = await tokenOf((token) => {
      token.identity = 'alice';
      token.addGrant({ room: 'room', roomJoin: true });
    });
    expect(readSigned(Buffer.from(body), jwt, keys)).toEqual(refused);
  });

  test('one changed byte is refused, whatever it changes', async () => {
    const jwt = await sign(body, KEY, SECRET);
    for (const at of [0, 12, Math.floor(body.length / 2), body.length - 1]) {
      const tampered = Buffer.from(body);
      tampered[at] = (tampered[at] ?? 0) ^ 1;
      expect(readSigned(tampered, jwt, keys), `byte ${at}`).toEqual(refused);
    }
    expect(readSigned(Buffer.from(`${body}\n`), jwt, keys)).toEqual(refused);
    expect(readSigned(new Uint8Array(), jwt, keys)).toEqual(refused);
  });

  test.each([
    ['none', undefined],
    ['empty', ''],
    ['only "Bearer"', 'Bearer '],
    ['not a JWT', 'Bearer abc'],
    ['two dots and nothing', '..'],
    ['a payload that is not JSON', 'e30.bm90IGpzb24.c2ln'],
    ['a payload that is null', 'e30.bnVsbA.c2ln'],
    ['an issuer that is no text', `e30.${Buffer.from('{"iss":7}').toString('base64url')}.c2ln`],
    ['an issuer that every object has', `e30.${Buffer.from('{"iss":"__proto__"}').toString('base64url')}.c2ln`],
    ['huge', `Bearer ${'a'.repeat(1_000_000)}`],
  ])('a header that is %s is refused', async (_, header) => {
    expect(readSigned(Buffer.from(body), header, keys)).toEqual(refused);
  });

  test('a token without a signature (alg none) is refused', async () => {
    const part = (json: unknown): string => Buffer.from(JSON.stringify(json)).toString('base64url');
    const sha256 = createHash('sha256').update(body).digest('base64');
    const unsigned = `${part({ alg: 'none' })}.${part({ iss: KEY, exp: 9_999_999_999, sha256 })}.`;
    expect(readSigned(Buffer.from(body), unsigned, keys)).toEqual(refused);
  });
});

describe('what it says', () => {
  test('somebody joined', async () => {
    expect(await read(JOINED)).toEqual({
      kind: 'participant',
      event: 'participant_joined',
      onceKey: expect.any(String),
      room: ROOM.name,
      identity: PARTICIPANT.identity,
      about: { kind: 'joined', identity: PARTICIPANT.identity, sid: PARTICIPANT.sid, joinedAtMs: 1795420801456, roomSid: ROOM.sid },
    });
  });

  test('a connection was aborted', async () => {
    const participant = { ...PARTICIPANT, state: 'DISCONNECTED', disconnectReason: 'SIGNAL_CLOSE' };
    expect(await about({ ...JOINED, event: 'participant_connection_aborted', participant })).toEqual({
      kind: 'aborted',
      identity: PARTICIPANT.identity,
      sid: PARTICIPANT.sid,
    });
  });

  test.each(['room_started', 'room_finished'] as const)('%s', async (event) => {
    const json = { event, room: ROOM, id: 'EV_1', createdAt: '1795420800' };
    expect(await read(json)).toMatchObject({ kind: 'room', event, room: ROOM.name, about: { kind: event, roomSid: ROOM.sid } });
  });

  const CAUSES: Readonly<Record<string, string>> = {
    UNKNOWN_REASON: 'left',
    CLIENT_INITIATED: 'left',
    DUPLICATE_IDENTITY: 'replaced',
    SERVER_SHUTDOWN: 'sfu_down',
    PARTICIPANT_REMOVED: 'removed',
    ROOM_DELETED: 'room_deleted',
    STATE_MISMATCH: 'lost',
    JOIN_FAILURE: 'lost',
    MIGRATION: 'replaced',
    SIGNAL_CLOSE: 'lost',
    ROOM_CLOSED: 'room_deleted',
    USER_UNAVAILABLE: 'left',
    USER_REJECTED: 'left',
    SIP_TRUNK_FAILURE: 'lost',
    CONNECTION_TIMEOUT: 'lost',
    MEDIA_FAILURE: 'lost',
    AGENT_ERROR: 'lost',
  };
  const REASONS = Object.values(DisconnectReason).filter((reason) => typeof reason === 'string');
  test.each(REASONS)('somebody left because of %s', async (reason) => {
    const expected = {
      kind: 'left',
      identity: PARTICIPANT.identity,
      sid: PARTICIPANT.sid,
      joinedAtMs: 1795420801456,
      roomSid: LEFT.room.sid,
      cause: CAUSES[reason],
      leftAtMs: 1795420810000,
    };
    expect(expected.cause, 'a reason that this table does not know').toBeDefined();
    expect(await about({ ...LEFT, participant: { ...LEFT.participant, disconnectReason: reason } })).toEqual(expected);
    // Some encoders write an enum as its number.
    const number = DisconnectReason[reason as keyof typeof DisconnectReason];
    expect(await about({ ...LEFT, participant: { ...LEFT.participant, disconnectReason: number } })).toEqual(expected);
  });

  test('a departure without a reason, or for one that a newer SFU invents, is a departure', async () => {
    expect(await about(without(LEFT, 'disconnectReason'))).toMatchObject({ kind: 'left', cause: 'left' });
    expect(await about({ ...LEFT, participant: { ...LEFT.participant, disconnectReason: 99 } })).toMatchObject({
      kind: 'left',
      cause: 'left',
    });
    expect(await about({ ...LEFT, participant: { ...LEFT.participant, disconnectReason: 'TELEPORTED' } })).toMatchObject({
      kind: 'left',
      cause: 'left',
    });
  });

  test('other senders leave out the SID or the join time, or have whole seconds only: that is not known, then', async () => {
    expect(await about(without(LEFT, 'sid'))).toMatchObject({ kind: 'left', sid: null, joinedAtMs: 1795420801456 });
    expect(await about(without(LEFT, 'joinedAt', 'joinedAtMs'))).toMatchObject({ sid: PARTICIPANT.sid, joinedAtMs: null });
    expect(await about(without(LEFT, 'joinedAtMs'))).toMatchObject({ joinedAtMs: null });
    const bare = { event: 'participant_left', room: { name: 'r' }, participant: { identity: 'alice' } };
    expect(await about(bare)).toEqual({ kind: 'left', identity: 'alice', sid: null, joinedAtMs: null, roomSid: null, cause: 'left' });
    expect(await about({ event: 'room_finished', room: { name: 'r' } })).toEqual({ kind: 'room_finished', roomSid: null });
    const finished = { event: 'room_finished', room: { name: 'r' }, createdAt: '1795420800' };
    expect(await about(finished)).toEqual({ kind: 'room_finished', roomSid: null, closedAtMs: 1_795_420_800_000 });
  });

  test('names may be in snake case, numbers plain, and unknown fields there', async () => {
    const participant = { sid: 'PA_1', identity: 'alice', joined_at_ms: 1795420801456, disconnect_reason: 'SIGNAL_CLOSE', mood: 'good' };
    expect(await about({ event: 'participant_left', room: { name: 'r', planet: 3 }, participant, created_at: 1, extra: {} })).toEqual({
      kind: 'left',
      identity: 'alice',
      sid: 'PA_1',
      joinedAtMs: 1795420801456,
      roomSid: null,
      cause: 'lost',
      leftAtMs: 1_000,
    });
  });
});

describe('what says nothing', () => {
  test.each(['track_published', 'track_unpublished', 'egress_started', 'ingress_ended', 'invented_tomorrow', ''])(
    '%j is irrelevant',
    async (event) => {
      expect(await read({ ...JOINED, event })).toEqual({ kind: 'irrelevant', event });
    },
  );

  test('of such an event no more is read than its name, wherever and however it is written', async () => {
    for (const start of ['{"event":"track_published",', '{ "event" : "track_published" ,', '{\n  "event": "track_published",\n  ']) {
      expect(await read(`${start}"room":{"name":`)).toEqual({ kind: 'irrelevant', event: 'track_published' });
    }
    expect(await read('{"event":"track_published"}')).toEqual({ kind: 'irrelevant', event: 'track_published' });
    const { event: _, ...rest } = JOINED;
    expect(await read({ ...rest, event: 'track_published' })).toEqual({ kind: 'irrelevant', event: 'track_published' });
    expect(await read({ ...rest, event: 'participant_joined' })).toEqual(await read(JOINED));
    expect(await read(JSON.stringify(JOINED, null, 2))).toEqual(await read(JOINED));
  });

  test('a name that only begins like an event, or is written with escapes, is read as JSON', async () => {
    expect(await read('{"event":"track_published\\u0021","id":"EV_1"}')).toEqual({ kind: 'irrelevant', event: 'track_published!' });
    expect(await read(JSON.stringify(LEFT).replace('_left', '\\u005fleft'))).toEqual(await read(LEFT));
    expect(await read('{"event":"track_published"')).toEqual({ kind: 'malformed' });
    expect(await read({ ...JOINED, event: 'x'.repeat(200) })).toEqual({ kind: 'irrelevant', event: 'x'.repeat(200) });
  });

  test('a room without a name concerns nobody', async () => {
    expect((await read({ ...JOINED, room: undefined })).kind).toBe('irrelevant');
    expect((await read({ ...JOINED, room: { ...ROOM, name: '' } })).kind).toBe('irrelevant');
  });

  test.each([
    ['text that is not JSON', 'participant_left'],
    ['nothing', ''],
    ['null', 'null'],
    ['a list', '[]'],
    ['a participant event without participant', JSON.stringify({ ...LEFT, participant: undefined })],
    ['a participant without identity', JSON.stringify({ ...LEFT, participant: { sid: 'PA_1' } })],
    ['a room that is no object', JSON.stringify({ ...LEFT, room: 'r' })],
    ['a join time that is no number', JSON.stringify({ ...LEFT, participant: { ...LEFT.participant, joinedAtMs: 'yesterday' } })],
  ])('%s is malformed', async (_, body) => {
    expect(await read(body)).toEqual({ kind: 'malformed' });
  });

  test('bytes that are no text are malformed, not a crash', async () => {
    const body = Buffer.from([0x7b, 0xff, 0xfe, 0x7d]);
    const token = new AccessToken(KEY, SECRET);
    token.sha256 = createHash('sha256').update(body).digest('base64');
    expect(readSigned(body, await token.toJwt(), keys)).toEqual({ kind: 'malformed' });
  });
});

describe('the once key', () => {
  test('is the same for the same event, and for it only', async () => {
    expect(await onceKey(LEFT)).toBe(await onceKey(structuredClone(LEFT)));
    // A repeated webhook may carry newer numbers about its room.
    expect(await onceKey(LEFT)).toBe(await onceKey({ ...LEFT, room: { ...LEFT.room, numParticipants: 0 } }));
    const others = [
      { ...LEFT, id: 'EV_other' },
      { ...LEFT, event: 'participant_joined' },
      { ...LEFT, room: { ...ROOM, name: 'other' } },
      { ...LEFT, participant: { ...LEFT.participant, identity: 'bob' } },
      { ...LEFT, participant: { ...LEFT.participant, sid: 'PA_other' } },
    ];
    const seen = new Set([await onceKey(LEFT), ...(await Promise.all(others.map(onceKey)))]);
    expect(seen.size).toBe(others.length + 1);
  });

  test('does not confuse parts that read the same when joined', async () => {
    const one = { ...LEFT, room: { ...ROOM, name: 'a,b' }, participant: { ...LEFT.participant, identity: 'c' } };
    const two = { ...LEFT, room: { ...ROOM, name: 'a' }, participant: { ...LEFT.participant, identity: 'b,c' } };
    expect(await onceKey(one)).not.toBe(await onceKey(two));
  });
});
