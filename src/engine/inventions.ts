// Which event may be an invention: one that its homeserver has never restarted. Whoever may hand over can name as many as they like, and each
// costs calls. What is owed for one goes before others only where a participant would be taken out, and for few of a participant at a time.
import type { Clock } from '../clock.ts';
import type { DelegationId } from '../delegation/ids.ts';
import type { LiveDelegation, Policy } from '../delegation/state.ts';
import { isProven, leaseMs } from '../delegation/steps/moves.ts';
import { LruMap } from '../lru-map.ts';
import type { Errand } from './errand.ts';
import type { Presence } from './presence.ts';

export interface Inventions {
  leave(row: LiveDelegation): Errand['kind'];
  restart(row: LiveDelegation): Errand['kind'];
  /** An event that has run out has taken out whom it would, also if its client had restarted it by itself, which we don't hear of. */
  cancellation(row: LiveDelegation): Promise<Turn>;
}

/** Whose turn it is, and by when it has to have come, or is to be thought about anew. */
export type Turn = Pick<Errand, 'kind'> & Partial<Pick<Errand, 'beginByMs'>>;

/** A client that hands over again before it was seen does so once or twice. And what is restarted has time, where it is more than one. */
const MOST_BELIEVED = { cancelled: 3, restarted: 1 };
const BELIEVED_WITHIN_MS = 30_000;
const MOST_PARTICIPANTS = 10_000;
/** What runs out later than that takes out nobody now. */
const SOON_MS = 60_000;
/** After these parts of what is left of an event, and of its whole delay: whoever it would take out may be there by then. */
const AGAIN_PART = 0.25;
const LEAST_PART = 0.1;

export function createInventions({ presence, clock, policy }: { presence: Presence; clock: Clock; policy: Policy }): Inventions {
  const cancelled = createFew(clock, MOST_BELIEVED.cancelled);
  const restarted = createFew(clock, MOST_BELIEVED.restarted);
  const isUrgent = ({ expiry }: LiveDelegation): boolean => expiry.earliestMs - clock.nowMs() < SOON_MS;

  async function isBelieved(row: LiveDelegation): Promise<boolean> {
    if (!cancelled.mayBe(row)) return false;
    const evidence = await presence.ask(row.room, clock.nowMs() - leaseMs(row, policy), 0);
    const isThere = evidence.kind === 'list' && evidence.present.some(({ identity }) => row.identities.includes(identity));
    return isThere && cancelled.add(row);
  }

  return {
    leave: (row) =>
      row.state.kind === 'leaving' && row.state.departure.cause === 'never_connected' && !isProven(row) ? 'doubtful' : 'owed',
    restart: (row) => (isProven(row) || isUrgent(row) || restarted.add(row) ? 'restart' : 'doubtful'),
    cancellation: async (row) => {
      const { earliestMs, latestMs } = row.expiry;
      if (clock.nowMs() > latestMs + row.delayMs) return { kind: 'doubtful' };
      if (isProven(row) || (isUrgent(row) && (await isBelieved(row)))) return { kind: 'owed' };
      const nowMs = clock.nowMs();
      return { kind: 'doubtful', beginByMs: nowMs + Math.max((earliestMs - nowMs) * AGAIN_PART, row.delayMs * LEAST_PART) };
    },
  };
}

/** A few delegations of a participant at a time. */
function createFew(clock: Clock, most: number) {
  const few = new LruMap<string, { readonly ids: readonly DelegationId[]; readonly sinceMs: number }>(MOST_PARTICIPANTS);
  const keyOf = ({ room, identities: [identity] }: LiveDelegation): string => JSON.stringify([room, identity]);

  function lately(row: LiveDelegation): { readonly ids: readonly DelegationId[]; readonly sinceMs: number } {
    const before = few.get(keyOf(row));
    return before !== undefined && clock.nowMs() - before.sinceMs < BELIEVED_WITHIN_MS ? before : { ids: [], sinceMs: clock.nowMs() };
  }
  const mayBe = (row: LiveDelegation): boolean => lately(row).ids.length < most || lately(row).ids.includes(row.id);
  return {
    mayBe,
    /** False: there are enough. */
    add: (row: LiveDelegation): boolean => {
      if (!mayBe(row)) return false;
      const { ids, sinceMs } = lately(row);
      if (!ids.includes(row.id)) few.set(keyOf(row), { ids: [...ids, row.id], sinceMs });
      return true;
    },
  };
}
