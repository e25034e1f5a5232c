// Which event may be an invention: one that its homeserver has never restarted. Whoever may hand over can name as many as they like, and each
// owes a call. What is owed for one goes before others only where a participant would be taken out, and for few of a participant at a time.
import type { Clock } from '../clock.ts';
import type { DelegationId, Owner } from '../delegation/ids.ts';
import type { LiveDelegation, Policy } from '../delegation/state.ts';
import { isProven, leaseMs } from '../delegation/steps/moves.ts';
import { Remembered } from '../remembered.ts';
import type { Errand } from './errand.ts';
import type { Presence } from './presence.ts';

export interface Inventions {
  leave(row: LiveDelegation): Errand['kind'];
  /** An event that has run out has taken out whom it would, also if its client had restarted it by itself, which we don't hear of. */
  cancellation(row: LiveDelegation): Promise<Turn>;
}

/** Whose turn it is, and by when it has to have come, or is to be thought about anew. */
export type Turn = Pick<Errand, 'kind'> & Partial<Pick<Errand, 'beginByMs'>>;

/** A client that hands over again before it was seen does so once or twice. */
const MOST_BELIEVED = 3;
const BELIEVED_WITHIN_MS = 30_000;
const MOST_OWNERS = 10_000;
/** After these parts of what is left of an event, and of its whole delay: whoever it would take out may be there by then. */
const AGAIN_PART = 0.25;
const LEAST_PART = 0.1;

export function createInventions({ presence, clock, policy }: { presence: Presence; clock: Clock; policy: Policy }): Inventions {
  const believed = new Remembered<Owner, { readonly ids: readonly DelegationId[]; readonly sinceMs: number }>(MOST_OWNERS);

  async function isBelieved(row: LiveDelegation): Promise<boolean> {
    const { id, owner, room, identities } = row;
    const nowMs = clock.nowMs();
    const before = believed.get(owner);
    if (before?.ids.includes(id)) return true;
    const lately = before !== undefined && nowMs - before.sinceMs < BELIEVED_WITHIN_MS ? before : { ids: [], sinceMs: nowMs };
    if (lately.ids.length >= MOST_BELIEVED) return false;
    const evidence = await presence.ask(room, nowMs - leaseMs(row, policy), 0);
    const isThere = evidence.kind === 'list' && evidence.present.some(({ identity }) => identities.includes(identity));
    if (isThere) believed.set(owner, { ...lately, ids: [...lately.ids, id] });
    return isThere;
  }

  return {
    leave: (row) =>
      row.state.kind === 'leaving' && row.state.departure.cause === 'never_connected' && !isProven(row) ? 'doubtful' : 'owed',
    cancellation: async (row) => {
      const { earliestMs, latestMs } = row.expiry;
      if (clock.nowMs() > latestMs + row.delayMs) return { kind: 'doubtful' };
      if (isProven(row) || (await isBelieved(row))) return { kind: 'owed' };
      const nowMs = clock.nowMs();
      return { kind: 'doubtful', beginByMs: nowMs + Math.max((earliestMs - nowMs) * AGAIN_PART, row.delayMs * LEAST_PART) };
    },
  };
}
