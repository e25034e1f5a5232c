// The tokens with which participants join: signed with our first API key, good for an hour, for one room and one identity.
import { wallSeconds } from '../clock.ts';
import type { Identity, RoomName } from '../delegation/ids.ts';
import { hmacKey, signJwt } from './jwt.ts';
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
  join(grant: JoinGrant): string;
}

const VALID_SECONDS = 3_600;

export function createTokens({ key, secret }: ApiKey): Tokens {
  const signing = hmacKey(secret);
  return {
    join: ({ room, identity, canPublish, canUpdateOwnMetadata, ...more }) => {
      // To the SFU a right that is not mentioned is granted: each is written out, also as false.
      const video = { roomJoin: true, room, canPublish, canSubscribe: true, canUpdateOwnMetadata, ...more };
      const iat = wallSeconds();
      return signJwt({ identity, video, iss: key, sub: identity, iat, nbf: iat, exp: iat + VALID_SECONDS }, signing);
    },
  };
}
