// Which addresses may be called. Clients name their homeservers, so a name may lead into the operator's own network: what is checked is the
// address at the moment of connecting, after DNS, in whatever form it is written (IPv4 inside IPv6 included).
import { BlockList, isIP, isIPv4, isIPv6, type LookupFunction } from 'node:net';
import { lookupWith, type Resolve, systemResolve } from '../dns/resolve.ts';

/** What a target host may resolve to: the public internet, that and loopback, or anything. */
export type AddressMode = 'public' | 'loopback-too' | 'any';
/** Decides by the host of the URL that is called (lower case, IPv6 without brackets). */
export type AddressPolicy = (host: string) => AddressMode;
export type AddressKind = 'public' | 'loopback' | 'private';

/** What is not unicast on the public internet, by the special-purpose registries of IANA; loopback has a list of its own. */
const PRIVATE_V4 = blockList('ipv4', [
  ['0.0.0.0', 8], // this network; 0.0.0.0 itself reaches the own machine
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // carrier-grade NAT
  ['169.254.0.0', 16], // link-local, cloud metadata
  ['172.16.0.0', 12],
  ['192.0.0.0', 24], // protocol assignments
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // 6to4 relays, retired
  ['192.168.0.0', 16],
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, broadcast
]);
const LOOPBACK_V4 = blockList('ipv4', [['127.0.0.0', 8]]);
const GLOBAL_V6 = blockList('ipv6', [['2000::', 3]]);
const PRIVATE_V6 = blockList('ipv6', [
  ['2001::', 23], // protocol assignments: Teredo, ORCHID, benchmarks
  ['2001:db8::', 32], // documentation
  ['3fff::', 20], // documentation
]);

/** Fails an attempt to connect. Its message names neither host nor address: it may end up in a log or an answer. */
export class AddressRefused extends Error {
  readonly code = 'ADDRESS_REFUSED';
  constructor() {
    super('the host resolves to an address that may not be called');
  }
}

/** The kind of an IP address; what can't be read as one counts as private, which is the careful answer. */
export function addressKind(ip: string): AddressKind {
  if (isIPv4(ip)) return LOOPBACK_V4.check(ip) ? 'loopback' : PRIVATE_V4.check(ip) ? 'private' : 'public';
  const groups = groupsOf(ip);
  if (groups === null) return 'private';
  if (groups.every((group, index) => group === (index === 7 ? 1 : 0))) return 'loopback';
  const inner = embeddedV4(groups);
  if (inner !== null) return addressKind(inner);
  return GLOBAL_V6.check(ip, 'ipv6') && !PRIVATE_V6.check(ip, 'ipv6') ? 'public' : 'private';
}

export function isAllowed(mode: AddressMode, ip: string): boolean {
  const kind = addressKind(ip);
  return mode === 'any' || kind === 'public' || (kind === 'loopback' && mode === 'loopback-too');
}

/** Brackets off and lower case: the form in which policies and connectors speak of hosts. */
export function bareHost(host: string): string {
  return (host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host).toLowerCase();
}

/** True for hosts that mean this machine by themselves, before any DNS. */
export function isLoopbackHost(host: string): boolean {
  const bare = bareHost(host).replace(/\.$/, '');
  return bare === 'localhost' || bare.endsWith('.localhost') || (isIP(bare) !== 0 && addressKind(bare) === 'loopback');
}

/** Refused without DNS: an IP literal (for which no look-up happens) or a name of this machine that the policy excludes. */
export function isRefusedOutright(policy: AddressPolicy, host: string): boolean {
  const bare = bareHost(host);
  const mode = policy(bare);
  if (isIP(bare) !== 0) return !isAllowed(mode, bare);
  return isLoopbackHost(bare) && mode === 'public';
}

/** The `lookup` of net.connect. A name with one address that may not be called is refused altogether, whichever would be dialled first. */
export function guardedLookup(policy: AddressPolicy, resolve: Resolve = systemResolve): LookupFunction {
  return lookupWith(async (hostname) => {
    const found = await resolve(hostname);
    const mode = policy(bareHost(hostname));
    if (!found.every(({ address }) => isAllowed(mode, address))) throw new AddressRefused();
    return found;
  });
}

function blockList(family: 'ipv4' | 'ipv6', nets: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [net, prefix] of nets) list.addSubnet(net, prefix, family);
  return list;
}

/** The eight 16-bit groups of an IPv6 address, null if it is none; a zone (`%eth0`) means link-local and is not read. */
function groupsOf(ip: string): number[] | null {
  if (!isIPv6(ip) || ip.includes('%')) return null;
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(ip);
  const byte = (index: number): number => Number(dotted?.[index]);
  const hex = (high: number, low: number): string => ((high << 8) | low).toString(16);
  const plain = dotted ? `${dotted[1]}${hex(byte(2), byte(3))}:${hex(byte(4), byte(5))}` : ip;
  const [head = '', tail] = plain.split('::');
  const read = (part: string): number[] => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)));
  const front = read(head);
  const back = read(tail ?? '');
  return [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
}

/** The IPv4 address inside a mapped, compatible, translated, NAT64 or 6to4 address: it is what will be reached. */
function embeddedV4(groups: readonly number[]): string | null {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = groups;
  const v4 = (high: number, low: number): string => `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
  const zeros = a === 0 && b === 0 && c === 0 && d === 0;
  if (zeros && e === 0 && (f === 0xffff || f === 0)) return v4(g, h);
  if (zeros && e === 0xffff && f === 0) return v4(g, h);
  if (a === 0x64 && b === 0xff9b && c === 0 && d === 0 && e === 0 && f === 0) return v4(g, h);
  if (a === 0x2002) return v4(b, c);
  return null;
}
