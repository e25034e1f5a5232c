// LASTWILL_REDIS_WAIT: when so many Redis replicas have what was written. Asked of another server than the one that took the write, be it that
// a failover came between or that the shard has moved, Redis would say so of what it has never seen. So whose way changed meanwhile is refused.
import type { Clock } from '../../clock.ts';
import { StoreUnavailable } from '../store.ts';
import type { RedisConnection } from './connection.ts';

/** Resolves when enough Redis replicas have what was sent to the shard in this turn. @throws StoreUnavailable: they may not. */
export type Replicated = (shard: number) => Promise<void>;

export interface ReplicatedDeps {
  readonly connection: Pick<RedisConnection, 'replicas' | 'way'>;
  readonly clock: Clock;
  /** How many; 0: none are waited for. */
  readonly waitFor: number;
  /** Each shard of a cluster is replicated by itself. */
  readonly cluster: boolean;
}

/** What was read, and may be on this server alone: whoever wrote it was refused, or is not answered yet. */
export interface Doubts {
  /** Something was read in the shard that is about to be promised. */
  read(shard: number): void;
  /** Resolves when enough Redis replicas have all that was read there. @throws StoreUnavailable: they may not. */
  dispel(shard: number): Promise<void>;
}

const LONGEST_WAIT_MS = 1_500;

export function createReplicated({ connection, clock, waitFor, cluster }: ReplicatedDeps): Replicated {
  const waits = new Map<number, Promise<void>>();

  function begin(at: number): Promise<void> {
    const way = connection.way();
    return new Promise((resolve, reject) => {
      clock.endOfTurn(() => {
        waits.delete(at);
        connection
          .replicas(at, waitFor, LONGEST_WAIT_MS)
          .then((count) => {
            if (connection.way() !== way) throw new Error('the way to Redis is another one than before');
            if (count < waitFor) throw new Error(`${count} of ${waitFor} Redis replicas have it`);
            resolve();
          })
          .catch((error) => reject(new StoreUnavailable(error)));
      });
    });
  }

  return (shard) => {
    if (waitFor === 0) return Promise.resolve();
    const at = cluster ? shard : 0;
    const waiting = waits.get(at) ?? begin(at);
    waits.set(at, waiting);
    return waiting;
  };
}

/** `write`: anything, in the shard. What was there before it is on whichever replica has it; to wait for others' writes alone is not possible. */
export function createDoubts(waitFor: number, write: (shard: number) => Promise<unknown>, replicated: Replicated): Doubts {
  const doubted = new Set<number>();
  const underWay = new Map<number, Promise<void>>();

  async function ask(shard: number): Promise<void> {
    try {
      await Promise.all([write(shard), replicated(shard)]);
    } catch (error) {
      doubted.add(shard);
      throw error;
    }
  }

  return {
    read: (shard) => {
      if (waitFor > 0) doubted.add(shard);
    },
    dispel: (shard) => {
      // What was read since the last question was put is not in its answer.
      if (doubted.delete(shard)) underWay.set(shard, ask(shard));
      return underWay.get(shard) ?? Promise.resolve();
    },
  };
}
