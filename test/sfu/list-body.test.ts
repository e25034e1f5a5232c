import { ListParticipantsResponse, ParticipantInfo, ParticipantInfo_State, TrackInfo } from '@livekit/protocol';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ListBody } from '../../src/sfu/list-body.ts';
import { messageOf, partsOf, seenOf } from '../../src/sfu/protojson.ts';

const MIB = 1024 * 1024;
/** Quotes, backslashes and brackets, of which JSON and its objects are made, and what JSON writes with an escape. */
const odd = fc.string({ unit: fc.constantFrom('"', '\\', '{', '}', '[', ']', ',', ':', 'u', '0', 'a', 'ä', '😀', '\n', '\u0001') });
const info = fc
  .record({
    sid: odd,
    identity: odd,
    name: odd,
    state: fc.constantFrom(ParticipantInfo_State.JOINED, ParticipantInfo_State.ACTIVE, ParticipantInfo_State.DISCONNECTED),
    joinedAtMs: fc.constantFrom(0n, 1_700_000_000_000n),
    metadata: fc.oneof(
      odd,
      odd.map((text) => (text === '' ? '' : text.repeat(Math.ceil(20_000 / text.length)))),
    ),
    attributes: fc.dictionary(odd, odd),
    tracks: fc.array(odd.map((name) => new TrackInfo({ name, codecs: [{ cid: name }] }))),
  })
  .map((fields) => new ParticipantInfo(fields));
const long = new ParticipantInfo({ sid: 'PA_long', identity: 'long', metadata: '"'.repeat(MIB) });

/** What is kept of a body that comes in such pieces. */
function kept(text: string, pieceBytes: number, mostBytes = 64 * MIB): Buffer | null {
  const body = new ListBody(mostBytes);
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += pieceBytes) if (!body.add(bytes.subarray(at, at + pieceBytes))) return null;
  return body.bytes;
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

  test.each(['<html>'.repeat(MIB), '}'.repeat(2 * MIB), '"'.repeat(2 * MIB - 1)])('what is no JSON stays none', (text) => {
    expect(() => json(kept(text, 10_000))).toThrow();
  });
});
