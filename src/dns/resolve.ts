// From the name of a host to its addresses: what everything that dials asks, whichever way the answer is found.
import { ADDRCONFIG, type LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import type { LookupFunction } from 'node:net';

/** The addresses of a host, at least one. Rejects with an error that has a `code`, as node:dns does. */
export type Resolve = (host: string) => Promise<readonly LookupAddress[]>;

const NO_ADDRESS: ReadonlySet<unknown> = new Set(['ENOTFOUND', 'ENODATA']);

/** True: the answer is that there is no such name, or no record of that kind. Any other failure says nothing about the name. */
export function saysNoAddress(error: unknown): boolean {
  return NO_ADDRESS.has((error as NodeJS.ErrnoException | undefined)?.code);
}

/**
 * The system's resolver (getaddrinfo): hosts file, search domains and whatever else the machine is set up with. It blocks a thread until
 * there is an answer, ten seconds if the name servers give none, and the process has two threads for it: only for names of the operator's.
 */
export const systemResolve: Resolve = (host) => lookup(host, { all: true, hints: ADDRCONFIG });

/** The same as an option of net.connect. */
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
