// Claims due rows from the store, a bounded number at once. There is one timer for all rows: memory does not grow with what is held.
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
  /** As `wake`, at `dueMs` (Unix ms): a row was written that is due then. Null: nothing. */
  expect(dueMs: number | null): void;
  /** From now on nothing is begun but restarts. */
  restartsOnly(): void;
  stop(): void;
}

export interface SchedulerDeps {
  readonly store: Store;
  readonly lanes: Lanes;
  readonly clock: Clock;
  /** The longest time between two looks, whatever is expected; shorter where other replicas may leave work behind. */
  readonly longestSleepMs: number;
  /** The shortest time between two looks, so that one claims all that comes due meanwhile. */
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
/** The most rows at once that are not restarts: however many participants leave, there is room for restarts. */
const MOST_OTHERS_AT_ONCE = 3_072;
const AFTER_FAILURE_MS = 1_000;
/** After so long without an answer the store counts as silent. Of a delay of 10 s at least 1.5 s are left when its restart is due. */
const SILENT_MS = 500;
/** The shortest time between two looks while homeservers take no more calls: each look has to pass over all of their due rows. */
const AFTER_EXCLUSION_MS = 25;
/** And after such a look, so many times the time that it took, up to a bound. */
const REST_TIMES = 4;
const LONGEST_REST_MS = 100;
/** While events run out before their turn, every so many looks still begin with the longest overdue. */
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

  /**
   * Where events run out before their turn, the longest overdue are mostly lost already; but rows with long delays are among them as well.
   */
  function nextFirst(): First {
    looks += 1;
    return lanes.isOverrun() && looks % OLDEST_FIRST_EVERY !== 0 ? 'newest' : 'oldest';
  }

  function rest(tookMs: number): void {
    notBeforeMs = Math.max(notBeforeMs, clock.nowMs() + Math.min(tookMs * REST_TIMES, LONGEST_REST_MS));
  }

  /** Calls `onSilence` if the answer takes longer than SILENT_MS. */
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
      // What was just begun gets its turn before more is claimed.
      if (full) await new Promise<void>((resolve) => void clock.endOfTurn(resolve));
    }
    // From the last look on, for what has become due since was not in it.
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
