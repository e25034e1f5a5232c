import { expect, test } from 'vitest';
import * as ours from '../src/library-parts.ts';

test("undici's parts are the public ones", async () => {
  const { Agent, buildConnector, Pool } = await import('undici');
  expect(ours.Agent).toBe(Agent);
  expect(ours.Pool).toBe(Pool);
  expect(ours.buildConnector).toBe(buildConnector);
});

test("prom-client's parts are the public ones", async () => {
  const { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } = await import('prom-client');
  expect(ours.Registry).toBe(Registry);
  expect([ours.Counter, ours.Gauge, ours.Histogram]).toEqual([Counter, Gauge, Histogram]);
  expect(ours.defaultMetrics()).toBe(collectDefaultMetrics);
});

test("node's server is the public one", async () => {
  const { createServer, ServerResponse } = await import('node:http');
  expect(ours.createServer).toBe(createServer);
  expect(ours.ServerResponse).toBe(ServerResponse);
});
