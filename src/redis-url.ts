// Where Redis is, as one URL: a single server, the master that sentinels name, or a cluster. Nothing of it may be shown: it may hold a
// password.
//
//   redis://[user[:password]@]host[:port][/database]                        rediss:// for TLS
//   unix://[user[:password]@]/path/to/its.sock[?db=database]
//   redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/database]
//   redis+cluster://[user[:password]@]host[:port][,host[:port]…]
//
// As in go-redis, which lk-jwt-service uses, `?db=` may name the database in any form of URL and goes before the path, and with
// `?skip_verify=true` any certificate will do; other parameters are go-redis' own and ignored.

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

export interface RedisPlace {
  readonly kind: 'single' | 'sentinel' | 'cluster';
  /** The path of a Unix socket; null: Redis is called at `addresses`. */
  readonly socket: string | null;
  /** Of the server, of the sentinels, or of some nodes of the cluster; empty with a socket. */
  readonly addresses: readonly RedisAddress[];
  readonly tls: boolean;
  /** Whether Redis' certificate is not checked. */
  readonly anyCertificate: boolean;
  readonly username: string | null;
  readonly password: string | null;
  readonly database: number;
  /** The sentinels' name of the master; empty elsewhere. */
  readonly master: string;
}

const FORM = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^/@?#]+)((?:\/[^/?#]*)*)(?:\?([^#]*))?$/;
const SOCKET = /^unix:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?(\/[^?#]+)(?:\?([^#]*))?$/;
const HOST = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]*))(?::(\d{1,5}))?$/;
const DEFAULT_PORT = { single: 6379, sentinel: 26_379, cluster: 6379 } as const;
const DATABASE = /^\d{1,5}$/;

/** Null: the URL has none of these forms. `password` counts where the URL has none. */
export function parseRedisUrl(text: string, password: string | null): RedisPlace | null {
  const match = FORM.exec(text);
  if (match === null) return parseSocket(text, password);
  const [, tls = '', wanted, user, given, hosts = '', rest = '', query] = match;
  const kind = wanted === 'sentinel' || wanted === 'cluster' ? wanted : 'single';
  const addresses = hosts.split(',').map((host) => parseAddress(host, DEFAULT_PORT[kind]));
  const path = rest.split('/').filter((part) => part !== '');
  const [username, inUrl] = [decoded(user), decoded(given)];
  const master = kind === 'sentinel' ? decoded(path.shift()) : '';
  const databases = [path.shift() ?? '0', databaseIn(query)].filter((given) => given !== null);
  const database = Number(databases.at(-1));
  const sound =
    addresses.every((address) => address !== null) &&
    (kind !== 'single' || addresses.length === 1) &&
    (kind === 'sentinel') === (master !== '' && master !== null) &&
    databases.every((given) => DATABASE.test(given)) &&
    (kind !== 'cluster' || database === 0) &&
    path.length === 0 &&
    username !== null &&
    inUrl !== null;
  if (!sound) return null;
  return {
    ...{ kind, socket: null, addresses: addresses.filter((address) => address !== null), tls: tls === 's', database },
    ...{
      username: username || null,
      password: inUrl || password,
      master: master ?? '',
      anyCertificate: tls === 's' && skipsVerification(query),
    },
  };
}

function parseSocket(text: string, password: string | null): RedisPlace | null {
  const [, user, given, socket, query] = SOCKET.exec(text) ?? [];
  const [username, inUrl, path, database] = [decoded(user), decoded(given), decoded(socket), databaseIn(query) ?? '0'];
  if (!path || username === null || inUrl === null || !DATABASE.test(database)) return null;
  const account = { username: username || null, password: inUrl || password };
  const plain = { tls: false, anyCertificate: false };
  return { ...account, ...plain, kind: 'single', socket: path, addresses: [], database: Number(database), master: '' };
}

/** What a connection is to know of TLS. Unless any certificate will do Node decides, which may be told by NODE_TLS_REJECT_UNAUTHORIZED. */
export function tlsOf({ tls, anyCertificate }: RedisPlace) {
  return tls ? { tls: true as const, ...(anyCertificate && { rejectUnauthorized: false }) } : {};
}

const databaseIn = (query: string | undefined): string | null => new URLSearchParams(query).get('db') || null;
const skipsVerification = (query: string | undefined): boolean => /^(?:true|1)$/.test(new URLSearchParams(query).get('skip_verify') ?? '');

function parseAddress(text: string, defaultPort: number): RedisAddress | null {
  const [, v6, name, digits] = HOST.exec(text) ?? [];
  const host = v6 ?? name;
  const port = digits === undefined ? defaultPort : Number(digits);
  return host === undefined || port < 1 || port > 65_535 ? null : { host: host || 'localhost', port };
}

/** Null: not a percent-encoding. */
function decoded(text: string | undefined): string | null {
  try {
    return decodeURIComponent(text ?? '');
  } catch {
    return null;
  }
}
