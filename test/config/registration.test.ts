// The registration file: made for a homeserver, read by us, and whatever else may be in its place.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { systemRandom } from '../../src/clock.ts';
import { newRegistration } from '../../src/config/new-registration.ts';
import { parseRegistration, registrationText } from '../../src/config/registration.ts';

const NAMES = ['example.org', 'localhost:8448', '1.2.3.4:80', '[2001:db8::1]:8448', 'xn--bcher-kva.example-1.org'];
const MADE = { serverName: 'example.org', proxyUrl: 'http://lastwill:8080', asToken: 'as-secret', hsToken: 'hs-secret' };

describe('a new file', () => {
  test('has all that a homeserver asks for, under the names of today and those of tomorrow', () => {
    const scopes = ['urn:matrix:client:io.element.msc4502:rooms:is_joined'];
    expect(parse(registrationText(MADE))).toEqual({
      ...{ id: 'lastwill', url: null, as_token: 'as-secret', hs_token: 'hs-secret', sender_localpart: '_lastwill', rate_limited: false },
      namespaces: { users: [{ exclusive: false, regex: '@.*:example\\.org' }], aliases: [], rooms: [] },
      'io.element.msc4512.proxy_prefix': 'rtc/livekit',
      'io.element.msc4512.proxy_url': 'http://lastwill:8080',
      'io.element.msc4502.scopes': scopes,
      ...{ proxy_prefix: 'rtc/livekit', proxy_url: 'http://lastwill:8080', scopes: ['urn:matrix:client:rooms:is_joined'] },
    });
  });

  test.each(NAMES)('for %s is about its users, and is read as it was made', (serverName) => {
    const text = registrationText({ ...MADE, serverName });
    expect(parseRegistration(text)).toEqual({
      kind: 'registration',
      registration: { asToken: 'as-secret', hsToken: 'hs-secret', serverName },
    });
    const [{ regex }] = parse(text).namespaces.users;
    const covers = new RegExp(`^${regex}$`);
    expect(covers.test(`@alice:${serverName}`)).toBe(true);
    for (const other of [`${serverName}x`, `x${serverName}`.replace('.', 'x'), 'other.example'])
      expect(covers.test(`@alice:${other}`)).toBe(false);
  });

  test('has tokens that nobody can guess, and of its own', () => {
    const [one, other] = [1, 2].map(() => parseRegistration(newRegistration('example.org', 'http://lastwill:8080/', systemRandom()) ?? ''));
    if (one?.kind !== 'registration' || other?.kind !== 'registration') return expect.fail('no registration');
    const tokens = [one, other].flatMap(({ registration: { asToken, hsToken } }) => [asToken, hsToken]);
    expect(new Set(tokens).size).toBe(4);
    for (const token of tokens) expect(token).toMatch(/^[0-9a-f]{64}$/);
  });

  test.each([
    ['', 'http://lastwill:8080'],
    ['https://example.org', 'http://lastwill:8080'],
    ['example.org', ''],
    ['example.org', 'lastwill:8080'],
    ['example.org', 'http://user:password@lastwill:8080'],
    ['example.org', 'http://lastwill:8080?x'],
  ])('is not made of %j and %j', (serverName, url) => expect(newRegistration(serverName, url, systemRandom())).toBe(null));
});

describe('npm run registration', () => {
  const run = (...words: string[]) => {
    const root = join(import.meta.dirname, '../..');
    return spawnSync(join(root, 'node_modules/node/bin/node'), ['src/main.ts', 'registration', ...words], { cwd: root, encoding: 'utf8' });
  };

  test('prints one file and nothing else', () => {
    const { status, stdout, stderr } = run('example.org', 'http://lastwill:8080');
    expect([status, stderr, parseRegistration(stdout).kind]).toEqual([0, '', 'registration']);
  });

  test.each([[[]], [['example.org']], [['https://example.org', 'x']]])('given %j says how it is used', (words) => {
    const { status, stdout, stderr } = run(...words);
    expect([status, stdout, stderr]).toEqual([2, '', expect.stringMatching(/^Usage: npm run --silent registration -- /)]);
  });
});

describe('a file that is read', () => {
  test.each([
    ['with quotes and comments', '# x\nas_token: "a" # x\nhs_token: \'b\'\n', { asToken: 'a', hsToken: 'b', serverName: null }],
    ['in JSON', '{"as_token": "a", "hs_token": "b"}', { asToken: 'a', hsToken: 'b', serverName: null }],
    [
      'for users of more than one server',
      'as_token: a\nhs_token: b\nnamespaces: {users: [{regex: "@.*:a"}, {regex: "@.*:b"}]}',
      { asToken: 'a', hsToken: 'b', serverName: null },
    ],
    ...['@.*', '@.*:.*', '@bot:example\\.org', '@.*:(a|b)', '.*:example.org', '@.*:example\\d'].map((regex): [string, string, object] => [
      `for the users ${regex}`,
      JSON.stringify({ as_token: 'a', hs_token: 'b', namespaces: { users: [{ regex }] } }),
      { asToken: 'a', hsToken: 'b', serverName: regex.endsWith(':example.org') && regex.startsWith('@') ? 'example.org' : null },
    ]),
  ])('%s', (_name, text, registration) => expect(parseRegistration(text)).toEqual({ kind: 'registration', registration }));

  test.each([
    ['nothing', '', 'an as_token'],
    ['no YAML', '{as_token: hunter2', 'in YAML'],
    ['a list', '- hunter2', 'an as_token'],
    ['no hs_token', 'as_token: hunter2', 'an hs_token'],
    ['a number', 'as_token: 12345\nhs_token: hunter2', 'an as_token'],
    ['a space', 'as_token: "hunter2 x"\nhs_token: b', 'an as_token'],
    ['a line end', 'as_token: "hunter2\\n"\nhs_token: b', 'an as_token'],
    ['nothing in it', 'as_token: a\nhs_token: ""', 'an hs_token'],
    ['a bomb', `a: &a [x,x]\nb: &b [*a,*a]\n${'c: [*b,*b,*b,*b]\n'}as_token: *b`, 'a registration'],
  ])('and is %s is refused, and not shown', (_name, text, why) => {
    const read = parseRegistration(text);
    expect(read).toEqual({ kind: 'malformed', why: expect.stringContaining(why) });
    expect(JSON.stringify(read)).not.toContain('hunter2');
  });

  test('never throws', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json(), fc.string({ unit: 'binary' })), (text) => void parseRegistration(text)));
  });
});
