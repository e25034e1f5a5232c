// The file by which a homeserver knows its application service, and we know it: read for its tokens, and made for an operator to give to
// the homeserver. Pure; what it says beyond the Matrix specification is of MSC4502 (membership) and MSC4512 (requests passed on).
import { createRequire } from 'node:module';

/** Loaded only when there is YAML to read or write, which at most starts there is not. */
const yaml = (): typeof import('yaml') => createRequire(import.meta.url)('yaml');

export interface Registration {
  readonly asToken: string;
  readonly hsToken: string;
  /** The server whose users it is for; null: the file does not tell. */
  readonly serverName: string | null;
}

export type RegistrationResult =
  | { readonly kind: 'registration'; readonly registration: Registration }
  /** `why` has no value in it: half of them are secrets. */
  | { readonly kind: 'malformed'; readonly why: string };

/** Printable ASCII without spaces: tokens become header values. */
export const TOKEN = /^[\x21-\x7e]+$/;
const PREFIX = 'rtc/livekit';

export function parseRegistration(text: string): RegistrationResult {
  const malformed = (why: string): RegistrationResult => ({ kind: 'malformed', why });
  let file: unknown;
  try {
    // Warnings about odd YAML would go to stderr. Levels below `error` would also keep it from throwing on what is broken.
    file = yaml().parse(text, { logLevel: 'error' });
  } catch {
    return malformed('a registration file in YAML');
  }
  const [asToken, hsToken] = [field(file, 'as_token'), field(file, 'hs_token')];
  if (typeof asToken !== 'string' || !TOKEN.test(asToken)) return malformed('a registration file with an as_token of printable characters');
  if (typeof hsToken !== 'string' || !TOKEN.test(hsToken)) return malformed('a registration file with an hs_token of printable characters');
  return { kind: 'registration', registration: { asToken, hsToken, serverName: serverNameOf(file) } };
}

/** Only where the users are all of one server and nothing else, as in the file that we make. */
function serverNameOf(file: unknown): string | null {
  const users = field(field(file, 'namespaces'), 'users');
  const regex: unknown = Array.isArray(users) && users.length === 1 ? field(users[0], 'regex') : undefined;
  const escaped = typeof regex === 'string' ? /^@\.\*:((?:[0-9A-Za-z:-]|\\[.[\]:-])+)$/.exec(regex)?.[1] : undefined;
  return escaped === undefined ? null : escaped.replaceAll('\\', '');
}

export interface NewRegistration {
  readonly serverName: string;
  /** Where the homeserver reaches us. */
  readonly proxyUrl: string;
  readonly asToken: string;
  readonly hsToken: string;
}

/** A registration file for a homeserver, ready to be used. */
export function registrationText({ serverName, proxyUrl, asToken, hsToken }: NewRegistration): string {
  const users = [{ exclusive: false, regex: `@.*:${serverName.replaceAll(/[.[\]]/g, '\\$&')}` }];
  const file = {
    id: 'lastwill',
    // No events are sent to us, and so none are read.
    url: null,
    as_token: asToken,
    hs_token: hsToken,
    sender_localpart: '_lastwill',
    // Restarts come from one address for all users; limits by address would end memberships.
    rate_limited: false,
    // To act on the delayed events of its users, and of nobody else.
    namespaces: { users, aliases: [], rooms: [] },
    'io.element.msc4512.proxy_prefix': PREFIX,
    'io.element.msc4512.proxy_url': proxyUrl,
    'io.element.msc4502.scopes': ['urn:matrix:client:io.element.msc4502:rooms:is_joined'],
    // Their names once the proposals are accepted.
    proxy_prefix: PREFIX,
    proxy_url: proxyUrl,
    scopes: ['urn:matrix:client:rooms:is_joined'],
  };
  const head = [
    '# The registration of lastwill as an application service of its homeserver. It holds two secrets.',
    '# Synapse: list it in app_service_config_files; lastwill: name it in LIVEKIT_AS_REGISTRATION_FILE.',
  ];
  return `${head.join('\n')}\n${yaml().stringify(file, { lineWidth: 0 })}`;
}

function field(value: unknown, name: string): unknown {
  const isObject = typeof value === 'object' && value !== null && Object.hasOwn(value, name);
  return isObject ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}
