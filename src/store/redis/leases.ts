// The claims that this replica holds. In Redis each is a short lease, so that a dead replica's work comes free within seconds; here it
// is made longer for as long as its holder wants it and lives.
import type { DelegationId } from '../../delegation/ids.ts';
import type { Claim } from '../store.ts';

/**
 * Within so long the work of a dead replica comes free. A replica that stalls for longer loses its claims as well, which costs nothing: the
 * others do the work, and it is told so before it acts. Of an event of 10 s hardly two are left when its restart is claimed, and whoever
 * takes that over may die, too; that a restart or a question is made twice where somebody was only slow does no harm.
 */
export function longestLeaseMs(lane: string): number {
  return lane.startsWith('L') || lane.startsWith('C') ? 1_500 : 700;
}

/** How often leases are looked at, and which part of them is over when they are renewed. */
export const RENEW_EVERY_MS = 250;
const RENEW_AFTER_PART = 0.25;

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
      return [...held].filter(([, { lane, askedAtMs }]) => nowMs - askedAtMs >= longestLeaseMs(lane) * RENEW_AFTER_PART);
    },
    get size() {
      return held.size;
    },
    clear: () => held.clear(),
  };
}
