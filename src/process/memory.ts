// What a crowd's arrival leaves behind: pages that V8 keeps at hand for more of the same, and returns some 10 to 20 s later, though beside an
// SFU others need them; and a wrong idea of how long things live.
import type { Cancel, Clock } from '../clock.ts';

export interface MemoryDeps {
  readonly clock: Clock;
  /** How many have told or asked anything so far, and so were kept waiting by whatever else is done. */
  readonly asked: () => number;
  /** It may throw: to look takes a descriptor, and there may be none left. */
  readonly rssBytes: () => number;
  /** Stops everything, on a slow machine for 50 to 120 ms. */
  readonly collect: () => void;
}

const QUIET_MS = 2_000;
/** Less than this is not worth it. */
const GROWN_BYTES = 24e6;

/** Has everything collected, once, when nobody has asked for a while and more is used than was left the last time. */
export function keepSmall({ clock, asked, rssBytes, collect }: MemoryDeps): Cancel {
  let askedLast = asked();
  let quietSinceMs = clock.nowMs();
  let isCollected = false;
  let leftBytes = 0;
  return clock.everySecond(() => {
    if (asked() !== askedLast) {
      askedLast = asked();
      quietSinceMs = clock.nowMs();
      isCollected = false;
    }
    const nowBytes = tried(rssBytes);
    if (nowBytes === null) return;
    leftBytes = Math.min(leftBytes, nowBytes);
    if (isCollected || clock.nowMs() - quietSinceMs < QUIET_MS || nowBytes < leftBytes + GROWN_BYTES) return;
    collect();
    isCollected = true;
    leftBytes = tried(rssBytes) ?? nowBytes;
  });
}

function tried(rssBytes: () => number): number | null {
  try {
    return rssBytes();
  } catch {
    return null;
  }
}

/**
 * V8's own collection for when memory runs out: the only one that empties its pool of pages. A flag at the start would have Node compile its
 * modules anew instead of reading what it has; set for a moment it does not.
 */
export function collectAll(): void {
  const v8 = process.getBuiltinModule('node:v8');
  v8.setFlagsFromString('--expose-gc');
  const gc: unknown = process.getBuiltinModule('node:vm').runInNewContext('globalThis.gc');
  v8.setFlagsFromString('--no-expose-gc');
  if (typeof gc === 'function') gc({ type: 'major', flavor: 'last-resort' });
}

/**
 * While hundreds of requests are under way at once, what they make outlives several collections of the young generation. V8 takes from that
 * that such objects live long, and makes them in the old generation from then on: whatever they refer to stays as well, until the next
 * collection of everything. Measured on the SFU's lists after a crowd's arrival, a quarter of all that was made stayed, and collections of the
 * young generation took ten times as long.
 */
export function letShortLivedDie(): void {
  process.getBuiltinModule('node:v8').setFlagsFromString('--no-allocation-site-pretenuring');
}
