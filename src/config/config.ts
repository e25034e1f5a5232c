// The environment, read once: either a frozen Config or every fault in it, so that an operator mends them all in one go.
// Pure: variables and a file reader come in, nothing else is looked at. A fault never shows what could be a secret.

import type { HomeserverUrl, ServerName } from '../delegation/ids.ts';
import type { Policy } from '../delegation/state.ts';
import type { AddressMode } from '../homeserver/address.ts';
import { parseServerName } from '../homeserver/names.ts';
import type { ApiKey } from '../sfu/keys.ts';
import { type Bind, parseBind } from './bind.ts';
import { parseKeyFile } from './key-file.ts';
import {
  createReader,
  type Env,
  type Fault,
  isQuoted,
  type Reader,
  type ReadFile,
  rank,
  readBoolean,
  readInteger,
  readUrl,
  splitList,
} from './reader.ts';
import { parseRegistration, TOKEN } from './registration.ts';
import { withoutServiceLinks } from './service-links.ts';
import { INSECURE_TLS, LONGEST_CONNECT_MS, LONGEST_INTERVAL_MS, LONGEST_WAIT_MS, SETTINGS } from './settings.ts';
import { type RedisConfig, readDataDir, readRedis, readStoreKey } from './store-settings.ts';

export type { Fault } from './reader.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface ApplicationServiceConfig {
  readonly serverName: ServerName;
  readonly asToken: string;
  /** Null: the homeserver passes nothing on to us. */
  readonly hsToken: string | null;
  /** How often participants are looked for in their Matrix rooms; 0: never. */
  readonly membershipCheckMs: number;
}

export interface Config {
  readonly mode: 'development' | 'production';
  readonly livekit: {
    /** LIVEKIT_URL to the letter: clients get it back. */
    readonly url: string;
    /** The same place as http(s), without a trailing slash; a path is kept. */
    readonly apiUrl: string;
    /** The first signs, all verify. */
    readonly keys: readonly [ApiKey, ...ApiKey[]];
  };
  readonly bind: Bind;
  /** What participants' tokens allow. */
  readonly grants: { readonly restrictedCanPublish: boolean; readonly canUpdateOwnMetadata: boolean };
  readonly dataDir: string;
  readonly storeKey: string | null;
  readonly policy: Policy;
  readonly homeservers: {
    readonly fullAccess: { readonly all: boolean; readonly names: readonly ServerName[] };
    readonly overrides: ReadonlyMap<ServerName, HomeserverUrl>;
    /** At which addresses those may be called that the operator did not name. */
    readonly strangers: AddressMode;
    readonly insecureTls: boolean;
    readonly applicationService: ApplicationServiceConfig | null;
  };
  /** Where delegations are kept, and where lk-jwt-service left its jobs; null: in the folder, and nowhere. */
  readonly redis: RedisConfig | null;
  readonly logLevel: LogLevel;
}

export type ConfigResult =
  | { readonly kind: 'config'; readonly config: Config; readonly notes: readonly string[] }
  | { readonly kind: 'faults'; readonly faults: readonly Fault[]; readonly notes: readonly string[] };

const MEMBERSHIP_CHECK_SECONDS = 60;
const DEV_KEY: ApiKey = { key: 'devkey', secret: 'secret' };
/** Where there is a fault in its place. */
const NO_KEY: ApiKey = { key: '', secret: '' };

/**
 * `given` is the environment; `readFile` reads the files that it names, and may throw. Faults come in the order of the table of settings.
 */
export function readConfig(given: Env, readFile: ReadFile): ConfigResult {
  const faults: Fault[] = [];
  const notes: string[] = [];
  const env = withoutServiceLinks(given, (text) => void notes.push(text));
  const reader = createReader(env, readFile, faults, notes);
  const mode = readMode(reader);
  const config: Config = {
    mode,
    livekit: { ...readLivekitUrl(reader, mode), keys: readKeys(reader, mode) },
    bind: readBind(reader, mode),
    grants: readGrants(reader),
    dataDir: readDataDir(reader),
    storeKey: readStoreKey(reader, { remark: mode === 'production' }),
    policy: readPolicy(reader),
    homeservers: readHomeservers(reader, mode),
    redis: readRedis(reader),
    logLevel: readLogLevel(reader),
  };
  if (faults.length > 0) noteWhyProduction(reader);
  noteUnused(env, reader);
  noteQuotes(reader);
  noteCertificates(reader);
  noteProxies(reader);
  if (faults.length > 0) return { kind: 'faults', faults: faults.sort((a, b) => rank(a.variable) - rank(b.variable)), notes };
  return { kind: 'config', config: freeze(config), notes };
}

/**
 * Whoever names an SFU or a homeserver, or gives a secret, means a deployment, even without NODE_ENV (lk-jwt-service knows no mode): what
 * is missing then must not be filled in with the well-known key of development.
 */
function readMode(reader: Reader): Config['mode'] {
  const named = reader.get('NODE_ENV');
  if (named === 'production' || named === 'development') return named;
  if (named === 'test') return 'development';
  if (named !== null) {
    reader.note('NODE_ENV is neither production nor development: it counts as production.');
    return 'production';
  }
  return deploymentSetting(reader) === undefined ? 'development' : 'production';
}

const PARTNERS = ['LIVEKIT_URL', 'LIVEKIT_FULL_ACCESS_HOMESERVERS', 'LIVEKIT_CS_API_URL_OVERRIDES', 'LIVEKIT_HS_SERVER_NAME'];

function deploymentSetting(reader: Reader): string | undefined {
  return SETTINGS.find(({ name, secret, path }) => (secret || path || PARTNERS.includes(name)) && reader.get(name) !== null)?.name;
}

/** For somebody who only wants to try it, and would not know why so many settings are asked for. */
function noteWhyProduction(reader: Reader): void {
  const cause = reader.get('NODE_ENV') === null ? deploymentSetting(reader) : undefined;
  if (cause === undefined) return;
  reader.note(`${cause} is set, so this counts as production; with NODE_ENV=development what is missing is that of livekit-server --dev.`);
}

function readGrants(reader: Reader): Config['grants'] {
  const own = reader.get('LIVEKIT_CAN_UPDATE_OWN_METADATA');
  if (own !== null && own !== 'true' && own !== 'false')
    reader.note('LIVEKIT_CAN_UPDATE_OWN_METADATA counts only as false: it is ignored.');
  return { restrictedCanPublish: readBoolean(reader, 'LASTWILL_RESTRICTED_CAN_PUBLISH', true), canUpdateOwnMetadata: own !== 'false' };
}

function readLivekitUrl(reader: Reader, mode: Config['mode']): { url: string; apiUrl: string } {
  const url = reader.get('LIVEKIT_URL');
  if (url === null && mode === 'production') {
    reader.fault('LIVEKIT_URL', 'the URL of the SFU, such as wss://livekit.example.org');
  } else if (url === null) {
    reader.note('LIVEKIT_URL is not set: the SFU is looked for at ws://127.0.0.1:7880, where `livekit-server --dev` listens.');
  }
  const apiUrl = readUrl(reader, 'LIVEKIT_URL', url ?? 'ws://127.0.0.1:7880', ['ws:', 'wss:', 'http:', 'https:']);
  return { url: url ?? 'ws://127.0.0.1:7880', apiUrl: (apiUrl ?? '').replace(/^ws/, 'http') };
}

const KEY_PAIR = ['LIVEKIT_KEY', 'LIVEKIT_KEY_FROM_FILE', 'LIVEKIT_SECRET', 'LIVEKIT_SECRET_FROM_FILE'] as const;

function readKeys(reader: Reader, mode: Config['mode']): Config['livekit']['keys'] {
  if (reader.get('LIVEKIT_KEY_FILE') !== null) {
    for (const variable of KEY_PAIR) {
      if (reader.get(variable) !== null) reader.note(`${variable} is not used, because LIVEKIT_KEY_FILE is set.`);
    }
    return readKeyFile(reader);
  }
  const key = readEither(reader, 'LIVEKIT_KEY', 'LIVEKIT_KEY_FROM_FILE');
  const secret = readEither(reader, 'LIVEKIT_SECRET', 'LIVEKIT_SECRET_FROM_FILE');
  if (!key.set && !secret.set) {
    if (mode === 'development') return [DEV_KEY];
    reader.fault('LIVEKIT_KEY', 'an API key of the SFU (or LIVEKIT_KEY_FROM_FILE, or LIVEKIT_KEY_FILE)');
    reader.fault('LIVEKIT_SECRET', 'the secret of LIVEKIT_KEY (or LIVEKIT_SECRET_FROM_FILE, or LIVEKIT_KEY_FILE)');
  } else if (!key.set) {
    reader.fault('LIVEKIT_KEY', 'set, because its secret is');
  } else if (!secret.set) {
    reader.fault('LIVEKIT_SECRET', 'set, because its key is');
  }
  if (mode === 'production' && (key.value === DEV_KEY.key || secret.value === DEV_KEY.secret)) {
    reader.note('The API key is the well-known one of development: whoever can reach the SFU can sign for it. Make a new one.');
  }
  return [{ key: key.value, secret: secret.value }];
}

/** The file goes before the variable, as in lk-jwt-service. */
function readEither(reader: Reader, variable: string, fileVariable: string): { set: boolean; value: string } {
  const value = reader.get(variable)?.trim() ?? '';
  if (reader.get(fileVariable) === null) return { set: value !== '', value };
  if (value !== '') reader.note(`${variable} is not used, because ${fileVariable} is set.`);
  return { set: true, value: (reader.file(fileVariable) ?? '').trim() };
}

function readKeyFile(reader: Reader): Config['livekit']['keys'] {
  const text = reader.file('LIVEKIT_KEY_FILE');
  if (text === null) return [NO_KEY];
  const { keys, faults } = parseKeyFile(text);
  for (const fault of faults) reader.fault('LIVEKIT_KEY_FILE', fault);
  const [first = NO_KEY, ...others] = keys;
  return [first, ...others];
}

function readBind(reader: Reader, mode: Config['mode']): Config['bind'] {
  const host = mode === 'development' ? '127.0.0.1' : '';
  const bind = reader.get('LIVEKIT_JWT_BIND');
  const port = reader.get('LIVEKIT_JWT_PORT');
  if (port !== null) reader.note('LIVEKIT_JWT_PORT is deprecated: use LIVEKIT_JWT_BIND.');
  if (port !== null && bind !== null) reader.fault('LIVEKIT_JWT_PORT', 'not set, because LIVEKIT_JWT_BIND is');
  if (port !== null) return { host, port: readInteger(reader, 'LIVEKIT_JWT_PORT', 0, 65_535) ?? 0 };
  if (bind === null) return { host, port: 8080 };
  const given = parseBind(bind);
  if (given === null) reader.fault('LIVEKIT_JWT_BIND', ':port, host:port or [address]:port, the port 0 to 65535');
  return given ?? { host, port: 0 };
}

function readPolicy(reader: Reader): Policy {
  const waitMs = (variable: string, byDefault: number): number => readInteger(reader, variable, 0, LONGEST_WAIT_MS) ?? byDefault;
  return {
    waitMs: {
      left: waitMs('LASTWILL_WAIT_LEFT_MS', 1000),
      lost: waitMs('LASTWILL_WAIT_LOST_MS', 1000),
      replaced: waitMs('LASTWILL_WAIT_REPLACED_MS', 3000),
      sfuDown: waitMs('LASTWILL_WAIT_SFU_DOWN_MS', 20_000),
      aborted: waitMs('LASTWILL_WAIT_ABORTED_MS', 30_000),
      missing: waitMs('LASTWILL_WAIT_MISSING_MS', 4000),
    },
    connectTimeoutMs: readInteger(reader, 'LASTWILL_CONNECT_TIMEOUT_MS', 1000, LONGEST_CONNECT_MS) ?? 300_000,
    presenceIntervalMs: readPresenceInterval(reader),
  };
}

function readPresenceInterval(reader: Reader): number {
  const ours = readInteger(reader, 'LASTWILL_PRESENCE_INTERVAL_MS', 1000, LONGEST_INTERVAL_MS);
  const seconds = readInteger(reader, 'LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS', 0, Number.MAX_SAFE_INTEGER);
  if ((seconds ?? 0) * 1000 > LONGEST_INTERVAL_MS)
    reader.note(`LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS counts as ${LONGEST_INTERVAL_MS / 1000}.`);
  if (seconds === 0) reader.note('LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS=0 does not turn the check off: a lost webhook would be a ghost.');
  const older = seconds === null || seconds === 0 ? null : Math.min(seconds * 1000, LONGEST_INTERVAL_MS);
  if (ours !== null && older !== null && ours !== older) {
    reader.fault('LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS', `not set, or the same as LASTWILL_PRESENCE_INTERVAL_MS (${ours} ms)`);
  }
  return ours ?? older ?? 30_000;
}

function readLogLevel(reader: Reader): LogLevel {
  const text = (reader.get('LIVEKIT_LOG_LEVEL') ?? 'info').toLowerCase();
  const level = (['debug', 'info', 'warn', 'error'] as const).find((known) => known === (text === 'warning' ? 'warn' : text));
  if (level === undefined) reader.note('LIVEKIT_LOG_LEVEL is none of debug, info, warn, warning and error: it counts as info.');
  return level ?? 'info';
}

function readHomeservers(reader: Reader, mode: Config['mode']): Config['homeservers'] {
  const insecure = reader.get('LIVEKIT_INSECURE_SKIP_VERIFY_TLS');
  const insecureTls = insecure === INSECURE_TLS;
  if (insecureTls)
    reader.note('LIVEKIT_INSECURE_SKIP_VERIFY_TLS is on: no certificate of a homeserver or of the SFU is checked. For tests only.');
  else if (insecure !== null) reader.note(`LIVEKIT_INSECURE_SKIP_VERIFY_TLS is ignored: it counts only as ${INSECURE_TLS}.`);
  const listed = reader.get('LIVEKIT_FULL_ACCESS_HOMESERVERS');
  const isAnyAllowed = readBoolean(reader, 'LASTWILL_ALLOW_PRIVATE_ADDRESSES', false) || insecureTls;
  return {
    fullAccess: readFullAccess(reader, listed, mode),
    overrides: readOverrides(reader),
    strangers: isAnyAllowed ? 'any' : mode === 'development' && listed === null ? 'loopback-too' : 'public',
    insecureTls,
    applicationService: readApplicationService(reader),
  };
}

function readFullAccess(reader: Reader, listed: string | null, mode: Config['mode']): Config['homeservers']['fullAccess'] {
  const variable = 'LIVEKIT_FULL_ACCESS_HOMESERVERS';
  if (listed === null && mode === 'production') {
    reader.fault(variable, 'the server names whose users may have rooms made, or * for every homeserver');
    return { all: false, names: [] };
  }
  // No name has spaces, and lists of lk-jwt-service are split at them, too.
  const entries = splitList((listed ?? '*').replaceAll(/\s/g, ','));
  const names = entries.filter((entry) => entry !== '*').map(parseServerName);
  if (entries.length === 0 || names.includes(null)) reader.fault(variable, 'server names separated by commas or spaces, or *');
  return { all: entries.includes('*'), names: [...new Set(names.filter((name) => name !== null))] };
}

function readOverrides(reader: Reader): ReadonlyMap<ServerName, HomeserverUrl> {
  const variable = 'LIVEKIT_CS_API_URL_OVERRIDES';
  const text = reader.get(variable) ?? '';
  const fault = text.includes('@') ? reader.hiddenFault : reader.fault;
  const overrides = new Map<ServerName, HomeserverUrl>();
  for (const [index, entry] of splitList(text).entries()) {
    const [, nameText, urlText] = /^([^=]*)=(.*)$/.exec(entry) ?? [];
    const name = parseServerName(nameText?.trim() ?? '');
    if (name === null || urlText === undefined) {
      fault(variable, `name=url pairs separated by commas (entry ${index + 1} is not)`);
      continue;
    }
    if (overrides.has(name)) fault(variable, `each server name once (entry ${index + 1} repeats one)`);
    const url = readUrl({ ...reader, fault }, variable, urlText.trim(), ['http:', 'https:']);
    if (url !== null) overrides.set(name, url as HomeserverUrl);
  }
  return overrides;
}

function readApplicationService(reader: Reader): Config['homeservers']['applicationService'] {
  const seconds =
    readInteger(reader, 'LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS', 0, LONGEST_INTERVAL_MS / 1000) ?? MEMBERSHIP_CHECK_SECONDS;
  const found = reader.get('LIVEKIT_AS_REGISTRATION_FILE') === null ? readTokens(reader) : readRegistration(reader);
  return found === null ? null : { ...found, membershipCheckMs: seconds * 1000 };
}

type Tokens = Omit<ApplicationServiceConfig, 'membershipCheckMs'>;

function readTokens(reader: Reader): Tokens | null {
  const token = (variable: string): string | null => {
    const text = reader.get(variable);
    if (text !== null && !TOKEN.test(text)) reader.fault(variable, 'printable characters without spaces');
    return text;
  };
  const [asToken, hsToken] = [token('LIVEKIT_AS_TOKEN'), token('LIVEKIT_HS_TOKEN')];
  const name = reader.get('LIVEKIT_HS_SERVER_NAME');
  if (asToken === null && hsToken === null && name === null) return null;
  const cause = asToken !== null ? 'LIVEKIT_AS_TOKEN' : hsToken !== null ? 'LIVEKIT_HS_TOKEN' : 'LIVEKIT_HS_SERVER_NAME';
  if (asToken === null) reader.fault('LIVEKIT_AS_TOKEN', `set, because ${cause} is`);
  else if (hsToken === null) reader.note('LIVEKIT_HS_TOKEN is not set: LIVEKIT_AS_TOKEN goes with delayed events only.');
  const serverName = readServerName(reader, name, `set, because ${cause} is`);
  return asToken === null || serverName === null ? null : { serverName, asToken, hsToken };
}

/** The file goes before the variables, as with keys. */
function readRegistration(reader: Reader): Tokens | null {
  const variable = 'LIVEKIT_AS_REGISTRATION_FILE';
  for (const other of ['LIVEKIT_AS_TOKEN', 'LIVEKIT_HS_TOKEN']) {
    if (reader.get(other) !== null) reader.note(`${other} is not used, because ${variable} is set.`);
  }
  const text = reader.file(variable);
  if (text === null) return null;
  const parsed = parseRegistration(text);
  if (parsed.kind === 'malformed') {
    reader.fault(variable, parsed.why);
    return null;
  }
  const { serverName: told, ...tokens } = parsed.registration;
  const name = reader.get('LIVEKIT_HS_SERVER_NAME') ?? told;
  const serverName = readServerName(reader, name, 'set, because the namespaces of LIVEKIT_AS_REGISTRATION_FILE do not tell it');
  return serverName === null ? null : { serverName, ...tokens };
}

function readServerName(reader: Reader, name: string | null, missing: string): ServerName | null {
  const serverName = parseServerName(name ?? '');
  if (serverName === null) reader.fault('LIVEKIT_HS_SERVER_NAME', name === null ? missing : 'a server name');
  return serverName;
}

/** Otherwise a misspelt name would silently have no effect. */
function noteUnused(env: Env, reader: Reader): void {
  for (const variable of Object.keys(env)) {
    if (!/^(LASTWILL|LIVEKIT)_[A-Z0-9_]+$/.test(variable) || reader.get(variable) === null || rank(variable) >= 0) continue;
    reader.note(`${variable} is not a setting of this version and has no effect.`);
  }
}

/** A secret may have quotes around it, so they are no fault; and it is not shown, so nobody would see them. */
function noteQuotes(reader: Reader): void {
  for (const { name, secret } of SETTINGS) {
    if (secret && isQuoted(reader.get(name) ?? '')) reader.note(`${name} begins and ends with a quote: both count as part of it.`);
  }
}

/** Nobody is called through a proxy here. lk-jwt-service does that, so an operator may count on it. */
function noteProxies(reader: Reader): void {
  const named = ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY'].flatMap((name) => [name, name.toLowerCase()]);
  for (const variable of named) {
    if (reader.get(variable) !== null) reader.note(`${variable} is not used: homeservers and the SFU are called without a proxy.`);
  }
}

/** Programs in Go or Rust read these variables; Node does only if it is told to use the system's authorities. */
function noteCertificates(reader: Reader): void {
  const told = reader.get('NODE_USE_SYSTEM_CA') === '1' || /--use-(?:openssl|system)-ca/.test(reader.get('NODE_OPTIONS') ?? '');
  if (told || reader.get('NODE_EXTRA_CA_CERTS') !== null) return;
  for (const variable of ['SSL_CERT_FILE', 'SSL_CERT_DIR']) {
    if (reader.get(variable) !== null)
      reader.note(`${variable} is not read: NODE_EXTRA_CA_CERTS names a file with authorities of your own.`);
  }
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !(value instanceof Map)) {
    for (const part of Object.values(value)) freeze(part);
    Object.freeze(value);
  }
  return value;
}
