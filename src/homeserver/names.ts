// Names of homeservers and their users as others write them: the Matrix server name, the client-server base URL, the user id. Parsed once,
// here.
import { isIPv6 } from 'node:net';
import { type HomeserverUrl, parseUserId, type ServerName, type UserId } from '../delegation/ids.ts';

/** Matrix specification, appendices: IPv4 or DNS name, or an IPv6 literal in brackets; then perhaps a port. */
const SERVER_NAME = /^(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(?::([0-9]{1,5}))?$/;
const LONGEST_URL = 2000;
const LONGEST_USER_ID_BYTES = 255;

export interface HostAndPort {
  /** As written; IPv6 in brackets. */
  readonly host: string;
  readonly port: number | null;
}

/** Null: not a server name. */
export function splitServerName(text: string): HostAndPort | null {
  const [, host, digits] = SERVER_NAME.exec(text) ?? [];
  // An empty label names nobody; one dot at the end is the root's.
  if (host === undefined || /^\.|\.\./.test(host) || (host.startsWith('[') && !isIPv6(host.slice(1, -1)))) return null;
  const port = digits === undefined ? null : Number(digits);
  if (port !== null && (port < 1 || port > 65535)) return null;
  // The grammar takes some texts for DNS names that a URL can't have as its host (`1.2.3.4.5`, `999.1.1.1`).
  return URL.canParse(`https://${host}`) ? { host, port } : null;
}

/** Null: not a server name. Upper and lower case stay: server names are compared as they are written. */
export function parseServerName(text: string): ServerName | null {
  return splitServerName(text) === null ? null : (text as ServerName);
}

/** The server of a user id; names are compared as they are written. */
export function serverOf(userId: UserId): string {
  return userId.slice(userId.indexOf(':') + 1);
}

/** Old localparts may hold about anything, but nothing that can't be shown or sent: half a surrogate pair, a control character. */
export function parsePrintableUserId(text: string): UserId | null {
  const userId = parseUserId(text);
  if (userId === null || !userId.isWellFormed() || /\p{Cc}/u.test(userId)) return null;
  return Buffer.byteLength(userId) <= LONGEST_USER_ID_BYTES ? userId : null;
}

export type BaseUrl =
  | { readonly kind: 'url'; readonly url: HomeserverUrl; readonly parts: URL }
  | { readonly kind: 'malformed'; readonly why: string };

/** A base URL in one spelling: lower-case host, no default port, no slash at the end. Whether it may be called is for served.ts to say. */
export function parseBaseUrl(text: string): BaseUrl {
  const malformed = (why: string): BaseUrl => ({ kind: 'malformed', why });
  if (text.length > LONGEST_URL) return malformed('too long for a base URL');
  // A URL parser would silently mend these, and two readers of one address could then disagree about its host.
  if (!/^[\x21-\x5b\x5d-\x7e]+$/.test(text)) return malformed('no base URL: it has spaces, backslashes or characters beyond ASCII');
  if (!/^https?:\/\/[^/]/i.test(text)) return malformed('no base URL: it does not start with https:// or http:// and a host');
  const parts = URL.parse(text);
  if (parts === null) return malformed('not a URL');
  if (text.includes('?') || text.includes('#')) return malformed('no base URL: it has a query or fragment');
  if (text.includes('@')) return malformed('no base URL: it has credentials');
  return { kind: 'url', url: `${parts.origin}${parts.pathname.replace(/\/+$/, '')}` as HomeserverUrl, parts };
}
