// The parsers of the MatrixRTC authorization API: for any bytes a request that is whole, or one refusal that shows no value.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDelayId } from '../../src/delegation/ids.ts';
import { LEGACY_SLOT } from '../../src/delegation/names.ts';
import { parseServerName } from '../../src/homeserver/names.ts';
import { MatrixError } from '../../src/http/errors.ts';
import { type MatrixRtcRequest, parseLegacyRequest, parseMemberRequest } from '../../src/http/matrixrtc-requests.ts';

const bytesOf = (body: unknown): Uint8Array => new TextEncoder().encode(typeof body === 'string' ? body : JSON.stringify(body));

function attempt(parse: (bytes: Uint8Array) => MatrixRtcRequest, bytes: Uint8Array): MatrixRtcRequest | MatrixError {
  try {
    return parse(bytes);
  } catch (error) {
    if (error instanceof MatrixError) return error;
    throw error;
  }
}

const PARSERS = [parseMemberRequest, parseLegacyRequest];

function expectWhole(outcome: MatrixRtcRequest | MatrixError): void {
  if (outcome instanceof MatrixError) {
    expect([outcome.status, outcome.errcode]).toEqual([400, expect.stringMatching(/^M_(NOT|BAD)_JSON$/)]);
    expect(outcome.message).toMatch(/^[\x20-\x7e]{1,200}$/);
    return;
  }
  const { roomId, slotId, deviceId, member, openId, delegation } = outcome;
  for (const text of [roomId, slotId, openId.accessToken, ...(member === null ? [] : [member.id, member.claimedUserId, deviceId])])
    expect(text).not.toBe('');
  for (const text of [roomId, slotId, deviceId, openId.accessToken]) expect(text.isWellFormed()).toBe(true);
  if (member === null) expect(slotId).toBe(LEGACY_SLOT);
  if (openId.serverName !== null) expect(parseServerName(openId.serverName)).toBe(openId.serverName);
  if (delegation !== null) {
    expect(delegation.delayMs).toBeGreaterThan(0);
    expect(Number.isSafeInteger(delegation.delayMs)).toBe(true);
    const { handles } = delegation;
    expect(handles.kind === 'delay' && parseDelayId(handles.delayId)).toBeTruthy();
  }
}

describe('any', () => {
  test('bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(...PARSERS), (bytes, parse) => {
        expectWhole(attempt(parse, bytes));
      }),
    );
  });

  test('JSON', () => {
    fc.assert(fc.property(fc.json(), fc.constantFrom(...PARSERS), (json, parse) => expectWhole(attempt(parse, bytesOf(json)))));
  });

  test('fields', () => {
    const value = fc.oneof(
      fc.string({ minLength: 1 }),
      fc.string({ unit: 'binary' }),
      fc.integer(),
      fc.double(),
      fc.constantFrom(null, undefined, '', 0, -0, true, [], {}, '\ud800', '127.1', 'example.org', '[::1]:8448', 2 ** 63),
    );
    const usual = fc.string({ minLength: 1 });
    const either = fc.oneof({ weight: 4, arbitrary: usual }, { weight: 1, arbitrary: value });
    const openid_token = fc.record({ access_token: either, matrix_server_name: either, expires_in: value }, { requiredKeys: [] });
    const delegation = { delay_id: either, delay_timeout: fc.oneof(fc.integer(), value) };
    const member = fc.record({ id: either, claimed_user_id: either, claimed_device_id: either }, { requiredKeys: [] });
    const bodies = fc.oneof(
      fc.record({ room_id: either, slot_id: either, openid_token, member, ...delegation }, { requiredKeys: ['room_id', 'slot_id'] }),
      fc.record({ room: either, device_id: either, openid_token, ...delegation }, { requiredKeys: ['room'] }),
    );
    fc.assert(
      fc.property(bodies, fc.constantFrom(...PARSERS), (body, parse) => expectWhole(attempt(parse, bytesOf(body)))),
      { numRuns: 1_000 },
    );
  });
});

describe('of a field twice', () => {
  const legacy = (fields: string) =>
    attempt(parseLegacyRequest, bytesOf(`{${fields},"openid_token":{"access_token":"t","matrix_server_name":"a.b"}}`));

  test('the last one counts', () => {
    expect(legacy('"room":1,"room":"last"')).toMatchObject({ roomId: 'last' });
    expect(legacy('"room":"first","room":null')).toMatchObject({ message: 'room is required' });
  });

  test('a prototype is a field that is not known', () => {
    expect(legacy('"room":"r","__proto__":{"room":"other"}')).toMatchObject({ errcode: 'M_NOT_JSON' });
  });
});

test('the same delayed event is the same hand-over, another is another', () => {
  const body = (delay_id: string, room = 'r') => {
    return { room, openid_token: { access_token: 't', matrix_server_name: 'a.b' }, delay_id, delay_timeout: 1 };
  };
  const hashOf = (delayId: string, room?: string) => parseLegacyRequest(bytesOf(body(delayId, room))).delegation?.handlesHash;
  expect(hashOf('d1', 'other')).toBe(hashOf('d1'));
  expect(hashOf('d2')).not.toBe(hashOf('d1'));
  expect(hashOf('d1')).not.toContain('d1');
});

test.each(['9223372036854775807', '-9223372036854775808'])('a token that expires in %s s, the most that 64 bits hold', (seconds) => {
  const token = `{"access_token":"a","matrix_server_name":"example.org","expires_in":${seconds}}`;
  const outcome = attempt(parseLegacyRequest, bytesOf(`{"room":"!r:example.org","device_id":"D","openid_token":${token}}`));
  expect(outcome).toMatchObject({ openId: { accessToken: 'a' } });
});
