import { expect, test } from 'vitest';
import { createLanes, type Lanes } from '../../src/engine/lanes.ts';
import { MOST_AT_ONCE } from '../../src/engine/width.ts';
import { HOMESERVER, idOf } from '../support/fixtures.ts';
import { createVirtualClock, START_MS, type VirtualClock } from '../support/virtual-clock.ts';

const DELAY_MS = 10_000;
const TAKES_MS = 5;

interface One {
  readonly kind: 'owed' | 'restart' | 'doubtful';
  /** Until its event runs out. */
  readonly leftMs: number;
  readonly takesMs?: number;
}

function start(): { clock: VirtualClock; lanes: Lanes; freed: () => number; run(n: number, one: One): Promise<unknown> } {
  const clock = createVirtualClock();
  let freed = 0;
  const lanes = createLanes({
    clock,
    onFree: () => {
      freed += 1;
    },
    onPause: () => {},
    onGivenUp: () => {},
    mostAtOnce: MOST_AT_ONCE,
  });
  const run = (n: number, { kind, leftMs, takesMs = TAKES_MS }: One): Promise<unknown> => {
    const expiryMs = clock.nowMs() + leftMs;
    return lanes.run(HOMESERVER, {
      ...{ id: idOf(n), createdAtMs: START_MS, delayMs: DELAY_MS, expiryMs, lostMs: expiryMs, proven: true },
      ...{
        kind,
        action: kind === 'restart' ? 'restart' : 'send',
        beginByMs: kind === 'owed' ? Number.POSITIVE_INFINITY : clock.nowMs() + 5_000,
      },
      work: () => new Promise((answered) => void clock.after(takesMs, () => answered({ kind: 'ok' }))),
    });
  };
  return { clock, lanes, freed: () => freed, run };
}

/** One has run out before its turn came. */
async function startOverrun(): Promise<ReturnType<typeof start>> {
  const started = start();
  const { clock, lanes, run } = started;
  void run(1, { kind: 'restart', leftMs: DELAY_MS / 2 });
  await clock.advance(10);
  lanes.missed(HOMESERVER, clock.nowMs() - TAKES_MS);
  expect(lanes.isOverrun()).toBe(true);
  return started;
}

test('who was told that a homeserver takes no more leaves is told when it does', async () => {
  const { clock, lanes, freed, run } = start();
  for (let n = 1; !lanes.excluded().leaves.has(HOMESERVER); n += 1) void run(n, { kind: 'owed', leftMs: DELAY_MS });
  const before = freed();
  await clock.advance(15_000);
  expect(lanes.excluded().leaves.has(HOMESERVER)).toBe(false);
  expect(freed()).toBeGreaterThan(before);
});

test('a homeserver that has nothing else to do is not overrun by who comes late', async () => {
  const { clock, lanes, run } = await startOverrun();
  for (let n = 2; n <= 10; n += 1) {
    void run(n, { kind: 'restart', leftMs: DELAY_MS * 0.09 });
    await clock.advance(9_000);
  }
  expect(lanes.isOverrun()).toBe(false);
});

test('with nobody before them who has run out by our count is called, though others were lost: their client may have kept them alive', async () => {
  const { clock, run } = await startOverrun();
  let answer: unknown;
  void run(2, { kind: 'restart', leftMs: -1 }).then((given) => {
    answer = given;
  });
  await clock.advance(TAKES_MS);
  expect(answer).toEqual({ kind: 'ok' });
});

test('who waits is given back before a claim ends, a leave as well', async () => {
  const { clock, lanes, run } = start();
  const given: unknown[] = [];
  for (let n = 1; n <= 200; n += 1) void run(n, { kind: 'owed', leftMs: DELAY_MS, takesMs: 60_000 }).then((answer) => given.push(answer));
  for (let ms = 0; ms < 25_000; ms += 1_000) {
    await clock.advance(1_000);
    lanes.excluded();
  }
  expect(given.length).toBeGreaterThan(100);
  expect(new Set(given)).toEqual(new Set([null]));
});

test('who has little time left does not wait for calls that nobody would miss, and that are not made yet', async () => {
  const { clock, lanes, run } = start();
  for (let n = 1; n <= 5; n += 1) void run(n, { kind: 'doubtful', leftMs: DELAY_MS });
  await clock.advance(10);
  lanes.missed(HOMESERVER, clock.nowMs() - TAKES_MS);
  let answer: unknown;
  void run(6, { kind: 'restart', leftMs: DELAY_MS / 20 }).then((given) => {
    answer = given;
  });
  await clock.advance(100);
  expect(answer).toEqual({ kind: 'ok' });
});
