import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Config, type Fault, readConfig } from '../../src/config/config.ts';
import { SETTINGS, settingsTable } from '../../src/config/settings.ts';
import type { ServerName } from '../../src/delegation/ids.ts';
import { faultLines, startupLines } from '../../src/process/startup-report.ts';

type Env = Record<string, string | undefined>;

const PRODUCTION: Env = {
  NODE_ENV: 'production',
  LIVEKIT_URL: 'wss://sfu.example.org',
  LIVEKIT_KEY: 'key1',
  LIVEKIT_SECRET: 'hush-hush',
  LIVEKIT_FULL_ACCESS_HOMESERVERS: '*',
};

const FILES: Record<string, string> = {
  '/run/key': 'fileKey\n',
  '/run/secret': '  fileSecret \n',
  '/run/empty': ' \n',
  '/run/keys': '# ours\nfirst: one:two\r\n\nsecond:  "two"\n',
  '/run/keys-bad': 'first: one\nnot a pair\nfirst: again\n:\nlast:\n',
  '/run/keys-none': '# nothing\n',
};

function readFile(path: string): string {
  const text = FILES[path];
  if (text === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' });
  return text;
}

function configOf(env: Env, files: Record<string, string> = {}): { config: Config; notes: readonly string[] } {
  const result = readConfig(env, (path) => files[path] ?? readFile(path));
  if (result.kind === 'faults') throw new Error(faultLines(result.faults, result.notes).join('\n'));
  return result;
}

function faultsOf(env: Env, files: Record<string, string> = {}): readonly Fault[] {
  const result = readConfig(env, (path) => files[path] ?? readFile(path));
  return result.kind === 'faults' ? result.faults : [];
}

const faulty = (env: Env): string[] => faultsOf(env).map(({ variable }) => variable);

describe('with nothing set', () => {
  test('development pairs with a local SFU, on loopback only', () => {
    const { config, notes } = configOf({});
    expect(config).toEqual({
      mode: 'development',
      livekit: { url: 'ws://127.0.0.1:7880', apiUrl: 'http://127.0.0.1:7880', keys: [{ key: 'devkey', secret: 'secret' }] },
      bind: { host: '127.0.0.1', port: 8080 },
      grants: { restrictedCanPublish: true, canUpdateOwnMetadata: true },
      dataDir: './data',
      storeKey: null,
      policy: {
        waitMs: { left: 1000, lost: 1000, replaced: 3000, sfuDown: 20_000, aborted: 30_000, missing: 4000 },
        connectTimeoutMs: 300_000,
        presenceIntervalMs: 30_000,
      },
      homeservers: {
        fullAccess: { all: true, names: [] },
        overrides: new Map(),
        strangers: 'loopback-too',
        insecureTls: false,
        applicationService: null,
      },
      redis: null,
      logLevel: 'info',
    });
    expect(notes.join()).toContain('livekit-server --dev');
  });

  test('production asks for all that is missing at once', () => {
    expect(faultsOf({ NODE_ENV: 'production' }).map(({ variable, value }) => [variable, value])).toEqual([
      ['LIVEKIT_URL', '(not set)'],
      ['LIVEKIT_KEY', '(not set)'],
      ['LIVEKIT_SECRET', '(not set)'],
      ['LIVEKIT_FULL_ACCESS_HOMESERVERS', '(not set)'],
    ]);
  });

  test('an empty text counts as unset', () => {
    expect(configOf(Object.fromEntries(SETTINGS.map(({ name }) => [name, '']))).config).toEqual(configOf({}).config);
  });
});

test('production listens everywhere, and serves every homeserver only when told so', () => {
  const { config } = configOf(PRODUCTION);
  expect(config.bind).toEqual({ host: '', port: 8080 });
  expect(config.homeservers).toMatchObject({ fullAccess: { all: true, names: [] }, strangers: 'public' });
});

test('the well-known key of development is remarked on in production', () => {
  const { notes } = configOf({ ...PRODUCTION, LIVEKIT_KEY: 'devkey', LIVEKIT_SECRET: 'secret' });
  expect(notes.join()).toContain('well-known');
});

test('all that production needs is production, named so or not', () => {
  const { NODE_ENV: _, ...complete } = PRODUCTION;
  expect(configOf(complete).config).toEqual(configOf(PRODUCTION).config);
  expect(configOf({ ...complete, NODE_ENV: 'development' }).config.mode).toBe('development');
});

describe('half a deployment is never one with the well-known key', () => {
  const REQUIRED = ['LIVEKIT_URL', 'LIVEKIT_KEY', 'LIVEKIT_SECRET', 'LIVEKIT_FULL_ACCESS_HOMESERVERS'];
  const { NODE_ENV: _, ...complete } = PRODUCTION;

  test.each(REQUIRED)('without %s it is said, and how to mean development', (missing) => {
    const result = readConfig({ ...complete, [missing]: '' }, readFile);
    if (result.kind !== 'faults') throw new Error(`it starts as ${result.config.mode}`);
    expect(result.faults.map(({ variable }) => variable)).toEqual([missing]);
    expect(result.notes.join()).toMatch(/LIVEKIT_\w+ is set.* NODE_ENV=development/);
  });

  test.each<[string, string]>([
    ['LIVEKIT_URL', 'wss://sfu.example.org'],
    ['LIVEKIT_KEY_FILE', '/run/keys'],
    ['LIVEKIT_FULL_ACCESS_HOMESERVERS', 'example.org'],
    ['LIVEKIT_CS_API_URL_OVERRIDES', 'example.org=http://synapse:8008'],
    ['LIVEKIT_REDIS_URL', 'redis://cache:6379'],
    ['LASTWILL_STORE_KEY', 'sixteen letters!'],
  ])('%s alone is one', (variable, value) => {
    const faults = faulty({ [variable]: value });
    expect(faults.length).toBeGreaterThan(1);
    expect(REQUIRED).toEqual(expect.arrayContaining(faults));
    expect(configOf({ NODE_ENV: 'development', [variable]: value }).config.mode).toBe('development');
  });

  test.each<[string, string]>([
    ['LIVEKIT_JWT_BIND', ':9000'],
    ['LASTWILL_DATA_DIR', '/data'],
    ['LASTWILL_WAIT_LEFT_MS', '0'],
    ['LIVEKIT_LOG_LEVEL', 'debug'],
  ])('%s is none', (variable, value) => {
    expect(configOf({ [variable]: value }).config.mode).toBe('development');
  });

  test('a NODE_ENV that is neither asks for all of it', () => {
    expect(faulty({ NODE_ENV: 'prod' })).toEqual(REQUIRED);
    expect(configOf({ ...PRODUCTION, NODE_ENV: 'prod' }).config.bind.host).toBe('');
    expect(configOf({ NODE_ENV: 'test' }).config.mode).toBe('development');
  });

  test('what may be misspelt is shown beside what is missing', () => {
    const result = readConfig({ ...complete, LIVEKIT_KEY: '', LIVEKIT_API_KEY: 'pass' }, readFile);
    if (result.kind !== 'faults') throw new Error('it starts');
    const text = faultLines(result.faults, result.notes).join('\n');
    expect(text).toContain('LIVEKIT_API_KEY is not a setting');
    expect(text).not.toContain('pass');
  });
});

test('what tokens allow', () => {
  const { grants } = configOf({ LASTWILL_RESTRICTED_CAN_PUBLISH: 'false', LIVEKIT_CAN_UPDATE_OWN_METADATA: 'false' }).config;
  expect(grants).toEqual({ restrictedCanPublish: false, canUpdateOwnMetadata: false });
});

test.each(['INFO', 'Info', 'loud'])('the log level %s is info', (LIVEKIT_LOG_LEVEL) => {
  expect(configOf({ LIVEKIT_LOG_LEVEL }).config.logLevel).toBe('info');
});

test('the configuration is frozen to the ground', () => {
  const { config } = configOf({ ...PRODUCTION, LIVEKIT_FULL_ACCESS_HOMESERVERS: 'example.org' });
  for (const part of [config, config.livekit.keys[0], config.policy.waitMs, config.homeservers.fullAccess.names]) {
    expect(Object.isFrozen(part)).toBe(true);
  }
});

const URLS: [string, string][] = [
  ['wss://sfu.example.org', 'https://sfu.example.org'],
  ['ws://127.0.0.1:7880/', 'http://127.0.0.1:7880'],
  ['https://sfu.example.org/livekit/sfu/', 'https://sfu.example.org/livekit/sfu'],
  ['http://[::1]:7880', 'http://[::1]:7880'],
];
test.each(URLS)('LIVEKIT_URL %s is kept to the letter, its API is at %s', (url, apiUrl) => {
  expect(configOf({ ...PRODUCTION, LIVEKIT_URL: url }).config.livekit).toMatchObject({ url, apiUrl });
});

const BINDS: [string, string, number][] = [
  [':8080', '', 8080],
  ['127.0.0.1:9000', '127.0.0.1', 9000],
  ['[::1]:0', '::1', 0],
  ['localhost:65535', 'localhost', 65_535],
];
test.each(BINDS)('LIVEKIT_JWT_BIND %s', (LIVEKIT_JWT_BIND, host, port) => {
  expect(configOf({ LIVEKIT_JWT_BIND }).config.bind).toEqual({ host, port });
});

test.each([
  'a.example,b.example:8448',
  ' a.example , b.example:8448 ',
  'a.example b.example:8448',
  'a.example\n\tb.example:8448\n',
  'a.example, b.example:8448,',
])('LIVEKIT_FULL_ACCESS_HOMESERVERS=%j is two homeservers', (LIVEKIT_FULL_ACCESS_HOMESERVERS) => {
  const { fullAccess } = configOf({ ...PRODUCTION, LIVEKIT_FULL_ACCESS_HOMESERVERS }).config.homeservers;
  expect(fullAccess).toEqual({ all: false, names: ['a.example', 'b.example:8448'] });
});

test('LIVEKIT_JWT_PORT alone is the port, and deprecated', () => {
  const { config, notes } = configOf({ LIVEKIT_JWT_PORT: '9000' });
  expect(config.bind).toEqual({ host: '127.0.0.1', port: 9000 });
  expect(notes.join()).toContain('deprecated');
  expect(configOf({ ...PRODUCTION, LIVEKIT_JWT_PORT: '9000' }).config.bind).toEqual({ host: '', port: 9000 });
});

describe('what Kubernetes sets for a Service', () => {
  /** As of a Service of that name on port 8080. */
  const links = (name: string): Env => ({
    [`${name}_SERVICE_HOST`]: '10.43.219.85',
    [`${name}_SERVICE_PORT`]: '8080',
    [`${name}_SERVICE_PORT_HTTP`]: '8080',
    [`${name}_PORT`]: 'tcp://10.43.219.85:8080',
    [`${name}_PORT_8080_TCP`]: 'tcp://10.43.219.85:8080',
    [`${name}_PORT_8080_TCP_PROTO`]: 'tcp',
    [`${name}_PORT_8080_TCP_PORT`]: '8080',
    [`${name}_PORT_8080_TCP_ADDR`]: '10.43.219.85',
  });

  test.each(['LIVEKIT', 'LIVEKIT_SFU', 'LASTWILL'])('%s is not spoken of', (name) => {
    expect(configOf({ ...PRODUCTION, ...links(name) })).toEqual(configOf(PRODUCTION));
  });

  test.each(['', ':9000'])('a Service named livekit-jwt sets no port, beside LIVEKIT_JWT_BIND=%s', (LIVEKIT_JWT_BIND) => {
    const { config, notes } = configOf({ ...PRODUCTION, ...links('LIVEKIT_JWT'), LIVEKIT_JWT_BIND });
    expect(config.bind).toEqual({ host: '', port: LIVEKIT_JWT_BIND === '' ? 8080 : 9000 });
    const others = configOf(PRODUCTION).notes;
    expect(notes.filter((note) => !others.includes(note))).toEqual([expect.stringMatching(/^LIVEKIT_JWT_PORT .*enableServiceLinks/)]);
  });

  test('what only looks like it is still a fault', () => {
    expect(faulty({ LIVEKIT_JWT_PORT: 'http://10.43.219.85:8080' })).toEqual(['LIVEKIT_JWT_PORT']);
  });
});

describe('keys', () => {
  const base = { ...PRODUCTION, LIVEKIT_KEY: '', LIVEKIT_SECRET: '' };

  test('from two files, trimmed', () => {
    const { config } = configOf({ ...base, LIVEKIT_KEY_FROM_FILE: '/run/key', LIVEKIT_SECRET_FROM_FILE: '/run/secret' });
    expect(config.livekit.keys).toEqual([{ key: 'fileKey', secret: 'fileSecret' }]);
  });

  test('from a variable and a file', () => {
    const { config } = configOf({ ...base, LIVEKIT_KEY: 'k', LIVEKIT_SECRET_FROM_FILE: '/run/secret' });
    expect(config.livekit.keys).toEqual([{ key: 'k', secret: 'fileSecret' }]);
  });

  test('a file goes before a variable, a key file before both', () => {
    const files = { LIVEKIT_KEY_FROM_FILE: '/run/key', LIVEKIT_SECRET_FROM_FILE: '/run/secret' };
    const both = configOf({ ...PRODUCTION, ...files });
    expect(both.config.livekit.keys).toEqual([{ key: 'fileKey', secret: 'fileSecret' }]);
    expect(both.notes.join()).toMatch(/LIVEKIT_KEY is not used.*LIVEKIT_SECRET is not used/);
    const all = configOf({ ...PRODUCTION, ...files, LIVEKIT_KEY_FILE: '/run/keys' });
    expect(all.config.livekit.keys[0]).toEqual({ key: 'first', secret: 'one:two' });
    expect(all.notes.join()).toContain('LIVEKIT_KEY_FROM_FILE is not used');
    expect([...both.notes, ...all.notes].join()).not.toContain('hush-hush');
    expect(faulty({ ...PRODUCTION, LIVEKIT_KEY_FROM_FILE: '/run/none' })).toEqual(['LIVEKIT_KEY_FROM_FILE']);
  });

  test('spaces around them are not part of them, and alone they are nothing', () => {
    expect(configOf({ ...PRODUCTION, LIVEKIT_KEY: ' key1 ', LIVEKIT_SECRET: '\thush-hush\n' }).config.livekit.keys).toEqual([
      { key: 'key1', secret: 'hush-hush' },
    ]);
    expect(faulty({ ...PRODUCTION, LIVEKIT_SECRET: ' ' })).toEqual(['LIVEKIT_SECRET']);
  });

  test('several from a key file, in its order', () => {
    expect(configOf({ ...base, LIVEKIT_KEY_FILE: '/run/keys' }).config.livekit.keys).toEqual([
      { key: 'first', secret: 'one:two' },
      { key: 'second', secret: 'two' },
    ]);
  });

  test('each bad line of a key file is a fault of its own', () => {
    const expected = faultsOf({ ...base, LIVEKIT_KEY_FILE: '/run/keys-bad' }).map((fault) => fault.expected);
    expect(expected).toHaveLength(4);
    expect(expected[0]).toContain('line 2');
  });
});

const HOMESERVERS: [string, Config['homeservers']['fullAccess']][] = [
  ['*', { all: true, names: [] }],
  ['example.org', { all: false, names: ['example.org' as ServerName] }],
  [' a.example , *, b.example:8448,', { all: true, names: ['a.example', 'b.example:8448'] as ServerName[] }],
  ['[::1]:8448,[::1]:8448', { all: false, names: ['[::1]:8448' as ServerName] }],
];
test.each(HOMESERVERS)('LIVEKIT_FULL_ACCESS_HOMESERVERS %s', (LIVEKIT_FULL_ACCESS_HOMESERVERS, expected) => {
  const { homeservers } = configOf({ NODE_ENV: 'development', LIVEKIT_FULL_ACCESS_HOMESERVERS }).config;
  expect(homeservers.fullAccess).toEqual(expected);
  expect(homeservers.strangers, 'named homeservers end the leniency of development').toBe('public');
});

test('overrides by server name, without a trailing slash', () => {
  const LIVEKIT_CS_API_URL_OVERRIDES = 'a.example=http://synapse:8008/, b.example:1=https://b/x';
  const { overrides } = configOf({ ...PRODUCTION, LIVEKIT_CS_API_URL_OVERRIDES }).config.homeservers;
  expect([...overrides]).toEqual([
    ['a.example', 'http://synapse:8008'],
    ['b.example:1', 'https://b/x'],
  ]);
});

test('insecure TLS counts with its exact value only, and opens private addresses', () => {
  const off = configOf({ ...PRODUCTION, LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'true' });
  expect(off.config.homeservers).toMatchObject({ insecureTls: false, strangers: 'public' });
  expect(off.notes.join()).toContain('LIVEKIT_INSECURE_SKIP_VERIFY_TLS is ignored');
  const on = configOf({ ...PRODUCTION, LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING' });
  expect(on.config.homeservers).toMatchObject({ insecureTls: true, strangers: 'any' });
});

test('private addresses, application service, log level, store key', () => {
  const { config } = configOf({
    ...PRODUCTION,
    LASTWILL_ALLOW_PRIVATE_ADDRESSES: 'true',
    LIVEKIT_AS_TOKEN: 'as-token',
    LIVEKIT_HS_SERVER_NAME: 'example.org',
    LIVEKIT_LOG_LEVEL: 'warning',
    LASTWILL_STORE_KEY: 'sixteen letters!',
    LASTWILL_DATA_DIR: '/data',
  });
  expect(config.homeservers).toMatchObject({ strangers: 'any', applicationService: { serverName: 'example.org', asToken: 'as-token' } });
  expect(config).toMatchObject({ logLevel: 'warn', storeKey: 'sixteen letters!', dataDir: '/data' });
});

describe('the key of the store', () => {
  const files = { '/run/store-key': 'sixteen of a file\n', '/run/short': 'hunter2' };
  const LASTWILL_STORE_KEY_FROM_FILE = '/run/store-key';

  test('from a file, without the end of its line', () => {
    const { config, notes } = configOf({ ...PRODUCTION, LASTWILL_STORE_KEY_FROM_FILE }, files);
    expect(config.storeKey).toBe('sixteen of a file');
    expect(notes.join()).not.toContain('unsealed');
  });

  test('a file goes before the variable, which is said', () => {
    const { config, notes } = configOf(
      { ...PRODUCTION, LASTWILL_STORE_KEY_FROM_FILE, LASTWILL_STORE_KEY: 'hunter2 hunter2 hunter2' },
      files,
    );
    expect(config.storeKey).toBe('sixteen of a file');
    expect(notes.join()).toContain('LASTWILL_STORE_KEY is not used');
    expect(notes.join()).not.toContain('hunter2');
  });

  test.each(['/run/none', '/run/empty', '/run/short'])('in %s is none', (file) => {
    const faults = faultsOf({ ...PRODUCTION, LASTWILL_STORE_KEY_FROM_FILE: file }, files);
    expect(faults.map(({ variable }) => variable)).toEqual(['LASTWILL_STORE_KEY_FROM_FILE']);
    expect(faultLines(faults, []).join()).not.toContain('hunter2');
  });
});

describe('behind a homeserver', () => {
  const BOTH = { LIVEKIT_AS_TOKEN: 'as-token', LIVEKIT_HS_TOKEN: 'hs-token', LIVEKIT_HS_SERVER_NAME: 'example.org' };
  const FILE = { LIVEKIT_AS_REGISTRATION_FILE: '/registration.yaml' };
  const registration = (over: object = {}): Record<string, string> => {
    const users = [{ exclusive: false, regex: '@.*:home\\.org' }];
    return { '/registration.yaml': JSON.stringify({ as_token: 'as-of-file', hs_token: 'hs-of-file', namespaces: { users }, ...over }) };
  };
  const serviceOf = (env: Env, files: Record<string, string> = {}) => {
    const { config, notes } = configOf({ ...PRODUCTION, ...env }, files);
    return { service: config.homeservers.applicationService, notes: notes.join('\n') };
  };

  test('by three variables', () => {
    const { service } = serviceOf(BOTH);
    expect(service).toEqual({ serverName: 'example.org', asToken: 'as-token', hsToken: 'hs-token', membershipCheckMs: 60_000 });
  });

  test('with the as_token alone, of which it is said what it does', () => {
    const { service, notes } = serviceOf({ ...BOTH, LIVEKIT_HS_TOKEN: '' });
    expect([service?.hsToken, notes]).toEqual([null, expect.stringContaining('goes with delayed events only')]);
  });

  test.each([
    ['0', 0],
    ['1', 1_000],
    ['3600', 3_600_000],
  ])('looking for members every %s s', (seconds, membershipCheckMs) => {
    expect(serviceOf({ ...BOTH, LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS: seconds }).service).toMatchObject({ membershipCheckMs });
  });

  test('by the registration file, which tells the name', () => {
    expect(serviceOf(FILE, registration()).service).toMatchObject({ serverName: 'home.org', asToken: 'as-of-file', hsToken: 'hs-of-file' });
  });

  test('by the registration file before the variables, which is said', () => {
    const { service, notes } = serviceOf({ ...BOTH, ...FILE }, registration());
    expect(service).toMatchObject({ serverName: 'example.org', asToken: 'as-of-file', hsToken: 'hs-of-file' });
    for (const name of ['LIVEKIT_AS_TOKEN', 'LIVEKIT_HS_TOKEN']) expect(notes).toContain(`${name} is not used`);
    expect(notes).not.toMatch(/as-of-file|hs-of-file/);
  });

  test.each<[string, Env, Record<string, string>, string]>([
    ['no file', FILE, {}, 'LIVEKIT_AS_REGISTRATION_FILE'],
    ['an empty file', FILE, { '/registration.yaml': ' ' }, 'LIVEKIT_AS_REGISTRATION_FILE'],
    ['a file without tokens', FILE, registration({ as_token: null }), 'LIVEKIT_AS_REGISTRATION_FILE'],
    ['a file with a token that is none', FILE, registration({ hs_token: 'hunter2 x' }), 'LIVEKIT_AS_REGISTRATION_FILE'],
    ['a file that tells no name', FILE, registration({ namespaces: {} }), 'LIVEKIT_HS_SERVER_NAME'],
    ['a name that is none', { ...FILE, LIVEKIT_HS_SERVER_NAME: 'https://home.org' }, registration(), 'LIVEKIT_HS_SERVER_NAME'],
    ['an hs_token alone', { LIVEKIT_HS_TOKEN: 'hunter2', LIVEKIT_HS_SERVER_NAME: 'example.org' }, {}, 'LIVEKIT_AS_TOKEN'],
    ['an hs_token with a space', { ...BOTH, LIVEKIT_HS_TOKEN: 'hunter2 x' }, {}, 'LIVEKIT_HS_TOKEN'],
    ...['-1', '3601', '1.5', 'x'].map((seconds): [string, Env, Record<string, string>, string] => [
      ...([`an interval of ${seconds}`, { ...BOTH, LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS: seconds }, {}] as const),
      'LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS',
    ]),
  ])('with %s it does not start', (_name, env, files, variable) => {
    const faults = faultsOf({ ...PRODUCTION, ...env }, files);
    expect(faults.map((fault) => fault.variable)).toEqual([variable]);
    expect(faultLines(faults, []).join('\n')).not.toMatch(/hunter2|as-of-file|hs-of-file/);
  });
});

test('waits may be 0; the presence interval has an older name in seconds', () => {
  const waits = ['LEFT', 'LOST', 'REPLACED', 'SFU_DOWN', 'ABORTED', 'MISSING'].map((name) => [`LASTWILL_WAIT_${name}_MS`, '0']);
  const { policy } = configOf({ ...Object.fromEntries(waits), LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS: '5' }).config;
  expect(policy.waitMs).toEqual({ left: 0, lost: 0, replaced: 0, sfuDown: 0, aborted: 0, missing: 0 });
  expect(policy.presenceIntervalMs).toBe(5000);
  const both = { LASTWILL_PRESENCE_INTERVAL_MS: '5000', LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS: '5' };
  expect(configOf(both).config.policy.presenceIntervalMs).toBe(5000);
  const zero = configOf({ LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS: '0' });
  expect(zero.config.policy.presenceIntervalMs).toBe(30_000);
  expect(zero.notes.join()).toContain('does not turn the check off');
  const rare = configOf({ LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS: '7200' });
  expect(rare.config.policy.presenceIntervalMs).toBe(3_600_000);
  expect(rare.notes.join()).toContain('counts as 3600');
});

const NOTED: [Env, string][] = [
  [{ NODE_ENV: 'development', LIVEKIT_REDIS_URL: 'redis://:pass@cache:6379' }, 'LASTWILL_DATA_DIR is not used'],
  [{ NODE_ENV: 'development', LIVEKIT_REDIS_URL: 'rediss://cache?skip_verify=true' }, 'certificate of Redis is not checked'],
  [{ LASTWILL_WAIT_LEFT: '5' }, 'LASTWILL_WAIT_LEFT is not a setting'],
  [{ LIVEKIT_API_KEY: 'pass' }, 'LIVEKIT_API_KEY is not a setting'],
  [{ ...PRODUCTION, NODE_ENV: 'prod' }, 'counts as production'],
  [{ LIVEKIT_LOG_LEVEL: 'loud' }, 'counts as info'],
  [{ LIVEKIT_CAN_UPDATE_OWN_METADATA: 'no' }, 'counts only as false'],
  [{ SSL_CERT_FILE: '/site-ca.crt' }, 'SSL_CERT_FILE is not read: NODE_EXTRA_CA_CERTS'],
  [{ HTTPS_PROXY: 'http://user:pass@proxy.example.org' }, 'HTTPS_PROXY is not used'],
  [{ https_proxy: 'http://proxy.example.org' }, 'https_proxy is not used'],
  [{ ...PRODUCTION, LIVEKIT_SECRET: '"pass@"' }, 'LIVEKIT_SECRET begins and ends with a quote'],
  [{ ...PRODUCTION, LASTWILL_STORE_KEY: "'pass@ of enough letters'" }, 'LASTWILL_STORE_KEY begins and ends with a quote'],
  [{ SSL_CERT_DIR: '/site-cas' }, 'SSL_CERT_DIR is not read: NODE_EXTRA_CA_CERTS'],
];
test.each(NOTED)('%j is no fault, yet noted', (env, expected) => {
  const notes = configOf(env).notes.join('\n');
  expect(notes).toContain(expected);
  expect(notes).not.toContain('pass@');
});

const FAULTS: [Env, string[]][] = [
  [{ LIVEKIT_URL: 'sfu.example.org' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_URL: 'ftp://sfu.example.org' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_URL: 'wss://sfu.example.org,wss://other.example.org' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_CS_API_URL_OVERRIDES: 'a.org=https://m.a.org;b.org=https://m.b.org' }, ['LIVEKIT_CS_API_URL_OVERRIDES']],
  [{ LASTWILL_DATA_DIR: '/data ' }, ['LASTWILL_DATA_DIR']],
  [{ LASTWILL_DATA_DIR: '"/data"' }, ['LASTWILL_DATA_DIR']],
  [{ LIVEKIT_URL: 'wss:sfu.example.org' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_URL: 'wss://' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_URL: ' wss://sfu.example.org' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_URL: 'wss://user:hunter2@sfu.example.org' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_URL: 'wss://sfu.example.org/?access_token=1' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_KEY: 'k' }, ['LIVEKIT_SECRET']],
  [{ LIVEKIT_SECRET: 'hunter2' }, ['LIVEKIT_KEY']],
  [{ LIVEKIT_SECRET_FROM_FILE: '/run/secret' }, ['LIVEKIT_KEY']],
  [{ LIVEKIT_KEY: 'k', LIVEKIT_SECRET_FROM_FILE: '/run/none' }, ['LIVEKIT_SECRET_FROM_FILE']],
  [{ LIVEKIT_KEY: 'k', LIVEKIT_SECRET_FROM_FILE: '/run/empty' }, ['LIVEKIT_SECRET_FROM_FILE']],
  [{ LIVEKIT_KEY_FILE: '/run/none' }, ['LIVEKIT_KEY_FILE']],
  [{ LIVEKIT_KEY_FILE: '/run/keys-none' }, ['LIVEKIT_KEY_FILE']],
  ...['8080', 'localhost', ':', ':65536', '::1:8080', '[::g]:80', '[:::]:80', 'a b:80', 'http://a:80'].map((bind): [Env, string[]] => [
    { LIVEKIT_JWT_BIND: bind },
    ['LIVEKIT_JWT_BIND'],
  ]),
  [{ LIVEKIT_JWT_BIND: ':80', LIVEKIT_JWT_PORT: '80' }, ['LIVEKIT_JWT_PORT']],
  [{ LIVEKIT_JWT_PORT: '65536' }, ['LIVEKIT_JWT_PORT']],
  [{ LIVEKIT_FULL_ACCESS_HOMESERVERS: 'https://example.org' }, ['LIVEKIT_FULL_ACCESS_HOMESERVERS']],
  [{ LIVEKIT_FULL_ACCESS_HOMESERVERS: 'example.org:0' }, ['LIVEKIT_FULL_ACCESS_HOMESERVERS']],
  [{ LIVEKIT_FULL_ACCESS_HOMESERVERS: '1.2.3.4.5' }, ['LIVEKIT_FULL_ACCESS_HOMESERVERS']],
  [{ LIVEKIT_FULL_ACCESS_HOMESERVERS: 'example..org' }, ['LIVEKIT_FULL_ACCESS_HOMESERVERS']],
  [{ LIVEKIT_FULL_ACCESS_HOMESERVERS: '[::g]' }, ['LIVEKIT_FULL_ACCESS_HOMESERVERS']],
  [{ LIVEKIT_URL: 'https:\\\\sfu.example.org' }, ['LIVEKIT_URL']],
  [{ LIVEKIT_FULL_ACCESS_HOMESERVERS: 'example.org:99999' }, ['LIVEKIT_FULL_ACCESS_HOMESERVERS']],
  [{ LIVEKIT_FULL_ACCESS_HOMESERVERS: ' , ' }, ['LIVEKIT_FULL_ACCESS_HOMESERVERS']],
  [{ LIVEKIT_CS_API_URL_OVERRIDES: 'example.org' }, ['LIVEKIT_CS_API_URL_OVERRIDES']],
  [{ LIVEKIT_CS_API_URL_OVERRIDES: 'example.org=synapse:8008' }, ['LIVEKIT_CS_API_URL_OVERRIDES']],
  [{ LIVEKIT_CS_API_URL_OVERRIDES: 'a=http://a,a=http://b' }, ['LIVEKIT_CS_API_URL_OVERRIDES']],
  [{ LIVEKIT_CS_API_URL_OVERRIDES: 'a=http://user:hunter2@b,=x' }, ['LIVEKIT_CS_API_URL_OVERRIDES', 'LIVEKIT_CS_API_URL_OVERRIDES']],
  [{ LASTWILL_ALLOW_PRIVATE_ADDRESSES: 'yes' }, ['LASTWILL_ALLOW_PRIVATE_ADDRESSES']],
  [{ LIVEKIT_AS_TOKEN: 'hunter2' }, ['LIVEKIT_HS_SERVER_NAME']],
  [{ LIVEKIT_HS_SERVER_NAME: 'example.org' }, ['LIVEKIT_AS_TOKEN']],
  [{ LIVEKIT_AS_TOKEN: 'hunter2\n', LIVEKIT_HS_SERVER_NAME: '@' }, ['LIVEKIT_AS_TOKEN', 'LIVEKIT_HS_SERVER_NAME']],
  [{ LASTWILL_STORE_KEY: 'hunter2' }, ['LASTWILL_STORE_KEY']],
  ...['-1', '1.5', '1e3', 'soon', '600001', '0x10'].map((wait): [Env, string[]] => [
    { LASTWILL_WAIT_LEFT_MS: wait },
    ['LASTWILL_WAIT_LEFT_MS'],
  ]),
  [{ LASTWILL_PRESENCE_INTERVAL_MS: '999' }, ['LASTWILL_PRESENCE_INTERVAL_MS']],
  [{ LASTWILL_CONNECT_TIMEOUT_MS: '300001' }, ['LASTWILL_CONNECT_TIMEOUT_MS']],
  [{ LASTWILL_PRESENCE_INTERVAL_MS: '5000', LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS: '6' }, ['LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS']],
  [{ LASTWILL_RESTRICTED_CAN_PUBLISH: 'no' }, ['LASTWILL_RESTRICTED_CAN_PUBLISH']],
];
test.each(FAULTS)('%j is refused in both modes', (env, variables) => {
  expect(faulty({ NODE_ENV: 'development', ...env })).toEqual(variables);
  // A key or secret of production beside half a pair of the case would mend it.
  const keys = Object.keys(env).some((name) => name.includes('KEY') || name.includes('SECRET')) ? {} : PRODUCTION;
  expect(faulty({ NODE_ENV: 'production', LIVEKIT_URL: 'wss://sfu.example.org', ...keys, ...env })).toEqual(
    expect.arrayContaining(variables),
  );
  expect(faultLines(faultsOf(env), []).join('\n')).not.toContain('hunter2');
});

test('all faults come at once, in the order of the table', () => {
  expect(
    faulty({
      NODE_ENV: 'production',
      LASTWILL_PRESENCE_INTERVAL_MS: 'often',
      LASTWILL_WAIT_LOST_MS: 'x',
      LIVEKIT_JWT_BIND: 'x',
      LIVEKIT_SECRET: 'x',
      LIVEKIT_AS_TOKEN: 'x',
    }),
  ).toEqual([
    'LIVEKIT_URL',
    'LIVEKIT_KEY',
    'LIVEKIT_JWT_BIND',
    'LIVEKIT_FULL_ACCESS_HOMESERVERS',
    'LIVEKIT_HS_SERVER_NAME',
    'LASTWILL_PRESENCE_INTERVAL_MS',
    'LASTWILL_WAIT_LOST_MS',
  ]);
});

test('a secret in place of its path is not shown', () => {
  const [fault] = faultsOf({ ...PRODUCTION, LIVEKIT_SECRET_FROM_FILE: 'hunter2' });
  expect(fault).toEqual({ variable: 'LIVEKIT_SECRET_FROM_FILE', value: '(hidden)', expected: 'a file that can be read (ENOENT)' });
});

const VALUES = [
  '*',
  ',',
  '=',
  'a=b',
  'http://',
  'wss://u:p@h',
  ':8080',
  '[::',
  '-1',
  '99999999999',
  'true',
  'production',
  '/run/keys-bad',
  '\0',
  '\ud800',
];
const envs = fc.dictionary(
  fc.oneof(fc.constantFrom(...SETTINGS.map(({ name }) => name)), fc.string()),
  fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom(...VALUES), fc.constant(undefined)),
  { noNullPrototype: false },
);

test('whatever the environment: an answer, never an exception, and never a secret in a fault', () => {
  fc.assert(
    fc.property(envs, (env) => {
      const result = readConfig(env, readFile);
      if (result.kind === 'config') {
        expect(startupLines(result.config, result.notes).length).toBeGreaterThan(4);
        return;
      }
      expect(result.faults.length).toBeGreaterThan(0);
      for (const { variable, value } of result.faults) {
        if (SETTINGS.find(({ name }) => name === variable)?.secret === true) expect(['(hidden)', '(not set)']).toContain(value);
      }
    }),
    { numRuns: 2000 },
  );
});

describe('what a person reads', () => {
  test('every fault on a line of its own, without control characters', () => {
    const lines = faultLines([{ variable: 'LIVEKIT_LOG_LEVEL', value: `\u001b[2J${'x'.repeat(500)}`, expected: 'info' }], []);
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatch(/^ {2}LIVEKIT_LOG_LEVEL: \?\[2Jx+…; expected info\.$/);
  });

  test('of a file that is another than was meant, not what is wrong with each of its lines', () => {
    const other = { '/run/other': 'not a pair\n'.repeat(10_000) };
    const lines = faultLines(faultsOf({ LIVEKIT_KEY_FILE: '/run/other' }, other), []);
    const [summary, first, ...rest] = lines;
    expect(summary).toBe('3 settings keep lastwill from starting:');
    expect(first).toMatch(/LIVEKIT_URL/);
    expect(rest[0]).toMatch(/LIVEKIT_KEY_FILE: .*\(line 1 is not\)/);
    expect(rest.filter((line) => line.includes('LIVEKIT_KEY_FILE'))).toHaveLength(6);
    expect(rest[5]).toBe('  LIVEKIT_KEY_FILE: and 9996 more; is it what it is meant to be?');
  });

  test('the start says where it listens, what it is paired with and what to do next, and no secret', () => {
    const { config, notes } = configOf({
      ...{ NODE_ENV: 'development', LIVEKIT_KEY: 'k', LIVEKIT_SECRET: 'hunter2' },
      LIVEKIT_JWT_BIND: '[::1]:9000',
    });
    const text = startupLines(config, notes).join('\n');
    for (const part of ['http://[::1]:9000/sfu_webhook', 'ws://127.0.0.1:7880', './data', 'Next:']) expect(text).toContain(part);
    expect(text).not.toContain('hunter2');
    expect(startupLines(configOf({}).config, []).join('\n')).toContain('livekit-server --dev');
  });

  test('the table has one row for each setting', () => {
    expect(
      settingsTable()
        .split('\n')
        .filter((line) => line.startsWith('| `')),
    ).toHaveLength(SETTINGS.length);
    expect(new Set(SETTINGS.map(({ name }) => name)).size).toBe(SETTINGS.length);
  });
});
