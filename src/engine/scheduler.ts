// Takes due rows from the store, a bounded number at once. One timer for all of them: memory does not grow with what is held.
import type { Cancel, Clock } from '../clock.ts';
import type { Delegation } from '../delegation/state.ts';
import type { Claimed, First, Store } from '../store/store.ts';
import { LEASE_MS } from './apply.ts';
import type { Lanes } from './lanes.ts';
import { watchSaturation } from './saturation.ts';

export interface Scheduler {
  start(): void;
  /** Something may have become due. */
  wake(): void;
  /** As wake, when a row was written that is due at `dueMs`. */
  expect(dueMs: number | null): void;
  /** From now on nothing is begun but restarts. */
  restartsOnly(): void;
  stop(): void;
}

export interface SchedulerDeps {
  readonly store: Store;
  readonly lanes: Lanes;
  readonly clock: Clock;
  /** Looked at again at least so often, whatever was expected: sooner where other processes may leave work behind. */
  readonly longestSleepMs: number;
  /** No look sooner than this after the last, so that one trip serves what comes due meanwhile. */
  readonly gatherMs: number;
  /** The store could not be looked into; it is tried again. */
  readonly onFailure: (error: unknown) => void;
  /** The store has not answered a look for so long that it may be away; then, that it has answered one. */
  readonly onSilence: () => void;
  readonly onAnswer: () => void;
  /** Takes one due row to its end; never throws. */
  readonly take: (claimed: Claimed) => Promise<void>;
}

const BATCH = 256;
const MOST_AT_ONCE = 4_096;
/** However many leave or seem to be gone, there is room for restarts. */
const MOST_OTHERS_AT_ONCE = 3_072;
const AFTER_FAILURE_MS = 1_000;
/** Of a delay of 10 s, 1.5 s are left when its restart is due at the latest. */
const SILENT_MS = 500;
/** While a homeserver takes no more, all its due rows are passed over at each look: so they are looked at less often. */
const AFTER_EXCLUSION_MS = 25;
/** And not for several times as long as the look took, however many they are. */
const REST_TIMES = 4;
const LONGEST_REST_MS = 100;
/** Of so many looks one begins with the longest overdue in any case. */
const OLDEST_FIRST_EVERY = 4;

export function createScheduler(deps: SchedulerDeps): Scheduler {
  const { store, lanes, clock, longestSleepMs, gatherMs, take, onFailure } = deps;
  let running = false;
  let restartsOnly = false;
  let looking = false;
  let looks = 0;
  let again = false;
  const isSaturated = watchSaturation(clock);
  const taken = { restarts: 0, others: 0 };
  let notBeforeMs = Number.NEGATIVE_INFINITY;
  let timer: { readonly atMs: number; readonly cancel: Cancel } | null = null;

  function sleepUntil(atMs: number): void {
    if (!running || (timer !== null && timer.atMs <= atMs)) return;
    timer?.cancel();
    const cancel = clock.after(Math.max(atMs - clock.nowMs(), 0), () => {
      timer = null;
      wake();
    });
    timer = { atMs, cancel };
  }

  function wake(): void {
    if (!running) return;
    if (looking) {
      again = true;
      return;
    }
    if (clock.nowMs() < notBeforeMs) {
      sleepUntil(notBeforeMs);
      return;
    }
    looking = true;
    again = false;
    claimAll()
      .then(deps.onAnswer)
      .catch((error: unknown) => {
        onFailure(error);
        sleepUntil(clock.nowMs() + AFTER_FAILURE_MS);
      })
      .finally(() => {
        looking = false;
        if (again) wake();
      });
  }

  /** Where some run out before their turn, the longest overdue are lost or will be; but who has a long delay is among them as well. */
  function nextFirst(): First {
    looks += 1;
    return lanes.isOverrun() && looks % OLDEST_FIRST_EVERY !== 0 ? 'newest' : 'oldest';
  }

  function rest(tookMs: number): void {
    notBeforeMs = Math.max(notBeforeMs, clock.nowMs() + Math.min(tookMs * REST_TIMES, LONGEST_REST_MS));
  }

  /** Tells of an answer that has not come for so long. */
  function heard<T>(answer: Promise<T>): Promise<T> {
    const stop = clock.after(SILENT_MS, deps.onSilence);
    return answer.finally(stop);
  }

  async function claimAll(): Promise<void> {
    let lookedMs = clock.nowMs();
    let full = true;
    while (full && running && taken.restarts + taken.others < MOST_AT_ONCE) {
      lookedMs = clock.nowMs();
      const allRestarts = isSaturated() && taken.restarts >= BATCH;
      const excluded = { ...lanes.excluded(), allRestarts, others: restartsOnly || taken.others >= MOST_OTHERS_AT_ONCE };
      notBeforeMs = lookedMs + Math.max(gatherMs, excluded.restarts.size > 0 ? AFTER_EXCLUSION_MS : 0);
      if (allRestarts) sleepUntil(lookedMs + AFTER_EXCLUSION_MS);
      const claimed = await heard(store.claimDue(lookedMs, LEASE_MS, BATCH, excluded, nextFirst()));
      full = claimed.length === BATCH;
      if (excluded.restarts.size > 0) rest(clock.nowMs() - lookedMs);
      if (full) for (const { row } of claimed) if (hasRunOut(row, lookedMs)) lanes.missed(row.homeserver, row.expiry.latestMs);
      for (const one of claimed) start(one);
      // What was begun goes on before more is.
      if (full) await new Promise<void>((resolve) => void clock.endOfTurn(resolve));
    }
    // From the moment of the last look on: what has become due since then was not in it.
    const nextMs = await heard(store.nextDueMs(lookedMs));
    sleepUntil(Math.min(nextMs ?? Number.POSITIVE_INFINITY, clock.nowMs() + longestSleepMs));
  }

  function start(claimed: Claimed): void {
    const kind = claimed.row.state.kind === 'connected' ? 'restarts' : 'others';
    taken[kind] += 1;
    void take(claimed).finally(() => {
      taken[kind] -= 1;
      if (taken.others === MOST_OTHERS_AT_ONCE - BATCH || taken.restarts + taken.others === MOST_AT_ONCE - BATCH) wake();
    });
  }

  return {
    start: () => {
      running = true;
      wake();
    },
    wake,
    expect: (dueMs) => {
      if (dueMs !== null) sleepUntil(dueMs);
    },
    restartsOnly: () => {
      restartsOnly = true;
    },
    stop: () => {
      running = false;
      timer?.cancel();
      timer = null;
    },
  };
}

const hasRunOut = ({ state, expiry }: Delegation, nowMs: number): boolean => state.kind === 'connected' && expiry.latestMs < nowMs;
