// Asks the name servers directly, for names that a stranger chose. Whoever owns a zone decides how slowly it answers: here only the
// question itself waits for that, at most three seconds, where the system's resolver would block one of the two threads that all share.
import type { LookupAddress } from 'node:dns';
import { Resolver } from 'node:dns/promises';
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Clock } from '../clock.ts';
import { type Resolve, saysNoAddress } from './resolve.ts';

/** For the first try with one server; the second gets twice the time. */
const TRY_MS = 1_000;
const TIMEOUT_MS = 3 * TRY_MS;

export interface NameServersDeps {
  readonly clock: Clock;
  readonly hasIPv6?: () => boolean;
  readonly open?: () => Pick<Resolver, 'resolve4' | 'resolve6' | 'cancel'>;
}

export function askNameServers({ clock, hasIPv6 = hasRouteForIPv6, open = openResolver }: NameServersDeps): Resolve {
  return async (host) => {
    const resolver = open();
    const stop = clock.after(TIMEOUT_MS, () => resolver.cancel());
    // IPv4 comes first: it works from about everywhere, and where it does not, a connection goes on to IPv6 at once.
    const asked = hasIPv6() ? [resolver.resolve4(host), resolver.resolve6(host)] : [resolver.resolve4(host)];
    const answers = await Promise.allSettled(asked);
    stop();
    const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    if (found.length === 0) throw failureOf(answers);
    return found.map((address): LookupAddress => ({ address, family: isIPv6(address) ? 6 : 4 }));
  };
}

/** That there is no address is known only if both families were answered. */
function failureOf(answers: readonly PromiseSettledResult<string[]>[]): Error {
  const reasons = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as Error] : []));
  const [first] = reasons;
  return reasons.find((reason) => !saysNoAddress(reason)) ?? first ?? Object.assign(new Error('no address'), { code: 'ENODATA' });
}

/** A new one for each question: it reads the list of servers when it is made, and that may change while we run. */
function openResolver(): Resolver {
  return new Resolver({ timeout: TRY_MS, tries: 2 });
}

/** As ADDRCONFIG has it for the system's resolver: a try to connect to an IPv6 address costs time where there is no route. */
function hasRouteForIPv6(): boolean {
  const all = Object.values(networkInterfaces()).flatMap((found) => found ?? []);
  return all.some(({ family, internal, address }) => family === 'IPv6' && !internal && !address.startsWith('fe80'));
}
