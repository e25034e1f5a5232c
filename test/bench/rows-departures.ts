// Rows about departures: how soon the leave is on the wire, and whether every one comes.
import { counter, nowMs, setCounter } from './shared.ts';
import {
  CONCURRENCY,
  checkAnswers,
  cpuFrom,
  fail,
  hold,
  lost,
  NO_WAIT,
  type Outcome,
  pause,
  prepared,
  quantile,
  type Row,
  type Setting,
  type Stage,
  staged,
  until,
  type Wanted,
} from './stage.ts';
import { closedLoop, type Load, openLoop } from './wire.ts';

const lastLeaveMs = ({ world }: Stage): number => world.shared.sentAt.reduce((last, one) => Math.max(last, one), 0);
const allSent = (stage: Stage, withinMs: number, count: number) => until(withinMs, () => counter(stage.world.shared, 'sends') >= count);

function latency(env: Readonly<Record<string, string>>, waitMs: number, label: string, wanted?: Wanted) {
  return (setting: Setting): Promise<Outcome> => {
    const [held, departing] = [10_000 * setting.scale, 2_500 * setting.scale];
    return staged(setting, { members: held, rooms: 100, env }, async (stage) => {
      const { world, subject, failures, figure } = stage;
      await hold(stage, 0, held);
      const webhooks = prepared(0, departing, (member) => subject.webhook('participant_left', member, 'CLIENT_INITIATED'));
      const toldAt = new Float64Array(departing);
      const load = await openLoop(subject.port, 500, departing, (member) => {
        world.gone(member, member + 1);
        toldAt[member] = nowMs();
        return webhooks[member] as string;
      });
      checkAnswers(failures, load, 200, 'webhooks');
      await allSent(stage, 15_000, departing);
      lost(stage, 0, departing);
      const took = toldAt.map((atMs, member) => (world.shared.sentAt[member] || Number.POSITIVE_INFINITY) - atMs - waitMs);
      figure(`${label}, p50`, 'ms', quantile(took, 0.5), wanted);
      figure(`${label}, p99`, 'ms', quantile(took, 0.99), wanted);
    });
  };
}

/** Everybody's webhook, as fast as it goes. */
async function depart(stage: Stage, members: number): Promise<Load> {
  const { subject, world, failures } = stage;
  const requests = prepared(0, members, (member) => subject.webhook('participant_left', member, 'CLIENT_INITIATED'));
  world.gone(0, members);
  const load = await closedLoop(subject.port, CONCURRENCY, members, (nth) => requests[nth] as string);
  checkAnswers(failures, load, 200, 'webhooks');
  return load;
}

async function burst(setting: Setting): Promise<Outcome> {
  const members = 10_000 * setting.scale;
  return staged(setting, { members, rooms: 100, env: NO_WAIT }, async (stage) => {
    const { subject, figure } = stage;
    await hold(stage, 0, members);
    const cpuEach = cpuFrom(subject);
    const startedMs = nowMs();
    const load = await depart(stage, members);
    await allSent(stage, 60_000, members);
    const tookMs = lastLeaveMs(stage) - startedMs;
    const generator = cpuEach(members).generator;
    // Its own record of the leaves comes a moment after them.
    await pause(500);
    lost(stage, 0, members);
    figure('burst of 10,000 departures, leaves', '/s', (members * 1000) / tookMs, { ratioAtLeast: 1.5 });
    figure('burst, webhooks', '/s', (members * 1000) / load.tookMs);
    figure('burst, CPU each', 'µs', cpuEach(members).subject);
    figure('burst, CPU each of generator and fakes', 'µs', generator);
  });
}

async function sick(setting: Setting): Promise<Outcome> {
  const members = 2_000 * setting.scale;
  return staged(setting, { members, rooms: 100, env: NO_WAIT }, async (stage) => {
    const { world, figure } = stage;
    await hold(stage, 0, members);
    setCounter(world.shared, 'slowMs', 300);
    setCounter(world.shared, 'failPercent', 10);
    const startedMs = nowMs();
    await depart(stage, members);
    await allSent(stage, 120_000, members);
    lost(stage, 0, members);
    const seconds = (lastLeaveMs(stage) - startedMs) / 1000;
    figure('2,000 departures, homeserver 300 ms a call and 10 % 502: last after', 's', seconds, { ratioAtMost: 0.5 });
  });
}

/** kill -9 with everybody held, who leave while it is down or as soon as it is there again. */
const killed =
  (when: 'down' | 'back') =>
  (setting: Setting): Promise<Outcome> => {
    const members = 10_000 * setting.scale;
    const env = when === 'back' ? NO_WAIT : {};
    return staged(setting, { members, rooms: 100, env }, async (stage) => {
      const { world, subject, figure, failures } = stage;
      await hold(stage, 0, members);
      await subject.kill();
      if (when === 'down') world.gone(0, members);
      const startedMs = nowMs();
      await subject.start();
      if (when === 'back') await depart(stage, members);
      await allSent(stage, subject.kind === 'peer' ? 20_000 : 60_000, members);
      const unsent = members - counter(world.shared, 'sends');
      figure(when === 'down' ? 'killed, all gone meanwhile: leaves lost' : 'killed, all leave afterwards: leaves lost', '', unsent, {
        atMost: 0,
      });
      if (subject.kind === 'peer') return;
      figure(
        when === 'down' ? 'killed, all gone meanwhile: last leave after' : 'killed, all leave afterwards: last leave after',
        's',
        (lastLeaveMs(stage) - startedMs) / 1000,
      );
      fail(failures, unsent, 'leaves lost');
    });
  };

export const DEPARTURE_ROWS: readonly Row[] = [
  {
    name: 'latency',
    help: 'webhook → leave, no wait',
    peer: true,
    run: latency(NO_WAIT, 0, 'webhook → leave, 10,000 held, 500/s', { ratioAtMost: 1 }),
  },
  {
    name: 'latency-wait',
    help: 'webhook → leave with the default wait, less the wait',
    peer: false,
    run: latency({}, 1_000, 'the same with the default wait, beyond it'),
  },
  { name: 'burst', help: '10,000 departures at once', peer: true, run: burst },
  { name: 'sick', help: 'departures with a slow and failing homeserver', peer: true, run: sick },
  { name: 'killed', help: 'kill -9 with 10,000 held, who leave while it is down', peer: true, run: killed('down') },
  { name: 'killed-back', help: 'kill -9 with 10,000 held, who leave when it is back', peer: true, run: killed('back') },
];
