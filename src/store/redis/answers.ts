// How long Redis may take to answer, and what its silence means. One timer for all calls: Redis that answers others is there, and what waits
// behind them may wait longer; Redis that answers nobody is away, and all are refused, whatever becomes of them. A server that says nothing
// for longer than that may be gone without a word.
import { ErrorReply } from '@redis/client';
import type { Cancel, Clock } from '../../clock.ts';

export interface Answers {
  /** `shard`: of those whose servers fall silent each by itself. @throws Error: unanswered, or refused. */
  within<T>(shard: number, call: () => Promise<T>): Promise<T>;
  /** Nothing has come from there, though it was asked, for so long that the connection may be dead. */
  isSilent(shard: number): boolean;
  stop(): void;
}

/** A Redis that answers nobody for so long is away; a webhook's sender is waiting behind it. */
const SILENCE_MS = 2_000;
/** So long one answer may take behind others. */
const LONGEST_MS = 10_000;
const LOOK_MS = 500;
/** Past this many unanswered calls new ones are refused: 503 beats memory growth. */
const MOST_UNANSWERED = 20_000;
/** A server that is only slow is given this time; one that comes back by itself is mostly back by then. */
const DEAD_MS = 5_000;

export function createAnswers(clock: Clock, onSilence: (shards: readonly number[]) => void): Answers {
  const waiting = new Set<{ readonly sinceMs: number; readonly refuse: (why: Error) => void }>();
  /** Of each shard when it was asked first since it was heard last. */
  const silentSinceMs = new Map<number, number>();
  let cancel: Cancel | null = null;
  let answeredAtMs = clock.nowMs();
  let armedAtMs = 0;

  const isSilent = (shard: number): boolean => clock.nowMs() - (silentSinceMs.get(shard) ?? clock.nowMs()) >= DEAD_MS;

  function look(): void {
    cancel = null;
    const nowMs = clock.nowMs();
    // We were stalled ourselves: the answers may lie here, unread.
    const stalled = nowMs - armedAtMs > LOOK_MS * 2;
    for (const one of stalled ? [] : waiting) {
      const limitMs = nowMs - Math.max(answeredAtMs, one.sinceMs) >= SILENCE_MS ? SILENCE_MS : LONGEST_MS;
      if (nowMs - one.sinceMs < limitMs) break;
      waiting.delete(one);
      one.refuse(new Error(`unanswered for ${limitMs} ms`));
    }
    const silent = stalled ? [] : [...silentSinceMs.keys()].filter(isSilent);
    if (silent.length > 0) onSilence(silent);
    arm();
  }
  function arm(): void {
    if (waiting.size === 0 || cancel !== null) return;
    armedAtMs = clock.nowMs();
    cancel = clock.after(LOOK_MS, look);
  }

  return {
    within: <T>(shard: number, call: () => Promise<T>): Promise<T> => {
      if (waiting.size >= MOST_UNANSWERED) return Promise.reject(new Error('too many calls are unanswered'));
      return new Promise<T>((resolve, reject) => {
        const one = { sinceMs: clock.nowMs(), refuse: reject };
        waiting.add(one);
        if (!silentSinceMs.has(shard)) silentSinceMs.set(shard, one.sinceMs);
        arm();
        const heard = () => void silentSinceMs.delete(shard);
        call()
          .then(
            (answer) => {
              heard();
              resolve(answer);
            },
            (error: Error) => {
              // Else it is our own end of the connection that says so.
              if (error instanceof ErrorReply) heard();
              reject(error);
            },
          )
          .finally(() => {
            answeredAtMs = clock.nowMs();
            waiting.delete(one);
          });
      });
    },
    isSilent,
    stop: () => cancel?.(),
  };
}
