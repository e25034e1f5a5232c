import { ListParticipantsResponse, ParticipantInfo, ParticipantInfo_State, TrackInfo } from '@livekit/protocol';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ListBody } from '../../src/sfu/list-body.ts';
import { messageOf, partsOf, seenOf } from '../../src/sfu/protojson.ts';

const MIB = 1024 * 1024;
/** Quotes, backslashes and brackets, of which JSON and its objects are made, and what JSON writes with an escape. */
const odd = fc.string({ unit: fc.constantFrom('"', '\\', '{', '}', '[', ']', ',', ':', 'u', '0', 'a', 'ä', '😀', '\n', '\u0001') });
const longer = (text: string): string => (text === '' ? '' : text.repeat(Math.ceil(20_000 / text.length)));
const info = fc
  .record({
    sid: odd,
    identity: odd,
    name: odd,
    state: fc.constantFrom(ParticipantInfo_State.JOINED, ParticipantInfo_State.ACTIVE, ParticipantInfo_State.DISCONNECTED),
    joinedAtMs: fc.constantFrom(0n, 1_700_000_000_000n),
    metadata: fc.oneof(odd, odd.map(longer)),
    attributes: fc.dictionary(odd, odd),
    tracks: fc.array(odd.map((name) => new TrackInfo({ name, codecs: [{ cid: name }] }))),
  })
  .map((fields) => new ParticipantInfo(fields));
const long = new ParticipantInfo({ sid: 'PA_long', identity: 'long', metadata: '"'.repeat(MIB) });

/** What is kept of a body that comes in such pieces. */
function kept(text: string, pieceBytes: number, mostBytes = 64 * MIB): Buffer | null {
  const body = new ListBody(mostBytes);
  return cut(Buffer.from(text), pieceBytes).every((piece) => body.add(piece)) ? body.bytes : null;
}

function cut(bytes: Buffer, pieceBytes: number): readonly Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / pieceBytes) }, (_, nth) => bytes.subarray(nth * pieceBytes, (nth + 1) * pieceBytes));
}

const json = (bytes: Buffer | null): unknown => JSON.parse(String(bytes));

describe('what is kept of an answer', () => {
  test('of a short one all', () => {
    const text = new ListParticipantsResponse({ participants: [new ParticipantInfo({ metadata: '"'.repeat(20_000) })] }).toJsonString();
    expect(String(kept(text, 1_000))).toBe(text);
    expect(kept('', 1)).toHaveLength(0);
  });

  test('of a long one who is there, wherever it is cut into pieces', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(fc.array(info), fc.integer({ min: 1, max: 70_000 }), (participants, pieceBytes) => {
        const text = new ListParticipantsResponse({ participants: [long, ...participants] }).toJsonString();
        const seen = (answer: unknown) => partsOf(messageOf(answer), 'participants').map(seenOf);
        const bytes = kept(text, pieceBytes);
        expect(seen(json(bytes))).toEqual(seen(JSON.parse(text)));
        expect(bytes?.length).toBeLessThan(participants.length * 20_000 + 1_000);
      }),
      { numRuns: 50 },
    );
  });

  test('of runs of backslashes, which escape one another or what follows them, the same, wherever they are cut', () => {
    const runs = fc
      .array(fc.tuple(fc.nat(9), fc.constantFrom('', '"', 'n', 'u005c', '}', 'ä')), { maxLength: 8 })
      .map((all) => all.map(([length, then]) => '\\'.repeat(length) + then).join(''));
    const one = fc.record({ identity: runs, metadata: fc.oneof(runs, runs.map(longer)), tracks: fc.array(fc.record({ name: runs })) });
    fc.assert(
      fc.property(fc.array(one, { minLength: 1 }), fc.integer({ min: 1, max: 9 }), (participants, pieceBytes) => {
        const text = JSON.stringify({ participants });
        const body = new ListBody(2 * MIB);
        // JSON may begin with blanks. With them the answer is no short one.
        const pieces = [Buffer.alloc(MIB, ' '), ...cut(Buffer.from(text), pieceBytes)];
        expect(pieces.every((piece) => body.add(piece))).toBe(true);
        const isShort = (of: string) => Buffer.byteLength(JSON.stringify(of)) <= '""'.length + 16_384;
        const thinned = participants.map((of) => ({ ...of, metadata: isShort(of.metadata) ? of.metadata : '', tracks: [] }));
        expect(json(body.bytes)).toEqual({ participants: thinned });
      }),
      { numRuns: 100 },
    );
  });

  test('no beginning of a name that is too long, which might be that of another', () => {
    const [longest, tooLong] = ['a'.repeat(16_384), 'a'.repeat(16_385)];
    const text = JSON.stringify({
      participants: [{ identity: longest }, { identity: tooLong, metadata: 'x'.repeat(MIB) }, { identity: 'b' }],
    });
    expect(json(kept(text, 60_000))).toEqual({ participants: [{ identity: longest }, { identity: '', metadata: '' }, { identity: 'b' }] });
  });

  test('nothing beyond the bound', () => {
    const text = JSON.stringify({ participants: Array.from({ length: 30_000 }, (_, index) => ({ identity: `${index}`.padStart(100) })) });
    expect(kept(text, 10_000)).not.toBeNull();
    expect(kept(text, 10_000, 2 * MIB)).toBeNull();
  });

  test('nor in more memory than the bound', () => {
    const text = JSON.stringify({ participants: Array.from({ length: 20_000 }, (_, index) => ({ identity: `${index}`.padStart(100) })) });
    expect(kept(text, 10_000, 3 * MIB)?.buffer.byteLength).toBeLessThanOrEqual(3 * MIB);
  });

  test('nor of an answer of which more than its bound has come, little as is kept of it', () => {
    const text = JSON.stringify({ participants: [{ identity: 'a', metadata: 'x'.repeat(4 * MIB) }] });
    const taken = (mostReceivedBytes: number) => {
      const body = new ListBody(2 * MIB, mostReceivedBytes);
      return cut(Buffer.from(text), 60_000).every((piece) => body.add(piece));
    };
    expect([taken(text.length), taken(text.length - 1)]).toEqual([true, false]);
  });

  test.each(['<html>'.repeat(MIB), '}'.repeat(2 * MIB), '"'.repeat(2 * MIB - 1)])('what is no JSON stays none', (text) => {
    expect(() => json(kept(text, 10_000))).toThrow();
  });
});
