// Thousands whose people all seem to be gone, as after a long stop, each to be asked about at an SFU that takes its time: whoever comes anew
// with a short delay is restarted meanwhile.
import { expect, test } from 'vitest';
import { handOver, identity, room, row, sid } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

const GONE = 8_000;
const STAY = 40;
const SHORT_MS = 10_000;

test('of whoever is there nobody runs out while thousands are looked for who are not', async () => {
  const world = new EngineWorld();
  const { clock, store } = world;
  await clock.advance(1);
  const restartedMs = new Map<string, number>();
  const gapsMs: number[] = [];
  world.answer = (_, call) => {
    if (call.kind === 'delay' && call.action === 'restart') {
      gapsMs.push(clock.nowMs() - (restartedMs.get(call.delayId) ?? clock.nowMs()));
      restartedMs.set(call.delayId, clock.nowMs());
    }
    return { kind: 'ok' };
  };
  for (let n = 1; n <= STAY; n += 1) {
    const { id: _, ...rest } = handOver(n, { delayMs: SHORT_MS });
    world.join(room(n), identity(n), sid(n));
    await world.engine.handOver(rest);
    await clock.advance(200);
  }
  world.sfuMs = 200;
  const rows = Array.from({ length: GONE }, (_, nth) => row(STAY + 1 + nth, { kind: 'settling', dueMs: clock.nowMs() }));
  const put = (one: (typeof rows)[number]) =>
    store.update({ by: 'id', room: one.room, id: one.id }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null }));
  await Promise.all(rows.map(put));
  const startMs = clock.nowMs();
  while (world.actions('send').length < GONE && clock.nowMs() - startMs < 60_000) await clock.advance(100);
  expect([restartedMs.size, Math.max(...gapsMs) < SHORT_MS]).toEqual([STAY, true]);
  // And those who are gone are let go as soon as the SFU can have answered for each of them twice, and for those who are there.
  expect(world.actions('send')).toHaveLength(GONE);
  expect(clock.nowMs() - startMs).toBeLessThan(3 * (GONE / 256) * world.sfuMs);
});
