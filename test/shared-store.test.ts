// A Redis that is not there at the start is waited for, and then it is said which, and what was the matter.
import { expect, test } from 'vitest';
import { systemRandom } from '../src/clock.ts';
import { readConfig } from '../src/config/config.ts';
import { Registry } from '../src/library-parts.ts';
import { openSharedStore } from '../src/shared-store.ts';
import { createLogger, createMetrics } from '../src/telemetry.ts';
import { createVirtualClock } from './support/virtual-clock.ts';

test('a Redis that does not come is named by its setting, without its password', async () => {
  const read = readConfig({ NODE_ENV: 'development', LIVEKIT_REDIS_URL: 'redis://:hush-hush@127.0.0.1:9' }, () => '');
  if (read.kind !== 'config' || read.config.redis === null) throw new Error('no Redis is configured');
  const clock = createVirtualClock();
  const lines: string[] = [];
  const deps = { clock, random: systemRandom(), log: createLogger('info', (line) => void lines.push(line)) };
  let failure: Error | null = null;
  const opened = openSharedStore(read.config, read.config.redis, { ...deps, metrics: createMetrics(new Registry(), { process: false }) });
  void opened.catch((error: Error) => {
    failure = error;
  });
  await expect
    .poll(
      async () => {
        await clock.advance(1_000);
        return failure?.message ?? '';
      },
      { interval: 10, timeout: 20_000 },
    )
    .toMatch(/^Redis, which LIVEKIT_REDIS_URL names, could not be used for 60 s: .*ECONNREFUSED/);
  expect(lines).toHaveLength(1);
  expect(`${failure} ${lines.join()}`).not.toContain('hush-hush');
});
