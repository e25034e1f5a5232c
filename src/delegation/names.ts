// How MatrixRTC names rooms and participants on the SFU (MSC4195): by hashes, which tell outsiders nothing, or in the clear as older
// clients do.
import { type Identity, type Owner, type RoomName, sha256, type UserId } from './ids.ts';

/** The membership of one device in a slot of a Matrix room. */
export interface Member {
  readonly roomId: string;
  readonly slotId: string;
  readonly userId: UserId;
  readonly deviceId: string;
  readonly memberId: string;
}

/** The slot of clients that know only one. */
export const LEGACY_SLOT = 'm.call#ROOM';

/** The member id of older clients, and of newer ones in compatibility mode. */
export function legacyMemberId(userId: UserId, deviceId: string): string {
  return `${userId}:${deviceId}`;
}

export function memberRoom({ roomId, slotId }: Pick<Member, 'roomId' | 'slotId'>): RoomName {
  return hashOf([roomId, slotId]) as RoomName;
}

export function memberIdentity({ userId, deviceId, memberId }: Omit<Member, 'roomId' | 'slotId'>): Identity {
  return hashOf([userId, deviceId, memberId]) as Identity;
}

/** The identity of such a client on the SFU, in the clear. */
export function legacyIdentity(userId: UserId, deviceId: string): Identity {
  return legacyMemberId(userId, deviceId) as Identity;
}

/** Every identity that the member may have on the SFU: in compatibility mode either of two, whichever way its leave was handed over. */
export function identitiesOf(member: Member): readonly Identity[] {
  const { userId, deviceId, memberId } = member;
  const hashed = memberIdentity(member);
  return memberId === legacyMemberId(userId, deviceId) ? [hashed, legacyIdentity(userId, deviceId)] : [hashed];
}

/** A membership as it is named behind the homeserver, where the device may be left out. */
export type ProxiedMember = Omit<Member, 'deviceId'> & { readonly deviceId: string | null };

/** With a device the identity is the usual one; without, a hash of user and membership alone. */
export function proxiedIdentity(member: ProxiedMember): Identity {
  const { userId, deviceId, memberId } = member;
  return deviceId === null ? (hashOf([userId, memberId]) as Identity) : memberIdentity({ userId, deviceId, memberId });
}

/** Both forms; and in compatibility mode, where the member id shows the device, every identity of such a client. */
export function proxiedIdentitiesOf(member: ProxiedMember): readonly Identity[] {
  const { userId, memberId } = member;
  const told = memberId.startsWith(`${userId}:`) ? memberId.slice(userId.length + 1) : null;
  const deviceId = member.deviceId ?? told;
  const short = proxiedIdentity({ ...member, deviceId: null });
  return deviceId === null ? [short] : [short, ...identitiesOf({ ...member, deviceId })];
}

/** Behind a homeserver: one live delegation for each membership, with a device or without. */
export function proxiedOwner({ roomId, slotId, userId, memberId }: ProxiedMember): Owner {
  return `proxied:${hashOf([roomId, slotId, userId, memberId])}` as Owner;
}

/** One live delegation for each membership. */
export function memberOwner({ roomId, slotId, userId, deviceId, memberId }: Member): Owner {
  return `member:${hashOf([roomId, slotId, userId, deviceId, memberId])}` as Owner;
}

/**
 * The hash of their canonical JSON, as Matrix defines it: for a list of texts that is what JSON.stringify writes. A text that has no UTF-8
 * form (half a surrogate pair) has no canonical form either, and is refused where requests are parsed.
 */
function hashOf(parts: readonly string[]): string {
  return sha256(JSON.stringify(parts));
}
