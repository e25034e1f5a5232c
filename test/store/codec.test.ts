// Rows as text, sealed and not: what went in comes out, and nothing that was changed on the way is taken for a row.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Delegation, EndedDelegation, LiveDelegation } from '../../src/delegation/state.ts';
import { decode, type Encoded, encode } from '../../src/store/codec.ts';
import { createSeal, isSealed } from '../../src/store/seal.ts';
import { delayHandles, ended, futureHandles, LIVE_KINDS, row } from '../support/fixtures.ts';

const SEALS = [
  ['unsealed', null],
  ['sealed', createSeal('a key of some length')],
] as const;
const ROWS: readonly (readonly [string, Delegation])[] = [
  ...LIVE_KINDS.map((kind) => [kind, row(1, { kind })] as const),
  ['with futures', row(1, { over: { handles: futureHandles(1) } })],
  ['with one future', row(1, { over: { handles: futureHandles(1, { lost: false }) } })],
  ['ended', ended(row(1))],
];

describe.each(SEALS)('%s', (_name, seal) => {
  test.each(ROWS)('%s comes back as it was', (_kind, one) => {
    expect(decode(encode(one, seal), seal)).toEqual(one);
  });

  test('one character changed anywhere is noticed', () => {
    const whole = encode(row(1, { kind: 'leaving' }), seal);
    const changed = (text: string) =>
      fc
        .tuple(fc.nat(text.length - 1), fc.string({ minLength: 1, maxLength: 1 }))
        .map(([at, char]) => text.slice(0, at) + char + text.slice(at + 1))
        .filter((other) => other !== text);
    const damaged: fc.Arbitrary<Encoded> = fc.oneof(
      changed(whole.body).map((body) => ({ ...whole, body })),
      changed(whole.handles ?? '').map((handles) => ({ ...whole, handles })),
    );
    fc.assert(
      fc.property(damaged, (one) => {
        expect(() => decode(one, seal)).toThrow(/^damaged/);
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ['nothing', { body: '', handles: null }],
    ['a checksum of nothing', { body: '00000000 ', handles: null }],
    ['JSON without a checksum', { body: JSON.stringify(row(1)), handles: null }],
    ["the handles of another row's body", { ...encode(row(1), seal), handles: encode(row(2), seal).handles }],
    ['no handles', { ...encode(row(1), seal), handles: null }],
  ])('%s is no row', (_what, one) => {
    expect(() => decode(one, seal)).toThrow();
  });
});

describe('an unsound row is not written', () => {
  const live = row(1);
  const UNSOUND: readonly (readonly [string, object])[] = [
    ['ended with handles', { ...ended(live), handles: live.handles }],
    ['alive without', { ...live, handles: null }],
    ['of no known state', { ...live, state: { ...live.state, kind: 'asleep' } }],
    ['due never', row(1, { dueMs: Number.POSITIVE_INFINITY })],
    ['due at no number', row(1, { dueMs: Number.NaN })],
    ['due between two milliseconds', row(1, { dueMs: 1.5 })],
    ['that expires before it does', { ...live, expiry: { earliestMs: 2, latestMs: 1 } }],
    ['without a delay', { ...live, delayMs: 0 }],
    ['of nobody', { ...live, identities: [] }],
  ];
  test.each(UNSOUND)('%s', (_what, one) => {
    expect(() => encode(one as LiveDelegation | EndedDelegation, null)).toThrow(/breaks an invariant|unreachable/);
  });
});

describe('a seal', () => {
  const seal = createSeal('a key of some length');
  const text = JSON.stringify(delayHandles());

  test('hides, differs each time, and opens', () => {
    const [one, other] = [seal.close(text), seal.close(text)];
    expect(one).not.toBe(other);
    expect(one).not.toContain('secret');
    expect(Buffer.from(one.split('.')[2] ?? '', 'base64url').toString('latin1')).not.toContain('secret');
    expect([isSealed(one), isSealed(text)]).toEqual([true, false]);
    expect([seal.open(one), seal.open(other)]).toEqual([text, text]);
  });

  test('does not open by another key, nor when it was changed or cut', () => {
    const sealed = seal.close(text);
    expect(() => createSeal('another key of some length').open(sealed)).toThrow(/another key/);
    const bytes = Buffer.from(sealed.split('.')[2] ?? '', 'base64url');
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => seal.open(`v1.${seal.keyName}.${changed.toString('base64url')}`)).toThrow();
      expect(() => seal.open(`v1.${seal.keyName}.${bytes.subarray(0, at).toString('base64url')}`)).toThrow();
    }
  });
});
