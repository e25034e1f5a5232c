// Doing what was decided. Every effect ends in an event that is applied like any other; nothing is remembered here.
import type { Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import { lastSeen } from '../delegation/last-seen.ts';
import type {
  Action,
  Answer,
  Delegation,
  Effect,
  Event,
  EventOf,
  Future,
  Handles,
  LiveDelegation,
  Policy,
  Seen,
} from '../delegation/state.ts';
import { FRESH_MS, leaseMs, RESTART } from '../delegation/steps/moves.ts';
import { isProven, restartTimeoutMs } from '../delegation/steps/timeouts.ts';
import type { Call, DelayedEvents } from '../homeserver/delayed-events.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { type Claim, readRows, type Store, StoreUnavailable } from '../store/store.ts';
import type { Apply, Todo } from './apply.ts';
import type { Wanted } from './budget.ts';
import type { Evidence, List } from './evidence.ts';
import { createInventions, type Turn } from './inventions.ts';
import type { Lanes } from './lanes.ts';
import type { Presence } from './presence.ts';
import { LATE_PART } from './triage.ts';

export interface Performer {
  /** Performs and applies the answers, until nothing more follows. Never throws. */
  perform(todo: Todo): Promise<void>;
  /**
   * A restart without a claim, of a row that is remembered; its answer is the caller's. Null: the same is under way, its lane is full, or it
   * is wanted no more. `always`: also where the restarts are another replica's.
   */
  restart(row: LiveDelegation, how: { readonly isStillSo: () => Promise<boolean>; readonly always: boolean }): Promise<Restarted | null>;
}

/** A homeserver's answer to a restart. */
export type Restarted = EventOf<'restart_answered'>;

export interface PerformerDeps {
  readonly apply: Apply;
  readonly store: Store;
  readonly presence: Presence;
  readonly lanes: Lanes;
  readonly delayedEvents: DelayedEvents;
  readonly clock: Clock;
  readonly policy: Policy;
  readonly metrics: Metrics;
  readonly log: Log;
  /** False: another process may have heard of that session, and this one of nothing. */
  readonly isSought: (room: RoomName, session: Seen) => boolean;
  /** Something was not done, because its lane was full, its claim void, the same under way, or the store away: its row may still be due. */
  readonly onUndone: () => void;
  /** The homeserver has answered a restart, and the store could not be told. */
  readonly onUnwritten: (row: LiveDelegation, answered: Restarted) => void;
  readonly release: (claim: Claim) => Promise<void>;
  /** Performs beside what is under way, and is waited for when everything is to end. */
  readonly begin: (todo: Todo) => void;
}

interface Calls {
  readonly action: 'send' | 'restart' | 'cancel';
  readonly calls: readonly Call[];
  readonly timeoutMs: number;
  readonly claim: Claim | null;
  /** Looked at right before each call, however long its turn or its dialect was waited for. */
  readonly isStillSo: () => Promise<boolean>;
}

/** A restart that comes too late by so little does no harm; a leave would. */
const HELD_AGO_MS = { restart: 100, send: 0, cancel: 0 } as const;

const always = async (): Promise<boolean> => true;

export function createPerformer(deps: PerformerDeps): Performer {
  const { apply, store, presence, lanes, delayedEvents, clock, policy, metrics, log } = deps;

  async function perform({ row, effects, claim }: Todo): Promise<void> {
    try {
      if (row.handles !== null) for (const effect of effects) await follow(row, effect, claim);
    } catch (error) {
      // The row is as it was committed and comes due again.
      if (error instanceof StoreUnavailable) deps.onUndone();
      else log.error({ delegation: row.id, err: error }, 'an effect failed unexpectedly');
    } finally {
      if (claim !== null) await deps.release(claim);
    }
  }

  const inventions = createInventions({ presence, clock, policy });
  /** Calls under way: a sweep and a due time may both want the same restart. */
  const underWay = new Set<string>();

  async function once<E extends Event>(row: LiveDelegation, effect: Effect, outcome: () => Promise<E | null>): Promise<E | null> {
    if (effect.kind === 'check') return outcome();
    const key = keyOf(row, effect);
    if (underWay.has(key)) return null;
    underWay.add(key);
    try {
      return await outcome();
    } finally {
      underWay.delete(key);
    }
  }

  /**
   * Who came back while their leave was on its way and is gone again is owed another, and who is there by another session is restarted anew:
   * the first call may hang. A cancellation may wait as one that nobody would miss, until a restart before it turns out to have worked.
   */
  function keyOf({ id, state, expiry }: LiveDelegation, { kind }: Effect): string {
    if (kind === 'send' && state.kind === 'leaving') return `${kind} ${id} ${state.departure.atMs}`;
    if (kind === 'cancel') return `${kind} ${id} ${expiry.latestMs}`;
    return kind === 'restart' && state.kind === 'connected' ? `${kind} ${id} ${state.session.sid}` : `${kind} ${id}`;
  }

  async function follow(row: LiveDelegation, effect: Effect, claim: Claim | null): Promise<void> {
    const event = await once(row, effect, () => outcomeOf(row, effect, claim));
    if (event === null) return deps.onUndone();
    // A homeserver's answer can be had again: the same call a second time finds the event restarted or final.
    const urgency = effect.kind === 'check' ? 'now' : 'soon';
    const eventFor = (now: Delegation): Event | null => (isOutdated(event, row, now) ? null : event);
    const applied = await apply({ by: 'id', room: row.room, id: row.id }, null, eventFor, urgency).catch((error) => {
      if (event.kind === 'restart_answered' && error instanceof StoreUnavailable) deps.onUnwritten(row, event);
      throw error;
    });
    // What follows from an unwritten row is still done under the claim it began with.
    for (const next of applied.todo) {
      if (next.claim === null) for (const more of next.effects) await follow(next.row as LiveDelegation, more, claim);
      else await perform(next);
    }
  }

  function outcomeOf(row: LiveDelegation, effect: Effect, claim: Claim | null): Promise<Event | null> {
    switch (effect.kind) {
      case 'check':
        return check(row, effect);
      case 'restart':
        return restart(row, { claim, isStillSo: claim === null ? () => isStillInThatState(row) : always });
      case 'send':
        return send(row, effect.action, effect.timeoutMs, claim);
      case 'cancel':
        return cancel(row, effect.timeoutMs, claim);
      default:
        return effect satisfies never;
    }
  }

  /** A restart needs no more than that the one is there whom it is for. Who was just handed over may have little time left as well. */
  async function check(row: LiveDelegation, { notBeforeMs, batchMs, whichRoom }: Extract<Effect, { kind: 'check' }>): Promise<Event> {
    const { room, state, identities: about } = row;
    const nowMs = clock.nowMs();
    const session = lastSeen(row);
    const isForRestart = state.kind === 'connected' || (state.kind === 'awaiting' && nowMs < state.connectByMs);
    const how = { whichRoom, about, reason: isForRestart ? 'restart' : 'other' } as const;
    if (state.kind === 'settling' && session !== null)
      return eventOf(await presence.ask(room, notBeforeMs, batchMs, { ...how, expected: [session] }), row, true);
    const isDue = state.kind === 'connected' && nowMs >= state.restartDueMs;
    const evidence = await (isDue && session !== null
      ? presence.askFor(room, session, notBeforeMs)
      : presence.ask(room, notBeforeMs, batchMs, how));
    const event = eventOf(evidence, row);
    if (session === null || event.kind !== 'snapshot' || event.present.some(({ identity }) => identity === session.identity)) return event;
    if (deps.isSought(room, session)) return event;
    return eventOf(await presence.ask(room, clock.nowMs(), 0, { ...how, expected: [session] }), row);
  }

  async function restart(row: LiveDelegation, right: Pick<Calls, 'claim' | 'isStillSo'>, remembered = false): Promise<Restarted | null> {
    let askedAtMs = clock.nowMs();
    const answer = await lanes.run(row.homeserver, {
      ...wantedBy(row),
      ...{ kind: remembered ? 'restart' : inventions.restart(row), action: 'restart', remembered },
      beginByMs: clock.nowMs() + turnMs(row),
      work: ({ latelyMs, called }) => {
        askedAtMs = clock.nowMs();
        return callAll(row, called, {
          action: 'restart',
          calls: callsToRestart(row.handles),
          timeoutMs: restartTimeoutMs(row, askedAtMs, latelyMs),
          ...right,
        });
      },
    });
    if (answer === null) return null;
    metrics.restart(answer.kind);
    if (answer.kind === 'ok' && row.state.kind === 'connected' && askedAtMs > row.expiry.earliestMs - row.delayMs * LATE_PART) {
      metrics.lateRestart();
    }
    return { kind: 'restart_answered', askedAtMs, answer };
  }

  /** How long a restart may wait for its turn: its evidence grows old, and who is waited for is asked about in time. */
  function turnMs(row: LiveDelegation): number {
    const lease = leaseMs(row, policy);
    return row.state.kind === 'settling' ? Math.min(lease, (row.state.untilMs - clock.nowMs()) / 2) : lease;
  }

  /** A look at a room restarts who is nearly due without a claim: whoever has been handed back since is left alone. */
  async function isStillInThatState(row: LiveDelegation): Promise<boolean> {
    const { value: kind } = await readRows(store, { by: 'id', room: row.room, id: row.id }, ([now]) => now?.state.kind);
    return kind === row.state.kind;
  }

  async function send(row: LiveDelegation, action: Action, timeoutMs: number, claim: Claim | null): Promise<Event | null> {
    const isStillSo = () => isStillGone(row);
    const calls = callToSend(row.handles, action);
    const answer = await inTurn(row, { kind: inventions.leave(row) }, { action: 'send', calls, timeoutMs, claim, isStillSo });
    return answer === null ? null : { kind: 'send_answered', action, answer };
  }

  async function cancel(row: LiveDelegation, timeoutMs: number, claim: Claim | null): Promise<Event | null> {
    const when = await inventions.cancellation(row);
    const answer = await inTurn(row, when, { action: 'cancel', calls: callsToCancel(row.handles), timeoutMs, claim, isStillSo: always });
    return answer === null ? null : { kind: 'cancel_answered', answer };
  }

  /**
   * A retry, one that waited its turn, or what a process before us did not come to: whoever came back meanwhile without our hearing of it
   * must not be taken out. Nobody to ask: what was decided stands.
   */
  async function isStillGone(row: LiveDelegation): Promise<boolean> {
    const nowMs = clock.nowMs();
    if (row.state.kind !== 'leaving' || nowMs - row.state.confirmedAtMs <= FRESH_MS) return true;
    const evidence = await presence.ask(row.room, nowMs - FRESH_MS, 0, { reason: 'leave' });
    const applied = await apply({ by: 'id', room: row.room, id: row.id }, null, () => eventOf(evidence, row));
    for (const next of applied.todo) deps.begin(next);
    return applied.changed === 0;
  }

  function inTurn(row: LiveDelegation, { kind, beginByMs = Number.POSITIVE_INFINITY }: Turn, calls: Calls): Promise<Answer | null> {
    return lanes.run(row.homeserver, {
      ...wantedBy(row),
      kind,
      action: calls.action,
      beginByMs,
      work: ({ called }) => callAll(row, called, calls),
    });
  }

  /**
   * A group may have more than one timer; the worst answer speaks for all. The claim is looked at last of all: the row may have changed while
   * the call waited its turn. Null: it has, and whoever changed it sees to the rest.
   */
  async function callAll(
    row: LiveDelegation,
    called: () => void,
    { action, calls, timeoutMs, claim, isStillSo }: Calls,
  ): Promise<Answer | null> {
    const isWanted = async (): Promise<boolean> =>
      (await isStillSo()) && (claim === null || (await store.holds(claim, HELD_AGO_MS[action])));
    let worst: Answer = { kind: 'ok' };
    for (const call of calls) {
      if (!(await isWanted())) return null;
      const startedMs = clock.nowMs();
      called();
      const answer = await delayedEvents.act(row.homeserver, call, { timeoutMs, userId: row.userId, isWanted });
      metrics.homeserverRequest(action, clock.nowMs() - startedMs);
      if (action === 'send' && isOverdueAfter(row, answer, clock.nowMs())) metrics.overdueLeaveFailed();
      if (SEVERITY[answer.kind] > SEVERITY[worst.kind]) worst = answer;
    }
    return worst;
  }

  return {
    perform,
    restart: (row, { isStillSo, always: remembered }) => once(row, RESTART, () => restart(row, { claim: null, isStillSo }, remembered)),
  };
}

/** What was not let through, or not even called, says nothing of an event that another process has restarted meanwhile. */
function isOutdated(event: Event, before: LiveDelegation, now: Delegation): boolean {
  return event.kind === 'restart_answered' && event.answer.kind === 'limited' && now.expiry.latestMs !== before.expiry.latestMs;
}

/** A leave that has to be tried again although its time is over. */
function isOverdueAfter({ state }: LiveDelegation, { kind }: Answer, nowMs: number): boolean {
  return state.kind === 'leaving' && kind !== 'ok' && kind !== 'final' && nowMs > state.onTimeUntilMs;
}

function wantedBy(row: LiveDelegation): Wanted {
  const { id, createdAtMs, delayMs, expiry } = row;
  return { id, createdAtMs, delayMs, expiryMs: expiry.earliestMs, lostMs: expiry.latestMs, proven: isProven(row) };
}

const SEVERITY: Record<Answer['kind'], number> = { ok: 0, failed: 1, refused: 2, limited: 3, final: 4 };

export function eventOf(evidence: Evidence, row: LiveDelegation, lookedFor = false): Event {
  if (evidence.kind === 'unreachable') return { kind: 'sfu_unreachable', askedAtMs: evidence.askedAtMs };
  return snapshotOf(
    evidence,
    row,
    row.identities.flatMap((identity) => evidence.present.filter((seen) => seen.identity === identity)),
    lookedFor,
  );
}

/** The same for many rows of the room, who are found by an index: that each goes through the whole list would take a large room long. */
export function eventsOf(evidence: List): (row: LiveDelegation) => Event {
  const present = Map.groupBy(evidence.present, ({ identity }) => identity);
  return (row) =>
    snapshotOf(
      evidence,
      row,
      row.identities.flatMap((identity) => present.get(identity) ?? []),
    );
}

function snapshotOf(
  { askedAtMs, roomSid, afterRestart, answersSinceMs, gone }: List,
  { state }: LiveDelegation,
  present: readonly Seen[],
  lookedFor = false,
): Event {
  const sid = state.kind === 'connected' ? state.session.sid : null;
  const lastSeenMs = gone !== null && sid !== null && gone.sids.has(sid) ? gone.seenAtMs : null;
  return { kind: 'snapshot', askedAtMs, present, roomSid, afterRestart, answersSinceMs, lastSeenMs, lookedFor };
}

const futuresOf = (handles: Extract<Handles, { kind: 'futures' }>): Future[] =>
  handles.lost === null ? [handles.leave] : [handles.leave, handles.lost];
const tokens = (list: readonly (Future['cancel'] | Future['refresh'])[]): Call[] =>
  list.flatMap((token) => (token === null ? [] : [{ kind: 'token', token }]));

function callsToRestart(handles: Handles): Call[] {
  if (handles.kind === 'delay') return [{ kind: 'delay', delayId: handles.delayId, action: 'restart' }];
  return tokens(futuresOf(handles).map(({ refresh }) => refresh));
}

function callsToCancel(handles: Handles): Call[] {
  if (handles.kind === 'delay') return [{ kind: 'delay', delayId: handles.delayId, action: 'cancel' }];
  return tokens(futuresOf(handles).map(({ cancel }) => cancel));
}

function callToSend(handles: Handles, action: Action): Call[] {
  if (handles.kind === 'delay') return [{ kind: 'delay', delayId: handles.delayId, action: 'send' }];
  const future = action === 'lost' && handles.lost !== null ? handles.lost : handles.leave;
  return [{ kind: 'token', token: future.send }];
}
