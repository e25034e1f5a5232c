// The one way in which an event changes a delegation: the store runs the decision inside its transaction, and the effects that were decided
// on are handed back to be performed after the commit.
import { type Clock, onceSent, type Random } from '../clock.ts';
import { type Decision, decide, dueAtMs } from '../delegation/decide.ts';
import type { Identity, RoomName } from '../delegation/ids.ts';
import type { Delegation, Effect, Event, Policy } from '../delegation/state.ts';
import type { Log } from '../log.ts';
import {
  type Claim,
  FIRST_PART,
  type OnceKey,
  type RoomPart,
  type Store,
  StoreUnavailable,
  type Urgency,
  type Where,
  type Write,
} from '../store/store.ts';
import type { Observer, Transition } from './observe.ts';

/** Effects that a commit has decided on. The claim is the right to perform them; null: the store gave none. */
export interface Todo {
  readonly row: Delegation;
  readonly effects: readonly Effect[];
  readonly claim: Claim | null;
}

export interface Applied {
  /** How many rows were found, changed or not. */
  readonly rows: number;
  readonly changed: number;
  readonly duplicate: boolean;
  /** When the first of the written rows becomes due (Unix ms), of those without effects now; null: none does. */
  readonly earliestDueMs: number | null;
  readonly todo: readonly Todo[];
  /** After a part: where the next one begins; undefined: it was the last. */
  readonly next: RoomPart | undefined;
}

/**
 * Commits what an event means for each row that `where` finds. `eventOf` gives the event for one row, null: none. With a `once` key that
 * was seen before nothing is done, and the answer is `duplicate`. Rejects with StoreUnavailable when nothing could be committed.
 */
export type Apply = (where: Where, once: OnceKey | null, eventOf: (row: Delegation) => Event | null, urgency?: Urgency) => Promise<Applied>;

export interface ApplyDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly policy: Policy;
  readonly observer: Observer;
  readonly log: Log;
  /** Told of each commit and of each that failed; null: the store can commit. */
  readonly onStore: (failed: StoreUnavailable | null) => void;
  /** Told of each row as it is now, written or only read. */
  readonly onRow: (row: Delegation) => void;
  /** Told inside the transaction of what is about to be committed, in the order of the commits; again if the transaction is run again. */
  readonly onWrite: (before: Delegation | undefined, after: Delegation) => void;
}

/** How long a claim lasts if it is not given back: longer than any effect may take. */
export const LEASE_MS = 30_000;

export function createApply(deps: ApplyDeps): Apply {
  const { store, clock, random, policy, observer, log, onStore, onRow, onWrite } = deps;

  function one(row: Delegation, event: Event): Decision {
    try {
      return decide(row, event, { nowMs: clock.nowMs(), wallMs: clock.wallMs(), roll: random.roll() }, policy);
    } catch (error) {
      // A broken invariant stops one delegation, not the others: the homeserver's own timer is its last resort.
      log.error({ delegation: row.id, event: event.kind, err: error }, 'a decision broke an invariant');
      return { next: row, effects: [] };
    }
  }

  /** Logs and counts, once the effects are on their way: to write a line takes longer than to begin a leave. */
  function tell(written: readonly Transition[]): void {
    if (written.length === 0) return;
    const nowMs = clock.nowMs();
    onceSent(clock, () => {
      for (const transition of written) observer.committed(transition, nowMs);
    });
  }

  return async (where, once, eventOf, urgency) => {
    try {
      const updated = await store.update(
        where,
        once,
        (rows) => {
          const decided = rows.flatMap((row) => {
            const event = eventOf(row);
            return event === null ? [] : [{ row, event: event.kind, decision: one(row, event) }];
          });
          const writes: Write[] = decided
            .filter(({ row, decision }) => decision.next !== row)
            .map(({ decision }) => ({ row: decision.next, leaseMs: decision.effects.length > 0 ? LEASE_MS : 0 }));
          for (const { row, decision } of decided) if (decision.next !== row) onWrite(row, decision.next);
          return { writes, value: { rows: rows.length, decided } };
        },
        urgency,
      );
      if (updated.kind === 'duplicate') return { rows: 0, changed: 0, duplicate: true, earliestDueMs: null, todo: [], next: undefined };
      const { rows, decided } = updated.value;
      // Only a commit shows that the store can commit.
      if (rows > 0 && (once !== null || decided.some(({ row, decision }) => decision.next !== row))) onStore(null);
      const written: Transition[] = decided
        .filter(({ row, decision }) => decision.next !== row)
        .map(({ row, event, decision }) => ({ before: row, after: decision.next, event }));
      tell(written);
      for (const { decision } of decided) onRow(decision.next);
      const todo = decided
        .filter(({ decision }) => decision.effects.length > 0)
        .map(({ decision }) => ({ row: decision.next, effects: decision.effects, claim: updated.claims.get(decision.next.id) ?? null }));
      // What is followed by effects is claimed, and comes due again only after them.
      const earliestDueMs = decided.reduce<number | null>((earliest, { row, decision: { next, effects } }) => {
        const dueMs = next === row || effects.length > 0 ? null : dueAtMs(next.state);
        return dueMs === null || (earliest !== null && earliest <= dueMs) ? earliest : dueMs;
      }, null);
      return { rows, changed: written.length, duplicate: false, earliestDueMs, todo, next: updated.next };
    } catch (error) {
      if (error instanceof StoreUnavailable) onStore(error);
      throw error;
    }
  };
}

/** What was applied, and what was decided on has been begun: so much. */
export type Begun = Pick<Applied, 'rows' | 'changed' | 'duplicate'> & { readonly begun: number };

/**
 * Applies to all rows of a room, or to all that watch an identity in it, one part after the other, and has what follows from each part begun.
 * Others get their turns in between. What ends it midway leaves the once key unknown, and all is done again.
 */
export async function applyInParts(
  { apply, perform }: { readonly apply: Apply; readonly perform: (todo: Todo) => void },
  where:
    | { readonly by: 'room'; readonly room: RoomName }
    | { readonly by: 'watched'; readonly room: RoomName; readonly identity: Identity },
  once: OnceKey | null,
  eventOf: (row: Delegation) => Event | null,
): Promise<Begun> {
  let all: Begun = { rows: 0, changed: 0, duplicate: false, begun: 0 };
  for (let part: RoomPart | undefined = FIRST_PART; part !== undefined; ) {
    const { rows, changed, duplicate, todo, next }: Applied = await apply({ ...where, part }, once, eventOf);
    for (const one of todo) perform(one);
    all = { rows: all.rows + rows, changed: all.changed + changed, duplicate, begun: all.begun + todo.length };
    part = next;
  }
  return all;
}
