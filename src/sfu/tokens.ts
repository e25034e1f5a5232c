// Makes the tokens with which participants join: for one room and one identity, valid for an hour, signed with the first API key.
import { wallSeconds } from '../clock.ts';
import type { Identity, RoomName } from '../delegation/ids.ts';
import { hmacKey, signJwt } from './jwt.ts';
import type { ApiKey } from './keys.ts';

export interface JoinGrant {
  readonly room: RoomName;
  readonly identity: Identity;
  readonly canPublish: boolean;
  readonly canUpdateOwnMetadata: boolean;
  /** Written into the token only if given: services that read tokens of guests (MSC4195) may want to see `false`. */
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
      // LiveKit grants a right that the token does not mention, so each is written out, false as well.
      const video = { roomJoin: true, room, canPublish, canSubscribe: true, canUpdateOwnMetadata, ...more };
      const iat = wallSeconds();
      return signJwt({ identity, video, iss: key, sub: identity, iat, nbf: iat, exp: iat + VALID_SECONDS }, signing);
    },
  };
}
