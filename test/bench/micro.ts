// `npm run bench -- micro`: the pure heart, the codec and the store alone, as ratios to a loop that does the same work on every version.
// A ratio that grows is a creep that no single change shows. The figures of the last landed version are in micro.json.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { decide } from '../../src/delegation/decide.ts';
import { sha256 } from '../../src/delegation/ids.ts';
import type { Delegation, Event } from '../../src/delegation/state.ts';
import { hmacKey, signJwt, verifyJwt } from '../../src/sfu/jwt.ts';
import { decode, encode } from '../../src/store/codec.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import type { Store } from '../../src/store/store.ts';
import { policy, row } from '../support/fixtures.ts';
import { short } from './report.ts';

const KEPT = join(import.meta.dirname, 'micro.json');
const TURNS = 7;
const AT_ONCE = 32;

/** Microseconds of processor time that one of `count` takes: the best of some turns, since noise only adds. */
async function cost(count: number, work: (count: number) => void | Promise<void>): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let turn = 0; turn < TURNS; turn += 1) {
    const before = process.cpuUsage();
    await work(count);
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, (user + system) / count);
  }
  return best;
}

const repeat = (one: (nth: number) => unknown) => (count: number) => {
  for (let nth = 0; nth < count; nth += 1) one(nth);
};

/** Text, JSON and a hash: what all of them are made of. */
const calibration = repeat((nth) => sha256(JSON.stringify({ ...(JSON.parse(`{"one":${nth},"two":"text"}`) as object), three: [nth] })));

export async function micro(keep: boolean): Promise<void> {
  const loop = await cost(50_000, calibration);
  const ratios: Record<string, number> = {};
  for (const [name, value] of Object.entries(await costs())) ratios[name] = value / loop;
  const before = JSON.parse(readFileSync(KEPT, 'utf8')) as Record<string, number>;
  process.stdout.write(`| | µs | × calibration | last landed | change |\n|---|---|---|---|---|\n`);
  for (const [name, ratio] of Object.entries(ratios)) {
    const last = before[name] ?? Number.NaN;
    process.stdout.write(
      `| ${name} | ${short(ratio * loop)} | ${short(ratio)} | ${short(last)} | ${short((100 * (ratio - last)) / last)} % |\n`,
    );
  }
  process.stdout.write(`\nThe calibration loop took ${short(loop)} µs.\n`);
  if (keep)
    writeFileSync(KEPT, `${JSON.stringify(ratios, (_, value) => (typeof value === 'number' ? Number(value.toPrecision(3)) : value), 2)}\n`);
}

async function costs(): Promise<Record<string, number>> {
  const connected = row(1, { kind: 'connected' });
  const text = encode(connected, null);
  const at = { nowMs: systemClock().nowMs(), roll: 0.5 };
  const answered: Event = { kind: 'restart_answered', askedAtMs: at.nowMs, answer: { kind: 'ok' } };
  const [key, claims] = [hmacKey('a secret of at least 32 characters'), { iss: 'key', exp: 9_999_999_999, sha256: sha256('body') }];
  const jwt = signJwt(claims, key);
  return {
    'a decision': await cost(
      100_000,
      repeat(() => decide(connected, answered, at, policy())),
    ),
    'a row encoded': await cost(
      50_000,
      repeat(() => encode(connected, null, text.handles)),
    ),
    'a row decoded': await cost(
      50_000,
      repeat(() => decode(text, null)),
    ),
    'a token verified': await cost(
      20_000,
      repeat(() => verifyJwt(jwt, () => key, 0)),
    ),
    ...(await storeCosts()),
  };
}

/** Commits of 32 updates on a file: the processor's part of them; how long the disk takes is not ours. */
async function storeCosts(): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'lastwill-micro-'));
  const clock = systemClock();
  const store = openSqliteStore({ path: join(folder, 'lastwill.sqlite'), clock, seal: null });
  const next = counter();
  const again = counter();
  try {
    const many = 5_000;
    const handOver = await cost(many, (count) => inGroups(count, () => put(store, row(next(), { kind: 'connected' }))));
    const restart = await cost(many, (count) => inGroups(count, () => step(store, again(), clock.nowMs())));
    return { 'a hand-over stored': handOver, 'a restart stored': restart };
  } finally {
    await store.close();
    rmSync(folder, { recursive: true });
  }
}

/** 1, 2, 3 and so on. */
function counter(): () => number {
  let count = 0;
  return () => {
    count += 1;
    return count;
  };
}

async function inGroups(count: number, one: () => Promise<unknown>): Promise<void> {
  for (let left = count; left > 0; left -= AT_ONCE) await Promise.all(Array.from({ length: Math.min(left, AT_ONCE) }, one));
}

function put(store: Store, one: Delegation): Promise<unknown> {
  return store.update({ by: 'owner', room: one.room, owner: one.owner }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null }));
}

function step(store: Store, n: number, nowMs: number): Promise<unknown> {
  const answered: Event = { kind: 'restart_answered', askedAtMs: nowMs, answer: { kind: 'ok' } };
  return store.update({ by: 'id', room: row(n).room, id: row(n).id }, null, ([one]) => {
    const next = one === undefined ? one : decide(one, answered, { nowMs, roll: 0.5 }, policy()).next;
    return { writes: next === undefined || next === one ? [] : [{ row: next, leaseMs: 0 }], value: null };
  });
}
