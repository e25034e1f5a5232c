// A row's stage: a fresh world and subject, members who come and go, and what is counted against a row: a loss or a false leave fails it,
// however fast it was.
import { counter, nowMs } from './shared.ts';
import { Subject, type SubjectKind } from './subject.ts';
import { closedLoop, type Load, openLoop } from './wire.ts';
import { startWorld, type World } from './world.ts';

export interface Figure {
  readonly label: string;
  readonly unit: string;
  readonly value: number;
  /** What is wanted of it; without: for information. */
  readonly wanted?: Wanted;
}
/** Ratios are lastwill : peer. */
export type Wanted =
  | { readonly ratioAtLeast: number }
  | { readonly ratioAtMost: number }
  | { readonly atMost: number }
  | { readonly atLeast: number };
export interface Outcome {
  readonly figures: readonly Figure[];
  /** What was lost, late, wrong or double; none: the row counts. */
  readonly failures: readonly string[];
}
export interface Setting {
  readonly kind: SubjectKind;
  readonly command: string | null;
  readonly profileDir: string | null;
  /** The part of the usual numbers that is played: 1, or less for a first impression. */
  readonly scale: number;
}
export interface Row {
  readonly name: string;
  readonly help: string;
  /** False: lastwill only, the peer has nothing like it. */
  readonly peer: boolean;
  readonly run: (setting: Setting) => Promise<Outcome>;
}

export const HOUR_MS = 3_600_000;
export const CONCURRENCY = 64;
export const NO_WAIT = { LASTWILL_WAIT_LEFT_MS: '0' };

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function until(withinMs: number, done: () => boolean): Promise<boolean> {
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

/** From here on, µs of CPU for each of `count`: the subject's, and the generator's with its fakes, which are this process. */
export function cpuFrom(subject: Subject): (count: number) => { readonly subject: number; readonly generator: number } {
  const [beforeMs, before] = [subject.cpuMs(), process.cpuUsage()];
  return (count) => {
    const { user, system } = process.cpuUsage(before);
    return { subject: ((subject.cpuMs() - beforeMs) * 1000) / count, generator: (user + system) / count };
  };
}

export interface Stage {
  readonly world: World;
  readonly subject: Subject;
  readonly failures: string[];
  figure(label: string, unit: string, value: number, wanted?: Wanted): void;
}
interface Cast {
  readonly members: number;
  readonly rooms: number;
  readonly delayMs?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Asks the homeserver over federation who a token belongs to. */
  readonly openId?: boolean;
  /** Fills the data folder before the subject is started for the first time. */
  readonly prepare?: (dataDir: string, world: World) => Promise<void>;
}

/** A fresh world and subject; whatever happens, both end. */
export async function staged(setting: Setting, cast: Cast, play: (stage: Stage) => Promise<void>): Promise<Outcome> {
  const world = await startWorld(cast.members, cast.rooms, cast.delayMs ?? HOUR_MS, {
    tls: setting.kind === 'peer' || cast.openId === true,
  });
  const subject = new Subject({ ...setting, world, env: cast.env ?? {} });
  const figures: Figure[] = [];
  const failures: string[] = [];
  try {
    await cast.prepare?.(subject.dataDir, world);
    await subject.start();
    const figure: Stage['figure'] = (label, unit, value, wanted) => figures.push({ label, unit, value, ...(wanted && { wanted }) });
    await play({ world, subject, failures, figure });
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

export function fail(failures: string[], count: number, what: string): void {
  if (count > 0) failures.push(`${count} ${what}`);
}

/** Events whose time was over while their member was on the SFU. */
export function ranOut({ shared }: World): number {
  const atMs = nowMs();
  let count = 0;
  for (let member = 0; member < shared.size; member += 1) {
    if (shared.present[member] !== 1 || shared.startedAt[member] === 0) continue;
    if (shared.expired[member] === 1 || atMs - (shared.startedAt[member] ?? 0) > shared.delayMs) count += 1;
  }
  return count;
}

export function checkAnswers(failures: string[], { statuses }: Load, expected: number, what: string): void {
  for (const [status, count] of statuses) if (status !== expected) failures.push(`${count} ${what} answered ${status}`);
}

export function prepared(from: number, to: number, make: (member: number) => string): string[] {
  return Array.from({ length: to - from }, (_, nth) => make(from + nth));
}

/** At a pace where one is given, as fast as it goes otherwise. */
export async function delegate(
  { world, subject, failures }: Stage,
  from: number,
  to: number,
  how: { concurrency?: number; perSecond?: number; absent?: boolean } = {},
): Promise<Load> {
  const requests = prepared(from, to, (member) => subject.delegation(member));
  if (how.absent !== true) world.enter(from, to);
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
export async function hold(stage: Stage, from: number, to: number): Promise<void> {
  await delegate(stage, from, to);
  // The peer looks after its participants in its own time.
  if (stage.subject.kind === 'peer') return pause(5_000);
  const { restarts } = stage.world.shared;
  const missing = (): number => restarts.subarray(from, to).reduce((count, one) => (one === 0 ? count + 1 : count), 0);
  await until(120_000, () => missing() === 0);
  fail(stage.failures, missing(), 'participants on the SFU were not found');
}

export function lost({ world, failures }: Stage, from: number, to: number): void {
  let missing = 0;
  for (let member = from; member < to; member += 1) if (world.shared.sentAt[member] === 0) missing += 1;
  fail(failures, missing, 'leaves lost');
  fail(failures, counter(world.shared, 'sendsAgain'), 'leaves sent twice');
}

/** What the SFU was asked about who is there. */
export const asked = ({ shared }: World): number => QUESTIONS.reduce((sum, name) => sum + counter(shared, name), 0);
const QUESTIONS = ['ListParticipants', 'ListRooms', 'GetParticipant', 'SendData', 'UpdateSubscriptions'] as const;
