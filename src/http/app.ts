// All routes in one place, and the one way from an error to an answer.
import type { IncomingMessage, RequestListener } from 'node:http';
import { Hono } from 'hono';
import { getPath } from 'hono/utils/url';
import type { Registry } from 'prom-client';
import type { Clock } from '../clock.ts';
import type { Engine } from '../engine/engine.ts';
import type { Discovery } from '../homeserver/discovery.ts';
import type { Served } from '../homeserver/served.ts';
import { getRequestListener } from '../library-parts.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { onceAMinute } from '../once-a-minute.ts';
import type { Keys } from '../sfu/keys.ts';
import type { Unlisted } from '../sfu/unlisted.ts';
import { createBodies } from './body.ts';
import { delegationRoutes } from './delegations.ts';
import { errorResponse, MatrixError, refusalOf, unavailable } from './errors.ts';
import { type MatrixRtc, matrixRtcRoutes } from './matrixrtc.ts';
import { createMemberships, createMembershipsBehind } from './memberships.ts';
import { operationRoutes } from './operations.ts';
import { type Proxied, proxiedRoutes } from './proxied.ts';
import { createRateLimit } from './rate-limit.ts';
import { webhookListener } from './webhook-listener.ts';
import { WEBHOOK_PATHS, webhookRoutes, webhookTaker } from './webhooks.ts';

export interface AppDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly served: Served;
  readonly discovery: Discovery;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly registry: Registry;
  readonly log: Log;
  readonly matrixRtc: MatrixRtc;
  /** Told of what webhooks say of participants. */
  readonly told: Unlisted['told'];
  /** Undefined: no homeserver passes requests on to us. */
  readonly proxied?: Proxied;
  /** False while draining: nothing new is promised then. */
  readonly isOpen: () => boolean;
}

export interface App {
  readonly hono: Hono;
  /** For createServer of node:http: webhooks by the short way, everything else by Hono. */
  readonly listener: RequestListener;
}

/** For each participant: every hand-over makes us call a homeserver. */
const DELEGATIONS = { burst: 100, perSecond: 10 };
/** For each user behind the homeserver: every token is remembered, and its participant looked for on the SFU, for an hour. */
const TOKENS = { burst: 100, perSecond: 1 };

/** A path with a `.` or `..` segment, in any spelling that URL parsers resolve. */
const CLIMBS = /^[^?#]*[\\/](?:\.|%2e){1,2}(?:[\\/?#]|$)/i;

/**
 * The path as it was sent, if it has `.` or `..` segments, so that it matches no route: a proxy in front judges a path by its beginning,
 * and must not be made to reach another page (`/healthz/../metrics`). Undefined: it has none.
 */
function climbing(env: object | undefined): string | undefined {
  const { incoming } = (env ?? {}) as { readonly incoming?: IncomingMessage };
  return incoming?.url !== undefined && CLIMBS.test(incoming.url) ? incoming.url : undefined;
}

export function createApp(deps: AppDeps): App {
  const { isOpen, log, matrixRtc, proxied } = deps;
  const assertOpen = () => {
    if (!isOpen()) throw unavailable('Shutting down');
  };
  const bodies = createBodies();
  const behind =
    proxied === undefined ? null : createMembershipsBehind({ ...deps, ...proxied, serverName: proxied.service.home.serverName });
  const taker = webhookTaker({ ...deps, assertOpen });
  // Doubled slashes count as one: clients append paths to base URLs that may end in a slash.
  const app = new Hono({
    getPath: (request, { env } = {}) => (climbing(env as object | undefined) ?? getPath(request)).replace(/\/{2,}/g, '/'),
  });
  const webhooks = webhookRoutes(taker, createBodies());
  for (const path of WEBHOOK_PATHS) app.route(path, webhooks);
  app.route('/v1/delegations', delegationRoutes({ ...deps, bodies, assertOpen, limit: createRateLimit(deps.clock, DELEGATIONS) }));
  const memberships = behind ?? createMemberships(deps);
  app.route('/', matrixRtcRoutes({ ...deps, ...matrixRtc, memberships, bodies, assertOpen, mayTell: onceAMinute(deps.clock) }));
  if (proxied !== undefined && behind !== null)
    app.route(
      '/',
      proxiedRoutes({ ...deps, ...proxied, memberships: behind, bodies, assertOpen, limit: createRateLimit(deps.clock, TOKENS) }),
    );
  app.route('/', operationRoutes(deps));
  app.notFound((c) => errorResponse(c, new MatrixError(404, 'M_UNRECOGNIZED', 'No such endpoint')));
  app.onError((error, c) => errorResponse(c, refusalOf(error, log)));
  // A fixed host name, because HTTP/1.0 sends none and no route depends on it.
  const framework = getRequestListener(app.fetch, { hostname: 'localhost' });
  return { hono: app, listener: webhookListener(taker, log, framework) };
}
