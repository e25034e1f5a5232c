// How often one participant may hand over: enough for any client, too little for a loop that would make us call its homeserver.
import type { Clock } from '../clock.ts';
import type { Owner } from '../delegation/ids.ts';

export interface Limit {
  /** 0: go on; otherwise come back after so many ms. */
  take(owner: Owner): number;
}

const BURST = 100;
const PER_SECOND = 10;
const MOST_OWNERS = 10_000;

export function createLimit(clock: Clock): Limit {
  const buckets = new Map<Owner, { tokens: number; atMs: number }>();
  return {
    take: (owner) => {
      const nowMs = clock.nowMs();
      const before = buckets.get(owner) ?? { tokens: BURST, atMs: nowMs };
      const tokens = Math.min(BURST, before.tokens + ((nowMs - before.atMs) / 1000) * PER_SECOND);
      buckets.delete(owner);
      buckets.set(owner, { tokens: tokens < 1 ? tokens : tokens - 1, atMs: nowMs });
      const [oldest] = buckets.keys();
      if (buckets.size > MOST_OWNERS && oldest !== undefined) buckets.delete(oldest);
      return tokens < 1 ? Math.ceil(((1 - tokens) / PER_SECOND) * 1000) : 0;
    },
  };
}
