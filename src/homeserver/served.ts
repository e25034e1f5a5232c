// Which homeservers may be named in a hand-over of the native API, and at which addresses any homeserver may be called.
import type { HomeserverUrl, ServerName } from '../delegation/ids.ts';
import { type AddressMode, type AddressPolicy, bareHost, isLoopbackHost, isRefusedOutright } from './address.ts';
import { parseBaseUrl, parseServerName, splitServerName } from './names.ts';

export interface ServedConfig {
  readonly fullAccess: { readonly all: boolean; readonly names: readonly ServerName[] };
  readonly overrides: ReadonlyMap<ServerName, HomeserverUrl>;
  /** At which addresses those may be called that the operator did not name. */
  readonly strangers: AddressMode;
  /** The homeserver whose application service we are: the operator named it, whether its users have full access or not. */
  readonly applicationService?: { readonly serverName: ServerName } | null;
}

export type ServedHomeserver = { readonly kind: 'url'; readonly url: HomeserverUrl } | { readonly kind: 'name'; readonly name: ServerName };
export type ServedResult = ServedHomeserver | { readonly kind: 'malformed'; readonly why: string } | { readonly kind: 'not_served' };

export interface Served {
  /** Judges the `homeserver` field of a hand-over: a base URL or a server name. */
  parse(text: string): ServedResult;
  /** The base URL to which the .well-known of a name led, from now on trusted if the name is the operator's; null: it may not be called. */
  discovered(name: ServerName, text: string): HomeserverUrl | null;
  /** The base URL that the operator has set for a name; null: none. */
  readonly override: (name: ServerName) => HomeserverUrl | null;
  /** Where a name is: its override, or where its .well-known led last. Null: not the operator's, not known yet, or may not be called. */
  readonly whereIs: (name: string) => HomeserverUrl | null;
  /** The other way round: the name of the operator's that leads to this base URL; null: none. */
  readonly nameAt: (url: HomeserverUrl) => ServerName | null;
  /** The server names in the operator's settings: these may have private addresses. */
  readonly listed: readonly ServerName[];
  /** By the host of the URL: any address for `isNamed`, else what the settings allow to strangers. */
  readonly addresses: AddressPolicy;
  /** Whether a host (bare, lower case) is one that the operator named, or one to which such a name has led. */
  readonly isNamed: (host: string) => boolean;
  /** What a server name may resolve to over federation, whichever host it leads to. */
  readonly addressesOf: (name: ServerName) => AddressMode;
}

const MOST_FORMER = 1000;

export function createServed(config: ServedConfig): Served {
  const names: ReadonlySet<string> = new Set(config.fullAccess.names);
  const listedHosts: ReadonlySet<string> = new Set(config.fullAccess.names.map((name) => name.toLowerCase()));
  const overrideUrls: ReadonlySet<string> = new Set(config.overrides.values());
  const home = config.applicationService?.serverName;
  const named: ReadonlySet<ServerName> = new Set([...config.fullAccess.names, ...(home === undefined ? [] : [home])]);
  const listed = [...new Set([...named, ...config.overrides.keys()])];
  const trusted: ReadonlySet<string> = new Set(listed.map(hostOf));
  /** The base URLs of overrides and listed names. The operator trusts the name, and so what it leads to, but nothing else on that host. */
  const targets = new Map<ServerName, HomeserverUrl>(config.overrides);
  /** And those that they led to before, which may still be the right ones for what was handed over then. */
  const former = new Set<HomeserverUrl>();
  /** Whether each of the targets may be called; until one changes. */
  const callable = new Map<HomeserverUrl, boolean>();
  const everTargets = (): HomeserverUrl[] => [...targets.values(), ...former];
  const isTarget = (host: string): boolean => everTargets().some((url) => hostIn(url) === host);

  function leads(name: ServerName, url: HomeserverUrl): void {
    const before = targets.get(name);
    if (before !== undefined && before !== url && former.size < MOST_FORMER) former.add(before);
    targets.set(name, url);
    callable.clear();
  }

  const isNamed = (host: string): boolean => trusted.has(host) || isTarget(host);
  const addresses: AddressPolicy = (host) => (isNamed(host) ? 'any' : config.strangers);

  /** A host that may be called at a private address for one base URL could have anything else behind its other ports and paths. */
  function isCallable(url: HomeserverUrl, parts: URL): boolean {
    if (overrideUrls.has(url)) return true;
    if (parts.protocol !== 'https:' && !isLoopbackHost(parts.hostname)) return false;
    const host = bareHost(parts.hostname);
    if (isTarget(host) && !trusted.has(host)) return everTargets().includes(url);
    return !isRefusedOutright(addresses, host);
  }

  const addressesOf = (name: ServerName): AddressMode => (listed.includes(name) ? 'any' : config.strangers);

  function parseUrl(text: string): ServedResult {
    const base = parseBaseUrl(text);
    if (base.kind === 'malformed') return base;
    const { url, parts } = base;
    const port = parts.port || (parts.protocol === 'https:' ? '443' : '80');
    const isListed = listedHosts.has(parts.hostname) || listedHosts.has(`${parts.hostname}:${port}`);
    const isServed = config.fullAccess.all || isListed || overrideUrls.has(url);
    return isServed && isCallable(url, parts) ? { kind: 'url', url } : { kind: 'not_served' };
  }

  function parseName(text: string): ServedResult {
    const name = parseServerName(text);
    if (name === null) return { kind: 'malformed', why: 'neither a base URL nor a server name' };
    if (!config.fullAccess.all && !names.has(name)) return { kind: 'not_served' };
    if (config.overrides.has(name)) return { kind: 'name', name };
    return isRefusedOutright(() => addressesOf(name), hostOf(name)) ? { kind: 'not_served' } : { kind: 'name', name };
  }

  return {
    parse: (text) => (text.includes('://') ? parseUrl(text) : parseName(text)),
    discovered(name, text) {
      const base = parseBaseUrl(text);
      if (base.kind === 'malformed') return null;
      if (named.has(name)) leads(name, base.url);
      return isCallable(base.url, base.parts) ? base.url : null;
    },
    override: (name) => config.overrides.get(name) ?? null,
    whereIs(name) {
      const url = targets.get(name as ServerName);
      if (url === undefined) return null;
      // Each call to a homeserver asks.
      const is = callable.get(url) ?? isCallable(url, new URL(url));
      callable.set(url, is);
      return is ? url : null;
    },
    nameAt: (url) => targets.entries().find(([, target]) => target === url)?.[0] ?? null,
    listed,
    addresses,
    isNamed,
    addressesOf,
  };
}

/** The host of a server name as a URL would spell it (`127.1` is 127.0.0.1 to a URL). */
function hostOf(name: ServerName): string {
  const host = splitServerName(name)?.host ?? name;
  return bareHost(URL.parse(`https://${host}`)?.hostname ?? host);
}

const hostIn = (url: HomeserverUrl): string => bareHost(URL.parse(url)?.hostname ?? '');
