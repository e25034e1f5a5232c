// Whose question is put to the SFU next, when more are waiting than may be put at once. There are three kinds, which take turns: for a
// restart, for a leave whose turn with the homeserver has come (others wait for it there), and all others. So an event that is about to run
// out does not wait for thousands of participants who seem to be gone, and those are found to be gone in the end.

export type Reason = 'restart' | 'leave' | 'other';

/** A question that waits. Its reason may become a more urgent one, when somebody joins it who has one. */
export interface Turn {
  reason: Reason;
}

export interface Turns {
  /** Resolves when its turn has come. `done` must be called after it. */
  wait(turn: Turn): Promise<void>;
  /** Somebody else, with perhaps a more urgent reason, waits for the same answer. */
  join(turn: Turn, reason: Reason): void;
  done(): void;
}

/** The most urgent first. */
const REASONS: readonly Reason[] = ['restart', 'leave', 'other'];

export function createTurns(mostAtOnce: number): Turns {
  /** A question whose reason has become more urgent is in two queues, and is passed over in the second one. */
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
