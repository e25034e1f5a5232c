// Who was given a token for which Matrix room: what has to be known to end a stay on the SFU with the stay in the Matrix room. Kept beside
// the delegations, since most participants have none of ours, and by the same rule: a promise that resolves survives a crash. And under which
// identities a membership was given tokens, of which a delegation may not say enough to derive them.
import type { Identity, Owner, RoomName, UserId } from '../delegation/ids.ts';
import { shortName } from './short-name.ts';

export interface Tracked {
  /** The Matrix room. */
  readonly roomId: string;
  /** Its name on the SFU. */
  readonly room: RoomName;
  readonly identity: Identity;
  readonly userId: UserId;
  /** When the newest token was given. */
  readonly grantedAtMs: number;
}

export interface Attendance {
  /** A second token of one identity only renews the time. @throws StoreUnavailable: nothing is kept. */
  track(participant: Tracked): Promise<void>;
  /** Does nothing if a newer token has been given meanwhile. @throws StoreUnavailable */
  untrack(participant: Tracked): Promise<void>;
  /** The Matrix rooms of all who are tracked. With `notWithinMs`, given to only one of several processes in so long a time. */
  trackedRooms(notWithinMs?: number): Promise<readonly string[]>;
  trackedIn(roomId: string): Promise<readonly Tracked[]>;
  /** Of the membership whose delegations have this owner; kept for GIVEN_KEPT_MS at least. @throws StoreUnavailable */
  give(room: RoomName, owner: Owner, identity: Identity): Promise<void>;
  /** @throws StoreUnavailable */
  givenTo(room: RoomName, owner: Owner): Promise<readonly Identity[]>;
}

/** An identity that a membership was given, as one store tells another of it: neither keeps all that the other asks by. */
export interface Given {
  /** Of its room, or of another room that is kept at the same place. */
  readonly slot: number;
  /** ownerName. */
  readonly owner: string;
  readonly identity: Identity;
}

/** For a move to another store, while nobody else is at work on either. */
export interface MovableGiven {
  allGiven(): Promise<readonly Given[]>;
  /** Kept from now on for GIVEN_KEPT_MS at least. @throws StoreUnavailable */
  takeGiven(given: Given): Promise<void>;
}

/** By which either store can tell the other of an owner. */
export function ownerName(owner: Owner): string {
  return shortName(owner, 22);
}

/** A member with more than a few has made them up; which of them are told is left open. */
export const MOST_GIVEN = 8;

/** A token can be used for an hour, and delegations are handed over soon after: what they have learnt lasts as long as they do. */
export const GIVEN_KEPT_MS = 86_400_000;
