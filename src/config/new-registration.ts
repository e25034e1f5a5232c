// `npm run registration`: makes a registration file with fresh tokens from a server name and a URL.
import type { Random } from '../clock.ts';
import { parseBaseUrl, parseServerName } from '../homeserver/names.ts';
import { registrationText } from './registration.ts';

const TOKEN_BYTES = 32;

/** The text of the file; null: `serverName` is no server name, or `proxyUrl` no base URL. */
export function newRegistration(serverName: string, proxyUrl: string, random: Random): string | null {
  const base = parseBaseUrl(proxyUrl);
  if (parseServerName(serverName) === null || base.kind === 'malformed') return null;
  const token = () => Buffer.from(random.bytes(TOKEN_BYTES)).toString('hex');
  return registrationText({ serverName, proxyUrl: base.url, asToken: token(), hsToken: token() });
}
