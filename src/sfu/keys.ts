// Verifies what is signed with LiveKit's API keys, webhooks and participants' tokens alike; a JWT names its key as the issuer.
import { wallSeconds } from '../clock.ts';
import { type Identity, parseIdentity, parseRoomName, type RoomName } from '../delegation/ids.ts';
import { type Claims, hmacKey, verifyJwt } from './jwt.ts';

/** One of the SFU's API keys: it signs, and is named as issuer. */
export interface ApiKey {
  readonly key: string;
  readonly secret: string;
}

/** What a participant's own LiveKit token proves. */
export interface Participant {
  readonly room: RoomName;
  readonly identity: Identity;
}

export interface Keys {
  /** The claims of a JWT that one of our keys has signed and that is valid now; null: any other. */
  claims(jwt: string): Claims | null;
  /** Who may join which room by this token; null: not signed by our keys, not valid now, or without the right to join. */
  participant(jwt: string): Participant | null;
}

export function createKeys(keys: readonly ApiKey[], nowSeconds: () => number = wallSeconds): Keys {
  const secrets = new Map(keys.map(({ key, secret }) => [key, hmacKey(secret)]));
  const claims = (jwt: string) => verifyJwt(jwt, (issuer) => secrets.get(issuer), nowSeconds());
  return {
    claims,
    participant: (jwt) => {
      const { sub, video } = claims(jwt) ?? {};
      if (!isObject(video) || video.roomJoin !== true) return null;
      // Half a surrogate pair, which JSON can hold and the SFU can't, is read as the SFU reads it.
      const room = typeof video.room === 'string' ? parseRoomName(video.room.toWellFormed()) : null;
      const identity = typeof sub === 'string' ? parseIdentity(sub.toWellFormed()) : null;
      return room === null || identity === null ? null : { room, identity };
    },
  };
}

function isObject(value: unknown): value is Claims {
  return typeof value === 'object' && value !== null;
}
