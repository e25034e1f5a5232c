// The few fields that we read, against the protocol's own decoder.
import { DisconnectReason, ListParticipantsResponse, ParticipantInfo, ParticipantInfo_State } from '@livekit/protocol';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { causeOfReason } from '../../src/delegation/reasons.ts';
import { enumOf, joinedAtMsOf, type Message, messageOf, partsOf, seenOf, textOf } from '../../src/sfu/protojson.ts';

const info = fc
  .record({
    sid: fc.string(),
    identity: fc.string(),
    state: fc.constantFrom(...[0, 1, 2, 3].map((state) => state as ParticipantInfo_State)),
    joinedAtMs: fc.oneof(fc.constant(0n), fc.bigInt({ min: -(2n ** 53n), max: 2n ** 53n })),
    disconnectReason: fc.integer({ min: 0, max: 16 }).map((reason) => reason as DisconnectReason),
    metadata: fc.string(),
    attributes: fc.dictionary(fc.string(), fc.string()),
  })
  .map((fields) => new ParticipantInfo(fields));
const FORMS = [
  {},
  { useProtoFieldName: true },
  { enumAsInteger: true },
  { emitDefaultValues: true },
  { emitDefaultValues: true, useProtoFieldName: true, enumAsInteger: true },
];

describe('a participant', () => {
  test('is read as the protocol reads it, however it is written', () => {
    fc.assert(
      fc.property(info, fc.constantFrom(...FORMS), (participant, form) => {
        const json = messageOf(JSON.parse(participant.toJsonString(form)));
        const present = participant.identity !== '' && participant.sid !== '' && participant.state !== ParticipantInfo_State.DISCONNECTED;
        const joinedAtMs = participant.joinedAtMs > 0n ? Number(participant.joinedAtMs) : null;
        const { identity, sid } = participant;
        expect(seenOf(json)).toEqual(
          present ? { identity, sid, joinedAtMs, active: participant.state === ParticipantInfo_State.ACTIVE } : null,
        );
        expect(joinedAtMsOf(json)).toBe(joinedAtMs);
        const reason = causeOfReason(enumOf(json, 'disconnectReason', 'disconnect_reason'));
        expect(reason).toBe(causeOfReason(DisconnectReason[participant.disconnectReason] ?? ''));
      }),
    );
  });

  test('in a list, too', () => {
    fc.assert(
      fc.property(fc.array(info), (participants) => {
        const json = messageOf(new ListParticipantsResponse({ participants }).toJson());
        expect(partsOf(json, 'participants').map((one) => textOf(one, 'identity'))).toEqual(participants.map(({ identity }) => identity));
      }),
    );
  });

  test.each<[string, Message]>([
    ['a text for a list', { participants: 'none' }],
    ['a list of texts', { participants: ['alice'] }],
    ['a list of nothing', { participants: [null] }],
  ])('%s is no list', (_, json) => {
    expect(() => partsOf(json, 'participants')).toThrow();
    expect(() => ListParticipantsResponse.fromJson(json as never)).toThrow();
  });

  test.each([
    { sid: 7 },
    { identity: {} },
    { joinedAtMs: 'yesterday' },
    { joinedAtMs: 1.5 },
    { joinedAtMs: true },
    { state: [] },
    { state: 1.5 },
  ])('with %j is none', (fields) => {
    expect(() => seenOf({ sid: 'PA_1', identity: 'alice', ...fields })).toThrow();
    expect(() => ParticipantInfo.fromJson(fields as never)).toThrow();
  });
});
