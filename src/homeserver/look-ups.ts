// A cache of look-ups: an answer is remembered for as long as it is valid, and callers who ask at the same time share one look-up.
import type { Clock } from '../clock.ts';
import { LruMap } from '../lru-map.ts';

export interface Found<Value> {
  readonly value: Value;
  readonly validMs: number;
}

/** Answers from memory while that is valid, and looks up otherwise. Rejects as `look` does. */
export type LookUps<Key, Value> = (key: Key) => Promise<Value>;

interface Entry<Value> {
  readonly answer: Promise<Found<Value>>;
  /** Until when the answer is valid, Unix ms; null: the look-up is still running. */
  untilMs: number | null;
}

export function createLookUps<Key, Value>(options: {
  readonly clock: Clock;
  /** How many keys are remembered at most. */
  readonly most: number;
  /** `before`: what was found last time, null if that is not known. */
  readonly look: (key: Key, before: Value | null) => Promise<Found<Value>>;
}): LookUps<Key, Value> {
  const { clock, most, look } = options;
  const known = new LruMap<Key, Entry<Value>>(most);

  async function renew(key: Key, before: Entry<Value> | undefined): Promise<Found<Value>> {
    const last = await before?.answer.catch(() => null);
    return look(key, last?.value ?? null);
  }

  return async (key) => {
    const before = known.get(key);
    if (before && (before.untilMs === null || before.untilMs > clock.nowMs())) return (await before.answer).value;
    const entry: Entry<Value> = { answer: renew(key, before), untilMs: null };
    known.set(key, entry);
    try {
      const { value, validMs } = await entry.answer;
      entry.untilMs = clock.nowMs() + validMs;
      return value;
    } finally {
      // A look-up that threw is not remembered: the next caller looks up again.
      entry.untilMs ??= 0;
    }
  };
}
