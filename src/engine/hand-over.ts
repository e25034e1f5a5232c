// Hand-overs: a new delegation, the same one again (idempotent), one that supersedes older ones, and handing back. Each is one commit.
import type { Clock, Random } from '../clock.ts';
import { type Adopted, adopt, type Decision, decide, delegate, type HandOver, joinedTo, type Now } from '../delegation/decide.ts';
import { eventHashesOf, haveOneEvent } from '../delegation/handles.ts';
import { type DelegationId, delegationId, type Identity, type Owner, type RoomName } from '../delegation/ids.ts';
import type { Delegation, LiveDelegation, Outcome, Policy } from '../delegation/state.ts';
import { type Change, type Done, readRows, type Store, StoreUnavailable, type Write } from '../store/store.ts';
import { type Apply, LEASE_MS, type Todo } from './apply.ts';
import type { EarlyDepartures } from './early-departures.ts';

export type HandedOver =
  | { readonly kind: 'created'; readonly row: Delegation; readonly superseded: number }
  /** The same handles again, an event that is being cancelled, or an adopted one whose owner has delegated since: the delegation that there is. */
  | { readonly kind: 'repeated'; readonly row: Delegation };

export interface HandOvers {
  /** `adopted`: another service has looked after it until now (takeover/). @throws StoreUnavailable: nothing was promised. */
  handOver(handOver: Omit<HandOver, 'id'>, adopted?: Adopted): Promise<HandedOver>;
  /** Has the owner's delegation watch these identities as well. @throws StoreUnavailable */
  knownAs(room: RoomName, owner: Owner, identities: readonly Identity[]): Promise<void>;
  /** Ends the delegation without sending anything. Null: this owner has no such delegation. @throws StoreUnavailable */
  handBack(room: RoomName, id: DelegationId, owner: Owner): Promise<Delegation | null>;
}

export interface HandOverDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly policy: Policy;
  readonly apply: Apply;
  readonly earlyDepartures: Pick<EarlyDepartures, 'of'>;
  readonly perform: (todo: Todo) => void;
  /** Told of each commit and of each that failed; null: the store can commit. */
  readonly onStore: (failed: StoreUnavailable | null) => void;
  readonly onRow: (row: Delegation) => void;
  /** What is about to be committed. */
  readonly onWrite: (before: Delegation | undefined, after: Delegation) => void;
  /** Rejects with StoreUnavailable: nothing may be promised. */
  readonly durable: (room: RoomName) => Promise<void>;
}

type Committed = HandedOver & { readonly decisions: readonly Decision[] };

/** After these ends a client may hand the same event over again: as far as we know it was still scheduled. */
const MAY_BEGIN_ANEW: ReadonlySet<Outcome> = new Set<Outcome>(['handed-back', 'expired']);

export function createHandOvers(deps: HandOverDeps): HandOvers {
  const { store, clock, random, policy, apply, earlyDepartures, perform, onStore, onRow, onWrite, durable } = deps;

  /** What a hand-over means for the rows of its owner. Pure but for the clock; the store may run it again. */
  function step(handOver: HandOver, adopted: Adopted | null, roll: number, rows: readonly Delegation[]): Change<Committed> {
    const now = { nowMs: clock.nowMs(), wallMs: clock.wallMs(), roll };
    const own = rows.filter(({ owner }) => owner === handOver.owner);
    const ofAnother = rows.filter((row) => row.owner !== handOver.owner && isSameOfAnother(row, handOver));
    const others = ofAnother.filter(isLive);
    const same = others.length === 0 ? sameAs(handOver, own, now.nowMs) : undefined;
    if (same !== undefined) return repeated(same, decide(same, { kind: 'known_as', identities: handOver.identities }, now, policy));
    // Its event is being cancelled, for its member has handed a newer one over since, which stays.
    const overtaken = ofAnother.find(({ state }) => state.kind === 'cancelling');
    if (overtaken !== undefined) return asItIs(overtaken);
    if (own.some((row) => isOvertaken(handOver, row, now.nowMs))) return late(withWhatIsKnown(handOver, others), own, others, now);
    // An adopted job must not supersede what its owner has delegated to us since.
    const replaceable = [...own, ...others];
    const newer = adopted === null ? undefined : replaceable.find((row) => isLive(row) && row.createdAtMs >= (adopted.restartedAtMs ?? 0));
    if (newer !== undefined) return asItIs(newer);
    const known = withWhatIsKnown(handOver, replaceable);
    const replaced = others[0] ?? replaceable.find(isLive);
    const first = adopted === null ? delegate(known, now.nowMs, roll, policy, replaced) : adopt(known, adopted, now.nowMs, roll, policy);
    const gone = adopted === null && replaced === undefined ? earlyDepartures.of(known.room, known.identities) : null;
    const fresh = gone === null ? first : thenTold(first, decide(first.next, gone, now, policy));
    const older = replaceable.map((row) => {
      const isSameEvent = row.handles !== null && haveOneEvent(row.handles, handOver.handles);
      return { row, decision: decide(row, { kind: 'superseded', isSameEvent }, now, policy) };
    });
    const superseded = older.filter(({ row, decision }) => decision.next !== row).map(({ decision }) => decision);
    const decisions = [...superseded, fresh];
    const writes = decisions.map(writeOf);
    for (const { row } of writes) onWrite(undefined, row);
    return { writes, value: { kind: 'created', row: fresh.next, superseded: superseded.length, decisions } };
  }

  /**
   * A homeserver was asked about it for so long that its member has handed another over since: that one stays, as if they had been taken in
   * the order in which they came. To cancel it for one that may be gone already would leave its member with no event at all.
   */
  function late(handOver: HandOver, own: readonly Delegation[], others: readonly LiveDelegation[], now: Now): Change<Committed> {
    const isSameEvent = own.some(({ handles }) => handles !== null && haveOneEvent(handles, handOver.handles));
    const known = own
      .map((row) => ({ row, decision: decide(row, { kind: 'known_as', identities: handOver.identities }, now, policy) }))
      .filter(({ row, decision }) => decision.next !== row);
    for (const { row, decision } of known) onWrite(row, decision.next);
    // Another owner of the event would keep alive what is cancelled here.
    const replaced = others.map((row) => decide(row, { kind: 'superseded', isSameEvent: true }, now, policy));
    const first = delegate(handOver, now.nowMs, now.roll, policy, others[0]);
    const superseded = decide(first.next, { kind: 'superseded', isSameEvent }, now, policy);
    for (const { next } of [...replaced, superseded]) onWrite(undefined, next);
    const decisions = [...known.map(({ decision }) => decision), ...replaced, superseded];
    return { writes: decisions.map(writeOf), value: { kind: 'created', row: superseded.next, superseded: 1, decisions } };
  }

  function repeated(before: Delegation, decision: Decision): Change<Committed> {
    const { next } = decision;
    if (next === before) return asItIs(before);
    onWrite(before, next);
    return { writes: [writeOf(decision)], value: { kind: 'repeated', row: next, decisions: [decision] } };
  }

  async function commit(handOver: HandOver, adopted: Adopted | null): Promise<Done<Committed>> {
    const roll = random.roll();
    try {
      const { room, owner } = handOver;
      const where = { by: 'owner', room, owner, events: eventHashesOf(handOver) } as const;
      const updated = await store.update(where, null, (rows) => step(handOver, adopted, roll, rows));
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
      await durable(handOver.room);
      return value;
    },
    knownAs: async (room, owner, identities) => {
      const { changed, todo } = await apply({ by: 'owner', room, owner }, null, () => ({ kind: 'known_as', identities }));
      for (const one of todo) perform(one);
      if (changed > 0) await durable(room);
    },
    handBack: async (room, id, owner) => {
      let found: Delegation | null = null;
      await apply({ by: 'id', room, id }, null, (row) => {
        found = row.owner === owner ? row : null;
        return found === null ? null : { kind: 'handed_back' };
      });
      if (found === null) return null;
      await durable(room);
      return (await readRows(store, { by: 'id', room, id }, ([row]) => row ?? null)).value;
    },
  };
}

/** The delegation that there is stays as it is. */
const asItIs = (row: Delegation): Change<Committed> => ({ writes: [], value: { kind: 'repeated', row, decisions: [] } });

const writeOf = ({ next, effects }: Decision): Write => ({ row: next, leaseMs: effects.length > 0 ? LEASE_MS : 0 });

const isLive = (row: Delegation): row is LiveDelegation => row.handles !== null && row.state.kind !== 'cancelling';

/**
 * Whether that row was asked for later than this hand-over, though taken earlier. One that seems to come from the future was written before the
 * clock was set back, and says nothing.
 */
function isOvertaken({ askedAtMs }: HandOver, { createdAtMs }: Delegation, nowMs: number): boolean {
  return askedAtMs !== undefined && createdAtMs > askedAtMs && createdAtMs <= nowMs;
}

/** A decision, and what follows from an event at once after it. */
function thenTold(first: Decision, { next, effects }: Decision): Decision {
  return { next, effects: [...first.effects, ...effects] };
}

/**
 * The row that this hand-over repeats. What was handed over of the same event before the one that lives, or came last, says nothing any more. Nor
 * does a request that takes so long that its client has asked again, and has taken the event back since: that one is its client's.
 */
function sameAs(handOver: HandOver, rows: readonly Delegation[], nowMs: number): Delegation | undefined {
  const ofEvent = rows.filter(({ handlesHash }) => handlesHash === handOver.handlesHash);
  const live = ofEvent.find(isLive);
  const latest = live ?? ofEvent.toSorted((one, other) => other.createdAtMs - one.createdAtMs)[0];
  if (latest === undefined || latest.homeserver !== handOver.homeserver) return undefined;
  // What its client says last of a delay counts: another one is another delegation, of the same event.
  if (live !== undefined) return live.delayMs === handOver.delayMs ? live : undefined;
  const isOver = mayBeginAnew(latest) || isLetGo(latest, rows);
  return isOver && !isOvertaken(handOver, latest, nowMs) ? undefined : latest;
}

/**
 * The same event that another owner has handed over: by another API, or under another identity of its member. What either did would be done
 * to both. An event has one user: where two are named, one is wrong, and ends no other's.
 */
function isSameOfAnother(row: Delegation, { homeserver, handles, userId }: HandOver): boolean {
  const isOfUser = row.userId === null || userId === null || row.userId === userId;
  return row.handles !== null && isOfUser && row.homeserver === homeserver && haveOneEvent(row.handles, handles);
}

/** A newer hand-over may name fewer identities of the same member than an older one did, or not its user. */
function withWhatIsKnown(handOver: HandOver, older: readonly Delegation[]): HandOver {
  return {
    ...handOver,
    identities: older.reduce((all, row) => joinedTo(all, row.identities), handOver.identities),
    userId: older.reduce((user, row) => user ?? row.userId, handOver.userId),
  };
}

const mayBeginAnew = ({ state }: Delegation): boolean => state.kind === 'ended' && MAY_BEGIN_ANEW.has(state.outcome);

/** Another's word about the same event took its place, which is over as well; a newer event of its owner would have cancelled it. */
function isLetGo(latest: Delegation, rows: readonly Delegation[]): boolean {
  const isSuperseded = latest.state.kind === 'ended' && latest.state.outcome === 'superseded';
  return isSuperseded && rows.every((row) => row === latest || row.createdAtMs < latest.createdAtMs);
}
