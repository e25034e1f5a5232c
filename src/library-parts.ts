// What we need of undici, without the rest of it: its index loads four times as much (fetch, WebSocket, caches, mocks), which a start after
// a crash would have to wait for. test/undici.test.ts holds these against the public ones.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

export const Pool: typeof import('undici').Pool = require('undici/lib/dispatcher/pool.js');
export const Agent: typeof import('undici').Agent = require('undici/lib/dispatcher/agent.js');
export const buildConnector: typeof import('undici').buildConnector = require('undici/lib/core/connect.js');
