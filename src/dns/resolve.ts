// From the name of a host to its addresses: what everything that dials asks, whichever way the answer is found.
import { ADDRCONFIG, type LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import type { LookupFunction } from 'node:net';

/** Rejects with a code as node:dns does. */
export type Resolve = (host: string) => Promise<readonly LookupAddress[]>;

const NO_ADDRESS: ReadonlySet<unknown> = new Set(['ENOTFOUND', 'ENODATA']);

/** True: the answer is that there is no such name, or no record of that kind. Any other failure says nothing about the name. */
export function saysNoAddress(error: unknown): boolean {
  return NO_ADDRESS.has((error as NodeJS.ErrnoException | undefined)?.code);
}

/**
 * As every program of this machine resolves a name: hosts file, search domains and whatever else it is set up with. A thread waits for
 * the answer, ten seconds for name servers that give none, and a process has two threads for that: only for names that may be waited for.
 */
export const systemResolve: Resolve = (host) => lookup(host, { all: true, hints: ADDRCONFIG });

/** For net.connect. */
export function lookupWith(resolve: Resolve): LookupFunction {
  return (hostname, options, done) => {
    resolve(hostname).then(
      (addresses) => {
        const [first] = addresses;
        if (first === undefined) done(Object.assign(new Error('no address'), { code: 'ENOTFOUND' }), '', 0);
        else if (options.all) done(null, [...addresses]);
        else done(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => done(error, '', 0),
    );
  };
}
