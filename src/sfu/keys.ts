// Who signed this? LiveKit's API keys sign webhooks and participants' tokens alike; a JWT names its key as issuer.
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
  /** What one of our keys has signed and what holds now; null: anything else. */
  claims(jwt: string): Claims | null;
  /** Null: not signed by us, expired, or no token to join a room with. */
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
      const room = typeof video.room === 'string' ? parseRoomName(video.room) : null;
      const identity = typeof sub === 'string' ? parseIdentity(sub) : null;
      return room === null || identity === null ? null : { room, identity };
    },
  };
}

function isObject(value: unknown): value is Claims {
  return typeof value === 'object' && value !== null;
}
