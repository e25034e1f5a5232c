import { describe, expect, test } from 'vitest';
import type { HomeserverUrl, ServerName } from '../../src/delegation/ids.ts';
import { parseBaseUrl, parseServerName } from '../../src/homeserver/names.ts';
import { createServed, type ServedConfig } from '../../src/homeserver/served.ts';

const name = (text: string): ServerName => text as ServerName;
const NOTHING: ServedConfig = {
  fullAccess: { all: false, names: [] },
  overrides: new Map(),
  strangers: 'public',
};
const all: ServedConfig = { ...NOTHING, fullAccess: { all: true, names: [] } };
const listing = (...names: string[]): ServedConfig => ({ ...NOTHING, fullAccess: { all: false, names: names.map(name) } });
const overriding = (serverName: string, url: string): ServedConfig => ({
  ...NOTHING,
  overrides: new Map([[name(serverName), url as HomeserverUrl]]),
});
/** In short: the URL or name that is served, or `malformed`, or `not_served`. */
const verdict = (config: ServedConfig, text: string): string => {
  const result = createServed(config).parse(text);
  if (result.kind === 'url') return `url ${result.url}`;
  return result.kind === 'name' ? `name ${result.name}` : result.kind;
};

describe('server names', () => {
  test.each([
    'example.org',
    'EXAMPLE.org',
    'example.org:8448',
    'a-b.example.org:1',
    'localhost:65535',
    '1.2.3.4',
    '1.2.3.4:80',
    '[::1]',
    '[2001:db8::1]:8448',
    '123',
    'x',
  ])('%s is one', (text) => expect(parseServerName(text)).toBe(text));
  test.each([
    '',
    ' ',
    'example.org ',
    'exa mple.org',
    'example.org:',
    'example.org:0',
    'example.org:65536',
    'example.org:123456',
    'example.org:80:80',
    'https:example.org',
    'user@example.org',
    'example.org/path',
    'example.org?x',
    'exämple.org',
    'ex_ample.org',
    '::1',
    '[::1',
    '[::g]',
    '[1.2.3.4]',
    '[fe80::1%25eth0]',
    '999.1.1.1',
    '1.2.3.4.5',
    '.',
    '.example.org',
    'example..org',
    'a'.repeat(256),
    '\u0000',
    'example.org\n',
    '..%2f',
    '@x:example.org',
  ])('%j is none', (text) => expect(parseServerName(text)).toBe(null));
});

describe('base URLs', () => {
  test.each([
    ['https://matrix.example.org', 'https://matrix.example.org'],
    ['https://matrix.example.org/', 'https://matrix.example.org'],
    ['https://Matrix.Example.org:443///', 'https://matrix.example.org'],
    ['HTTPS://example.org:8443/synapse/one//', 'https://example.org:8443/synapse/one'],
    ['http://127.1:8008', 'http://127.0.0.1:8008'],
    ['https://example.org/a/../b', 'https://example.org/b'],
    ['https://[2001:DB8::1]:8448/', 'https://[2001:db8::1]:8448'],
  ])('%s is read as %s', (text, url) => expect(parseBaseUrl(text)).toMatchObject({ kind: 'url', url }));
  test.each([
    '',
    'example.org',
    'ftp://example.org',
    'file:///etc/passwd',
    'https://',
    'https:///example.org',
    'https://example.org?x=1',
    'https://example.org/?',
    'https://example.org/#',
    'https://user:pass@example.org',
    'https://user@example.org',
    'https://@example.org',
    'https://exa mple.org',
    ' https://example.org',
    'https://example.org\n',
    'https:\\\\example.org',
    'https://example.org\\@evil.org',
    'https://exämple.org',
    'https://example.org:99999',
    'https://999.1.1.1',
    `https://example.org/${'a'.repeat(2000)}`,
    'javascript://example.org',
    'https:example.org',
  ])('%j is none', (text) => {
    const read = parseBaseUrl(text);
    expect(read.kind).toBe('malformed');
    if (read.kind === 'malformed') expect(read.why).not.toMatch(/evil|pass|passwd/);
  });
});

describe('served are', () => {
  test.each<[string, ServedConfig, string, string]>([
    ['no one by default', NOTHING, 'example.org', 'not_served'],
    ['no one by default', NOTHING, 'https://example.org', 'not_served'],
    ['all with *', all, 'example.org', 'name example.org'],
    ['all with *', all, 'https://example.org/', 'url https://example.org'],
    ['listed names', listing('example.org'), 'example.org', 'name example.org'],
    ['but no others', listing('example.org'), 'example.com', 'not_served'],
    ['not their subdomains', listing('example.org'), 'https://matrix.example.org', 'not_served'],
    ['not longer names', listing('example.org'), 'https://example.org.evil.com', 'not_served'],
    ['names as they are written', listing('example.org'), 'Example.org', 'not_served'],
    ['names with their port only', listing('example.org:8448'), 'example.org', 'not_served'],
    ['names without another port', listing('example.org'), 'example.org:8448', 'not_served'],
    ['URLs of a listed host', listing('example.org'), 'https://EXAMPLE.org/base', 'url https://example.org/base'],
    ['on any port', listing('example.org'), 'https://example.org:8443', 'url https://example.org:8443'],
    ['URLs of a listed host and port', listing('example.org:8448'), 'https://example.org:8448', 'url https://example.org:8448'],
    ['not of another port', listing('example.org:8448'), 'https://example.org', 'not_served'],
    ['https only', listing('example.org'), 'http://example.org', 'not_served'],
    ['https only, with * too', all, 'http://example.org', 'not_served'],
    ['an override, exactly', overriding('example.org', 'http://synapse:8008'), 'http://synapse:8008/', 'url http://synapse:8008'],
    ['no neighbour of an override', overriding('example.org', 'http://synapse:8008'), 'http://synapse:8009', 'not_served'],
    ['no path below an override', overriding('example.org', 'http://synapse:8008'), 'http://synapse:8008/x', 'not_served'],
    [
      'no neighbour of an override on this machine',
      { ...overriding('example.org', 'http://localhost:8008'), fullAccess: { all: true, names: [] } },
      'http://localhost:36445/admin',
      'not_served',
    ],
    [
      'nor one with TLS',
      { ...overriding('example.org', 'http://synapse:8008'), fullAccess: { all: true, names: [] } },
      'https://synapse:8443',
      'not_served',
    ],
    [
      'an override, where all are served',
      { ...overriding('example.org', 'http://localhost:8008'), fullAccess: { all: true, names: [] } },
      'http://localhost:8008',
      'url http://localhost:8008',
    ],
    [
      'no name that is where an override leads',
      { ...overriding('example.org', 'http://localhost:8008'), fullAccess: { all: true, names: [] } },
      'localhost:9000',
      'not_served',
    ],
    [
      'an override at a private address',
      overriding('example.org', 'http://10.0.0.5:8008'),
      'http://10.0.0.5:8008',
      'url http://10.0.0.5:8008',
    ],
    ['no private address', all, 'https://10.0.0.5', 'not_served'],
    ['no private name', all, '192.168.0.1:8448', 'not_served'],
    ['no address in disguise', all, 'https://[::ffff:169.254.169.254]', 'not_served'],
    ['no number that is an address', all, '127.1', 'not_served'],
    ['not this machine', all, 'localhost', 'not_served'],
    ['not this machine', all, 'http://127.0.0.1:8008', 'not_served'],
    ['this machine where allowed', { ...all, strangers: 'loopback-too' }, 'http://127.0.0.1:8008', 'url http://127.0.0.1:8008'],
    ['this machine where allowed', { ...all, strangers: 'loopback-too' }, 'http://localhost:8008', 'url http://localhost:8008'],
    ['not the private net with it', { ...all, strangers: 'loopback-too' }, 'https://10.0.0.5', 'not_served'],
    ['the private net where allowed', { ...all, strangers: 'any' }, 'https://10.0.0.5', 'url https://10.0.0.5'],
    ['yet not without TLS', { ...all, strangers: 'any' }, 'http://10.0.0.5', 'not_served'],
    ['this machine where listed', listing('localhost:18448'), 'localhost:18448', 'name localhost:18448'],
    ['this machine where listed', listing('localhost'), 'http://localhost:8008', 'url http://localhost:8008'],
    ['a private address where listed', listing('10.0.0.5'), 'https://10.0.0.5:8448', 'url https://10.0.0.5:8448'],
  ])('%s: %#', (_, config, text, expected) => expect(verdict(config, text)).toBe(expected));

  test.each(['', 'exa mple.org', 'ftp://example.org', 'https://user@example.org', 'https://example.org?x'])('malformed: %j', (text) =>
    expect(verdict(all, text)).toBe('malformed'),
  );
});

describe('addresses', () => {
  test('are public only, but for hosts the operator named', () => {
    const { addresses } = createServed({
      ...listing('example.org', 'localhost:18448', '[fd00::1]:8448'),
      overrides: new Map([[name('other.org'), 'http://synapse:8008' as HomeserverUrl]]),
    });
    for (const host of ['example.org', 'localhost', 'fd00::1', 'other.org', 'synapse'])
      expect([host, addresses(host)]).toEqual([host, 'any']);
    for (const host of ['matrix.example.org', '127.0.0.1', 'evil.org']) expect(addresses(host)).toBe('public');
  });
  test('are any with the switches', () => {
    expect(createServed({ ...all, strangers: 'any' }).addresses('x.org')).toBe('any');
    expect(createServed({ ...all, strangers: 'loopback-too' }).addresses('x.org')).toBe('loopback-too');
  });
  test('include what a listed name leads to, and not what another does', () => {
    const served = createServed({ ...listing('example.org'), fullAccess: { all: true, names: [name('example.org')] } });
    expect(served.discovered(name('example.org'), 'https://matrix.example.org/')).toBe('https://matrix.example.org');
    expect(served.addresses('matrix.example.org')).toBe('any');
    expect(served.discovered(name('evil.org'), 'https://matrix.evil.org')).toBe('https://matrix.evil.org');
    expect(served.addresses('matrix.evil.org')).toBe('public');
    for (const text of ['http://matrix.evil.org', 'https://10.0.0.1', 'https://localhost', 'nonsense']) {
      expect(served.discovered(name('evil.org'), text)).toBe(null);
    }
  });
  test('of what a name leads to are good for nothing else there, whoever names it', () => {
    const served = createServed({
      ...listing('example.org'),
      fullAccess: { all: true, names: [name('example.org')] },
      overrides: new Map([[name('other.org'), 'http://localhost:8008' as HomeserverUrl]]),
    });
    served.discovered(name('example.org'), 'https://matrix.example.org');
    for (const text of [
      'http://localhost:9999',
      'https://localhost',
      'https://matrix.example.org:9999',
      'https://matrix.example.org/admin',
    ])
      expect([text, served.discovered(name('evil.org'), text)]).toEqual([text, null]);
    expect(served.discovered(name('evil.org'), 'https://matrix.example.org')).toBe('https://matrix.example.org');
  });
  test('of hosts that the operator named, or such a name was led to, are looked up the way of the operator, and of no others', () => {
    const served = createServed({
      ...NOTHING,
      fullAccess: { all: true, names: [name('example.org'), name('Upper.example.org:8448')] },
      overrides: new Map([[name('other.org'), 'http://synapse:8008' as HomeserverUrl]]),
      strangers: 'any',
    });
    served.discovered(name('example.org'), 'https://matrix.example.net');
    served.discovered(name('evil.org'), 'https://matrix.evil.org');
    for (const host of ['example.org', 'upper.example.org', 'other.org', 'synapse', 'matrix.example.net'])
      expect([host, served.isNamed(host)]).toEqual([host, true]);
    for (const host of ['evil.org', 'matrix.evil.org', 'matrix.example.org']) expect([host, served.isNamed(host)]).toEqual([host, false]);
  });
  test('may be called where their .well-known led before as well, and nowhere else on that host', () => {
    const served = createServed(listing('example.org'));
    const urls = ['https://matrix.example.org', 'https://matrix.example.net'];
    for (const url of urls) served.discovered(name('example.org'), url);
    expect(['matrix.example.org', 'matrix.example.net', 'matrix.evil.org'].map(served.addresses)).toEqual(['any', 'any', 'public']);
    const all = [...urls, 'https://matrix.example.org:8448'];
    expect(all.map((url) => served.discovered(name('evil.org'), url))).toEqual([...urls, null]);
    expect(served.whereIs('example.org')).toBe('https://matrix.example.net');
  });
  test('are where an override says, or their .well-known said last, if that may be called', () => {
    const served = createServed({
      ...listing('example.org'),
      overrides: new Map([[name('other.org'), 'http://synapse:8008' as HomeserverUrl]]),
    });
    const whereIs = () => ['example.org', 'other.org', 'evil.org'].map((one) => served.whereIs(one));
    expect(whereIs()).toEqual([null, 'http://synapse:8008', null]);
    for (const url of ['https://matrix.example.org', 'https://matrix.example.net']) served.discovered(name('example.org'), url);
    served.discovered(name('evil.org'), 'https://matrix.evil.org');
    expect(whereIs()).toEqual(['https://matrix.example.net', 'http://synapse:8008', null]);
    const nameAt = (url: string) => served.nameAt(url as HomeserverUrl);
    expect(['https://matrix.example.net', 'http://synapse:8008', 'https://matrix.evil.org'].map(nameAt)).toEqual([
      'example.org',
      'other.org',
      null,
    ]);
    served.discovered(name('example.org'), 'http://matrix.example.net');
    expect(served.whereIs('example.org')).toBeNull();
  });
  test('are those of the homeserver whose application service we are, which is not served for that', () => {
    const config: ServedConfig = { ...NOTHING, applicationService: { serverName: name('home.org') } };
    const served = createServed(config);
    expect([served.listed, served.addresses('home.org'), served.addressesOf(name('home.org'))]).toEqual([['home.org'], 'any', 'any']);
    served.discovered(name('home.org'), 'https://matrix.home.org');
    expect(served.addresses('matrix.home.org')).toBe('any');
    expect(verdict(config, 'home.org')).toBe('not_served');
  });
  test('over federation go by the server name, wherever it leads', () => {
    const served = createServed({
      ...listing('example.org', '10.0.0.1:8448'),
      overrides: new Map([[name('other.org'), 'http://synapse:8008' as HomeserverUrl]]),
    });
    for (const text of ['example.org', '10.0.0.1:8448', 'other.org']) expect(served.addressesOf(name(text))).toBe('any');
    for (const text of ['example.org:443', 'EXAMPLE.org', '10.0.0.1', 'synapse', 'evil.org'])
      expect(served.addressesOf(name(text))).toBe('public');
    expect(createServed(all).addressesOf(name('example.org'))).toBe('public');
    expect(createServed({ ...all, strangers: 'any' }).addressesOf(name('x.org'))).toBe('any');
    expect(createServed({ ...all, strangers: 'loopback-too' }).addressesOf(name('x.org'))).toBe('loopback-too');
  });
});
