// What we need of some libraries, without what would come with it, which a start after a crash had to wait for. Measured: undici's index
// loads four times as much (fetch, WebSocket, caches, mocks), prom-client's the API of OpenTelemetry, zod's its words in fifty languages, and
// whoever imports `node:http` from a module has all its exports read, one of which is a whole WebSocket. test/library-parts.test.ts holds
// these against the public ones (hono's is a file of its own).
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

export const Pool: typeof import('undici').Pool = require('undici/lib/dispatcher/pool.js');
export const Agent: typeof import('undici').Agent = require('undici/lib/dispatcher/agent.js');
export const buildConnector: typeof import('undici').buildConnector = require('undici/lib/core/connect.js');

export const Registry: typeof import('prom-client').Registry = require('prom-client/lib/registry.js');
export const Counter: typeof import('prom-client').Counter = require('prom-client/lib/counter.js');
export const Gauge: typeof import('prom-client').Gauge = require('prom-client/lib/gauge.js');
export const Histogram: typeof import('prom-client').Histogram = require('prom-client/lib/histogram.js');
/** Loaded when it is asked for. */
export const defaultMetrics = (): typeof import('prom-client').collectDefaultMetrics => require('prom-client/lib/defaultMetrics.js');

export const { createServer, ServerResponse }: typeof import('node:http') = require('node:http');
export const { getRequestListener }: typeof import('@hono/node-server') = require('@hono/node-server');

// Each language is a file, and they are more than the rest of zod. English, which is its own, comes by itself.
const languages = require.resolve('zod/v4/locales');
require.cache[languages] ??= { id: languages, loaded: true, exports: {} } as NodeJS.Module;
export const { z }: typeof import('zod') = require('zod');
