// What both services are asked, and where they are meant to differ. A case without `differs` must be answered alike.
import { sign } from '../support/fake-sfu.ts';
import { API_KEY, API_SECRET, type Stand, type Wanted } from './stand.ts';

/** The differences that are meant, each with its reason; the README tells operators the same. */
export const INTENDED = {
  'forged webhooks':
    'a webhook that is not signed with an API key is refused (401), and only POST is one: anyone could end a call otherwise',
  'operational pages': 'answers of /healthz and of paths that are none are JSON: what reads them should not have to guess',
  'doubled slashes': 'answered as if single: a redirect without CORS headers is a dead end for a browser',
  'dot segments': 'not redirected, and no page: a proxy in front judges a path by its beginning',
  'one JSON text':
    'what follows the JSON of a request is not ignored, and field names are taken as they are written: no two readers may differ',
  'well-formed text': 'text without a UTF-8 form is refused, as it would give two ids one name on the SFU',
  'repeated fields': 'the last one counts, whatever it is; parts of several are not put together',
  'whole numbers': '1e4 and 10000.0 are the same JSON number as 10000',
  'canonical JSON':
    'names are hashes of canonical JSON as Matrix defines it: < > & and U+2028/2029 are not escaped, and clients find each other',
  'large requests': 'a body over 64 KiB is refused (413): no request of a client is near it',
  'delay ids': 'a delay id that breaks the grammar of Matrix is refused: `..` would be another resource of the homeserver',
  'long delays': 'a delay over 292 years is refused before a room is made, instead of overflowing',
  'huge answers': 'an OpenID answer over 64 KiB is not read',
  'long tokens': 'an OpenID token over 4096 characters is refused without a question to its homeserver',
  'user ids': 'an OpenID answer that names what is no user id (no @) is refused',
} as const;
export type Difference = keyof typeof INTENDED;

export interface Case {
  readonly name: string;
  readonly wanted: Wanted;
  readonly differs?: Difference;
  /** What the SFU answers when a room is made. */
  readonly roomStatus?: number;
}

export type Fields = Readonly<Record<string, unknown>>;
const ABSENT = undefined;
export const DELEGATION = { delay_id: 'delay_1', delay_timeout: 3_600_000 };

/** How each endpoint is asked; `over` replaces fields, undefined takes them out. */
export function endpoints({ home }: Stand) {
  const openidToken = (over: Fields = {}): Fields => {
    return { access_token: 'alice', token_type: 'Bearer', matrix_server_name: home, expires_in: 3600, ...over };
  };
  const member = (over: Fields = {}): Fields => ({ id: 'member-1', claimed_user_id: `@alice:${home}`, claimed_device_id: 'DEV', ...over });
  const memberBody = (over: Fields = {}): Fields => {
    return { room_id: '!room:example.org', slot_id: 'm.call#ROOM', openid_token: openidToken(), member: member(), ...over };
  };
  const legacyBody = (over: Fields = {}): Fields => ({ room: '!room:example.org', openid_token: openidToken(), device_id: 'DEV', ...over });
  const post = (path: string, body: string | Buffer, headers: Record<string, string> = {}): Wanted => {
    return { method: 'POST', path, body, headers: { 'content-type': 'application/json', ...headers } };
  };
  return {
    openidToken,
    member,
    memberBody,
    legacyBody,
    post,
    token: (over: Fields = {}) => post('/get_token', JSON.stringify(memberBody(over))),
    legacy: (over: Fields = {}) => post('/sfu/get', JSON.stringify(legacyBody(over))),
    leave: (over: Fields = {}) => post('/delegate_delayed_leave', JSON.stringify(memberBody({ ...DELEGATION, ...over }))),
  };
}

export async function casesOf(stand: Stand): Promise<readonly Case[]> {
  return [
    await signedWebhook(stand),
    ...routes(stand),
    ...bodies(stand),
    ...fields(stand),
    ...users(stand),
    ...serverNames(stand),
    ...access(stand),
    ...delays(stand),
    ...names(stand),
    ...sizes(stand),
  ];
}

const PATHS = ['/get_token', '/sfu/get', '/delegate_delayed_leave'];

function routes(stand: Stand): Case[] {
  const { post, token } = endpoints(stand);
  const methods = ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND'];
  const preflight = { origin: 'https://call.example.org', 'access-control-request-method': 'POST' };
  const at = (method: string, path: string, more: Omit<Case, 'name' | 'wanted'> = {}): Case => {
    return { name: `${method} ${path}`, wanted: { method, path }, ...more };
  };
  return [
    ...PATHS.flatMap((path) => methods.map((method) => at(method, path))),
    ...PATHS.map((path) => at('POST', path)),
    ...PATHS.map((path) => ({ name: `preflight ${path}`, wanted: { method: 'OPTIONS', path, headers: preflight } })),
    { name: 'a query is no part of the path', wanted: { ...token(), path: '/get_token?x=1' } },
    { name: 'a page of any origin', wanted: { ...token(), headers: { origin: 'https://call.example.org' } } },
    { name: 'any content type', wanted: { ...token(), headers: { 'content-type': 'text/plain' } } },
    { name: 'doubled slash', wanted: { ...token(), path: '//get_token' }, differs: 'doubled slashes' },
    ...['PUT', 'DELETE', 'POST', 'OPTIONS'].map((method) => at(method, '/healthz', { differs: 'operational pages' })),
    at('GET', '/healthz', { differs: 'operational pages' }),
    ...['/', '/get_token/', '/nothing'].map((path) => at('GET', path, { differs: 'operational pages' as const })),
    ...['GET', 'PUT', 'POST'].map((method) => at(method, '/sfu_webhook', { differs: 'forged webhooks' as const })),
    { name: 'a forged webhook', wanted: post('/sfu_webhook', '{"event":"participant_left"}'), differs: 'forged webhooks' },
  ];
}

async function signedWebhook(stand: Stand): Promise<Case> {
  const body = JSON.stringify({
    event: 'participant_joined',
    id: 'EV_1',
    room: { sid: 'RM_1', name: 'r' },
    participant: { sid: 'PA_1', identity: 'i' },
  });
  const authorization = await sign(body, API_KEY, API_SECRET);
  return { name: 'a webhook', wanted: endpoints(stand).post('/sfu_webhook', body, { authorization }) };
}

function bodies(stand: Stand): Case[] {
  const { post, memberBody, legacyBody, token } = endpoints(stand);
  const texts: [string, Difference?][] = [
    ...['{', 'null', '[]', '1', '"x"', 'true', '{}', ' \n{}\n', '\ufeff{}', '{"a":1}', '[{}]', 'nul', "{'a':1}", '{"room_id":1}'].map(
      (text): [string] => [text],
    ),
    ...['{"room_id":null}', '{"room":null}', '{"room":{}}', `{"room":"a\u0001b"}`, `{"room":${'['.repeat(9_000)}${']'.repeat(9_000)}}`].map(
      (text): [string] => [text],
    ),
  ];
  const full = token().body as string;
  const replaced = (from: string, to: string): Wanted => post('/get_token', full.replace(from, to));
  const legacy = JSON.stringify(legacyBody());
  return [
    ...PATHS.flatMap((path) =>
      texts.map(([text, differs]) => ({
        name: `${path} ${text.slice(0, 40)}`,
        wanted: post(path, text),
        ...(differs === undefined ? {} : { differs }),
      })),
    ),
    { name: 'white space behind it', wanted: post('/get_token', `${full}\r\n `) },
    { name: 'garbage behind it', wanted: post('/get_token', `${full}garbage`), differs: 'one JSON text' },
    { name: 'another JSON behind it', wanted: post('/get_token', `${full}{}`), differs: 'one JSON text' },
    { name: 'another case of a field', wanted: replaced('"room_id"', '"Room_ID"'), differs: 'one JSON text' },
    { name: 'UTF-16', wanted: post('/sfu/get', Buffer.from(legacy, 'utf16le')) },
    {
      name: 'not UTF-8',
      wanted: post('/sfu/get', Buffer.from(legacy.replace('!room', '!r\u00ffm'), 'latin1')),
      differs: 'well-formed text',
    },
    { name: 'half a surrogate pair', wanted: post('/sfu/get', legacy.replace('!room', '!r\\ud800m')), differs: 'well-formed text' },
    { name: 'half a surrogate pair in a member', wanted: replaced('member-1', 'm\\udfff'), differs: 'well-formed text' },
    { name: 'an escaped surrogate pair', wanted: post('/sfu/get', legacy.replace('!room', '!r\\ud83d\\ude00m')) },
    { name: 'a field twice', wanted: replaced('{"room_id"', '{"room_id":"!other:x","room_id"') },
    { name: 'a field twice, then null', wanted: replaced('"slot_id"', '"room_id":null,"slot_id"'), differs: 'repeated fields' },
    { name: 'a field twice, first of another type', wanted: replaced('{"room_id"', '{"room_id":1,"room_id"'), differs: 'repeated fields' },
    {
      name: 'an object twice',
      wanted: post('/get_token', `${full.slice(0, -1)},"member":{"claimed_device_id":"OTHER"}}`),
      differs: 'repeated fields',
    },
    { name: 'a prototype', wanted: post('/get_token', `${full.slice(0, -1)},"__proto__":{}}`) },
    { name: 'a constructor', wanted: post('/get_token', JSON.stringify({ ...memberBody(), constructor: 1 })) },
  ];
}

const ODD: readonly unknown[] = [ABSENT, null, '', 5, -1, 1.5, 1e20, [], {}, true];

function fields(stand: Stand): Case[] {
  const { openidToken, member, token, legacy, leave } = endpoints(stand);
  const named = (name: string, value: unknown): string => `${name} = ${JSON.stringify(value)}`;
  const top = ['room_id', 'slot_id', 'openid_token', 'member', 'delay_id', 'delay_timeout', 'delay_cs_api_url', 'unknown'];
  const inToken = ['access_token', 'token_type', 'matrix_server_name', 'expires_in', 'unknown'];
  const inMember = ['id', 'claimed_user_id', 'claimed_device_id', 'unknown'];
  return ODD.flatMap((value) => [
    ...top.flatMap((name) => [
      { name: `/get_token ${named(name, value)}`, wanted: token({ [name]: value }) },
      { name: `/delegate_delayed_leave ${named(name, value)}`, wanted: leave({ [name]: value }) },
    ]),
    ...['room', 'device_id', 'openid_token', 'delay_id', 'delay_timeout', 'delay_cs_api_url', 'slot_id', 'member'].map((name) => {
      return { name: `/sfu/get ${named(name, value)}`, wanted: legacy({ [name]: value }) };
    }),
    ...inToken.flatMap((name) => {
      const openid_token = openidToken({ [name]: value });
      return [
        { name: `/get_token openid_token.${named(name, value)}`, wanted: token({ openid_token }) },
        { name: `/sfu/get openid_token.${named(name, value)}`, wanted: legacy({ openid_token }) },
        { name: `/delegate_delayed_leave openid_token.${named(name, value)}`, wanted: leave({ openid_token }) },
      ];
    }),
    ...inMember.flatMap((name) => [
      { name: `/get_token member.${named(name, value)}`, wanted: token({ member: member({ [name]: value }) }) },
      { name: `/delegate_delayed_leave member.${named(name, value)}`, wanted: leave({ member: member({ [name]: value }) }) },
    ]),
  ]);
}

/** Whose token it is, and what its homeserver makes of it. */
function users(stand: Stand): Case[] {
  const { home } = stand;
  const { openidToken, member, token, legacy, leave } = endpoints(stand);
  const tokens = [
    ...['bob', 'garbage', 'nobody', 'status-401', 'status-404', 'status-500', 'status-429', 'a b&c=d/\u00fc+%', 'huge-1000'],
    ...[`sub=@alice:${home}`, `sub=@alice:${home.toUpperCase()}`, 'sub=@alice:localhost', 'sub=@alice:other.example', 'sub=alice', 'sub='],
    ...[`sub=@alice:x:${home}`, 'sub=@alice', `sub=@:${home}`, `sub=@Al=ice/+:${home}`],
  ];
  return [
    ...tokens.flatMap((access_token): Case[] => {
      const openid_token = openidToken({ access_token });
      return [
        { name: `/get_token with ${access_token}`, wanted: token({ openid_token }) },
        { name: `/sfu/get with ${access_token}`, wanted: legacy({ openid_token }) },
        { name: `/delegate_delayed_leave with ${access_token}`, wanted: leave({ openid_token }) },
      ];
    }),
    {
      name: '/sfu/get with a huge answer',
      wanted: legacy({ openid_token: openidToken({ access_token: 'huge-100000' }) }),
      differs: 'huge answers',
    },
    {
      name: '/sfu/get with what is no user id',
      wanted: legacy({ openid_token: openidToken({ access_token: `sub=alice:${home}` }) }),
      differs: 'user ids',
    },
    ...[`@bob:${home}`, '@alice:other.example', 'alice', `@ALICE:${home}`, `@alice:${home} `].map((claimed_user_id) => {
      return { name: `claimed: ${claimed_user_id}`, wanted: token({ member: member({ claimed_user_id }), ...DELEGATION }) };
    }),
  ];
}

function serverNames(stand: Stand): Case[] {
  const { home } = stand;
  const port = home.split(':')[1];
  const { openidToken, legacy } = endpoints(stand);
  const odd = ['x y', '..', `user@${home}`, `http://${home}`, `${home}/`, `${home}/path`, `${home}?`, `${home}#`, `${home}\r\nX: y`];
  const ports = ['localhost:99999', 'localhost:0', 'localhost:', `[::1]:${port}`, `[::1:${port}`, '1.2.3.4.5', `127.1:${port}`];
  const unknown = ['nope.invalid', 'xn--nxasmq6b.invalid', 'b\u00fccher.invalid', '\u0000', '\u202e', 'a'.repeat(300)];
  return [...odd, ...ports, ...unknown, `LOCALHOST:${port}`, `0x7f.1:${port}`].map((matrix_server_name) => {
    return {
      name: `/sfu/get at ${JSON.stringify(matrix_server_name).slice(0, 60)}`,
      wanted: legacy({ openid_token: openidToken({ matrix_server_name }) }),
    };
  });
}

/** Who may have what: rooms, delegations, and in which order it is found out. */
function access(stand: Stand): Case[] {
  const { lost, guest } = stand;
  const { openidToken, member, token, legacy, leave } = endpoints(stand);
  const of = (matrix_server_name: string, access_token = 'alice') => {
    const openid_token = openidToken({ matrix_server_name, access_token });
    return { openid_token, member: member({ claimed_user_id: `@alice:${matrix_server_name}` }) };
  };
  const legacyOf = (name: string) => ({ openid_token: of(name).openid_token });
  const cases: [string, Wanted, number?][] = [
    ['in full', token()],
    ['in full, older client', legacy()],
    ['in full, with a delegation', token(DELEGATION)],
    ['in full, older client with a delegation', legacy(DELEGATION)],
    ['in full, the delegation alone', leave()],
    ['the delegation alone, without one', leave({ delay_id: ABSENT, delay_timeout: ABSENT })],
    ['compatibility mode', token({ ...DELEGATION, member: member({ id: `@alice:${stand.home}:DEV` }) })],
    ['a guest', token(of(guest))],
    ['a guest, older client', legacy(legacyOf(guest))],
    ['a guest with a delegation', token({ ...of(guest), ...DELEGATION })],
    ['a guest with a delegation, older client', legacy({ ...legacyOf(guest), ...DELEGATION })],
    ['a guest, the delegation alone', leave(of(guest))],
    ['a guest who is none', leave(of(guest, 'status-401'))],
    ['lost homeserver', token(of(lost))],
    ['lost homeserver with a delegation', token({ ...of(lost), ...DELEGATION })],
    ['lost homeserver with a delegation, older client', legacy({ ...legacyOf(lost), ...DELEGATION })],
    ['lost homeserver, the delegation alone', leave(of(lost))],
    ['no room', token(), 500],
    ['no room, older client', legacy(), 503],
    ['no room, with a delegation', token(DELEGATION), 404],
    ['no room is needed for the delegation alone', leave(), 500],
    ['no room and a lost homeserver', token({ ...of(lost), ...DELEGATION }), 500],
    ['no room and a guest', token(of(guest)), 500],
    ['a wrong token and half a delegation', token({ ...of(stand.home, 'bob'), delay_id: 'delay_1' })],
    ['nothing but the room', token({ slot_id: ABSENT, member: ABSENT, openid_token: ABSENT })],
    ['neither member nor token', token({ member: ABSENT, openid_token: ABSENT })],
    ['no token and half a delegation', token({ openid_token: ABSENT, delay_id: 'delay_1' })],
    ['older client, no token and half a delegation', legacy({ openid_token: ABSENT, delay_id: 'delay_1' })],
  ];
  return cases.map(([name, wanted, roomStatus]) => ({ name, wanted, ...(roomStatus === undefined ? {} : { roomStatus }) }));
}

function delays(stand: Stand): Case[] {
  const { token, legacy, leave, post } = endpoints(stand);
  const alike: Fields[] = [
    ...[1, 999, 10_000, 3_600_000, 9_223_372_036_854].map((delay_timeout) => ({ delay_timeout })),
    ...[0, -1, -0.5, '10', true, '', {}].map((delay_timeout) => ({ delay_timeout })),
    { delay_id: ABSENT },
    { delay_timeout: ABSENT },
    { delay_id: '', delay_timeout: 0 },
    { delay_id: '', delay_timeout: ABSENT },
    { delay_id: null, delay_timeout: 0 },
    { delay_id: 'a'.repeat(255) },
    { delay_id: 'syd_~.-' },
    { delay_cs_api_url: 'https://other.example.org' },
    { delay_cs_api_url: 'no URL' },
  ];
  const unlike = (over: Fields, differs: Difference): [Fields, Difference] => [{ ...DELEGATION, ...over }, differs];
  const differing = ['.', '..', 'a/b', 'a b', '\u00fc', '%2e', 'a'.repeat(256), '\u0000']
    .map((delay_id) => unlike({ delay_id }, 'delay ids'))
    .concat(
      ['18446744073710', '100000000000000000'].map((delay_timeout) => unlike({ delay_timeout: Number(delay_timeout) }, 'long delays')),
    );
  const raw = (number: string) => post('/get_token', (token(DELEGATION).body as string).replace('3600000', number));
  return [
    ...alike.flatMap((over) => {
      const name = JSON.stringify(over, (_, value) => (value === undefined ? 'absent' : value)).slice(0, 60);
      const body = { ...DELEGATION, ...over };
      return [
        { name: `/get_token ${name}`, wanted: token(body) },
        { name: `/sfu/get ${name}`, wanted: legacy(body) },
        { name: `/delegate_delayed_leave ${name}`, wanted: leave(body) },
      ];
    }),
    ...differing.map(
      ([body, differs]): Case => ({ name: `/get_token ${JSON.stringify(body).slice(0, 60)}`, wanted: token(body), differs }),
    ),
    { name: 'a delay of -0', wanted: raw('-0') },
    { name: 'a delay of 10000000000000000000', wanted: raw('10000000000000000000') },
    { name: 'a delay of 1e4', wanted: raw('1e4'), differs: 'whole numbers' },
    { name: 'a delay of 10000.0', wanted: raw('10000.0'), differs: 'whole numbers' },
  ];
}

/** What the SFU calls a room and its participants. */
function names(stand: Stand): Case[] {
  const { member, token, legacy } = endpoints(stand);
  const alike = [
    '\u007f\u0080',
    '\b\f\n\r\t\u0001\u001f',
    '"\\/',
    '\u00e9\u{1F600}',
    '\u202e',
    '\ufeff',
    '\ufffe\uffff',
    'e\u0301',
    '\u0000',
    ' ',
  ];
  const escaped = ['<', '>', '&', '\u2028', '\u2029'];
  const all = (text: string, more: { differs?: Difference }): Case[] => [
    { name: `room ${JSON.stringify(text)}`, wanted: legacy({ room: text }), ...more },
    { name: `slot ${JSON.stringify(text)}`, wanted: token({ slot_id: text }), ...more },
    { name: `member ${JSON.stringify(text)}`, wanted: token({ member: member({ id: text }) }), ...more },
    { name: `device ${JSON.stringify(text)}`, wanted: token({ member: member({ claimed_device_id: text }) }), ...more },
  ];
  return [
    ...alike.flatMap((text) => [...all(text, {}), { name: `older device ${JSON.stringify(text)}`, wanted: legacy({ device_id: text }) }]),
    ...escaped.flatMap((text) => all(text, { differs: 'canonical JSON' })),
  ];
}

function sizes(stand: Stand): Case[] {
  const { openidToken, member, token, legacy } = endpoints(stand);
  const [long, longer] = ['x'.repeat(8_000), 'x'.repeat(1_000_000)];
  return [
    { name: 'a long room', wanted: legacy({ room: long }) },
    { name: 'a long member', wanted: token({ member: member({ id: long }) }) },
    { name: 'a long token', wanted: legacy({ openid_token: openidToken({ access_token: `status-401${long}` }) }), differs: 'long tokens' },
    { name: 'a room of 1 MB', wanted: legacy({ room: longer }), differs: 'large requests' },
    { name: 'a member of 1 MB', wanted: token({ member: member({ id: longer }) }), differs: 'large requests' },
    { name: 'an unknown field of 1 MB', wanted: token({ unknown: longer }), differs: 'large requests' },
  ];
}
