// Rows about single requests: tokens, hand-overs, webhooks that change nothing.
import { counter } from './shared.ts';
import {
  CONCURRENCY,
  checkAnswers,
  cpuFrom,
  delegate,
  hold,
  type Outcome,
  pause,
  prepared,
  quantile,
  type Row,
  type Setting,
  staged,
  until,
} from './stage.ts';
import { closedLoop } from './wire.ts';

const webhooks =
  (event: 'track_published' | 'participant_joined') =>
  (setting: Setting): Promise<Outcome> =>
    staged(setting, { members: 1_000, rooms: 100 }, async (stage) => {
      const { subject, failures, figure } = stage;
      const count = 20_000 * setting.scale;
      await hold(stage, 0, 1_000);
      const requests = prepared(0, count, (nth) => subject.webhook(event, nth % 1_000));
      const cpuEach = cpuFrom(subject);
      const load = await closedLoop(subject.port, CONCURRENCY, count, (nth) => requests[nth] as string);
      const cpu = cpuEach(count);
      checkAnswers(failures, load, 200, 'webhooks');
      const isIrrelevant = event === 'track_published';
      const what = isIrrelevant ? 'irrelevant webhooks' : 'relevant webhooks';
      figure(what, '/s', (count * 1000) / load.tookMs, isIrrelevant ? { ratioAtLeast: 0.9 } : undefined);
      figure(`${what}, CPU each`, 'µs', cpu.subject, isIrrelevant ? { atMost: 70 } : undefined);
    });

async function delegations(setting: Setting): Promise<Outcome> {
  const loads = [
    [1, 1_000],
    [16, 8_000],
    [64, 15_000],
  ] as const;
  return staged(setting, { members: 24_000 * setting.scale, rooms: 1_000 }, async (stage) => {
    const { subject, world, failures, figure } = stage;
    let from = 0;
    for (const [concurrency, full] of loads) {
      const count = full * setting.scale;
      const cpuEach = cpuFrom(subject);
      const load = await delegate(stage, from, from + count, { concurrency });
      const cpu = cpuEach(count);
      figure(`delegations, c = ${concurrency}`, '/s', (count * 1000) / load.tookMs);
      figure(`delegations, c = ${concurrency}, p99`, 'ms', quantile(load.latencies, 0.99));
      if (concurrency === 64) figure('delegations, CPU each', 'µs', cpu.subject);
      from += count;
      await pause(2_000);
    }
    if (subject.kind === 'peer') return;
    const found = (): boolean => world.shared.restarts.every((count) => count > 0);
    if (!(await until(60_000, found))) failures.push('participants on the SFU were not found');
  });
}

const tokens =
  (delegates: boolean) =>
  (setting: Setting): Promise<Outcome> =>
    staged(setting, { members: 16_000 * setting.scale, rooms: 500, openId: true }, async ({ subject, world, failures, figure }) => {
      const what = delegates ? '/get_token with a delegation' : '/get_token';
      const times = { ratioAtLeast: delegates ? 4 : 3 };
      let from = 0;
      for (const [concurrency, full] of [
        [1, 1_000],
        [16, 5_000],
        [64, 10_000],
      ] as const) {
        const count = full * setting.scale;
        const requests = prepared(from, from + count, (member) => subject.dropIn('/get_token', member, delegates));
        world.enter(from, from + count);
        const cpuEach = cpuFrom(subject);
        const load = await closedLoop(subject.port, concurrency, count, (nth) => requests[nth] as string);
        const cpu = cpuEach(count);
        checkAnswers(failures, load, 200, 'tokens');
        const isMany = concurrency > 1;
        figure(`${what}, c = ${concurrency}`, '/s', (count * 1000) / load.tookMs, isMany ? times : undefined);
        const p99 = quantile(load.latencies, 0.99);
        figure(`${what}, c = ${concurrency}, p99`, 'ms', p99, isMany && !delegates ? { ratioAtMost: 1 / 3 } : undefined);
        if (concurrency === 64) {
          figure(`${what}, CPU each`, 'µs', cpu.subject, delegates ? undefined : { atMost: 300 });
          figure(`${what}, CPU each of generator and fakes`, 'µs', cpu.generator);
        }
        from += count;
        await pause(1_000);
      }
      const looks = counter(world.shared, 'openid');
      if (looks !== from) failures.push(`${looks} OpenID look-ups for ${from} requests`);
    });

/** What many token requests leave in memory, once the memory that any service warms up to is there. */
async function growth(setting: Setting): Promise<Outcome> {
  const [warm, count] = [5_000 * setting.scale, 60_000 * setting.scale];
  return staged(setting, { members: warm + count, rooms: 500, openId: true }, async ({ subject, world, failures, figure }) => {
    const load = async (from: number, to: number): Promise<void> => {
      const make = (nth: number) => subject.dropIn('/get_token', from + nth, false);
      checkAnswers(failures, await closedLoop(subject.port, CONCURRENCY, to - from, make), 200, 'tokens');
    };
    world.enter(0, warm + count);
    await load(0, warm);
    await pause(2_000);
    const beforeMb = subject.rssMb();
    await load(warm, warm + count);
    await pause(5_000);
    figure('memory kept after 60,000 tokens, each', 'KB', ((subject.rssMb() - beforeMb) * 1000) / count, { atMost: 1 });
  });
}

export const REQUEST_ROWS: readonly Row[] = [
  { name: 'token', help: '/get_token', peer: true, run: tokens(false) },
  { name: 'token-delegation', help: '/get_token with a delegation', peer: true, run: tokens(true) },
  { name: 'delegations', help: 'hand-overs of participants on the SFU', peer: true, run: delegations },
  { name: 'irrelevant', help: 'track_published', peer: true, run: webhooks('track_published') },
  { name: 'relevant', help: 'participant_joined of held delegations', peer: true, run: webhooks('participant_joined') },
  { name: 'growth', help: 'memory kept after 60,000 tokens', peer: true, run: growth },
];
