// The HEALTHCHECK of the image: asks /healthz at the address that the settings give, and exits with 0 or 1. At a fixed port a service that
// listens elsewhere would count as unhealthy for ever, and a proxy that goes by that (Traefik) would send it nothing. Without any library,
// because it is started every ten seconds.
import { get } from 'node:http';
import { parseBind } from './config/bind.ts';
import { withoutServiceLinks } from './config/service-links.ts';

/** Where a process that listens on every interface can be called. */
const EVERYWHERE: Readonly<Record<string, string>> = { '': '127.0.0.1', '0.0.0.0': '127.0.0.1', '::': '::1' };

const { LIVEKIT_JWT_BIND: bind, LIVEKIT_JWT_PORT: portAlone } = withoutServiceLinks(process.env, () => {});
const { host, port } = parseBind(bind || `:${portAlone || 8080}`) ?? { host: '', port: 8080 };

get({ host: EVERYWHERE[host] ?? host, port, path: '/healthz' }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)).on(
  'error',
  () => process.exit(1),
);
