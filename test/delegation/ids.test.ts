import { describe, expect, it } from 'vitest';
import {
  delegationId,
  type Identity,
  parseDelayId,
  parseDelegationId,
  parseFutureToken,
  userInIdentity,
} from '../../src/delegation/ids.ts';

describe('opaque ids', () => {
  it.each(['a', 'syd_~.-_Z9', 'x'.repeat(255), 'a..b'])('takes %s', (text) => {
    expect(parseDelayId(text)).toBe(text);
    expect(parseFutureToken(text)).toBe(text);
  });
  it.each(['', '.', '..', 'a/b', '../x', 'a%2Fb', 'a b', 'é', 'x'.repeat(256), 'a?b', 'a#b', 'a\n'])('refuses %j', (text) => {
    expect(parseDelayId(text)).toBeNull();
    expect(parseFutureToken(text)).toBeNull();
  });
});

it('makes delegation ids that its parser takes', () => {
  expect(parseDelegationId(delegationId(new Uint8Array(16)))).not.toBeNull();
  expect(parseDelegationId('dg_../../etc')).toBeNull();
});

it.each([
  ['@alice:example.org:PHONE', '@alice:example.org'],
  ['@alice:localhost:8448:PHONE', '@alice:localhost:8448'],
  ['@alice:[::1]:8448:PHONE', '@alice:[::1]:8448'],
  ['J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU', null],
  ['alice', null],
  ['@alice:example.org', null],
])('finds the user in %s', (identity, user) => {
  expect(userInIdentity(identity as Identity)).toBe(user);
});
