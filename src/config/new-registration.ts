// `npm run registration`: a registration file with fresh tokens, made of two words of the operator.
import type { Random } from '../clock.ts';
import { parseBaseUrl, parseServerName } from '../homeserver/names.ts';
import { registrationText } from './registration.ts';

const TOKEN_BYTES = 32;

/** Null: one of the words is not what it should be. */
export function newRegistration(serverName: string, proxyUrl: string, random: Random): string | null {
  const base = parseBaseUrl(proxyUrl);
  if (parseServerName(serverName) === null || base.kind === 'malformed') return null;
  const token = () => Buffer.from(random.bytes(TOKEN_BYTES)).toString('hex');
  return registrationText({ serverName, proxyUrl: base.url, asToken: token(), hsToken: token() });
}
