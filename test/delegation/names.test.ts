import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { UserId } from '../../src/delegation/ids.ts';
import {
  identitiesOf,
  LEGACY_SLOT,
  legacyIdentity,
  legacyMemberId,
  type Member,
  memberIdentity,
  memberOwner,
  memberRoom,
} from '../../src/delegation/names.ts';

const ALICE = '@alice:example.com' as UserId;

/** Canonical JSON of a list of texts, written down from the Matrix specification rather than left to JSON.stringify. */
function hash(...parts: readonly string[]): string {
  const ESCAPES: Readonly<Record<string, string>> = { '\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r', '"': '"', '\\': '\\' };
  const text = (part: string): string => {
    const escaped = [...part].map((char) => {
      const code = char.codePointAt(0) ?? 0;
      if (ESCAPES[char] !== undefined) return `\\${ESCAPES[char]}`;
      return code < 0x20 ? `\\u${code.toString(16).padStart(4, '0')}` : char;
    });
    return `"${escaped.join('')}"`;
  };
  const json = Buffer.from(`[${parts.map(text).join(',')}]`, 'utf8');
  return createHash('sha256').update(json).digest('base64').replace(/=/g, '');
}

describe('vectors', () => {
  test('a room', () => {
    expect(memberRoom({ roomId: '!roomid:example.com', slotId: 'slot1234' })).toBe('O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc');
  });

  test('three names together', () => {
    const three = { userId: '!roomid:example.com' as UserId, deviceId: 'slot123', memberId: 'random123' };
    expect(memberIdentity(three)).toBe('IMeDd+K3MIqJTI20EXBIrepKkhhORvf3q8fx3rlrhTk');
  });

  test('an identity', () => {
    expect(memberIdentity({ userId: ALICE, deviceId: 'DEVICE123', memberId: 'memberABC' })).toBe(
      'J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU',
    );
  });

  test('an identity in the clear', () => {
    expect(legacyIdentity(ALICE, 'DEVICE123')).toBe('@alice:example.com:DEVICE123');
    expect(legacyIdentity(ALICE, '')).toBe('@alice:example.com:');
  });
});

test.each(['<>&', '\u2028\u2029', '\u007f\u0080', '\b\f\n\r\t\u0001\u001f', '"\\/', 'é😀', '\u202e', '\ufeff', '\ufffe', '\u0000'])(
  'the canonical form of %j',
  (odd) => {
    expect(memberRoom({ roomId: odd, slotId: LEGACY_SLOT })).toBe(hash(odd, LEGACY_SLOT));
    expect(memberIdentity({ userId: ALICE, deviceId: odd, memberId: odd })).toBe(hash(ALICE, odd, odd));
  },
);

test('any well-formed text has its canonical form', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (roomId, slotId) => {
      expect(memberRoom({ roomId, slotId })).toBe(hash(roomId, slotId));
    }),
  );
});

const member = (over: Partial<Member> = {}): Member => {
  return { roomId: '!r:example.com', slotId: LEGACY_SLOT, userId: ALICE, deviceId: 'DEV', memberId: 'm1', ...over };
};

describe('the identities of a member', () => {
  test('are one, as a rule', () => {
    expect(identitiesOf(member())).toEqual([hash(ALICE, 'DEV', 'm1')]);
  });

  test('are two in compatibility mode', () => {
    const memberId = legacyMemberId(ALICE, 'DEV');
    expect(identitiesOf(member({ memberId }))).toEqual([hash(ALICE, 'DEV', memberId), '@alice:example.com:DEV']);
  });

  test('are not those of another device', () => {
    expect(identitiesOf(member({ memberId: legacyMemberId(ALICE, 'OTHER') }))).toHaveLength(1);
  });
});

test('an owner is one membership: whatever differs makes another', () => {
  const others: Partial<Member>[] = [
    { roomId: '!s:example.com' },
    { slotId: 'other' },
    { userId: '@bob:example.com' as UserId },
    { deviceId: 'OTHER' },
    { memberId: 'm2' },
  ];
  expect(new Set([{}, ...others].map((over) => memberOwner(member(over)))).size).toBe(6);
  expect(memberOwner(member())).toBe(memberOwner(member()));
});
