// What a busy time leaves behind is given back soon after it. V8 keeps freed pages at hand for more of the same, and returns them some 10 to
// 20 s later; beside an SFU others need them.
import type { Cancel, Clock } from './clock.ts';

export interface Usage {
  /** Of all threads, since the start. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

export interface MemoryDeps {
  readonly clock: Clock;
  readonly usage: () => Usage;
  /** Stops everything for some 10 to 50 ms: what is alive is small. */
  readonly collect: () => void;
}

/** Of one processor. To hold 10,000 delegations takes 0.02; and after many calls began at once it is quiet with a third of that work. */
const QUIET_SHARE = 0.15;
const QUIET_PART = 1 / 3;
const QUIET_MS = 2_000;
/** Less than this is not worth it. */
const GROWN_BYTES = 24e6;

/** Has everything collected when it has been quiet after more was used than the last time. */
export function keepSmall({ clock, usage, collect }: MemoryDeps): Cancel {
  let last = { atMs: clock.nowMs(), cpuMs: usage().cpuMs };
  let quietSinceMs = last.atMs;
  let keptBytes = 0;
  let mostShare = 0;
  return clock.everySecond(() => {
    const { cpuMs, rssBytes } = usage();
    const nowMs = clock.nowMs();
    const share = (cpuMs - last.cpuMs) / Math.max(nowMs - last.atMs, 1);
    mostShare = Math.max(mostShare, share);
    if (share > Math.max(QUIET_SHARE, mostShare * QUIET_PART)) quietSinceMs = nowMs;
    last = { atMs: nowMs, cpuMs };
    if (nowMs - quietSinceMs < QUIET_MS || rssBytes < keptBytes + GROWN_BYTES) return;
    collect();
    keptBytes = usage().rssBytes;
    mostShare = share;
  });
}

export function processUsage(): Usage {
  const { user, system } = process.cpuUsage();
  return { cpuMs: (user + system) / 1000, rssBytes: process.memoryUsage.rss() };
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
