// /healthz, /readyz and /metrics, for orchestrators and Prometheus.
import { Hono } from 'hono';
import type { Registry } from 'prom-client';
import type { Clock } from '../clock.ts';
import { LIMITED_ADVICE } from '../engine/alarms.ts';
import type { Engine } from '../engine/engine.ts';
import type { Metrics } from '../metrics.ts';
import { MatrixError } from './errors.ts';
import { createRateLimit } from './rate-limit.ts';

export interface OperationsDeps {
  readonly engine: Engine;
  readonly metrics: Metrics;
  readonly registry: Registry;
  readonly clock: Pick<Clock, 'nowMs' | 'endOfTurn'>;
  readonly isOpen: () => boolean;
}

/**
 * How often the page of metrics is written anew: to write it takes as long as a dozen other requests, and anyone may ask. Beyond, the latest one
 * is answered, which is a moment old.
 */
const PAGES = { burst: 20, perSecond: 20 };

export function operationRoutes({ engine, metrics, registry, clock, isOpen }: OperationsDeps): Hono {
  const app = new Hono();
  const pages = createRateLimit<'metrics'>(clock, PAGES);
  let latest: Promise<string> | null = null;
  let isOfThisTurn = false;

  /** One for all who ask in the same turn of the event loop. */
  function metricsPage(): Promise<string> {
    if (latest !== null && (isOfThisTurn || pages.take('metrics') > 0)) return latest;
    metrics.watchProcess();
    latest = registry.metrics();
    isOfThisTurn = true;
    clock.endOfTurn(() => {
      isOfThisTurn = false;
    });
    return latest;
  }

  // Hono answers HEAD by the GET route.
  app.get('/healthz', (c) => c.json({ status: 'ok' }));
  app.get('/readyz', async (c) => {
    const writable = await engine.canKeep();
    const ready = writable && isOpen();
    // An SFU that is away must not take its sidecar out of service: webhooks and hand-overs can still be kept.
    const sfu = engine.sfuReachable === null ? 'unknown' : engine.sfuReachable ? 'reachable' : 'unreachable';
    // Nor must a homeserver that limits our calls; it is named here, with the setting to change.
    const limits = engine.limiting.map((homeserver) => ({ homeserver, advice: LIMITED_ADVICE }));
    const detail = { store: writable ? 'writable' : 'not writable', draining: !isOpen(), sfu, ...(limits.length > 0 && { limits }) };
    return c.json({ ready, ...detail }, ready ? 200 : 503);
  });
  app.get('/metrics', async (c) => c.body(await metricsPage(), 200, { 'Content-Type': registry.contentType }));
  for (const page of ['/healthz', '/readyz', '/metrics']) {
    app.all(page, (c) => {
      c.header('Allow', 'GET, HEAD');
      throw new MatrixError(405, 'M_UNRECOGNIZED', 'The method must be GET or HEAD');
    });
  }
  return app;
}
