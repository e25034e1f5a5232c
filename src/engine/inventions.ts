// Which delayed events may be invented. Whoever may hand over can name events that do not exist, as many as they like, and each costs calls
// to a homeserver. An event counts as real once its homeserver has restarted it. Calls for any other are `doubtful` (errand.ts), unless a
// participant would be lost without them, and even then only for a few of each participant at a time.
import type { Clock } from '../clock.ts';
import type { DelegationId } from '../delegation/ids.ts';
import type { LiveDelegation, Policy } from '../delegation/state.ts';
import { leaseMs } from '../delegation/steps/moves.ts';
import { isProven } from '../delegation/steps/timeouts.ts';
import { LruMap } from '../lru-map.ts';
import type { Errand } from './errand.ts';
import type { Presence } from './presence.ts';

/** How urgent a call about a row is. */
export interface Inventions {
  leave(row: LiveDelegation): Errand['kind'];
  restart(row: LiveDelegation): Errand['kind'];
  /**
   * Of a superseded event. Once it has run out there is nothing left to be prevented; but its client, of whose restarts we don't hear, may have
   * kept it alive until it handed over the next one. Never rejects.
   */
  cancellation(row: LiveDelegation): Promise<Turn>;
}

/** The kind of a call, and by when (Unix ms) it has to be begun or else judged again. */
export type Turn = Pick<Errand, 'kind'> & Partial<Pick<Errand, 'beginByMs'>>;

/**
 * How many unproven events of a participant are believed at a time. A client that hands over again before it was seen does so once or
 * twice.
 */
const MOST_BELIEVED = { cancelled: 3, restarted: 1 };
const BELIEVED_WITHIN_MS = 30_000;
const MOST_PARTICIPANTS = 10_000;
/** An event that runs out later than this endangers nobody now. */
const SOON_MS = 60_000;
/**
 * A doubtful cancellation is judged again after this part of what is left of the event, or of its delay: its participant may be there by
 * then.
 */
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
      const clientEndedMs = row.state.kind === 'cancelling' ? row.state.sinceMs : row.createdAtMs;
      const isOver = clock.nowMs() > latestMs + row.delayMs;
      if (isOver && clock.nowMs() > clientEndedMs + row.delayMs) return { kind: 'doubtful' };
      if ((isProven(row) && !isOver) || (isUrgent(row) && (await isBelieved(row)))) return { kind: 'owed' };
      const nowMs = clock.nowMs();
      return { kind: 'doubtful', beginByMs: nowMs + Math.max((earliestMs - nowMs) * AGAIN_PART, row.delayMs * LEAST_PART) };
    },
  };
}

/** Counts the delegations of each participant that were let through lately, up to `most`. */
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
    /** Lets one more through. False: there are enough. */
    add: (row: LiveDelegation): boolean => {
      if (!mayBe(row)) return false;
      const { ids, sinceMs } = lately(row);
      if (!ids.includes(row.id)) few.set(keyOf(row), { ids: [...ids, row.id], sinceMs });
      return true;
    },
  };
}
