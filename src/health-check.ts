// What the HEALTHCHECK of the image runs: whether the process answers where its settings have it listen. Asked at another port, it would
// count as ill for ever, and a proxy that goes by that (Traefik) would send it nothing. By no library, for it starts every ten seconds.
import { get } from 'node:http';
import { parseBind } from './config/bind.ts';
import { withoutServiceLinks } from './config/service-links.ts';

const EVERYWHERE: Readonly<Record<string, string>> = { '': '127.0.0.1', '0.0.0.0': '127.0.0.1', '::': '::1' };

const { LIVEKIT_JWT_BIND: bind, LIVEKIT_JWT_PORT: portAlone } = withoutServiceLinks(process.env, () => {});
const { host, port } = parseBind(bind || `:${portAlone || 8080}`) ?? { host: '', port: 8080 };

get({ host: EVERYWHERE[host] ?? host, port, path: '/healthz' }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)).on(
  'error',
  () => process.exit(1),
);
