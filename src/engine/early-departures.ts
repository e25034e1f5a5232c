// Departures of participants who had handed nothing over yet. A client may go while its hand-over is on its way, for its homeserver is asked
// about it first: the webhook finds no delegation then, and the one that comes a moment later would be waited for as if its participant were
// still to come. So it is told of the departure as if that had come a moment after it. Only in memory: a start in between, or another replica
// that has got the webhook, costs such a leave no more than the time to connect.
import type { Clock } from '../clock.ts';
import type { Identity, RoomName } from '../delegation/ids.ts';
import { isOnTheWayBack } from '../delegation/reasons.ts';
import type { Event, EventOf } from '../delegation/state.ts';
import { LruMap } from '../lru-map.ts';

export interface EarlyDepartures {
  /** Applies what a webhook tells. It is remembered before, for a hand-over may be committed with it, and forgotten if it concerned any. */
  heard<T extends { readonly rows: number; readonly duplicate: boolean }>(
    room: RoomName,
    event: Event,
    apply: () => Promise<T>,
  ): Promise<T>;
  /** The newest departure of one of these that a hand-over which is committed now may have been overtaken by. */
  of(room: RoomName, identities: readonly Identity[]): EventOf<'left'> | null;
}

/** No hand-over is on its way for longer: a homeserver that is asked about an OpenID token has ten seconds, a store that is away five. */
const ON_ITS_WAY_MS = 20_000;
const MOST = 10_000;

export function createEarlyDepartures({ nowMs }: Pick<Clock, 'nowMs'>): EarlyDepartures {
  const departures = new LruMap<string, { readonly event: EventOf<'left'>; readonly atMs: number }>(MOST);
  const keyOf = (room: RoomName, identity: Identity): string => JSON.stringify([room, identity]);

  return {
    heard: async (room, event, apply) => {
      // The time to connect is not too long for who is on the way back.
      if (event.kind !== 'left' || isOnTheWayBack(event.cause)) return apply();
      const key = keyOf(room, event.identity);
      // It was heard before any hand-over: by the SFU's clock, which may be ahead, its session must not seem to be of after it.
      departures.set(key, { event: { ...event, joinedAtMs: null }, atMs: nowMs() });
      const applied = await apply();
      if (applied.rows > 0 || applied.duplicate) departures.delete(key);
      return applied;
    },
    of: (room, identities) => {
      const found = identities.flatMap((identity) => departures.get(keyOf(room, identity)) ?? []);
      const newest = found.toSorted((one, other) => other.atMs - one.atMs)[0];
      return newest !== undefined && nowMs() - newest.atMs < ON_ITS_WAY_MS ? newest.event : null;
    },
  };
}
