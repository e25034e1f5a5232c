// Finds the federation API of a server name: server discovery of the server-server specification ("Resolving server names").
//
//   name                          connect to                          Host and certificate
//   IP literal[:port]             that address, its port or 8448      the name
//   host:port                     that host and port                  the name
//   host, m.server is IP[:port]   that address, its port or 8448      what m.server says
//   host, m.server is host:port   that host and port                  what m.server says
//   host, m.server is a host      its SRV targets, else it on 8448    what m.server says
//   host, no usable well-known    its SRV targets, else it on 8448    the name
//
// Host and certificate always go together: an SRV record moves the connection, never the identity. Whether an address may be called
// is decided when connecting (address.ts); what a trusted name leads to is trusted for that name only.
import { isIPv4 } from 'node:net';
import type { Clock, Random } from '../clock.ts';
import type { ServerName } from '../delegation/ids.ts';
import { z } from '../library-parts.ts';
import { type AddressMode, bareHost } from './address.ts';
import { createLookUps, type Found } from './look-ups.ts';
import { type HostAndPort, splitServerName } from './names.ts';
import type { Endpoint, Outbound, Reply } from './outbound.ts';
import { askSrv, inOrder, type ResolveSrv, type SrvAnswer, systemResolveSrv } from './srv.ts';
import { fetchWellKnown, isAway, validityMs } from './well-known.ts';

const PORT = 8448;
/** With two SRV questions of 1.5 s each, a caller that has ten seconds has three left for its own request. */
const WELL_KNOWN_TIMEOUT_MS = 4_000;
const MOST_NAMES = 1000;
const MOST_TARGETS = 4;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const SUCCESS = { leastMs: 5 * MINUTE_MS, usualMs: 24 * HOUR_MS, mostMs: 48 * HOUR_MS };
/** The n-th failure in a row is remembered for n minutes, up to this. */
const FAILURE_MOST_MS = 5 * MINUTE_MS;
/** node:dns does not tell the TTL of SRV records. */
const SRV_MS = 5 * MINUTE_MS;

const ServerWellKnown = z.object({ 'm.server': z.string() });

export interface FederationTarget extends Endpoint {
  /** The Host header: name and port as they were given. */
  readonly hostHeader: string;
}
export type FederationResolved =
  /** In the order in which they are to be tried; at least one. */
  | { readonly kind: 'targets'; readonly targets: readonly FederationTarget[] }
  /** `why` is for the operator: it names no URL. */
  | { readonly kind: 'unresolvable'; readonly why: string };

export interface Federation {
  /** Never rejects; answers within seven seconds. */
  resolve(name: ServerName): Promise<FederationResolved>;
}

export interface FederationDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly outbound: Outbound;
  /** What the targets of a server name may resolve to. */
  readonly addressesOf: (name: ServerName) => AddressMode;
  readonly resolveSrv?: ResolveSrv;
}

type Delegation =
  | { readonly kind: 'delegated'; readonly to: HostAndPort; readonly foundAtMs: number }
  | { readonly kind: 'none'; readonly inARow: number };

export function createFederation(deps: FederationDeps): Federation {
  const { clock, random, outbound, resolveSrv = systemResolveSrv() } = deps;
  const delegations = createLookUps<string, Delegation>({ clock, most: MOST_NAMES, look: lookUpWellKnown });
  const services = createLookUps<string, SrvAnswer>({ clock, most: MOST_NAMES, look: lookUpSrv });

  async function lookUpWellKnown(host: string, before: Delegation | null): Promise<Found<Delegation>> {
    const reply = await fetchWellKnown(outbound, { of: 'server', host, timeoutMs: WELL_KNOWN_TIMEOUT_MS });
    const nowMs = clock.nowMs();
    const to = delegatedTo(reply);
    if (to !== null && reply.kind === 'answered') {
      return { value: { kind: 'delegated', to, foundAtMs: nowMs }, validMs: validityMs(reply.headers, nowMs, SUCCESS) };
    }
    const isKept = before?.kind === 'delegated' && nowMs - before.foundAtMs < SUCCESS.mostMs;
    if (isKept && isAway(reply)) return { value: before, validMs: MINUTE_MS };
    const inARow = before?.kind === 'none' ? before.inARow + 1 : 1;
    return { value: { kind: 'none', inARow }, validMs: Math.min(inARow * MINUTE_MS, FAILURE_MOST_MS) };
  }

  async function lookUpSrv(host: string): Promise<Found<SrvAnswer>> {
    const current = await askSrv(clock, resolveSrv, `_matrix-fed._tcp.${host}`);
    if (current.kind === 'records') return { value: current, validMs: SRV_MS };
    const deprecated = await askSrv(clock, resolveSrv, `_matrix._tcp.${host}`);
    if (deprecated.kind === 'records') return { value: deprecated, validMs: current.kind === 'none' ? SRV_MS : MINUTE_MS };
    const isCertain = current.kind === 'none' && deprecated.kind === 'none';
    return { value: deprecated, validMs: isCertain ? SRV_MS : MINUTE_MS };
  }

  async function resolve(name: ServerName): Promise<FederationResolved> {
    const given = splitServerName(name);
    if (given === null) return { kind: 'unresolvable', why: 'not a server name' };
    const addresses = deps.addressesOf(name);
    if (isFinal(given)) return { kind: 'targets', targets: [targetOf(given, addresses)] };
    const delegation = await delegations(dnsName(given.host));
    const asked = delegation.kind === 'delegated' ? delegation.to : given;
    const direct = targetOf(asked, addresses);
    if (isFinal(asked)) return { kind: 'targets', targets: [direct] };
    const service = await services(direct.tlsName);
    // No answer about SRV (some name services inside containers never give one) counts as: there are no records.
    if (service.kind !== 'records') return { kind: 'targets', targets: [direct] };
    const records = inOrder(service.records, random, MOST_TARGETS);
    if (records.length === 0) return { kind: 'unresolvable', why: 'its SRV record says that there is no federation' };
    return { kind: 'targets', targets: records.map((record) => ({ ...direct, host: dnsName(record.name), port: record.port })) };
  }

  return { resolve };
}

/** What m.server says; null: the answer is not what the specification asks for. */
function delegatedTo(reply: Reply): HostAndPort | null {
  if (reply.kind === 'failed' || reply.status !== 200) return null;
  const parsed = ServerWellKnown.safeParse(reply.json);
  return parsed.success ? splitServerName(parsed.data['m.server']) : null;
}

/** With an IP address or a port there is no SRV record to look for. */
function isFinal({ host, port }: HostAndPort): boolean {
  return port !== null || host.startsWith('[') || isIPv4(host);
}

function targetOf({ host, port }: HostAndPort, addresses: AddressMode): FederationTarget {
  const name = host.startsWith('[') ? bareHost(host) : dnsName(host);
  const hostHeader = port === null ? host : `${host}:${port}`;
  return { host: name, port: port ?? PORT, hostHeader, tlsName: name, addresses };
}

/** One spelling for memory and certificates: lower case, without the dot of the root at the end. */
function dnsName(host: string): string {
  return host.toLowerCase().replace(/\.$/, '');
}
