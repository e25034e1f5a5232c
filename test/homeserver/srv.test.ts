import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { askSrv, inOrder, type ResolveSrv, type SrvRecord } from '../../src/homeserver/srv.ts';
import { createSeededRandom, createVirtualClock } from '../support/virtual-clock.ts';

const record = (name: string, priority = 0, weight = 0, port = 8448): SrvRecord => ({ name, port, priority, weight });
const failing =
  (code: string): ResolveSrv =>
  async () => {
    throw Object.assign(new Error(code), { code });
  };

describe('the order of targets', () => {
  const records = fc.array(
    fc.record({
      name: fc.constantFrom('a.example', 'b.example', 'c.example', ''),
      port: fc.integer({ min: 0, max: 65535 }),
      priority: fc.integer({ min: 0, max: 3 }),
      weight: fc.integer({ min: 0, max: 65535 }),
    }),
    { maxLength: 12 },
  );

  test('keeps every usable target once, by priority', () => {
    fc.assert(
      fc.property(records, fc.nat(), (given, seed) => {
        const ordered = inOrder(given, createSeededRandom(seed), 100);
        const usable = given.filter(({ name, port }) => name !== '' && port > 0);
        expect(new Set(ordered)).toEqual(new Set(usable));
        expect(ordered).toHaveLength(usable.length);
        const priorities = ordered.map(({ priority }) => priority);
        expect(priorities).toEqual(priorities.toSorted((a, b) => a - b));
      }),
    );
  });

  test('has an end', () => {
    expect(
      inOrder(
        Array.from({ length: 9 }, (_, n) => record(`${n}`)),
        createSeededRandom(1),
        4,
      ),
    ).toHaveLength(4);
  });

  test('follows the weights', () => {
    const random = createSeededRandom(7);
    const given = [record('light', 1, 10), record('heavy', 1, 30), record('none', 1, 0)];
    const firsts = Array.from({ length: 4000 }, () => inOrder(given, random, 4)[0]?.name);
    const share = (name: string): number => firsts.filter((first) => first === name).length / firsts.length;
    expect(share('heavy')).toBeCloseTo(30 / 41, 1);
    expect(share('light')).toBeCloseTo(10 / 41, 1);
    expect(share('none')).toBeGreaterThan(0);
    expect(share('none')).toBeLessThan(0.05);
  });
});

describe('a question', () => {
  const clock = createVirtualClock();

  test('is answered with records', async () => {
    const found = [record('a.example')];
    expect(await askSrv(clock, async () => found, 'x')).toEqual({ kind: 'records', records: found });
  });

  test('is answered without those that name no host', async () => {
    const odd = [record('a b'), record('ä.example'), record('a/b'), record('u@h'), record('h:1'), record('x'.repeat(300))];
    expect(await askSrv(clock, async () => odd, 'x')).toEqual({ kind: 'none' });
    expect(await askSrv(clock, async () => [...odd, record('a_b.example')], 'x')).toEqual({
      kind: 'records',
      records: [record('a_b.example')],
    });
  });

  test.each([
    ['ENOTFOUND', 'none'],
    ['ENODATA', 'none'],
    ['ESERVFAIL', 'unknown'],
    ['ETIMEOUT', 'unknown'],
    ['EBADNAME', 'unknown'],
  ])('that fails with %s: %s', async (code, kind) => {
    expect(await askSrv(clock, failing(code), 'x')).toEqual({ kind });
  });

  test('that is never answered is given up', async () => {
    const asking = askSrv(clock, () => new Promise(() => {}), 'x');
    await clock.advance(1500);
    expect(await asking).toEqual({ kind: 'unknown' });
    expect(clock.nextTimerMs()).toBeNull();
  });
});
