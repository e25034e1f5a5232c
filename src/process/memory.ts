// Two things that the arrival of a crowd leaves behind in V8: free pages, which it keeps for 10 to 20 s though the SFU on the same machine
// may need them; and a wrong idea of how long objects live.
import type { Cancel, Clock } from '../clock.ts';

export interface MemoryDeps {
  readonly clock: Clock;
  /** How many requests have come so far. While they come nothing is collected, for each of them would wait for it. */
  readonly asked: () => number;
  /** It may throw: it reads a file, and there may be no descriptor left. */
  readonly rssBytes: () => number;
  /** Collects all garbage, and stops the process for it: 50 to 120 ms on a slow machine. */
  readonly collect: () => void;
}

const QUIET_MS = 2_000;
/** What follows from a rush, as the looks at all the rooms, goes on for longer, and leaves as much again. */
const AGAIN_MS = 5_000;
/** A smaller growth is not worth the stop. */
const GROWN_BYTES = 16e6;

/** Collects when no request has come for 2 s and there is much more memory in use than after the last collection. Until cancelled. */
export function keepSmall({ clock, asked, rssBytes, collect }: MemoryDeps): Cancel {
  let askedLast = asked();
  let quietSinceMs = clock.nowMs();
  let againMs = Number.NEGATIVE_INFINITY;
  let leftBytes = 0;
  return clock.everySecond(() => {
    if (asked() !== askedLast) {
      askedLast = asked();
      quietSinceMs = clock.nowMs();
      againMs = Number.NEGATIVE_INFINITY;
    }
    const nowBytes = tried(rssBytes);
    if (nowBytes === null) return;
    leftBytes = Math.min(leftBytes, nowBytes);
    if (clock.nowMs() < Math.max(quietSinceMs + QUIET_MS, againMs) || nowBytes < leftBytes + GROWN_BYTES) return;
    collect();
    againMs = clock.nowMs() + AGAIN_MS;
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
 * The collection that V8 makes when memory runs out, the only one that gives its pool of free pages back. Exposed by a flag at the start,
 * it would have Node compile its own modules anew instead of using its code cache; set for a moment, the flag does not.
 */
export function collectAll(): void {
  const v8 = process.getBuiltinModule('node:v8');
  v8.setFlagsFromString('--expose-gc');
  const gc: unknown = process.getBuiltinModule('node:vm').runInNewContext('globalThis.gc');
  v8.setFlagsFromString('--no-expose-gc');
  if (typeof gc === 'function') gc({ type: 'major', flavor: 'last-resort' });
}

/**
 * Switches V8's pretenuring off. While hundreds of requests are under way at once, their objects outlive several collections of the young
 * generation, and V8 concludes that such objects live long: it makes them in the old generation from then on, where they and all that they
 * refer to stay until everything is collected. Measured on the SFU's lists after a crowd's arrival, a quarter of what was made stayed, and
 * collections of the young generation took ten times as long.
 */
export function letShortLivedDie(): void {
  process.getBuiltinModule('node:v8').setFlagsFromString('--no-allocation-site-pretenuring');
}
