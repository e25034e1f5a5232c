// Who asks the SFU next, where more want to than may at once: those who ask for a restart, for a leave that has its place in the lane and
// keeps others from it meanwhile, and all others take turns. So whoever is about to run out does not wait for thousands who seem to be gone,
// and those are found to be gone in the end.

export type Reason = 'restart' | 'leave' | 'other';

/** A question that waits; whoever joins it may have a better reason. */
export interface Turn {
  reason: Reason;
}

export interface Turns {
  /** Its turn has come, until it is done. */
  wait(turn: Turn): Promise<void>;
  /** Somebody else waits for it as well. */
  join(turn: Turn, reason: Reason): void;
  done(): void;
}

const REASONS: readonly Reason[] = ['restart', 'leave', 'other'];

export function createTurns(mostAtOnce: number): Turns {
  /** Who has found a better reason stays where it was as well, and is passed over there. */
  const queues: Readonly<Record<Reason, Turn[]>> = { restart: [], leave: [], other: [] };
  const waiting = new Map<Turn, () => void>();
  let running = 0;
  let last = 0;

  function firstOf(queue: Turn[]): Turn | null {
    for (let turn = queue.shift(); turn !== undefined; turn = queue.shift()) if (waiting.has(turn)) return turn;
    return null;
  }

  function next(): Turn | null {
    for (let tried = 0; tried < REASONS.length; tried += 1) {
      last = (last + 1) % REASONS.length;
      const turn = firstOf(queues[REASONS[last] as Reason]);
      if (turn !== null) return turn;
    }
    return null;
  }

  return {
    wait: (turn) => {
      if (running < mostAtOnce) {
        running += 1;
        return Promise.resolve();
      }
      queues[turn.reason].push(turn);
      return new Promise((resolve) => waiting.set(turn, resolve));
    },
    join: (turn, reason) => {
      if (REASONS.indexOf(turn.reason) <= REASONS.indexOf(reason)) return;
      turn.reason = reason;
      if (waiting.has(turn)) queues[reason].push(turn);
    },
    done: () => {
      running -= 1;
      const turn = next();
      if (turn === null) return;
      running += 1;
      waiting.get(turn)?.();
      waiting.delete(turn);
    },
  };
}
