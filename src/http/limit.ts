// How often one of them may do what costs others something: enough for any client, too little for a loop.
import type { Clock } from '../clock.ts';

export interface Limit<Who> {
  /** 0: go on; otherwise come back after so many ms. */
  take(who: Who): number;
}

export interface Often {
  readonly burst: number;
  readonly perSecond: number;
}

const MOST_REMEMBERED = 10_000;

export function createLimit<Who>(clock: Clock, { burst, perSecond }: Often): Limit<Who> {
  const buckets = new Map<Who, { tokens: number; atMs: number }>();
  return {
    take: (who) => {
      const nowMs = clock.nowMs();
      const before = buckets.get(who) ?? { tokens: burst, atMs: nowMs };
      const tokens = Math.min(burst, before.tokens + ((nowMs - before.atMs) / 1000) * perSecond);
      buckets.delete(who);
      buckets.set(who, { tokens: tokens < 1 ? tokens : tokens - 1, atMs: nowMs });
      const [oldest] = buckets.keys();
      if (buckets.size > MOST_REMEMBERED && oldest !== undefined) buckets.delete(oldest);
      return tokens < 1 ? Math.ceil(((1 - tokens) / perSecond) * 1000) : 0;
    },
  };
}
