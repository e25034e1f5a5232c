// JSON Web Tokens as LiveKit makes and takes them: HS256 and nothing else, with Node's own HMAC. Every webhook, hand-over and call to the
// SFU has one, and a library for all kinds of tokens took longer than everything else about a webhook.
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';

export type Claims = Readonly<Record<string, unknown>>;

/** Characters. A longer token can't be LiveKit's, and is not even parsed. */
export const LONGEST_JWT = 16_384;
/**
 * How far a signer's clock may be off in either direction: the same as LiveKit allows. The token of a webhook is valid for five minutes, so
 * it could be replayed for seven; webhooks are remembered for ten (engine/sweep.ts).
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

/** The claims, if their issuer's key has signed them and they are valid at `nowSeconds` (Unix time); otherwise null. */
export function verifyJwt(jwt: string, keyOf: (issuer: string) => KeyObject | undefined, nowSeconds: number): Claims | null {
  if (jwt.length > LONGEST_JWT) return null;
  const [header = '', payload = '', signed, ...more] = jwt.split('.');
  if (signed === undefined || more.length > 0 || !isHs256(header)) return null;
  // The unverified payload is used to pick the key, and for nothing else until the signature is found to be right.
  const claims = decode(payload);
  const key = typeof claims?.iss === 'string' ? keyOf(claims.iss) : undefined;
  if (claims === null || key === undefined) return null;
  const expected = signature(`${header}.${payload}`, key);
  const given = Buffer.from(signed, 'base64url');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
  return holds(claims, nowSeconds) ? claims : null;
}

/** We choose the algorithm, not the token; and `crit` names an extension that must be understood, which we don't. */
function isHs256(header: string): boolean {
  if (header === HEADER) return true;
  const fields = decode(header);
  return fields !== null && fields.alg === 'HS256' && !('crit' in fields);
}

/** `exp` is required: without it a token would be valid for ever (livekit/protocol#1706). */
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
