// What this replica believes the rows to be, so that a decision takes one trip to Redis: it is made on what is believed and sent with
// it, and Redis takes it, or says what is true. A belief may be of a write that is still under way: those sent behind it are then right
// or wrong together with it.
import type { DelegationId } from '../../delegation/ids.ts';
import { OWNER_SEARCHED } from '../store.ts';
import type { Stored } from './row.ts';

interface Belief<T> {
  readonly value: T;
  /** What was sent before this was told, and found wrong, says nothing newer. */
  readonly toldAt: number;
}

export interface Beliefs {
  /** The number of an attempt that is sent now. */
  next(): number;
  row(id: DelegationId): Stored | null;
  /** The rows of a list, if it and all of them are known. */
  list(key: string): readonly Stored[] | null;
  /** Redis said so, to the attempt of that number. */
  told(attempt: number, list: string | null, rows: readonly Stored[]): void;
  /** Redis said that there is no such row. */
  gone(attempt: number, id: DelegationId): void;
  /** We are about to write so. */
  wrote(row: Stored): void;
  /** We are about to add a row to a list. */
  added(list: string, id: DelegationId): void;
  forget(list: string | null, ids: readonly DelegationId[]): void;
  clear(): void;
}

/** A row takes about 3 kB here. */
const MOST_ROWS = 10_000;

export function createBeliefs(): Beliefs {
  const rows = new Map<DelegationId, Belief<Stored>>();
  const lists = new Map<string, Belief<readonly DelegationId[]>>();
  let attempts = 0;

  function keep<K, V>(map: Map<K, Belief<V>>, key: K, value: V, toldAt: number): void {
    map.delete(key);
    map.set(key, { value, toldAt });
    if (map.size <= MOST_ROWS) return;
    for (const oldest of map.keys()) {
      map.delete(oldest);
      break;
    }
  }
  function tell<K, V>(map: Map<K, Belief<V>>, key: K, value: V, attempt: number): void {
    const known = map.get(key);
    if (known === undefined || known.toldAt <= attempt) keep(map, key, value, attempts);
  }

  return {
    next: () => {
      attempts += 1;
      return attempts;
    },
    row: (id) => rows.get(id)?.value ?? null,
    list: (key) => {
      const found = lists.get(key)?.value.map((id) => rows.get(id)?.value);
      return found === undefined || found.includes(undefined) ? null : (found as Stored[]);
    },
    told: (attempt, list, stored) => {
      attempts += 1;
      for (const one of stored) tell(rows, one.row.id, one, attempt);
      if (list !== null)
        tell(
          lists,
          list,
          stored.map(({ row }) => row.id),
          attempt,
        );
    },
    gone: (attempt, id) => {
      if ((rows.get(id)?.toldAt ?? 0) <= attempt) rows.delete(id);
    },
    wrote: (stored) => keep(rows, stored.row.id, stored, rows.get(stored.row.id)?.toldAt ?? attempts),
    added: (list, id) => {
      const known = lists.get(list);
      // An owner's older ones are searched no more. Of more than these that watch an identity Redis tells a part, whatever is believed.
      keep(lists, list, [...(known?.value ?? []), id].slice(-OWNER_SEARCHED), known?.toldAt ?? attempts);
    },
    forget: (list, ids) => {
      for (const id of ids) rows.delete(id);
      if (list !== null) lists.delete(list);
    },
    clear: () => {
      rows.clear();
      lists.clear();
    },
  };
}
