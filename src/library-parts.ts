// The parts of some libraries that are used, loaded without the rest, so that a start after a crash is quick. Measured: undici's index
// loads four times as much (fetch, WebSocket, caches, mocks), prom-client's the API of OpenTelemetry, zod's its messages in fifty
// languages; and to import `node:http` from an ES module reads all of its exports, one of which is a whole WebSocket.
// test/library-parts.test.ts checks that these are the same as the public exports.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

export const Pool: typeof import('undici').Pool = require('undici/lib/dispatcher/pool.js');
export const Agent: typeof import('undici').Agent = require('undici/lib/dispatcher/agent.js');
export const buildConnector: typeof import('undici').buildConnector = require('undici/lib/core/connect.js');

export const Registry: typeof import('prom-client').Registry = require('prom-client/lib/registry.js');
export const Counter: typeof import('prom-client').Counter = require('prom-client/lib/counter.js');
export const Gauge: typeof import('prom-client').Gauge = require('prom-client/lib/gauge.js');
export const Histogram: typeof import('prom-client').Histogram = require('prom-client/lib/histogram.js');
/** Loaded when it is called: only a scrape needs it. */
export const defaultMetrics = (): typeof import('prom-client').collectDefaultMetrics => require('prom-client/lib/defaultMetrics.js');

export const { createServer, ServerResponse }: typeof import('node:http') = require('node:http');
export const { getRequestListener }: typeof import('@hono/node-server') = require('@hono/node-server');

// Each language is a file, and together they are more than the rest of zod. English, the default, is not among them and stays.
const languages = require.resolve('zod/v4/locales');
require.cache[languages] ??= { id: languages, loaded: true, exports: {} } as NodeJS.Module;
export const { z }: typeof import('zod') = require('zod');
