// A participant's own token is all that the native API asks for: what counts as one, and what does not.
import { createHmac } from 'node:crypto';
import { AccessToken, type VideoGrant } from 'livekit-server-sdk';
import { describe, expect, test } from 'vitest';
import { createKeys } from '../../src/sfu/keys.ts';

const KEY = 'key-one';
const SECRET = 'secret-one-of-at-least-32-characters';
const OTHER = { key: 'key-two', secret: 'secret-two-of-at-least-32-characters' };
const keys = createKeys([{ key: KEY, secret: SECRET }, OTHER]);

interface Wanted {
  readonly key?: string;
  readonly secret?: string;
  readonly identity?: string;
  readonly ttl?: number;
  readonly grant?: VideoGrant;
  readonly metadata?: string;
}
async function token({ key = KEY, secret = SECRET, identity = 'alice', ttl = 600, grant, metadata }: Wanted = {}): Promise<string> {
  const made = new AccessToken(key, secret, { identity, ttl, ...(metadata !== undefined && { metadata }) });
  made.addGrant(grant ?? { room: 'room', roomJoin: true });
  return made.toJwt();
}
const part = (json: unknown): string => Buffer.from(JSON.stringify(json)).toString('base64url');
function byHand(claims: unknown): string {
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

describe("a participant's token", () => {
  test('tells room and identity, whichever of our keys signed it', async () => {
    expect(await keys.participant(await token())).toEqual({ room: 'room', identity: 'alice' });
    expect(await keys.participant(await token(OTHER))).toEqual({ room: 'room', identity: 'alice' });
  });

  test('may have names that only a URL would mind', async () => {
    const grant = { room: '!room/with?all#of it', roomJoin: true };
    expect(await keys.participant(await token({ identity: '@alice:example.org:DEVICE', grant }))).toEqual({
      room: '!room/with?all#of it',
      identity: '@alice:example.org:DEVICE',
    });
  });

  test('whose names are no Unicode tells them as the SFU reads them', async () => {
    // As livekit-server 1.13.5 lists them.
    const grant = { room: 'room\ud800', roomJoin: true };
    expect(await keys.participant(await token({ identity: '\udfffalice', grant }))).toEqual({
      room: 'room\ufffd',
      identity: '\ufffdalice',
    });
  });

  test.each<[string, Wanted]>([
    ['is expired', { ttl: -120 }],
    ['is signed with another secret', { secret: 'a-wrong-secret-of-at-least-32-characters' }],
    ['is of an unknown key', { key: 'key-three' }],
    ['is of one key, signed with the secret of another', { key: OTHER.key }],
    ['may not join', { grant: { room: 'room', roomJoin: false } }],
    ['is of an administrator who joins nothing', { grant: { room: 'room', roomAdmin: true, roomList: true } }],
    ['names no room', { grant: { roomJoin: true } }],
    ['names an empty room', { grant: { room: '', roomJoin: true } }],
    ['is huge', { metadata: 'x'.repeat(20_000) }],
  ])('that %s proves nothing', async (_, wanted) => {
    expect(await keys.participant(await token(wanted))).toBeNull();
  });

  test('without an identity proves nothing', async () => {
    // The SDK refuses to make one.
    const video = { room: 'room', roomJoin: true };
    expect(await keys.participant(byHand({ iss: KEY, sub: 'alice', exp: 9_999_999_999, video }))).not.toBeNull();
    expect(await keys.participant(byHand({ iss: KEY, exp: 9_999_999_999, video }))).toBeNull();
    expect(await keys.participant(byHand({ iss: KEY, sub: '', exp: 9_999_999_999, video }))).toBeNull();
    expect(await keys.participant(byHand({ iss: KEY, sub: 7, exp: 9_999_999_999, video }))).toBeNull();
  });

  test.each([
    ['empty', ''],
    ['not a JWT', 'syt_alice_token'],
    ['dots', '...'],
    ['not base64', '%.%.%'],
    [
      'unsigned',
      `${part({ alg: 'none' })}.${part({ iss: KEY, sub: 'alice', exp: 9_999_999_999, video: { room: 'room', roomJoin: true } })}.`,
    ],
    ['without issuer', `${part({ alg: 'HS256' })}.${part({ sub: 'alice' })}.AAAA`],
    ['a million characters', 'a'.repeat(1_000_000)],
  ])('that is %s proves nothing', async (_, jwt) => {
    expect(await keys.participant(jwt)).toBeNull();
  });

  test('changed after it was signed proves nothing', async () => {
    const [header, payload, signature] = (await token()).split('.');
    const claims = JSON.parse(Buffer.from(payload ?? '', 'base64url').toString());
    expect(await keys.participant(`${header}.${part({ ...claims, sub: 'bob' })}.${signature}`)).toBeNull();
  });
});
