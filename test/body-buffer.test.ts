import { describe, expect, test } from 'vitest';
import { BodyBuffer } from '../src/body-buffer.ts';

const LIMIT = 64 * 1024;

function pieces(...sizes: number[]): Buffer[] {
  let next = 0;
  return sizes.map((size) => Buffer.from(Array.from({ length: size }, () => next++ % 251)));
}

describe('a body in pieces', () => {
  test.each([
    ['nothing', []],
    ['one piece', [700]],
    ['an empty piece before others', [0, 5, 0, 9]],
    ['pieces that grow', [1, 10, 100, 1_000, 10_000]],
    ['pieces that fit to the byte', [LIMIT - 1, 1]],
    ['single bytes', Array(3_000).fill(1)],
  ] as [string, number[]][])('is what came: %s', (_, sizes) => {
    const gathered = new BodyBuffer(LIMIT);
    const all = pieces(...sizes);
    for (const piece of all) expect(gathered.add(piece)).toBe(true);
    expect(gathered.bytes.equals(Buffer.concat(all))).toBe(true);
  });

  test('is the piece itself where there is one', () => {
    const gathered = new BodyBuffer(LIMIT);
    const [piece = Buffer.alloc(0)] = pieces(100);
    gathered.add(piece);
    expect(gathered.bytes).toBe(piece);
  });

  test('takes about the memory of its bytes, in however small pieces they come, and never more than the most', () => {
    const gathered = new BodyBuffer(LIMIT);
    const one = Buffer.from('a');
    let most = 0;
    for (let count = 1; count <= LIMIT; count += 1) {
      gathered.add(one);
      if (count > 1) most = Math.max(most, gathered.heldBytes / Math.max(count, 512));
    }
    expect(most).toBeLessThanOrEqual(2);
    expect(gathered.heldBytes).toBe(LIMIT);
    expect(gathered.add(one)).toBe(false);
    expect(gathered.bytes).toHaveLength(LIMIT);
  });

  test('leaves the pieces as they came', () => {
    const gathered = new BodyBuffer(LIMIT);
    const shared = Buffer.from('first piece, and what is not of it');
    gathered.add(shared.subarray(0, 11));
    gathered.add(Buffer.from('!'));
    expect([gathered.bytes.toString(), shared.toString()]).toEqual(['first piece!', 'first piece, and what is not of it']);
  });
});
