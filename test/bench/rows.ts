// What is measured, row by row. Each row starts its subject anew with an empty data folder, checks every answer, and says what was lost:
// a row with a loss or a false leave is a failed row, however fast.
import { counter, nowMs, setCounter } from './shared.ts';
import { Subject, type SubjectKind } from './subject.ts';
import { closedLoop, type Load, openLoop, written } from './wire.ts';
import { startWorld, type World } from './world.ts';

export interface Figure {
  readonly label: string;
  readonly unit: string;
  readonly value: number;
}
export interface Outcome {
  readonly figures: readonly Figure[];
  /** What was lost, late, wrong or double; none: the row counts. */
  readonly failures: readonly string[];
}
export interface Setting {
  readonly kind: SubjectKind;
  readonly command: string | null;
  readonly profileDir: string | null;
}
export interface Row {
  readonly name: string;
  readonly help: string;
  /** False: lastwill only, the peer has nothing like it. */
  readonly peer: boolean;
  readonly run: (setting: Setting) => Promise<Outcome>;
}

const HOUR_MS = 3_600_000;
const CONCURRENCY = 64;
const NO_WAIT = { LASTWILL_WAIT_LEFT_MS: '0' };

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(withinMs: number, done: () => boolean): Promise<boolean> {
  const endMs = nowMs() + withinMs;
  while (!done()) {
    if (nowMs() > endMs) return false;
    await pause(10);
  }
  return true;
}

export function quantile(values: ArrayLike<number>, part: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(Math.floor(sorted.length * part), sorted.length - 1)] ?? Number.NaN;
}

interface Stage {
  readonly world: World;
  readonly subject: Subject;
  readonly failures: string[];
  figure(label: string, unit: string, value: number): void;
}
interface Wanted {
  readonly members: number;
  readonly rooms: number;
  readonly delayMs?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Asks the homeserver over federation who a token belongs to. */
  readonly openId?: boolean;
}

/** A fresh world and subject; whatever happens, both end. */
async function staged(setting: Setting, wanted: Wanted, play: (stage: Stage) => Promise<void>): Promise<Outcome> {
  const world = await startWorld(wanted.members, wanted.rooms, wanted.delayMs ?? HOUR_MS, {
    tls: setting.kind === 'peer' || wanted.openId === true,
  });
  const subject = new Subject({ ...setting, world, env: wanted.env ?? {} });
  const figures: Figure[] = [];
  const failures: string[] = [];
  try {
    await subject.start();
    await play({ world, subject, failures, figure: (label, unit, value) => figures.push({ label, unit, value }) });
    const { shared } = world;
    fail(failures, counter(shared, 'falseSends'), 'false leaves sent');
    fail(failures, ranOut(world), 'false leaves by a timer that ran out');
    fail(failures, counter(shared, 'other'), 'requests that no one expected');
  } finally {
    await subject.end();
    await world.close();
  }
  return { figures, failures };
}

function fail(failures: string[], count: number, what: string): void {
  if (count > 0) failures.push(`${count} ${what}`);
}

/** Events whose time was over while their member was on the SFU. */
function ranOut({ shared }: World): number {
  const atMs = nowMs();
  let count = 0;
  for (let member = 0; member < shared.size; member += 1) {
    if (shared.present[member] !== 1 || shared.startedAt[member] === 0) continue;
    if (shared.expired[member] === 1 || atMs - (shared.startedAt[member] ?? 0) > shared.delayMs) count += 1;
  }
  return count;
}

function checkAnswers(failures: string[], { statuses }: Load, expected: number, what: string): void {
  for (const [status, count] of statuses) if (status !== expected) failures.push(`${count} ${what} answered ${status}`);
}

function prepared(from: number, to: number, make: (member: number) => string): string[] {
  return Array.from({ length: to - from }, (_, nth) => make(from + nth));
}

/** At a pace where one is given, as fast as it goes otherwise. */
async function delegate(
  { world, subject, failures }: Stage,
  from: number,
  to: number,
  how: { concurrency?: number; perSecond?: number } = {},
): Promise<Load> {
  const requests = prepared(from, to, (member) => subject.delegation(member));
  world.enter(from, to);
  const make = (nth: number): string => {
    world.shared.startedAt[from + nth] = nowMs();
    return requests[nth] as string;
  };
  const load =
    how.perSecond === undefined
      ? await closedLoop(subject.port, how.concurrency ?? CONCURRENCY, to - from, make)
      : await openLoop(subject.port, how.perSecond, to - from, make);
  checkAnswers(failures, load, subject.taken, 'delegations');
  return load;
}

/** Delegated, seen on the SFU and restarted once. */
async function hold(stage: Stage, from: number, to: number): Promise<void> {
  await delegate(stage, from, to);
  // The peer looks after its participants in its own time.
  if (stage.subject.kind === 'peer') return pause(5_000);
  const { restarts } = stage.world.shared;
  const missing = (): number => restarts.subarray(from, to).reduce((count, one) => (one === 0 ? count + 1 : count), 0);
  await until(120_000, () => missing() === 0);
  fail(stage.failures, missing(), 'participants on the SFU were not found');
}

function lost({ world, failures }: Stage, from: number, to: number): void {
  let missing = 0;
  for (let member = from; member < to; member += 1) if (world.shared.sentAt[member] === 0) missing += 1;
  fail(failures, missing, 'leaves lost');
  fail(failures, counter(world.shared, 'sendsAgain'), 'leaves sent twice');
}

function latency(env: Readonly<Record<string, string>>, waitMs: number, label: string) {
  const [held, departing] = [10_000, 2_500];
  return (setting: Setting): Promise<Outcome> =>
    staged(setting, { members: held, rooms: 100, env }, async (stage) => {
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
      await until(15_000, () => counter(world.shared, 'sends') >= departing);
      lost(stage, 0, departing);
      const took = toldAt.map((atMs, member) => (world.shared.sentAt[member] || Number.POSITIVE_INFINITY) - atMs - waitMs);
      figure(`${label}, p50`, 'ms', quantile(took, 0.5));
      figure(`${label}, p99`, 'ms', quantile(took, 0.99));
    });
}

const WEBHOOKS = 20_000;
const webhooks =
  (event: 'track_published' | 'participant_joined') =>
  (setting: Setting): Promise<Outcome> =>
    staged(setting, { members: 1_000, rooms: 100 }, async (stage) => {
      const { subject, failures, figure } = stage;
      await hold(stage, 0, 1_000);
      const requests = prepared(0, WEBHOOKS, (nth) => subject.webhook(event, nth % 1_000));
      const beforeMs = subject.cpuMs();
      const load = await closedLoop(subject.port, CONCURRENCY, WEBHOOKS, (nth) => requests[nth] as string);
      checkAnswers(failures, load, 200, 'webhooks');
      const what = event === 'track_published' ? 'irrelevant webhooks' : 'relevant webhooks';
      figure(what, '/s', (WEBHOOKS * 1000) / load.tookMs);
      figure(`${what}, CPU each`, 'µs', ((subject.cpuMs() - beforeMs) * 1000) / WEBHOOKS);
    });

async function delegations(setting: Setting): Promise<Outcome> {
  const loads = [
    [1, 1_000],
    [16, 8_000],
    [64, 15_000],
  ] as const;
  return staged(setting, { members: 24_000, rooms: 1_000 }, async (stage) => {
    const { subject, world, failures, figure } = stage;
    let from = 0;
    for (const [concurrency, count] of loads) {
      const beforeMs = subject.cpuMs();
      const load = await delegate(stage, from, from + count, { concurrency });
      figure(`delegations, c = ${concurrency}`, '/s', (count * 1000) / load.tookMs);
      figure(`delegations, c = ${concurrency}, p99`, 'ms', quantile(load.latencies, 0.99));
      if (concurrency === 64) figure('delegations, CPU each', 'µs', ((subject.cpuMs() - beforeMs) * 1000) / count);
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
    staged(setting, { members: 16_000, rooms: 500, openId: true }, async ({ subject, world, failures, figure }) => {
      const what = delegates ? '/get_token with a delegation' : '/get_token';
      let from = 0;
      for (const [concurrency, count] of [
        [1, 1_000],
        [16, 5_000],
        [64, 10_000],
      ] as const) {
        const requests = prepared(from, from + count, (member) => subject.dropIn('/get_token', member, delegates));
        world.enter(from, from + count);
        const beforeMs = subject.cpuMs();
        const load = await closedLoop(subject.port, concurrency, count, (nth) => requests[nth] as string);
        checkAnswers(failures, load, 200, 'tokens');
        figure(`${what}, c = ${concurrency}`, '/s', (count * 1000) / load.tookMs);
        figure(`${what}, c = ${concurrency}, p99`, 'ms', quantile(load.latencies, 0.99));
        if (concurrency === 64) figure(`${what}, CPU each`, 'µs', ((subject.cpuMs() - beforeMs) * 1000) / count);
        from += count;
        await pause(1_000);
      }
      const asked = counter(world.shared, 'openid');
      if (asked !== from) failures.push(`${asked} OpenID look-ups for ${from} requests`);
    });

async function memory(setting: Setting): Promise<Outcome> {
  return staged(setting, { members: 100_000, rooms: 1_000 }, async (stage) => {
    const { subject, figure } = stage;
    await pause(2_000);
    figure('RSS, nothing held', 'MB', subject.rssMb());
    await hold(stage, 0, 10_000);
    await pause(5_000);
    figure('RSS, 10,000 held', 'MB', subject.rssMb());
    await hold(stage, 10_000, 100_000);
    await pause(5_000);
    figure('RSS, 100,000 held', 'MB', subject.rssMb());
    if (subject.kind === 'peer') return;
    await subject.kill();
    figure('start-up to ready, 100,000 held', 'ms', await subject.start());
    await pause(10_000);
    figure('RSS, 10 s after that', 'MB', subject.rssMb());
  });
}

async function startup(setting: Setting): Promise<Outcome> {
  return staged(setting, { members: 1, rooms: 1 }, async ({ subject, figure }) => {
    await subject.kill();
    figure('start-up to ready', 'ms', await subject.start());
  });
}

async function wave(setting: Setting): Promise<Outcome> {
  const [members, watchedMs] = [20_000, 40_000];
  return staged(setting, { members, rooms: 1_000, delayMs: 10_000 }, async (stage) => {
    const { world, subject, figure, failures } = stage;
    const { shared } = world;
    // Arrivals at a bearable pace: the row is about the restarts.
    await delegate(stage, 0, members, { perSecond: 500 });
    const before = { restarts: counter(shared, 'restarts'), cpuMs: subject.cpuMs(), asks: asked(world) };
    await pause(watchedMs);
    const seconds = watchedMs / 1000;
    const out = ranOut(world);
    figure('restart wave, in time', '%', (100 * (members - out)) / members);
    figure('restart wave, restarts', '/s', (counter(shared, 'restarts') - before.restarts) / seconds);
    figure('restart wave, after 90 % of the delay', '', counter(shared, 'restartsLate'));
    figure('restart wave, SFU calls', '/s', (asked(world) - before.asks) / seconds);
    figure('restart wave, CPU', '%', ((subject.cpuMs() - before.cpuMs) / watchedMs) * 100);
    fail(
      failures,
      shared.restarts.reduce((count, one) => (one === 0 ? count + 1 : count), 0),
      'never restarted',
    );
  });
}

const asked = ({ shared }: World): number =>
  counter(shared, 'ListParticipants') + counter(shared, 'ListRooms') + counter(shared, 'GetParticipant');

async function burst(setting: Setting): Promise<Outcome> {
  const members = 10_000;
  return staged(setting, { members, rooms: 100, env: NO_WAIT }, async (stage) => {
    const { world, subject, failures, figure } = stage;
    await hold(stage, 0, members);
    const requests = prepared(0, members, (member) => subject.webhook('participant_left', member, 'CLIENT_INITIATED'));
    world.gone(0, members);
    const beforeMs = subject.cpuMs();
    const startedMs = nowMs();
    const load = await closedLoop(subject.port, CONCURRENCY, members, (nth) => requests[nth] as string);
    checkAnswers(failures, load, 200, 'webhooks');
    await until(60_000, () => counter(world.shared, 'sends') >= members);
    const tookMs = world.shared.sentAt.reduce((last, one) => Math.max(last, one), 0) - startedMs;
    await pause(500);
    lost(stage, 0, members);
    figure('burst of 10,000 departures, leaves', '/s', (members * 1000) / tookMs);
    figure('burst, webhooks', '/s', (members * 1000) / load.tookMs);
    figure('burst, CPU each', 'µs', ((subject.cpuMs() - beforeMs) * 1000) / members);
  });
}

async function idle(setting: Setting): Promise<Outcome> {
  const [members, watchedMs] = [10_000, 20_000];
  const env = { LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS: '10' };
  return staged(setting, { members, rooms: 100, env }, async (stage) => {
    const { world, subject, figure } = stage;
    await hold(stage, 0, members);
    await pause(5_000);
    const [cpuMs, asks] = [subject.cpuMs(), asked(world)];
    await pause(watchedMs);
    figure('10,000 held, idle, CPU', '%', (100 * (subject.cpuMs() - cpuMs)) / watchedMs);
    figure('10,000 held, SFU calls in 20 s', '', asked(world) - asks);
  });
}

/** kill -9, everybody leaves while it is down, and it is started again. */
async function killed(setting: Setting): Promise<Outcome> {
  const members = 10_000;
  return staged(setting, { members, rooms: 100 }, async (stage) => {
    const { world, subject, figure } = stage;
    await hold(stage, 0, members);
    await subject.kill();
    world.gone(0, members);
    const startedMs = nowMs();
    await subject.start();
    await until(60_000, () => counter(world.shared, 'sends') >= members);
    lost(stage, 0, members);
    figure(
      'killed, all gone meanwhile: last leave after',
      's',
      (world.shared.sentAt.reduce((a, b) => Math.max(a, b), 0) - startedMs) / 1000,
    );
  });
}

async function sick(setting: Setting): Promise<Outcome> {
  const members = 2_000;
  return staged(setting, { members, rooms: 100, env: NO_WAIT }, async (stage) => {
    const { world, subject, failures, figure } = stage;
    await hold(stage, 0, members);
    const requests = prepared(0, members, (member) => subject.webhook('participant_left', member, 'CLIENT_INITIATED'));
    setCounter(world.shared, 'slowMs', 300);
    setCounter(world.shared, 'failPercent', 10);
    world.gone(0, members);
    const startedMs = nowMs();
    checkAnswers(failures, await closedLoop(subject.port, CONCURRENCY, members, (nth) => requests[nth] as string), 200, 'webhooks');
    await until(120_000, () => counter(world.shared, 'sends') >= members);
    const tookMs = world.shared.sentAt.reduce((a, b) => Math.max(a, b), 0) - startedMs;
    lost(stage, 0, members);
    figure('2,000 departures, homeserver 300 ms a call and 10 % 502: last after', 's', tookMs / 1000);
  });
}

/** The generator against a server that does nothing: no row can be faster than this. */
export async function headroom(): Promise<Figure[]> {
  const world = await startWorld(1, 1, HOUR_MS, { tls: false });
  const request = written('POST', '/nothing', { 'Content-Type': 'application/json', Authorization: 'x'.repeat(300) }, 'x'.repeat(700));
  const figures: Figure[] = [];
  for (const concurrency of [1, 64]) {
    const load = await closedLoop(world.port, concurrency, 1_000_000, () => request, 2_000);
    figures.push({
      label: `generator against an empty server, c = ${concurrency}`,
      unit: '/s',
      value: (load.latencies.length * 1000) / load.tookMs,
    });
  }
  await world.close();
  return figures;
}

export const ROWS: readonly Row[] = [
  { name: 'startup', help: 'start-up to ready, nothing held', peer: true, run: startup },
  { name: 'latency', help: 'webhook → leave, no wait', peer: true, run: latency(NO_WAIT, 0, 'webhook → leave, 10,000 held, 500/s') },
  {
    name: 'latency-wait',
    help: 'webhook → leave with the default wait, less the wait',
    peer: false,
    run: latency({}, 1_000, 'the same with the default wait, beyond it'),
  },
  { name: 'irrelevant', help: 'track_published', peer: true, run: webhooks('track_published') },
  { name: 'relevant', help: 'participant_joined of held delegations', peer: true, run: webhooks('participant_joined') },
  { name: 'delegations', help: 'hand-overs of participants on the SFU', peer: true, run: delegations },
  { name: 'token', help: '/get_token', peer: true, run: tokens(false) },
  { name: 'token-delegation', help: '/get_token with a delegation', peer: true, run: tokens(true) },
  { name: 'burst', help: '10,000 departures at once', peer: true, run: burst },
  { name: 'wave', help: '20,000 delegations with a delay of 10 s', peer: true, run: wave },
  { name: 'idle', help: 'CPU and SFU calls with 10,000 held', peer: true, run: idle },
  { name: 'sick', help: 'departures with a slow and failing homeserver', peer: true, run: sick },
  { name: 'killed', help: 'kill -9 with 10,000 held', peer: false, run: killed },
  { name: 'memory', help: 'RSS with 0, 10,000 and 100,000 held, and a start with them', peer: true, run: memory },
];
