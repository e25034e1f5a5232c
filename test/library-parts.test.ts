import { expect, test } from 'vitest';
import * as ours from '../src/undici.ts';

test("undici's parts are the public ones", async () => {
  const { Agent, buildConnector, Pool } = await import('undici');
  expect(ours.Agent).toBe(Agent);
  expect(ours.Pool).toBe(Pool);
  expect(ours.buildConnector).toBe(buildConnector);
});
