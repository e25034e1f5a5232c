// Our own reading of tokens against LiveKit's, on tokens that are right, nearly right and wrong in every part.
import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { TokenVerifier } from 'livekit-server-sdk';
import { describe, expect, test } from 'vitest';
import { wallSeconds } from '../../src/clock.ts';
import { hmacKey, signJwt, verifyJwt } from '../../src/sfu/jwt.ts';

const KEY = 'key-one';
const SECRET = 'secret-one-of-at-least-32-characters';
const OTHER_SECRET = 'secret-two-of-at-least-32-characters';
const keys = new Map([[KEY, hmacKey(SECRET)]]);
const verify = (jwt: string) => verifyJwt(jwt, (issuer) => keys.get(issuer), wallSeconds());
/** With the tolerance of the SFU itself, which the library for Node does not have by default. */
const theirs = (jwt: string) => new TokenVerifier(KEY, SECRET).verify(jwt, 60).catch(() => null);

const part = (json: unknown): string => Buffer.from(JSON.stringify(json)).toString('base64url');
function made(header: unknown, claims: unknown, { secret = SECRET, hash = 'sha256' } = {}): string {
  const text = `${part(header)}.${part(claims)}`;
  return `${text}.${createHmac(hash, secret).update(text).digest('base64url')}`;
}

/** Seconds from now, well away from the edges: the two look at the clock one after the other. */
const time = fc.constantFrom(-7_200, -90, -30, 30, 90, 7_200).map((off) => wallSeconds() + off);
const odd = fc.oneof(fc.constant(undefined), fc.constantFrom(null, '', 'soon', true, [], {}, -1));
const claims = fc.record({
  iss: fc.oneof({ weight: 6, arbitrary: fc.constant(KEY) }, fc.constantFrom('key-two', 7, null, [KEY], undefined)),
  exp: fc.oneof({ weight: 6, arbitrary: time }, odd),
  nbf: fc.oneof({ weight: 6, arbitrary: time }, odd),
  iat: fc.oneof({ weight: 6, arbitrary: time }, odd),
  sub: fc.string(),
  video: fc.record({ room: fc.string(), roomJoin: fc.boolean() }, { requiredKeys: [] }),
});
const header = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom({ alg: 'HS256', typ: 'JWT' }, { typ: 'JWT', alg: 'HS256' }, { alg: 'HS256', kid: 'k' }) },
  fc.constantFrom({}, { alg: 'none' }, { alg: 'hs256' }, { alg: 'RS256' }, { alg: ['HS256'] }, null, [], 'HS256'),
  fc.constantFrom({ alg: 'HS256', crit: ['exp'], exp: 1 }, { alg: 'HS256', crit: [] }, { alg: 'HS256', b64: false, crit: ['b64'] }),
);

describe('a token', () => {
  test('counts where LiveKit’s own verifier takes it, and says the same', async () => {
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(header, claims, fc.constantFrom(SECRET, SECRET, SECRET, OTHER_SECRET), async (head, body, secret) => {
        const jwt = made(head, body, { secret });
        const ours = verify(jwt);
        if (ours !== null) taken += 1;
        expect(ours).toEqual(await theirs(jwt));
      }),
      { numRuns: 600 },
    );
    expect(taken, 'the property must see both sides').toBeGreaterThan(20);
  });

  test('with any character changed counts nowhere', async () => {
    const good = signJwt({ iss: KEY, exp: wallSeconds() + 60, sha256: 'x' }, hmacKey(SECRET));
    expect(verify(good)).not.toBeNull();
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.constantFrom(...'AZaz09-_.=+/ '), async (at, character) => {
        const jwt = good.slice(0, at) + character + good.slice(at + 1);
        expect(verify(jwt)).toEqual(await theirs(jwt));
      }),
      { numRuns: 500 },
    );
    for (const jwt of [`${good}.`, `.${good}`, good.slice(0, -1), good.replace(/\.[^.]*$/, '.'), good.replace(/\.[^.]*$/, '')]) {
      expect(verify(jwt), jwt).toBeNull();
    }
  });

  test.each(['sha384', 'sha512'])('of another strength (%s) is none of LiveKit’s', (hash) => {
    const jwt = made({ alg: `HS${hash.slice(3)}` }, { iss: KEY, exp: wallSeconds() + 60 }, { hash });
    expect(verify(jwt)).toBeNull();
  });

  test('that we make is one to LiveKit', async () => {
    const told = { iss: KEY, nbf: wallSeconds(), exp: wallSeconds() + 60, video: { room: 'räume', roomAdmin: true } };
    expect(await theirs(signJwt(told, hmacKey(SECRET)))).toEqual(told);
  });

  test('holds from a minute before to a minute after its time', () => {
    const now = 1_800_000_000;
    const at = (nowSeconds: number) =>
      verifyJwt(made({ alg: 'HS256' }, { iss: KEY, nbf: now, exp: now + 60 }), () => hmacKey(SECRET), nowSeconds);
    expect([now - 61, now - 60, now + 119, now + 120].map((seconds) => at(seconds) !== null)).toEqual([false, true, true, false]);
  });
});
