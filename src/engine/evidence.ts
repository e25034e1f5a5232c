// What the SFU has said of a room: who was there, how much that it says of others proves, and who is missing since the list before.
import type { Identity, RoomSid, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';

export interface List {
  readonly kind: 'list';
  /** When the SFU was asked, Unix ms: evidence is as old as the question. */
  readonly askedAtMs: number;
  readonly present: readonly Seen[];
  /** Null: the room does not exist. Undefined: not asked for. */
  readonly roomSid: RoomSid | null | undefined;
  /** The SFU was away, or started this room anew, a moment ago: that somebody is not listed proves little. */
  readonly afterRestart: boolean;
  /** Since when the SFU has answered every question, as far as we know, Unix ms. */
  readonly answersSinceMs: number;
  /** Who was on the newest earlier list that was not empty, and is not on this one; null: nobody. */
  readonly gone: { readonly sids: ReadonlyMap<Sid, Seen>; readonly seenAtMs: number } | null;
}
export type Evidence = List | { readonly kind: 'unreachable'; readonly askedAtMs: number };

/** The newest list that was not empty. */
export interface Crowd {
  crowd: readonly Seen[];
  /** When it was asked for, Unix ms. */
  crowdAtMs: number;
}

/**
 * A list compared with the newest one before it that was not empty. If several were there, and now others are and none of them, the SFU has
 * probably restarted between the two looks. With one alone, it may just have gone before the other came.
 */
export function compared({ crowd, crowdAtMs }: Crowd, list: List): Evidence {
  const gone = new Map(crowd.map((one) => [one.sid, one]));
  const before = gone.size;
  let isSameCrowd = true;
  // Who is unchanged keeps the object of the earlier list, and if all are, the array is kept: lists nearly always say the same, and
  // quiet-rooms.ts compares arrays.
  const present = list.present.map((one) => {
    const known = gone.get(one.sid);
    gone.delete(one.sid);
    if (known !== undefined && isSame(known, one)) return known;
    isSameCrowd = false;
    return one;
  });
  const isAnotherCrowd = before > 1 && present.length > 0 && gone.size === before;
  return {
    ...list,
    present: isSameCrowd && gone.size === 0 ? crowd : present,
    afterRestart: list.afterRestart || isAnotherCrowd,
    gone: gone.size > 0 ? { sids: gone, seenAtMs: crowdAtMs } : null,
  };
}

/** Whether a list shows neither a session nor another one in its place. */
export function lackedBy({ present }: List): (session: Seen) => boolean {
  const there = new Set(present.map(({ identity }) => identity));
  return ({ identity }) => !there.has(identity);
}

/** Whether one of them was on it. */
export function isOnList(last: Evidence | null, about: readonly Identity[]): boolean {
  return last?.kind === 'list' && last.present.some(({ identity }) => about.includes(identity));
}

function isSame(one: Seen, other: Seen): boolean {
  return one.identity === other.identity && one.joinedAtMs === other.joinedAtMs && one.active === other.active;
}
