// All routes in one place, and the one way from an error to an answer.
import { Hono } from 'hono';
import { getPath } from 'hono/utils/url';
import type { Registry } from 'prom-client';
import type { Clock } from '../clock.ts';
import type { Engine } from '../engine/engine.ts';
import type { Discovery } from '../homeserver/discovery.ts';
import type { Served } from '../homeserver/served.ts';
import type { Keys } from '../sfu/keys.ts';
import { type Store, StoreUnavailable } from '../store/store.ts';
import type { Log, Metrics } from '../telemetry.ts';
import { delegationRoutes } from './delegations.ts';
import { errorResponse, MatrixError, unavailable } from './errors.ts';
import { createLimit } from './limit.ts';
import { type MatrixRtc, matrixRtcRoutes } from './matrixrtc.ts';
import { operationRoutes } from './operations.ts';
import { type Proxied, proxiedRoutes } from './proxied.ts';
import { webhookRoutes } from './webhooks.ts';

export interface AppDeps {
  readonly engine: Engine;
  readonly store: Store;
  readonly keys: Keys;
  readonly served: Served;
  readonly discovery: Discovery;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly registry: Registry;
  readonly log: Log;
  readonly matrixRtc: MatrixRtc;
  /** Undefined: no homeserver passes requests on to us. */
  readonly proxied?: Proxied;
  /** False while draining: nothing new is promised. */
  readonly isOpen: () => boolean;
}

export function createApp(deps: AppDeps): Hono {
  const { isOpen, log, matrixRtc, proxied } = deps;
  const assertOpen = () => {
    if (!isOpen()) throw unavailable('Shutting down');
  };
  // Clients join paths to base URLs that may end in a slash.
  const app = new Hono({ getPath: (request) => getPath(request).replace(/\/{2,}/g, '/') });
  const webhooks = webhookRoutes({ ...deps, assertOpen });
  app.route('/sfu_webhook', webhooks);
  app.route('/v1/webhook', webhooks);
  app.route('/v1/delegations', delegationRoutes({ ...deps, assertOpen, limit: createLimit(deps.clock) }));
  app.route('/', matrixRtcRoutes({ ...deps, ...matrixRtc, assertOpen }));
  if (proxied !== undefined) app.route('/', proxiedRoutes({ ...deps, ...proxied, assertOpen }));
  app.route('/', operationRoutes(deps));
  app.notFound((c) => errorResponse(c, new MatrixError(404, 'M_UNRECOGNIZED', 'No such endpoint')));
  app.onError((error, c) => {
    if (error instanceof MatrixError) return errorResponse(c, error);
    if (error instanceof StoreUnavailable) return errorResponse(c, unavailable('The store can not keep a promise now'));
    log.error({ err: error }, 'a request failed unexpectedly');
    return errorResponse(c, new MatrixError(500, 'M_UNKNOWN', 'Internal error'));
  });
  return app;
}
