// A Redis that is not there at the start is waited for, and then it is said which, and what was the matter.
import { describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../src/clock.ts';
import { readConfig } from '../src/config/config.ts';
import { Registry } from '../src/library-parts.ts';
import { createLogger } from '../src/log.ts';
import { createMetrics } from '../src/metrics.ts';
import { type Opened, openSharedStore } from '../src/shared-store.ts';
import { NO_REDIS, RedisServer } from './support/redis-server.ts';
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

describe.skipIf(NO_REDIS !== null).concurrent(`beside another lastwill on a real Redis${NO_REDIS === null ? '' : `: ${NO_REDIS}`}`, () => {
  async function withRedis(
    told: (at: (url: string) => Promise<string[]>, closeAll: () => Promise<unknown>) => Promise<void>,
  ): Promise<void> {
    const server = await RedisServer.start();
    const opened: Opened[] = [];
    const toldAt = async (url: string): Promise<string[]> => {
      const lines: string[] = [];
      const read = readConfig({ NODE_ENV: 'development', LIVEKIT_URL: url, LIVEKIT_REDIS_URL: server.url }, () => '');
      if (read.kind !== 'config' || read.config.redis === null) throw new Error('no Redis is configured');
      const deps = { clock: systemClock(), random: systemRandom(), log: createLogger('error', (line) => void lines.push(line)) };
      const metrics = createMetrics(new Registry(), { process: false });
      opened.push(await openSharedStore(read.config, read.config.redis, { ...deps, metrics }));
      return lines.filter((line) => line.includes('LIVEKIT_URL'));
    };
    const closeAll = () => Promise.all(opened.splice(0).map(({ store }) => store.close()));
    try {
      await told(toldAt, closeAll);
      await closeAll();
    } finally {
      await server.end();
    }
  }

  test('is said which other SFU it has', { timeout: 60_000 }, () =>
    withRedis(async (toldAt) => {
      expect(await toldAt('wss://a.example.org')).toEqual([]);
      expect(await toldAt('wss://a.example.org')).toEqual([]);
      expect(await toldAt('wss://b.example.org')).toEqual([expect.stringContaining('"other":"wss://a.example.org"')]);
    }),
  );

  test('and not of one that is stopped', { timeout: 60_000 }, () =>
    withRedis(async (toldAt, closeAll) => {
      expect(await toldAt('wss://a.example.org')).toEqual([]);
      expect(await toldAt('wss://a.example.org')).toEqual([]);
      await closeAll();
      expect(await toldAt('wss://c.example.org')).toEqual([]);
    }),
  );
});
