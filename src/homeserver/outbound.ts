// Every call to a homeserver goes through here: one pool of connections for each origin, bounds on connections, bytes and time, and every
// address checked when connecting.
import { isIP } from 'node:net';
import type * as undici from 'undici';
import { BodyBuffer } from '../body-buffer.ts';
import type { Clock } from '../clock.ts';
import type { Resolve } from '../dns/resolve.ts';
import { Agent, Pool } from '../library-parts.ts';
import { createDialler } from '../outgoing/dial.ts';
import { ALWAYS_SAID, type Dispatch, exchange, exchangeRepeatable, failed, type Reply } from '../outgoing/exchange.ts';
import { type Renewing, renewing } from '../outgoing/renewing.ts';
import { type AddressMode, type AddressPolicy, AddressRefused, bareHost, guardedLookup, isAllowed } from './address.ts';
import { limitSockets } from './open-sockets.ts';

export type { Reply } from '../outgoing/exchange.ts';

const MOST_BYTES = 64 * 1024;
const MOST_CONNECTIONS = 64;
const CONNECT_TIMEOUT_MS = 10_000;
/** How long an idle connection is kept, also if its homeserver would keep it for longer: any number of them may be a stranger's. */
const IDLE_MS = 4_000;
const HTTPS_PORT = 443;
const STRICTNESS: Readonly<Record<AddressMode, number>> = { any: 0, 'loopback-too': 1, public: 2 };
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export interface Request {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** The longest body that is read; 64 KiB unless told. */
  readonly mostBytes?: number;
  /** For everything, redirects included; ms. */
  readonly timeoutMs: number;
  /** How many redirects to follow, to https only; 0 unless told. */
  readonly redirects?: number;
  /** Where to connect instead of the URL's host (federation). It does not count for where a redirect leads. */
  readonly at?: Endpoint;
}

/** A place to connect to, and who has to be there. */
export interface Endpoint {
  /** A name or an address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** The name that is asked for by SNI and that the certificate must bear; an address only if it is `host`. */
  readonly tlsName: string;
  /** What the host may resolve to. */
  readonly addresses: AddressMode;
}

export interface Outbound {
  /** Never rejects: what goes wrong is a reply as well. */
  request(request: Request): Promise<Reply>;
  /** Ends everything that is under way. */
  close(): Promise<void>;
}

export interface OutboundDeps {
  readonly clock: Clock;
  readonly addresses: AddressPolicy;
  readonly insecureTls: boolean;
  /** The most connections to one origin; 64 unless told. */
  readonly connections?: number;
  /** The most connections to all origins together; no bound unless told. */
  readonly sockets?: number;
  /** The most connections that are begun in one turn of the event loop; no bound unless told. */
  readonly connectsATurn?: number;
  /** Certificates to trust instead of the system's. */
  readonly ca?: string;
  /** The system's resolver unless told. */
  readonly resolve?: Resolve;
}

export function createOutbound(deps: OutboundDeps): Outbound {
  const { clock } = deps;
  const factory = poolFactory(deps);
  const agent = renewing(clock, () => new Agent({ factory }));

  /**
   * Where a redirect leads. Its sender must not lead us to addresses that we would not call for its own sake, though the host may be one of the
   * operator's.
   */
  function endpointOf({ hostname, port }: URL, sender: AddressMode): Endpoint | null {
    const host = bareHost(hostname);
    if (STRICTNESS[sender] <= STRICTNESS[deps.addresses(host)]) return null;
    return { host, port: port === '' ? HTTPS_PORT : Number(port), tlsName: host, addresses: sender };
  }

  async function request(wanted: Request): Promise<Reply> {
    const endsAtMs = clock.nowMs() + wanted.timeoutMs;
    let url = URL.parse(wanted.url);
    let at = wanted.at ?? null;
    let mode = at?.addresses ?? deps.addresses(bareHost(url?.hostname ?? ''));
    for (let left = wanted.redirects ?? 0; ; left -= 1) {
      const route = url === null ? null : routeOf(url, at);
      if (url === null || route === null) return failed(false, 'garbage');
      const reply = await once(agent, clock, { url, route }, { ...wanted, timeoutMs: endsAtMs - clock.nowMs() });
      if (reply.kind === 'failed' || !REDIRECTS.has(reply.status) || wanted.redirects === undefined) return reply;
      if (left === 0) return failed(true, 'redirects');
      url = URL.parse(reply.headers.location ?? '', url);
      if (url?.protocol !== 'https:' || url.username !== '' || url.password !== '') return failed(true, 'redirects');
      at = endpointOf(url, mode);
      mode = at?.addresses ?? deps.addresses(bareHost(url.hostname));
    }
  }
  return { request, close: () => agent.destroy() };
}

/** Which pool a request uses. A connection is shared only by requests to the same place, with the same expected name and address policy. */
interface Route {
  /** The key of the pool: an origin; for an Endpoint, with its address mode and TLS name in the fragment. */
  readonly pool: string;
  readonly servername: string | null;
}

function routeOf(url: URL, at: Endpoint | null): Route | null {
  if (at === null) return { pool: url.origin, servername: null };
  const base = URL.parse(`https://${isIP(at.host) === 6 ? `[${at.host}]` : at.host}:${at.port}`);
  if (base === null) return null;
  return { pool: `${base.origin}/#${at.addresses}/${at.tlsName}`, servername: isIP(at.tlsName) === 0 ? at.tlsName : null };
}

function poolFactory(deps: OutboundDeps): (key: string | URL) => undici.Pool {
  const { connections = MOST_CONNECTIONS, sockets = Number.POSITIVE_INFINITY, connectsATurn = Number.POSITIVE_INFINITY } = deps;
  const limited = limitSockets({ most: sockets, mostATurn: connectsATurn }, deps.clock);
  const byHost = limited(guardedConnector(deps, deps.addresses));
  const byMode: Readonly<Record<AddressMode, undici.buildConnector.connector>> = {
    public: limited(guardedConnector(deps, () => 'public')),
    'loopback-too': limited(guardedConnector(deps, () => 'loopback-too')),
    any: limited(guardedConnector(deps, () => 'any')),
  };
  return (key) => {
    const { origin, hash } = new URL(key);
    const connect = hash === '' ? byHost : byMode[hash.slice(1, hash.indexOf('/')) as AddressMode];
    const idle = { keepAliveTimeout: IDLE_MS, keepAliveMaxTimeout: IDLE_MS };
    return new Pool(origin, { connections: Math.min(connections, sockets), pipelining: 1, ...idle, connect });
  };
}

/** Checks IP literals itself (no look-up happens for them) and names after their look-up. */
function guardedConnector(deps: OutboundDeps, addresses: AddressPolicy): undici.buildConnector.connector {
  const connect = createDialler({
    clock: deps.clock,
    lookup: guardedLookup(addresses, deps.resolve),
    timeoutMs: CONNECT_TIMEOUT_MS,
    tls: { rejectUnauthorized: !deps.insecureTls, ...(deps.ca === undefined ? {} : { ca: deps.ca }) },
  });
  return (target, done) => {
    const host = bareHost(target.hostname);
    if (isIP(host) !== 0 && !isAllowed(addresses(host), host)) return queueMicrotask(() => done(new AddressRefused(), null));
    return connect(target, done);
  };
}

function once(agent: Renewing, clock: Clock, { url, route }: { url: URL; route: Route }, wanted: Request): Promise<Reply> {
  const { method, headers = {}, body = null, timeoutMs, mostBytes = MOST_BYTES } = wanted;
  const options = {
    origin: route.pool,
    ...(route.servername === null ? {} : { servername: route.servername }),
    path: `${url.pathname}${url.search}`,
    method,
    headers: { accept: 'application/json', ...ALWAYS_SAID, ...headers },
    body,
  };
  const dispatch: Dispatch = (handler) => agent.dispatch(options, handler);
  const emptyBody = (): BodyBuffer => new BodyBuffer(mostBytes);
  // What is done by a POST may be another thing the second time: that is for who asks to know.
  return method === 'GET' ? exchangeRepeatable(dispatch, clock, timeoutMs, emptyBody) : exchange(dispatch, clock, timeoutMs, emptyBody());
}
