// The tokens with which participants join: signed with our first API key, good for an hour, for one room and one identity.
import { createSecretKey } from 'node:crypto';
import { SignJWT } from 'jose';
import type { Identity, RoomName } from '../delegation/ids.ts';
import type { ApiKey } from './keys.ts';

export interface JoinGrant {
  readonly room: RoomName;
  readonly identity: Identity;
  readonly canPublish: boolean;
  readonly canUpdateOwnMetadata: boolean;
  /** Written out only where it is given: some who read tokens want it said that a guest may not. */
  readonly roomCreate?: false;
}

export interface Tokens {
  join(grant: JoinGrant): Promise<string>;
}

/** Time in these tokens is the SFU's business, so it is the wall clock's, which the library looks at by itself. */
export function createTokens({ key, secret }: ApiKey): Tokens {
  const signing = createSecretKey(Buffer.from(secret));
  return {
    join: ({ room, identity, canPublish, canUpdateOwnMetadata, ...more }) => {
      // To the SFU a right that is not mentioned is granted: each is written out, also as false.
      const video = { roomJoin: true, room, canPublish, canSubscribe: true, canUpdateOwnMetadata, ...more };
      return new SignJWT({ identity, video })
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
        .setIssuer(key)
        .setSubject(identity)
        .setIssuedAt()
        .setNotBefore('0s')
        .setExpirationTime('1h')
        .sign(signing);
    },
  };
}
