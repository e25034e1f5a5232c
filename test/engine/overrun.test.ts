// A homeserver that does one call after another, and fewer than come due: what can't be kept is lost, and nobody else.
import { expect, test } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import { room } from '../support/fixtures.ts';
import { EngineWorld, SEEDS } from './world.ts';

const FOR_MS = 120_000;
const EVERY_MS = 20;
const AT_FIRST_MS = 0.01;
/** Of a delay so much is over when its restart is due, on average. */
const DUE_PART = 0.84;

interface Overrun {
  readonly members: number;
  /** What each call takes, once all have come. */
  readonly eachMs: number;
  readonly seed?: number;
  readonly delayMsOf?: (n: number) => number;
}

/** Who ran out, by number, and what an operator hears of it. */
async function ranOut({
  members,
  eachMs,
  delayMsOf = () => 10_000,
  seed = 0,
}: Overrun): Promise<{ readonly lost: ReadonlySet<number>; readonly givenUp: number; readonly lines: readonly string[] }> {
  const world = new EngineWorld({}, { seed });
  const { clock } = world;
  const events = new Map<string, { readonly n: number; readonly delayMs: number; expiresMs: number }>();
  const lost = new Set<number>();
  let takesMs = 0;
  let eachTakesMs = AT_FIRST_MS;
  let freeMs = 0;
  world.givesUp = true;
  world.takesMs = () => takesMs;
  world.answer = (_, call) => {
    const event = call.kind === 'delay' && call.action === 'restart' ? events.get(call.delayId) : undefined;
    if (event === undefined) throw new Error('only restarts are to be made');
    freeMs = Math.max(freeMs, clock.nowMs()) + eachTakesMs;
    takesMs = Math.ceil(freeMs - clock.nowMs());
    const isOver = (atMs: number): boolean => {
      if (event.expiresMs <= atMs) lost.add(event.n);
      return lost.has(event.n);
    };
    if (isOver(clock.nowMs() + takesMs)) return { kind: 'final', how: 'gone' };
    clock.after(takesMs, () => {
      if (!isOver(clock.nowMs())) event.expiresMs = clock.nowMs() + event.delayMs;
    });
    return { kind: 'ok' };
  };
  for (let n = 1; n <= members; n += 1) {
    const [delayMs, delayId] = [delayMsOf(n), `d-${n}` as DelayId];
    events.set(delayId, { n, delayMs, expiresMs: clock.nowMs() + delayMs });
    await world.enter(n, room(n % 20), delayMs, delayId);
    await clock.advance(EVERY_MS);
  }
  await clock.advance(10_000);
  eachTakesMs = eachMs;
  await clock.advance(FOR_MS);
  for (const { n, expiresMs } of events.values()) if (expiresMs <= clock.nowMs()) lost.add(n);
  const lines = world.lines.filter((line) => line.includes('a homeserver needs an operator'));
  return { lost, givenUp: await world.metric('lastwill_restarts_given_up_total'), lines };
}

test('where there is just time enough for all nobody is lost', async () => {
  const { lost, givenUp, lines } = await ranOut({ members: 400, eachMs: 20 });
  expect([lost.size, givenUp, lines]).toEqual([0, 0, []]);
});

test.each([
  { members: 400, eachMs: 25 },
  { members: 1_000, eachMs: 9 },
  { members: 1_000, eachMs: 12 },
])('$members members, $eachMs ms each: most of those that there is time for are kept', async ({ members, eachMs }) => {
  const canBeKept = Math.min(members, (10_000 * DUE_PART) / eachMs);
  const { lost, givenUp, lines } = await ranOut({ members, eachMs });
  expect(members - lost.size).toBeGreaterThan(0.9 * canBeKept);
  expect(givenUp).toBeGreaterThan(0);
  expect(lines[0]).toContain('more restarts of delayed events come due than get through');
});

// Events that are due together are due together again: how many at a time more than there is time for is for chance to decide.
test.each([
  { members: 400, eachMs: 25 },
  { members: 1_000, eachMs: 9 },
  { members: 1_000, eachMs: 12 },
])('$members members, $eachMs ms each: so it is whatever chance decides, nearly', async ({ members, eachMs }) => {
  const parts: number[] = [];
  for (const seed of SEEDS) parts.push((members - (await ranOut({ members, eachMs, seed })).lost.size) / ((10_000 * DUE_PART) / eachMs));
  expect(Math.min(...parts)).toBeGreaterThan(0.7);
  expect(parts.reduce((sum, part) => sum + part) / parts.length).toBeGreaterThan(0.85);
});

test('who has a long delay is kept among those who are lost', async () => {
  const delayMsOf = (n: number): number => (n % 10 === 0 ? 60_000 : 10_000);
  const { lost } = await ranOut({ members: 500, eachMs: 25, delayMsOf });
  expect([...lost].filter((n) => n % 10 === 0)).toEqual([]);
  expect(lost.size).toBeLessThan(250);
});
