// Who signed this? LiveKit's API keys sign webhooks and participants' tokens alike; a JWT names its key as issuer.
import { TokenVerifier } from 'livekit-server-sdk';
import { type Identity, parseIdentity, parseRoomName, type RoomName } from '../delegation/ids.ts';

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
  /** The verifier of the key that claims to have signed the JWT, null where it is none of ours. */
  verifierFor(jwt: string): TokenVerifier | null;
  /** Null: not signed by us, expired, or no token to join a room with. */
  participant(jwt: string): Promise<Participant | null>;
}

/** A token longer than this is no token of ours; it is not even parsed. */
const LONGEST_JWT = 16_384;

export function createKeys(keys: readonly ApiKey[]): Keys {
  const verifiers = new Map(keys.map(({ key, secret }) => [key, new TokenVerifier(key, secret)]));
  const verifierFor = (jwt: string) => {
    const issuer = issuerOf(jwt);
    return issuer === null ? null : (verifiers.get(issuer) ?? null);
  };
  return {
    verifierFor,
    participant: async (jwt) => {
      const claims = await verifierFor(jwt)
        ?.verify(jwt)
        .catch(() => null);
      if (claims?.video?.roomJoin !== true) return null;
      const room = typeof claims.video.room === 'string' ? parseRoomName(claims.video.room) : null;
      const identity = typeof claims.sub === 'string' ? parseIdentity(claims.sub) : null;
      return room === null || identity === null ? null : { room, identity };
    },
  };
}

/** The issuer that a JWT claims, before anything is verified: it only picks the key to verify with. */
function issuerOf(jwt: string): string | null {
  if (jwt.length > LONGEST_JWT) return null;
  try {
    const payload: unknown = JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString('utf8'));
    const issuer = payload !== null && typeof payload === 'object' && 'iss' in payload ? payload.iss : null;
    return typeof issuer === 'string' ? issuer : null;
  } catch {
    return null;
  }
}
