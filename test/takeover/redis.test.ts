// The hash in a real Redis, and the claim by which replicas take turns.
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type Clock, systemClock, systemRandom } from '../../src/clock.ts';
import { parseRedisUrl } from '../../src/redis-url.ts';
import { type JobHash, openJobHash } from '../../src/takeover/redis.ts';
import { KINDS, RedisServer } from '../support/redis-server.ts';

for (const { name, binary, missing } of KINDS)
  describe.skipIf(missing !== null)(`a real ${name}${missing === null ? '' : `: ${missing}`}`, { sequential: true }, () => {
    let server: RedisServer;
    beforeAll(async () => {
      server = await RedisServer.start([], undefined, binary);
    });
    afterAll(() => server.end());

    async function open(clock: Clock = systemClock()): Promise<JobHash> {
      const place = parseRedisUrl(server.url, null);
      const hash = place === null ? null : await openJobHash(place, systemRandom(), clock);
      if (hash === null) throw new Error('a single server is a place');
      onTestFinished(hash.close);
      return hash;
    }

    test('one claims at a time, and the next as soon as the claim is given up', async () => {
      const [one, other] = [await open(), await open()];
      expect([await one.claim(), await other.claim()]).toEqual([true, false]);
      await one.release();
      expect(await other.claim()).toBe(true);
    });

    test('whoever was killed with it keeps nobody from the jobs for longer than their events last', async () => {
      await server.ask('DEL', 'lastwill:takeover');
      const killed = await open();
      expect(await killed.claim()).toBe(true);
      await killed.close();
      const leftMs = Number(await server.ask('PTTL', 'lastwill:takeover'));
      expect(leftMs).toBeLessThan(5_000);
      expect(leftMs, 'for ever').not.toBe(-1);
    });

    test('a claim that has run out and is another one’s by now is left to them', async () => {
      await server.ask('DEL', 'lastwill:takeover');
      const [slow, other] = [await open(), await open()];
      await slow.claim();
      await server.ask('DEL', 'lastwill:takeover');
      await other.claim();
      await slow.release();
      expect(await server.ask('EXISTS', 'lastwill:takeover')).toBe(1);
    });

    test('a Redis that says nothing is not waited for for ever, neither at first nor later', async () => {
      const clock: Clock = { ...systemClock(), after: (delayMs, fire) => systemClock().after(delayMs / 20, fire) };
      const hash = await open(clock);
      server.signal('SIGSTOP');
      try {
        await expect(open(clock)).rejects.toThrow();
        await expect(hash.claim()).rejects.toThrow();
        await expect(hash.read()).rejects.toThrow();
      } finally {
        server.signal('SIGCONT');
      }
    });

    test('jobs are read, and removed by their fields', async () => {
      await server.ask('HSET', 'lk-jwt:jobs', 'a', '1', 'b', '2');
      const hash = await open();
      expect(await hash.read()).toEqual(
        new Map([
          ['a', '1'],
          ['b', '2'],
        ]),
      );
      await hash.remove(new Map([['a', '1']]));
      await hash.remove(new Map());
      expect([...(await hash.read()).keys()]).toEqual(['b']);
      // What is there now is another job than the one that was read.
      await hash.remove(new Map([['b', '1']]));
      expect([...(await hash.read()).keys()]).toEqual(['b']);
    });
  });
