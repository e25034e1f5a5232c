// A token bucket for each caller, on what costs others something (a call to a homeserver, a row in the store): enough for any client, too
// little for a loop.
import type { Clock } from '../clock.ts';
import { LruMap } from '../lru-map.ts';

export interface RateLimit<Who> {
  /** Takes one token of this caller. 0: go on; otherwise nothing was taken, and there is one again in so many ms. */
  take(who: Who): number;
}

export interface Rate {
  /** How many may be taken at once after a long pause. */
  readonly burst: number;
  readonly perSecond: number;
}

/** Callers beyond this are forgotten, who took longest ago first: they get a full bucket the next time. */
const MOST_CALLERS = 10_000;

export function createRateLimit<Who>(clock: Pick<Clock, 'nowMs'>, { burst, perSecond }: Rate): RateLimit<Who> {
  const buckets = new LruMap<Who, { readonly tokens: number; readonly atMs: number }>(MOST_CALLERS);
  return {
    take: (who) => {
      const nowMs = clock.nowMs();
      const before = buckets.get(who) ?? { tokens: burst, atMs: nowMs };
      const tokens = Math.min(burst, before.tokens + ((nowMs - before.atMs) / 1000) * perSecond);
      buckets.set(who, { tokens: tokens < 1 ? tokens : tokens - 1, atMs: nowMs });
      return tokens < 1 ? Math.ceil(((1 - tokens) / perSecond) * 1000) : 0;
    },
  };
}
