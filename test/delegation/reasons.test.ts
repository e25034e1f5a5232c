import { DisconnectReason } from '@livekit/protocol';
import { expect, it } from 'vitest';
import { causeOfReason } from '../../src/delegation/reasons.ts';

it('weighs every reason that LiveKit knows', () => {
  const names = Object.keys(DisconnectReason).filter((name) => Number.isNaN(Number(name)));
  const causes = Object.fromEntries(names.map((name) => [name, causeOfReason(name)]));
  expect(causes).toEqual({
    UNKNOWN_REASON: 'left',
    CLIENT_INITIATED: 'left',
    DUPLICATE_IDENTITY: 'replaced',
    SERVER_SHUTDOWN: 'sfu_down',
    PARTICIPANT_REMOVED: 'removed',
    ROOM_DELETED: 'room_deleted',
    STATE_MISMATCH: 'lost',
    JOIN_FAILURE: 'lost',
    MIGRATION: 'replaced',
    SIGNAL_CLOSE: 'lost',
    ROOM_CLOSED: 'room_deleted',
    USER_UNAVAILABLE: 'left',
    USER_REJECTED: 'left',
    SIP_TRUNK_FAILURE: 'lost',
    CONNECTION_TIMEOUT: 'lost',
    MEDIA_FAILURE: 'lost',
    AGENT_ERROR: 'lost',
  });
});

it('does not stumble over a reason from the future', () => {
  expect(causeOfReason('ABDUCTED')).toBe('left');
  expect(causeOfReason('constructor')).toBe('left');
});
