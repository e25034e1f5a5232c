// Rows about what is only held: memory, what the SFU is asked, the processor at rest, restarts in time, and a start with all of it.
import { spawn } from 'node:child_process';
import { cpus } from 'node:os';
import { hoard } from './hoard.ts';
import { counter } from './shared.ts';
import { asked, delegate, fail, hold, type Outcome, pause, type Row, ranOut, type Setting, staged } from './stage.ts';

async function startup(setting: Setting): Promise<Outcome> {
  return staged(setting, { members: 1, rooms: 1 }, async ({ subject, figure }) => {
    await subject.kill();
    figure('start-up to ready', 'ms', await subject.start(), { atMost: 300 });
  });
}

async function memory(setting: Setting): Promise<Outcome> {
  const [some, all] = [10_000 * setting.scale, 100_000 * setting.scale];
  return staged(setting, { members: all, rooms: 1_000 }, async (stage) => {
    const { subject, figure } = stage;
    await pause(2_000);
    figure('RSS, nothing held', 'MB', subject.rssMb());
    await hold(stage, 0, some);
    await pause(5_000);
    figure('RSS, 10,000 held', 'MB', subject.rssMb());
    await hold(stage, some, all);
    await pause(5_000);
    figure('RSS, 100,000 held', 'MB', subject.rssMb(), { atMost: 200 });
    await pause(25_000);
    figure('RSS, 100,000 held, half a minute later', 'MB', subject.rssMb(), { atMost: 200 });
    if (subject.kind === 'peer') return;
    await subject.kill();
    figure('start-up to ready, 100,000 held', 'ms', await subject.start(), { atMost: 1_000 });
    await pause(10_000);
    figure('RSS, 10 s after that', 'MB', subject.rssMb());
  });
}

/** So many can't be handed over in the time of a bench: the file is filled by the store itself, and then found by a new start. */
async function million(setting: Setting): Promise<Outcome> {
  const members = 1_000_000 * setting.scale;
  const prepare: NonNullable<Parameters<typeof staged>[1]['prepare']> = async (dataDir, world) => {
    world.enter(0, members);
    await hoard(dataDir, world, members);
  };
  return staged(setting, { members, rooms: 10_000, prepare }, async ({ subject, world, figure }) => {
    await subject.kill();
    figure('start-up to ready, 1,000,000 held', 'ms', await subject.start());
    await pause(60_000);
    figure('RSS, 1,000,000 held', 'MB', subject.rssMb(), { atMost: 400 });
    figure('1,000,000 held, SFU calls', '/s', asked(world) / 60);
  });
}

const idle =
  (where: 'joined' | 'absent') =>
  (setting: Setting): Promise<Outcome> => {
    const [members, watchedMs] = [10_000 * setting.scale, 20_000];
    const env = { LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS: '10' };
    return staged(setting, { members, rooms: 100, env }, async (stage) => {
      const { world, subject, figure } = stage;
      if (where === 'joined') await hold(stage, 0, members);
      else await delegate(stage, 0, members, { absent: true });
      await pause(5_000);
      const [cpuMs, asks] = [subject.cpuMs(), asked(world)];
      await pause(watchedMs);
      const what = where === 'joined' ? '10,000 held' : '10,000 held, not joined yet';
      figure(`${what}, idle, CPU`, '%', (100 * (subject.cpuMs() - cpuMs)) / watchedMs, { atMost: 2 });
      // A list a room and interval; where nobody is listed, the room itself is looked at, too.
      const most = (100 * watchedMs) / 10_000;
      figure(`${what}, SFU calls in 20 s`, '', asked(world) - asks, { atMost: where === 'joined' ? most : 2 * most });
    });
  };

const wave =
  (competing: boolean) =>
  (setting: Setting): Promise<Outcome> => {
    const [members, watchedMs] = [20_000 * setting.scale, 40_000];
    return staged(setting, { members, rooms: 1_000, delayMs: 10_000 }, async (stage) => {
      const { world, subject, figure, failures } = stage;
      const { shared } = world;
      // Arrivals at a bearable pace: the row is about the restarts.
      await delegate(stage, 0, members, { perSecond: 500 });
      const before = {
        restarts: counter(shared, 'restarts'),
        late: counter(shared, 'restartsLate'),
        cpuMs: subject.cpuMs(),
        asks: asked(world),
      };
      const stop = competing ? burn() : () => {};
      await pause(watchedMs);
      stop();
      const seconds = watchedMs / 1000;
      const what = competing ? 'restart wave beside other work' : 'restart wave';
      figure(`${what}, false leaves`, '%', (100 * ranOut(world)) / members, competing ? { ratioAtMost: 0.1 } : { atMost: 0 });
      figure(`${what}, restarts`, '/s', (counter(shared, 'restarts') - before.restarts) / seconds);
      figure(`${what}, after 90 % of the delay`, '', counter(shared, 'restartsLate') - before.late);
      figure(`${what}, SFU calls`, '/s', (asked(world) - before.asks) / seconds);
      figure(`${what}, CPU`, '%', ((subject.cpuMs() - before.cpuMs) / watchedMs) * 100);
      fail(
        failures,
        shared.restarts.reduce((count, one) => (one === 0 ? count + 1 : count), 0),
        'never restarted',
      );
    });
  };

/** Other work that wants every processor; ends when it is told to. */
function burn(): () => void {
  const busy = cpus().map(() => spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }));
  const stop = (): void => {
    for (const child of busy) child.kill('SIGKILL');
  };
  process.once('exit', stop);
  return stop;
}

export const HELD_ROWS: readonly Row[] = [
  { name: 'startup', help: 'start-up to ready, nothing held', peer: true, run: startup },
  { name: 'memory', help: 'RSS with 0, 10,000 and 100,000 held, and a start with them', peer: true, run: memory },
  { name: 'million', help: 'RSS with 1,000,000 held', peer: false, run: million },
  { name: 'idle', help: 'CPU and SFU calls with 10,000 held', peer: true, run: idle('joined') },
  { name: 'absent', help: 'the same before they have joined', peer: true, run: idle('absent') },
  { name: 'wave', help: '20,000 delegations with a delay of 10 s', peer: true, run: wave(false) },
  { name: 'wave-loaded', help: 'the same while other work wants the processors', peer: true, run: wave(true) },
];
