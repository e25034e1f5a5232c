// Listens where the settings say. A name may have addresses of both families, as localhost has on most machines: IPv4 goes first, as with
// lk-jwt-service, for a reverse proxy is told 127.0.0.1 as a rule. Node would take ::1 alone.
import type { LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import type { Server } from 'node:http';
import { isIP } from 'node:net';
import type { Config } from '../config/config.ts';

type Resolve = (host: string) => Promise<readonly LookupAddress[]>;
const anyAddress: Resolve = (host) => lookup(host, { all: true });

/** What goes wrong is an `error` of the server. */
export function listenAt(server: Server, { host, port }: Config['bind'], resolve: Resolve = anyAddress): void {
  if (host === '') server.listen({ port });
  else if (isIP(host) !== 0) server.listen({ host, port });
  else {
    resolve(host).then(
      (found) => server.listen({ host: (found.find(({ family }) => family === 4) ?? found[0])?.address ?? host, port }),
      (error: unknown) => server.emit('error', error),
    );
  }
}
