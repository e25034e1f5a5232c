// JSON Web Tokens as LiveKit makes and takes them: HS256 and nothing else, by the platform's own HMAC. Every webhook, hand-over and call
// to the SFU has one, and a library for all kinds of tokens took longer over it than the rest of a webhook does.
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';

export type Claims = Readonly<Record<string, unknown>>;

/** A token longer than this is none of ours; it is not even parsed. */
const LONGEST = 16_384;
/**
 * How far the clocks of those who sign may be off, both ways: as far as the SFU lets them. A webhook holds for five minutes, so it could be
 * repeated for seven, and is known for ten (engine/sweep.ts).
 */
const TOLERANCE_SECONDS = 60;
const HEADER = encode({ alg: 'HS256', typ: 'JWT' });

export function hmacKey(secret: string): KeyObject {
  return createSecretKey(Buffer.from(secret));
}

export function signJwt(claims: Claims, key: KeyObject): string {
  const text = `${HEADER}.${encode(claims)}`;
  return `${text}.${signature(text, key).toString('base64url')}`;
}

/** The claims, if the key that belongs to their issuer signed them and they hold now; otherwise null. `nowSeconds`: Unix time. */
export function verifyJwt(jwt: string, keyOf: (issuer: string) => KeyObject | undefined, nowSeconds: number): Claims | null {
  if (jwt.length > LONGEST) return null;
  const [header = '', payload = '', signed, ...more] = jwt.split('.');
  if (signed === undefined || more.length > 0 || !isHs256(header)) return null;
  // What the payload claims picks the key, and counts for nothing else until the signature is seen to be right.
  const claims = decode(payload);
  const key = typeof claims?.iss === 'string' ? keyOf(claims.iss) : undefined;
  if (claims === null || key === undefined) return null;
  const expected = signature(`${header}.${payload}`, key);
  const given = Buffer.from(signed, 'base64url');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
  return holds(claims, nowSeconds) ? claims : null;
}

/** The algorithm is ours to say, and an extension that must be understood (`crit`) is not. */
function isHs256(header: string): boolean {
  if (header === HEADER) return true;
  const fields = decode(header);
  return fields !== null && fields.alg === 'HS256' && !('crit' in fields);
}

/** A token without an end would be good for ever (livekit/protocol#1706). */
function holds({ exp, nbf, iat }: Claims, nowSeconds: number): boolean {
  if (typeof exp !== 'number' || exp <= nowSeconds - TOLERANCE_SECONDS) return false;
  if (nbf !== undefined && (typeof nbf !== 'number' || nbf > nowSeconds + TOLERANCE_SECONDS)) return false;
  return iat === undefined || typeof iat === 'number';
}

function signature(text: string, key: KeyObject): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function encode(json: unknown): string {
  return Buffer.from(JSON.stringify(json)).toString('base64url');
}

function decode(part: string): Claims | null {
  try {
    const json: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as Claims) : null;
  } catch {
    return null;
  }
}
