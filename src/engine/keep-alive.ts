// The store is away: a Redis that is restarted, a disk that is full. Nothing can be promised, decided or sent, but a restart needs no more
// than evidence of presence, and those who are there would be lost without it. So what was last known of the rows is remembered, and each
// is restarted by the same rules as ever; the restarts are written when the store is back.
//
// Several replicas may remember, and so restart, the same row: twice is as good as once. Each of them remembers what it handled last, and
// for a while what others did since: one of them may have gone together with the store, for they stood on one machine.
// Who left meanwhile is in no list of the SFU, and gets no restart.
import type { Cancel, Clock, Random } from '../clock.ts';
import { type Decision, decide, dueAtMs } from '../delegation/decide.ts';
import type { DelegationId } from '../delegation/ids.ts';
import type { Delegation, Event, EventOf, LiveDelegation, Policy } from '../delegation/state.ts';
import { leaseMs } from '../delegation/steps/moves.ts';
import type { Claim, Claimed, Store } from '../store/store.ts';
import type { Log } from '../telemetry.ts';
import type { Apply } from './apply.ts';
import { eventOf, type Performer } from './perform.ts';
import type { Presence } from './presence.ts';

export interface KeepAlive {
  /** What became of a row, by a commit or by the store's word. */
  remember(row: Delegation): void;
  /** A restart that could not be written. */
  unwritten(row: LiveDelegation, answered: Restarted): void;
  /** A row that the store shows as due although it can't be written now: false if it is to be handled as ever. */
  takeOver(claimed: Claimed): boolean;
  /** Gives a claim back, if need be when the store takes it: whatever its row owes would wait for the claim's end. */
  release(claim: Claim): Promise<void>;
  /** The store is away. */
  begin(): void;
  /** It is back. Resolves when it knows what was restarted meanwhile. */
  end(): Promise<void>;
  stop(): void;
}

type Restarted = EventOf<'restart_answered'>;

export interface KeepAliveDeps {
  readonly store: Store;
  /** A store that is away can't be read either: what may be needed then is remembered before. */
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
  /** As it would be, had what was done been written; without its history. */
  row: LiveDelegation;
  /** When the newest restart was asked for that the store does not know of. */
  restartedAtMs: number | null;
  /** Not looked at before. */
  notBeforeMs: number;
  busy: boolean;
}

const LOOK_EVERY_MS = 250;
const AGAIN_MS = 1_000;
const MOST_AT_ONCE = 4_096;
const TOLD_AT_ONCE = 256;
/** A row takes 1 kB here. Of more than these the oldest news is forgotten. */
const MOST_ROWS = 50_000;
/** As many as can end while a call is under way. */
const MOST_ENDED = 4_096;
/**
 * Whom another replica restarted last may have the last fifth of their delay left when it goes together with the store. One that answers
 * again sooner was not away.
 */
const ANOTHERS_AFTER_MS = 1_000;
/** Of those we have not heard for so long after the end that we knew of, most have left. */
const ANOTHERS_KEPT_MS = 60_000;
/** Who was not seen connected before the store went has this part of the delay left when the SFU is asked. */
const REST_PART = 0.2;

export function createKeepAlive(deps: KeepAliveDeps): KeepAlive {
  const { store, presence, apply, clock, random, policy, log } = deps;
  const known = new Map<DelegationId, Known>();
  /** Of late: what is heard of them now is older than their end. */
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
    // What the store does not know yet is newer than its word.
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
   * Run out by our count, it was restarted by another replica since. Where there is none it may have been by a process before us, which could
   * not write that: the homeserver knows.
   */
  const isAnothers = ({ expiry }: LiveDelegation): boolean => deps.remembers && expiry.latestMs <= clock.nowMs();

  /** Whoever has restarted it may have gone together with the store. It has not run out before all of its delay is over. */
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
      // What is due is due in the store as well.
      if (!on) return;
      for (const effect of take(one, eventOf(evidence, one.row))) {
        const answered =
          effect.kind === 'restart'
            ? await deps.restart(one.row, effect, { isStillSo: () => isStillOurs(one), always: !isAnothers(one.row) })
            : null;
        if (answered?.kind === 'restart_answered') restarted(one, answered);
        else one.notBeforeMs = clock.nowMs() + AGAIN_MS;
      }
    } catch (error) {
      log.error({ delegation: one.row.id, err: error }, 'a participant could not be kept alive');
    } finally {
      one.busy = false;
      attending -= 1;
    }
  }

  /** A call may wait for its turn: when the store is back meanwhile, the row may have ended, and is its own business again. */
  const isStillOurs = async ({ row }: Known): Promise<boolean> => on && known.has(row.id);

  function restarted(one: Known, answered: Restarted): void {
    if (answered.answer.kind === 'ok') one.restartedAtMs = answered.askedAtMs;
    take(one, answered);
    one.notBeforeMs = 0;
  }

  /** Of what the heart decides only that counts which lets a member stay; the rest waits for the store. */
  function take(one: Known, event: Event): Decision['effects'] {
    const { next, effects } = decide(one.row, event, { nowMs: clock.nowMs(), roll: random.roll() }, policy);
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
      // The call may have been on its way for longer than the row lived.
      const one = ended.has(row.id) ? null : remember(row);
      if (one !== null) restarted(one, answered);
    },
    takeOver: ({ row, claim }) => {
      if (!on && telling === null) return false;
      const one = remember(row);
      // Whoever may be back by the time that the event ends is looked for then; until then the store may be, too.
      if (row.state.kind !== 'connected') return false;
      held.set(`${claim.id} ${claim.rev}`, claim);
      // A store that is back and away again by turns begins the wait for the next look anew, and a short delay has no time for it.
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

/** An owed leave and a cancellation wait: what they are about need not live on. */
function isToBeKept(row: Delegation): row is LiveDelegation {
  return row.state.kind === 'awaiting' || row.state.kind === 'connected' || row.state.kind === 'settling';
}

function isWanted({ row, notBeforeMs, busy }: Known, nowMs: number): boolean {
  return !busy && nowMs >= Math.max(wantedAtMs(row), notBeforeMs);
}

function wantedAtMs({ state, expiry, delayMs }: LiveDelegation): number {
  return state.kind === 'connected' ? (dueAtMs(state) ?? 0) : expiry.earliestMs - delayMs * REST_PART;
}
