// Delegations come in and go back here: create, repeat (idempotent), supersede, hand back. Each is one commit.
import type { Clock, Random } from '../clock.ts';
import { type Adopted, adopt, type Decision, decide, delegate, type HandOver, joinedTo } from '../delegation/decide.ts';
import { type DelegationId, delegationId, type Identity, type Owner, type RoomName } from '../delegation/ids.ts';
import type { Delegation, Outcome, Policy } from '../delegation/state.ts';
import { type Change, type Store, StoreUnavailable, type Updated } from '../store/store.ts';
import { type Apply, LEASE_MS, type Todo } from './apply.ts';

export type HandedOver =
  | { readonly kind: 'created'; readonly row: Delegation; readonly superseded: number }
  /** The same handles again: the delegation that holds them already. */
  | { readonly kind: 'repeated'; readonly row: Delegation };

export interface HandOvers {
  /** `adopted`: somebody else has looked after it until now. @throws StoreUnavailable: nothing was promised. */
  handOver(handOver: Omit<HandOver, 'id'>, adopted?: Adopted): Promise<HandedOver>;
  /** The owner's delegation watches these identities as well. @throws StoreUnavailable */
  knownAs(room: RoomName, owner: Owner, identities: readonly Identity[]): Promise<void>;
  /** Forgets the delegation without sending anything; null: this owner has no such delegation. */
  handBack(room: RoomName, id: DelegationId, owner: Owner): Promise<Delegation | null>;
}

export interface HandOverDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly policy: Policy;
  readonly apply: Apply;
  readonly perform: (todo: Todo) => void;
  /** Told of each commit and of each that failed; null: the store can commit. */
  readonly onStore: (failed: StoreUnavailable | null) => void;
  readonly onRow: (row: Delegation) => void;
  /** What is about to be committed. */
  readonly onWrite: (before: Delegation | undefined, after: Delegation) => void;
  /** Rejects with StoreUnavailable: nothing may be promised. */
  readonly durable: () => Promise<void>;
}

type Committed = HandedOver & { readonly decisions: readonly Decision[] };

/** After these a client may hand the same event over anew: it was alive when we let go of it. */
const MAY_BEGIN_ANEW: ReadonlySet<Outcome> = new Set<Outcome>(['handed-back', 'expired']);

export function createHandOvers(deps: HandOverDeps): HandOvers {
  const { store, clock, random, policy, apply, perform, onStore, onRow, onWrite, durable } = deps;

  /** What a hand-over means for the rows of its owner. Pure apart from the time it is run at. */
  function step(handOver: HandOver, adopted: Adopted | null, roll: number, rows: readonly Delegation[]): Change<Committed> {
    const now = { nowMs: clock.nowMs(), roll };
    const same = rows.find((row) => isSame(row, handOver));
    if (same !== undefined) return repeated(same, decide(same, { kind: 'known_as', identities: handOver.identities }, now, policy));
    // What somebody else looked after takes the place of nothing that its owner has delegated to us since.
    const newer = adopted === null ? undefined : rows.find((row) => isLive(row) && row.createdAtMs >= (adopted.restartedAtMs ?? 0));
    if (newer !== undefined) return { writes: [], value: { kind: 'repeated', row: newer, decisions: [] } };
    // Who delegates anew may say less of itself than before.
    const known = { ...handOver, identities: rows.reduce((all, row) => joinedTo(all, row.identities), handOver.identities) };
    const fresh = adopted === null ? delegate(known, now.nowMs, roll, policy) : adopt(known, adopted, now.nowMs, roll, policy);
    const older = rows.map((row) => ({ row, decision: decide(row, { kind: 'superseded' }, now, policy) }));
    const superseded = older.filter(({ row, decision }) => decision.next !== row).map(({ decision }) => decision);
    const decisions = [...superseded, fresh];
    const writes = decisions.map(({ next, effects }) => ({ row: next, leaseMs: effects.length > 0 ? LEASE_MS : 0 }));
    for (const { row } of writes) onWrite(undefined, row);
    return { writes, value: { kind: 'created', row: fresh.next, superseded: superseded.length, decisions } };
  }

  function repeated(before: Delegation, decision: Decision): Change<Committed> {
    const { next, effects } = decision;
    if (next === before) return { writes: [], value: { kind: 'repeated', row: before, decisions: [] } };
    onWrite(before, next);
    const leaseMs = effects.length > 0 ? LEASE_MS : 0;
    return { writes: [{ row: next, leaseMs }], value: { kind: 'repeated', row: next, decisions: [decision] } };
  }

  async function commit(handOver: HandOver, adopted: Adopted | null): Promise<Extract<Updated<Committed>, { kind: 'done' }>> {
    const roll = random.roll();
    try {
      const updated = await store.update({ by: 'owner', room: handOver.room, owner: handOver.owner }, null, (rows) =>
        step(handOver, adopted, roll, rows),
      );
      if (updated.kind === 'duplicate') throw new Error('a hand-over has no once key');
      if (updated.value.kind === 'created') onStore(null);
      return updated;
    } catch (error) {
      if (error instanceof StoreUnavailable) onStore(error);
      throw error;
    }
  }

  return {
    handOver: async (handOver, adopted) => {
      const { value, claims } = await commit({ ...handOver, id: delegationId(random.bytes(16)) }, adopted ?? null);
      for (const { next, effects } of value.decisions) {
        onRow(next);
        if (effects.length > 0) perform({ row: next, effects, claim: claims.get(next.id) ?? null });
      }
      await durable();
      return value;
    },
    knownAs: async (room, owner, identities) => {
      const { changed, todo } = await apply({ by: 'owner', room, owner }, null, () => ({ kind: 'known_as', identities }));
      for (const one of todo) perform(one);
      if (changed > 0) await durable();
    },
    handBack: async (room, id, owner) => {
      let found: Delegation | null = null;
      await apply({ by: 'id', room, id }, null, (row) => {
        found = row.owner === owner ? row : null;
        return found === null ? null : { kind: 'handed_back' };
      });
      if (found === null) return null;
      await durable();
      const now = await store.update({ by: 'id', room, id }, null, (rows) => ({ writes: [], value: rows[0] ?? null }));
      return now.kind === 'done' ? now.value : null;
    },
  };
}

const isLive = ({ state: { kind } }: Delegation): boolean => kind !== 'ended' && kind !== 'cancelling';

function isSame(row: Delegation, handOver: Omit<HandOver, 'id'>): boolean {
  if (row.handlesHash !== handOver.handlesHash || row.homeserver !== handOver.homeserver) return false;
  return row.state.kind !== 'ended' || !MAY_BEGIN_ANEW.has(row.state.outcome);
}
