// How many calls a homeserver gets at once, by how long it takes for them.
import { expect, test } from 'vitest';
import { createWidth, MOST_AT_ONCE } from '../../src/engine/width.ts';

const QUICK_MS = 20;

interface How {
  /** Of the time that it took, in which the process was idle. */
  readonly idleMs?: number;
  /** So many calls were under way when it began; as many as there may be, unless told. */
  readonly beside?: number;
}

/** Answers in a row, each after `tookMs`. */
function after(width: ReturnType<typeof createWidth>, answers: number, tookMs: number, { idleMs = tookMs, beside }: How = {}): number {
  for (let n = 0; n < answers; n += 1) width.answered({ tookMs, idleMs, beside: beside ?? width.atOnce - 1, ok: true });
  return width.atOnce;
}

test('a homeserver that slows down gets few, and a process that is slow itself does not take it for that', () => {
  const [slow, starved] = [createWidth(MOST_AT_ONCE), createWidth(MOST_AT_ONCE)];
  for (const width of [slow, starved]) after(width, 10, QUICK_MS, { beside: 0 });
  expect(after(slow, 100, 900)).toBe(16);
  expect(after(starved, 100, 900, { idleMs: QUICK_MS })).toBeGreaterThanOrEqual(64);
});

test('of a process that is slow itself not as many calls are under way as of a homeserver far away', () => {
  const [far, starved] = [createWidth(MOST_AT_ONCE), createWidth(MOST_AT_ONCE)];
  expect(after(far, 1_000, 450)).toBe(900);
  expect(after(starved, 1_000, 450, { idleMs: 0 })).toBe(200);
});

test('one that was busy is not made so again at once: it gets one more for each round of calls', () => {
  const width = createWidth(MOST_AT_ONCE);
  after(width, 10, QUICK_MS, { beside: 0 });
  expect(after(width, 100, 600)).toBe(16);
  expect(after(width, 17, 400)).toBe(17);
  expect(after(width, 10, QUICK_MS)).toBe(37);
});

test('one that is never quicker, and was slower for once, gets as many again as ever', () => {
  const width = createWidth(MOST_AT_ONCE);
  after(width, 10, 300, { beside: 0 });
  expect(after(width, 1_000, 600)).toBe(16);
  expect(after(width, 100, 300)).toBe(216);
});

test('after failures it has as many again as ever', () => {
  const width = createWidth(MOST_AT_ONCE);
  after(width, 10, QUICK_MS, { beside: 0 });
  after(width, 100, 600);
  for (let n = 0; n < 10; n += 1) width.failed();
  expect(width.atOnce).toBe(2);
  expect(after(width, 7, 600)).toBe(16);
});

test('one that has become slow also where it has few gets as many as one that always was', () => {
  const width = createWidth(MOST_AT_ONCE);
  after(width, 10, QUICK_MS, { beside: 0 });
  expect(after(width, 10, 600)).toBe(60);
  expect(after(width, 8, 600, { beside: 7 })).toBe(48);
  expect(after(width, 1_000, 800)).toBe(1_024);
  expect(after(width, 1_000, 900)).toBe(16);
});
