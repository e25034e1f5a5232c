// What was looked up holds for a time: remembered within bounds, asked for once by those who ask together.
import type { Clock } from '../clock.ts';
import { LruMap } from '../lru-map.ts';

export interface Found<Value> {
  readonly value: Value;
  readonly validMs: number;
}

/** Answers from memory while an answer holds, and looks up otherwise. */
export type LookUps<Key, Value> = (key: Key) => Promise<Value>;

interface Entry<Value> {
  readonly answer: Promise<Found<Value>>;
  /** Null while the look-up runs. */
  untilMs: number | null;
}

export function createLookUps<Key, Value>(options: {
  readonly clock: Clock;
  /** How many keys are remembered. */
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
      // A look-up that threw must not be the last one.
      entry.untilMs ??= 0;
    }
  };
}
