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

test("zod's part is all of it but for languages other than English, and says what is wrong as the public one does", async () => {
  const { z } = await import('zod');
  expect(Object.keys(ours.z).sort()).toEqual(Object.keys(z).sort());
  const faults = (zod: typeof z) =>
    [zod.string(), zod.int().min(3), zod.strictObject({ a: zod.boolean() }), zod.tuple([zod.number()])].map(
      (schema) => schema.safeParse({ b: 1 }).error?.issues,
    );
  expect(faults(ours.z)).toEqual(faults(z));
  expect(faults(ours.z)[0]?.[0]?.message).toBe('Invalid input: expected string, received object');
});
