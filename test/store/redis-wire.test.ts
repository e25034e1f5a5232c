// The way to Redis is renewed where servers are gone without a word.
import { expect, test } from 'vitest';
import { createAnswers } from '../../src/store/redis/answers.ts';
import { renewable, type Wire } from '../../src/store/redis/wire.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const SHARDS = [0, 1, 2];

/** A way by which those who are asked in these shards say nothing. */
function wire(silent: readonly number[]): Wire {
  const send = (key: string): Promise<unknown> => (silent.includes(Number(key)) ? new Promise(() => {}) : Promise.resolve('OK'));
  return { send, way: () => silent, close: () => {} };
}

test.each([
  ['nobody has taken the place of the first', [0]],
  ['nobody has taken the place of the last', [2]],
])('of two masters that are gone without a word, one has a successor: it is found, where %s', async (_, stillSilent) => {
  const clock = createVirtualClock();
  const ways = [wire([0, 2]), wire(stillSilent)];
  const renewed = await renewable(async () => ways.shift() ?? wire(stillSilent), clock);
  const answers = createAnswers(clock, (shards) =>
    renewed.renew(shards.map((shard) => ({ key: String(shard), isStillSo: () => answers.isSilent(shard) }))),
  );
  for (let second = 0; second < 30; second += 1) {
    for (const shard of SHARDS) answers.within(shard, () => renewed.send(String(shard), [])).catch(() => {});
    await clock.advance(1_000);
  }
  expect(SHARDS.filter((shard) => answers.isSilent(shard))).toEqual(stillSilent);
  answers.stop();
});
