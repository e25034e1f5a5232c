// The claims that this replica holds. In Redis each is a short lease, so that a dead replica's work comes free within seconds; here it
// is made longer for as long as its holder wants it and lives.
import type { DelegationId } from '../../delegation/ids.ts';
import type { Claim } from '../store.ts';

/**
 * Within so long the work of a dead replica comes free: soon enough for an event of 10 s that was about to be restarted. A replica that
 * stalls for longer loses its claims as well, which costs nothing: the others do the work, and it is told so before it acts.
 */
export const SHORT_LEASE_MS = 1_500;
/** How often leases are looked at, and how old those are that are renewed. */
export const RENEW_EVERY_MS = 250;
const RENEW_AFTER_MS = 400;

export interface Lease {
  readonly shard: number;
  readonly lane: string;
  readonly rev: number;
  /** Its entry in the lane, to the letter: whoever takes the row changes it. */
  readonly score: string;
  /** When the row is due if the claim is given back. */
  readonly dueMs: number;
  /** By our clock: when it was asked for, and how long its holder wants it at most. */
  readonly askedAtMs: number;
  readonly wantedUntilMs: number;
}

export interface Leases {
  get(claim: Claim): Lease | null;
  hold(id: DelegationId, lease: Lease): void;
  /** The claim was given back, or the row written. */
  drop(id: DelegationId): void;
  /** Those whose holder wants them no longer are dropped. */
  toRenew(nowMs: number): readonly [DelegationId, Lease][];
  readonly size: number;
  clear(): void;
}

export function createLeases(): Leases {
  const held = new Map<DelegationId, Lease>();
  return {
    get: ({ id, rev }) => {
      const lease = held.get(id);
      return lease?.rev === rev ? lease : null;
    },
    hold: (id, lease) => void held.set(id, lease),
    drop: (id) => void held.delete(id),
    toRenew: (nowMs) => {
      for (const [id, { wantedUntilMs }] of held) if (wantedUntilMs <= nowMs) held.delete(id);
      return [...held].filter(([, { askedAtMs }]) => nowMs - askedAtMs >= RENEW_AFTER_MS);
    },
    get size() {
      return held.size;
    },
    clear: () => held.clear(),
  };
}
