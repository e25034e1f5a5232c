// Keeps participants alive while the store is away: a Redis that is being restarted, a disk that is full. Nothing can be promised, decided
// or sent then, but a restart needs no more than evidence of presence, and without it those who are on the SFU would be lost. So the rows
// are remembered as they were last seen, restarted by the usual rules, and the restarts written when the store is back.
//
// Several replicas may remember and restart the same row: twice does no harm. Each remembers what it handled last, and takes over for a
// while what another one handled since, which may have died together with the store on the same machine.
// Who leaves meanwhile is on no list of the SFU any more, and gets no restart.
import type { Cancel, Clock, Random } from '../clock.ts';
import { type Decision, decide, dueAtMs } from '../delegation/decide.ts';
import type { DelegationId } from '../delegation/ids.ts';
import type { Delegation, Event, LiveDelegation, Policy } from '../delegation/state.ts';
import { leaseMs } from '../delegation/steps/moves.ts';
import type { Log } from '../log.ts';
import type { Claim, Claimed, Store } from '../store/store.ts';
import type { Apply } from './apply.ts';
import { eventOf, type Performer, type Restarted } from './perform.ts';
import type { Presence } from './presence.ts';

export interface KeepAlive {
  /** To be told of each row as it is now, written or read. */
  remember(row: Delegation): void;
  /** A restart was made, and its answer could not be written. */
  unwritten(row: LiveDelegation, answered: Restarted): void;
  /** Takes a due row that was claimed although the store can't be written to. False: it is to be handled as usual. */
  takeOver(claimed: Claimed): boolean;
  /** Gives a claim back, later if the store is away now: until then nobody else could do what its row owes. Never rejects. */
  release(claim: Claim): Promise<void>;
  /** The store is away. */
  begin(): void;
  /** The store is back. Resolves when the restarts made meanwhile are written. */
  end(): Promise<void>;
  stop(): void;
}

export interface KeepAliveDeps {
  readonly store: Store;
  /** True for a store that can't even be read while it is away (Redis): rows are then remembered all the time. */
  readonly remembers: boolean;
  readonly presence: Presence;
  readonly apply: Apply;
  readonly restart: Performer['restart'];
  readonly clock: Clock;
  readonly random: Random;
  readonly policy: Policy;
  readonly log: Log;
}

interface Known {
  /** The row as it would be if all restarts had been written; without its history. */
  row: LiveDelegation;
  /** When the newest restart was asked for that is not written yet, Unix ms; null: all are written. */
  restartedAtMs: number | null;
  /** Not attended to before then, Unix ms. */
  notBeforeMs: number;
  busy: boolean;
}

const LOOK_EVERY_MS = 250;
const AGAIN_MS = 1_000;
const MOST_AT_ONCE = 4_096;
const TOLD_AT_ONCE = 256;
/** A row takes 1 kB here. Beyond this number the one that was heard of longest ago is forgotten. */
const MOST_ROWS = 50_000;
/** How many ids of ended rows are remembered: as many as may end while a call is under way. */
const MOST_ENDED = 4_096;
/**
 * After how long without the store the rows that another replica restarted last are restarted here: it may have died with the store, and
 * they may have a fifth of their delay left. A store that answers again sooner was not away.
 */
const ANOTHERS_AFTER_MS = 1_000;
/** For how long after their expiry by our count such rows are taken into account: most of the older ones have left. */
const ANOTHERS_KEPT_MS = 60_000;
/** For who was not seen connected before, the SFU is asked when this part of the delay is left. */
const REST_PART = 0.2;

export function createKeepAlive(deps: KeepAliveDeps): KeepAlive {
  const { store, presence, apply, clock, random, policy, log } = deps;
  const known = new Map<DelegationId, Known>();
  /** Rows that have ended lately: what is heard of them now is older than their end. */
  const ended = new Set<DelegationId>();
  const held = new Map<string, Claim>();
  let attending = 0;
  let on = false;
  let beganMs = 0;
  let stopped = false;
  let telling: Promise<void> | null = null;
  let cancel: Cancel = () => {};

  function remember(row: Delegation): Known | null {
    const before = known.get(row.id);
    known.delete(row.id);
    if (row.state.kind === 'ended') keepNewest(ended.add(row.id), MOST_ENDED);
    if (!isToBeKept(row) || ended.has(row.id) || !(deps.remembers || on || telling !== null)) return null;
    const one = before ?? { row, restartedAtMs: null, notBeforeMs: 0, busy: false };
    known.set(row.id, one);
    // A restart that is not written yet is newer than what the store says.
    if (one.restartedAtMs === null || row.expiry.earliestMs >= one.row.expiry.earliestMs) {
      one.row = withoutHistory(row);
      one.restartedAtMs = null;
    }
    keepNewest(known, MOST_ROWS);
    return one;
  }

  function look(): void {
    const nowMs = clock.nowMs();
    const [ours, anothers]: [Known[], Known[]] = [[], []];
    for (const [id, one] of known) {
      if (!isWanted(one, nowMs)) continue;
      if (!isAnothers(one.row)) ours.push(one);
      else if (!mayBeNobodys(one.row)) known.delete(id);
      else if (nowMs >= beganMs + ANOTHERS_AFTER_MS) anothers.push(one);
    }
    ours.sort((a, b) => a.row.expiry.earliestMs - b.row.expiry.earliestMs);
    for (const one of [...ours, ...anothers].slice(0, MOST_AT_ONCE)) void attend(one);
    cancel = clock.after(LOOK_EVERY_MS, look);
  }

  /**
   * With other replicas, an event that has run out by our count was restarted by another one since. Without, it is restarted all the same:
   * a process before us may have restarted it and not been able to write that.
   */
  const isAnothers = ({ expiry }: LiveDelegation): boolean => deps.remembers && expiry.latestMs <= clock.nowMs();

  /**
   * Whether the replica that restarted it may have died with the store: then its event runs out when a whole delay is over at the latest.
   */
  function mayBeNobodys({ expiry, delayMs }: LiveDelegation): boolean {
    const sinceMs = beganMs + ANOTHERS_AFTER_MS - expiry.latestMs;
    return sinceMs >= 0 && sinceMs < ANOTHERS_KEPT_MS && clock.nowMs() < beganMs + delayMs;
  }

  async function attend(one: Known): Promise<void> {
    attending += 1;
    one.busy = true;
    one.notBeforeMs = clock.nowMs() + Math.max(AGAIN_MS, one.row.delayMs / 20);
    try {
      const evidence = await presence.ask(one.row.room, clock.nowMs() - leaseMs(one.row, policy), 0, { reason: 'restart' });
      // The store is back, and there the row is due as well.
      if (!on) return;
      for (const effect of take(one, eventOf(evidence, one.row))) {
        const how = { isStillSo: () => isStillOurs(one), always: !isAnothers(one.row) };
        const answered = effect.kind === 'restart' ? await deps.restart(one.row, how) : null;
        if (answered !== null) restarted(one, answered);
        else one.notBeforeMs = clock.nowMs() + AGAIN_MS;
      }
    } catch (error) {
      log.error({ delegation: one.row.id, err: error }, 'a participant could not be kept alive');
    } finally {
      one.busy = false;
      attending -= 1;
    }
  }

  /** Asked when a call's turn has come: if the store is back by then the row may have ended, and is handled as usual again. */
  const isStillOurs = async ({ row }: Known): Promise<boolean> => on && known.has(row.id);

  function restarted(one: Known, answered: Restarted): void {
    if (answered.answer.kind === 'ok') one.restartedAtMs = answered.askedAtMs;
    take(one, answered);
    one.notBeforeMs = 0;
  }

  /** Decides, and keeps only what lets a member stay. Everything else waits for the store. @returns the effects to be performed. */
  function take(one: Known, event: Event): Decision['effects'] {
    const { next, effects } = decide(one.row, event, { nowMs: clock.nowMs(), wallMs: clock.wallMs(), roll: random.roll() }, policy);
    if (next.state.kind === 'ended') {
      known.delete(next.id);
      keepNewest(ended.add(next.id), MOST_ENDED);
    }
    if (next.handles === null || (next.state.kind !== 'connected' && next.state.kind !== one.row.state.kind)) return [];
    one.row = withoutHistory(next);
    return effects;
  }

  async function tell(): Promise<void> {
    const untold = [...known.values()].filter(({ restartedAtMs }) => restartedAtMs !== null);
    while (untold.length > 0) await Promise.all(untold.splice(0, TOLD_AT_ONCE).map(tellOne));
  }

  async function tellOne(one: Known): Promise<void> {
    const { restartedAtMs, row } = one;
    if (restartedAtMs === null) return;
    const event: Event = { kind: 'restart_answered', askedAtMs: restartedAtMs, answer: { kind: 'ok' } };
    one.restartedAtMs = null;
    try {
      await apply({ by: 'id', room: row.room, id: row.id }, null, ({ expiry, delayMs }) =>
        restartedAtMs + delayMs > expiry.earliestMs ? event : null,
      );
    } catch {
      // Away again.
      one.restartedAtMs ??= restartedAtMs;
    }
  }

  async function conclude(): Promise<void> {
    await tell();
    telling = null;
    if (on) return;
    if (!deps.remembers) known.clear();
    const all = [...held.values()];
    held.clear();
    await Promise.all(all.map(release));
  }

  async function release(claim: Claim): Promise<void> {
    try {
      await store.release(claim);
    } catch {
      if (on || telling !== null) held.set(`${claim.id} ${claim.rev}`, claim);
      else if (!stopped) clock.after(AGAIN_MS, () => void release(claim));
    }
  }

  return {
    remember: (row) => void remember(row),
    unwritten: (row, answered) => {
      // The row may have ended while the call was on its way.
      const one = ended.has(row.id) ? null : remember(row);
      if (one !== null) restarted(one, answered);
    },
    takeOver: ({ row, claim }) => {
      if (!on && telling === null) return false;
      const one = remember(row);
      // Only restarts can't wait for the store. Other rows are looked at shortly before their event runs out.
      if (row.state.kind !== 'connected') return false;
      held.set(`${claim.id} ${claim.rev}`, claim);
      // At once, not at the next look: where the store comes and goes, each return begins the wait for that anew, and a short delay can't
      // wait.
      if (on && one !== null && attending < MOST_AT_ONCE && isWanted(one, clock.nowMs()) && !isAnothers(one.row)) void attend(one);
      return true;
    },
    release,
    begin: () => {
      if (on || stopped) return;
      beganMs = clock.nowMs();
      on = true;
      look();
    },
    end: () => {
      if (!on && telling === null) return Promise.resolve();
      on = false;
      cancel();
      telling ??= conclude();
      return telling;
    },
    stop: () => {
      stopped = true;
      on = false;
      cancel();
    },
  };
}

function keepNewest(of: Map<DelegationId, unknown> | Set<DelegationId>, most: number): void {
  const [oldest] = of.keys();
  if (of.size > most && oldest !== undefined) of.delete(oldest);
}

const withoutHistory = (row: LiveDelegation): LiveDelegation => (row.history.length === 0 ? row : { ...row, history: [] });

/** Rows whose event has to live on. Not those that owe a leave or a cancellation. */
function isToBeKept(row: Delegation): row is LiveDelegation {
  return row.state.kind === 'awaiting' || row.state.kind === 'connected' || row.state.kind === 'settling';
}

function isWanted({ row, notBeforeMs, busy }: Known, nowMs: number): boolean {
  return !busy && nowMs >= Math.max(wantedAtMs(row), notBeforeMs);
}

function wantedAtMs({ state, expiry, delayMs }: LiveDelegation): number {
  return state.kind === 'connected' ? (dueAtMs(state) ?? 0) : expiry.earliestMs - delayMs * REST_PART;
}
