// How MatrixRTC names things on the SFU (MSC4195): rooms and participants by a hash that tells outsiders nothing, or as older clients do
// it.
import { type Identity, type Owner, type RoomName, sha256, type UserId } from './ids.ts';

/** One device's membership of a slot of a room, in Matrix's words. */
export interface Member {
  readonly roomId: string;
  readonly slotId: string;
  readonly userId: UserId;
  readonly deviceId: string;
  readonly memberId: string;
}

/** The one slot that older clients know. */
export const LEGACY_SLOT = 'm.call#ROOM';

/** Older clients, and newer ones in compatibility mode, name their membership so. */
export function legacyMemberId(userId: UserId, deviceId: string): string {
  return `${userId}:${deviceId}`;
}

export function memberRoom({ roomId, slotId }: Pick<Member, 'roomId' | 'slotId'>): RoomName {
  return hashOf([roomId, slotId]) as RoomName;
}

export function memberIdentity({ userId, deviceId, memberId }: Omit<Member, 'roomId' | 'slotId'>): Identity {
  return hashOf([userId, deviceId, memberId]) as Identity;
}

/** The identity in the clear. */
export function legacyIdentity(userId: UserId, deviceId: string): Identity {
  return legacyMemberId(userId, deviceId) as Identity;
}

/** Every identity that the member could have on the SFU: in compatibility mode either of two, whichever way it was delegated. */
export function identitiesOf(member: Member): readonly Identity[] {
  const { userId, deviceId, memberId } = member;
  const hashed = memberIdentity(member);
  return memberId === legacyMemberId(userId, deviceId) ? [hashed, legacyIdentity(userId, deviceId)] : [hashed];
}

/** A membership as it is named behind the homeserver, where the device may be left out. */
export type ProxiedMember = Omit<Member, 'deviceId'> & { readonly deviceId: string | null };

/** With a device it is named as elsewhere; without one by the user and the membership alone. */
export function proxiedIdentity(member: ProxiedMember): Identity {
  const { userId, deviceId, memberId } = member;
  return deviceId === null ? (hashOf([userId, memberId]) as Identity) : memberIdentity({ userId, deviceId, memberId });
}

/** Both forms, and in compatibility mode, where the membership tells the device, all that such a client could be. */
export function proxiedIdentitiesOf(member: ProxiedMember): readonly Identity[] {
  const { userId, memberId } = member;
  const told = memberId.startsWith(`${userId}:`) ? memberId.slice(userId.length + 1) : null;
  const deviceId = member.deviceId ?? told;
  const short = proxiedIdentity({ ...member, deviceId: null });
  return deviceId === null ? [short] : [short, ...identitiesOf({ ...member, deviceId })];
}

/** One live delegation for each membership, whichever way it is named. */
export function proxiedOwner({ roomId, slotId, userId, memberId }: ProxiedMember): Owner {
  return `proxied:${hashOf([roomId, slotId, userId, memberId])}` as Owner;
}

/** One live delegation for each membership. */
export function memberOwner({ roomId, slotId, userId, deviceId, memberId }: Member): Owner {
  return `member:${hashOf([roomId, slotId, userId, deviceId, memberId])}` as Owner;
}

/**
 * For a list of texts, JSON.stringify writes what Matrix's canonical JSON asks for: no spaces, the shortest escapes, and those only where
 * they must be. What has no UTF-8 form (half a surrogate pair) has no canonical form either and is refused where requests are read.
 */
function hashOf(parts: readonly string[]): string {
  return sha256(JSON.stringify(parts));
}
