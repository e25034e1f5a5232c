import { TokenVerifier } from 'livekit-server-sdk';
import { expect, test } from 'vitest';
import type { Identity, RoomName } from '../../src/delegation/ids.ts';
import { createKeys } from '../../src/sfu/keys.ts';
import { createTokens } from '../../src/sfu/tokens.ts';

const KEY = { key: 'key', secret: 'secret-of-at-least-32-characters-long' };
const GRANT = { room: 'room-1' as RoomName, identity: 'identity-1' as Identity };

test.each([true, false])('a token says each right: %s', async (right) => {
  const jwt = await createTokens(KEY).join({ ...GRANT, canPublish: right, canUpdateOwnMetadata: right });
  const claims = await new TokenVerifier(KEY.key, KEY.secret).verify(jwt);
  expect(claims.video).toEqual({
    ...{ room: 'room-1', roomJoin: true, canSubscribe: true },
    ...{ canPublish: right, canUpdateOwnMetadata: right },
  });
  expect(claims).toMatchObject({ iss: 'key', sub: 'identity-1', identity: 'identity-1' });
  expect(Object.keys(claims).sort()).toEqual(['exp', 'iat', 'identity', 'iss', 'nbf', 'sub', 'video']);
});

test('a token is that of its participant to our native API, too', async () => {
  const jwt = await createTokens(KEY).join({ ...GRANT, canPublish: true, canUpdateOwnMetadata: true });
  expect(await createKeys([KEY]).participant(jwt)).toEqual(GRANT);
  expect(await createKeys([{ ...KEY, secret: 'another-secret-of-at-least-32-characters' }]).participant(jwt)).toBeNull();
});
