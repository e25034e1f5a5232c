// The clock by which the SFU tells its times, and ours.
import type { EventOf, Seen } from '../state.ts';

/** How far times of the SFU may be off ours, ms: it has its own clock, and older versions tell only whole seconds. */
export const CLOCKS_MS = 2_000;

/** One moment by both. */
export interface Clocks {
  /** Unix ms, steady since the start. */
  readonly nowMs: number;
  /** What the wall clock shows, which may have been set since: the SFU goes by it. */
  readonly wallMs: number;
}

/** A time by the SFU's clock in our time, Unix ms. */
export function inOurTime(sfuMs: number, { nowMs, wallMs }: Clocks): number {
  return sfuMs - (wallMs - nowMs);
}

/**
 * Whether a time that the SFU has told is ahead of its clock: that has been set back since, and nothing shows whether what it tells now was
 * before or after.
 */
export function isFromBeforeSetBack(sfuMs: number, at: Clocks): boolean {
  return inOurTime(sfuMs, at) > at.nowMs + CLOCKS_MS;
}

type Joined = Pick<Seen, 'identity' | 'joinedAtMs'>;

/**
 * Whether a list still, or again, shows a session that a newer one has taken the place of: that of a node which was frozen or cut off, and has
 * not noticed. Not if the newer one joined by a clock that was ahead, and has been set back since.
 */
export function isTakenOver(listed: Joined, newer: Joined, at: Clocks): boolean {
  if (listed.identity !== newer.identity || listed.joinedAtMs === null || newer.joinedAtMs === null) return false;
  return listed.joinedAtMs < newer.joinedAtMs - CLOCKS_MS && !isFromBeforeSetBack(newer.joinedAtMs, at);
}

/** When a participant left, in our time: not after we heard of it. */
export function leftMs({ leftAtMs }: EventOf<'left'>, at: Clocks): number {
  return leftAtMs === undefined ? at.nowMs : Math.min(inOurTime(leftAtMs, at), at.nowMs);
}

/**
 * Since when a join's webhook is evidence of presence. Usually it was just sent, and counts from now. But LiveKit may have tried in vain
 * before, or this process may have been stopped; then whoever joined may be gone already, and it counts from the join.
 */
export function seenByJoinMs(joinedAtMs: number | null, at: Clocks): number {
  const joinedMs = joinedAtMs === null ? at.nowMs : inOurTime(joinedAtMs, at);
  return joinedMs >= at.nowMs - CLOCKS_MS ? at.nowMs : joinedMs;
}
