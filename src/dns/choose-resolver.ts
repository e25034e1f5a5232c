// Who named a host decides how it is resolved, so that no name of a stranger's can hold up those that the operator depends on:
//
//   named by the operator              the system's way
//   in the hosts file, or this machine the system's way, which needs no name server for them
//   anything else                      name servers, asked by ourselves
//
// The first and the last remember their answers apart from each other: strangers may fill their own memory, and only that.
import type { Clock } from '../clock.ts';
import { hostsFile } from './hosts-file.ts';
import { lastKnown } from './last-known.ts';
import { askNameServers } from './name-servers.ts';
import { type Resolve, systemResolve } from './resolve.ts';

export interface ResolveDeps {
  readonly clock: Clock;
  /** Asked with the host in lower case. */
  readonly isOperators: (host: string) => boolean;
  readonly isInHostsFile?: (host: string) => boolean;
  readonly system?: Resolve;
  readonly nameServers?: Resolve;
}

export function createResolve(deps: ResolveDeps): Resolve {
  const { clock, isOperators, isInHostsFile = hostsFile(), system = systemResolve, nameServers = askNameServers({ clock }) } = deps;
  const operators = lastKnown({ clock, resolve: system });
  const strangers = lastKnown({ clock, resolve: nameServers });
  return (name) => {
    const host = name.toLowerCase();
    if (isOperators(host)) return operators(host);
    return isOfThisMachine(host) || isInHostsFile(host) ? system(host) : strangers(host);
  };
}

/** Some systems answer these without a hosts file. */
function isOfThisMachine(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost');
}
