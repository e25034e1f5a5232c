// What an operator is told of an SFU whose configuration does not fit.
import { describe, expect, it } from 'vitest';
import type { HomeserverUrl } from '../../src/delegation/ids.ts';
import type { Answer } from '../../src/delegation/state.ts';
import { createSfuAlarm } from '../../src/engine/sfu-alarm.ts';
import { createLogger } from '../../src/log.ts';
import { handOver, identity, room, sid } from '../support/fixtures.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';
import { EngineWorld } from './world.ts';

it.each([
  ['status 401', 'LIVEKIT_KEY and LIVEKIT_SECRET'],
  ['status 502, and no JSON', 'may not be the SFU'],
  ['refused', 'must be reachable from here'],
])('an SFU that answers %s: why, and what to do, once a minute', async (why, advice) => {
  const clock = createVirtualClock();
  const lines: string[] = [];
  const failed = createSfuAlarm({ clock, log: createLogger('info', (line) => void lines.push(line)) });
  for (let second = 0; second < 61; second += 1) {
    failed(why);
    await clock.advance(1_000);
  }
  expect(lines).toHaveLength(2);
  expect(lines[0]).toContain(advice);
});

describe('webhooks that never arrive', () => {
  const TOLD = 'no webhooks of the SFU arrive';

  async function crashed(people: number, hears: boolean): Promise<EngineWorld> {
    const world = new EngineWorld({ presenceIntervalMs: 10_000 });
    for (let n = 1; n <= people; n += 1) {
      const { id: _, ...rest } = handOver(n, { delayMs: 3_600_000, room: room(1) });
      world.join(room(1), identity(n), sid(n));
      await world.engine.handOver(rest);
      await world.clock.advance(20_000);
      if (hears) await world.webhook(room(1), identity(n), sid(n), 'joined');
      world.leave(room(1), identity(n));
      await world.clock.advance(60_000);
    }
    expect(world.actions('send')).toHaveLength(people);
    return world;
  }

  it('are told of once three have left without a word', async () => {
    expect((await crashed(2, false)).lines.join()).not.toContain(TOLD);
    expect((await crashed(6, false)).lines.filter((line) => line.includes(TOLD))).toHaveLength(1);
  });

  it('are not, where others come', async () => expect((await crashed(6, true)).lines.join()).not.toContain(TOLD));
});

describe('a leave that is overdue', () => {
  const METRIC = 'lastwill_overdue_leave_failures_total';
  const AWAY = 'https://away.example.org' as HomeserverUrl;

  async function leaves(world: EngineWorld, n: number, homeserver?: HomeserverUrl): Promise<void> {
    const { id: _, ...rest } = handOver(n, { delayMs: 3_600_000, ...(homeserver && { homeserver }) });
    world.join(rest.room, identity(n), sid(n));
    await world.engine.handOver(rest);
    await world.clock.advance(1_000);
    world.leave(rest.room, identity(n));
    await world.webhook(rest.room, identity(n), sid(n), 'left', world.clock.nowMs() - 1_000);
    await world.clock.advance(1_500);
  }

  it.each<Answer>([{ kind: 'failed', reached: false }, { kind: 'refused' }, { kind: 'limited', retryAfterMs: 2_000 }])(
    'is counted with each try that fails (%o), whatever other leaves get through, and no more once it is sent',
    async (answer) => {
      const world = new EngineWorld();
      let isAway = true;
      world.answer = (homeserver, call) =>
        isAway && homeserver === AWAY && call.kind === 'delay' && call.action === 'send' ? answer : { kind: 'ok' };
      await leaves(world, 1, AWAY);
      const counts: number[] = [];
      for (let n = 2; n <= 5; n += 1) {
        await world.clock.advance(30_000);
        await leaves(world, n);
        counts.push(await world.metric(METRIC));
      }
      expect(counts.every((count, nth) => count > (counts[nth - 1] ?? 0))).toBe(true);
      isAway = false;
      await world.clock.advance(20_000);
      const { leaving } = await world.store.count();
      const last = await world.metric(METRIC);
      await world.clock.advance(60_000);
      expect([leaving, await world.metric(METRIC)]).toEqual([0, last]);
    },
  );

  it('is none as long as it is on time', async () => {
    const world = new EngineWorld();
    let tries = 0;
    world.answer = (_, call) => {
      if (call.kind !== 'delay' || call.action !== 'send') return { kind: 'ok' };
      tries += 1;
      return tries <= 2 ? { kind: 'failed', reached: false } : { kind: 'ok' };
    };
    await leaves(world, 1);
    expect([tries, await world.metric(METRIC)]).toEqual([3, 0]);
  });
});
