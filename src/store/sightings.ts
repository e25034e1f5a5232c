// What processes that share a store tell one another of the rooms they have looked at, so that one look serves all of them. Nothing is
// promised of it: what is not found is looked at again.
import type { RoomName } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';

export interface Sighting {
  /** When the SFU was asked, by the one time of all who share the store, ms. */
  readonly askedAtMs: number;
  readonly present: readonly Seen[];
}

export interface Sightings {
  /** @throws Error when the store is away. */
  tell(room: RoomName, sighting: Sighting): Promise<void>;
  /** The one that was told last, unless that is long ago. @throws Error when the store is away. */
  last(room: RoomName): Promise<Sighting | null>;
}

/** Rarely is older evidence of any use: rooms are looked at every 30 s, unless an operator wants it otherwise. */
export const SIGHTING_KEPT_MS = 60_000;
