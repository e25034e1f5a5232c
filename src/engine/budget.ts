// What a homeserver that limits us lets us do, and for whom it is spent. Synapse's default of one call a second carries nine participants
// with a delay of 10 s; sixteen that share it evenly are lost one after the other. So the rate is learnt from the refusals, restarts are
// for those who can be kept with it (the longest delays, which cost the least, then the oldest delegations, as far as their turns come in
// time), and they are made as late as it takes to leave something over: a leave that comes must find the homeserver willing.
import type { DelegationId } from '../delegation/ids.ts';

/** A restart that somebody wants. */
export interface Wanted {
  readonly id: DelegationId;
  readonly createdAtMs: number;
  readonly delayMs: number;
  /** The event runs out not before, and as far as we know not after. */
  readonly expiryMs: number;
  readonly lostMs: number;
}

interface Remembered extends Wanted {
  /** When it comes for its next restart. */
  readonly fromMs: number;
}

export interface Budget {
  /** Calls have been refused lately. */
  readonly limited: boolean;
  /** A call that was begun at `beganMs` was let through, whatever became of it. */
  passed(beganMs: number): void;
  /** A call was refused; the next one is let through `retryAfterMs` after it began. */
  refused(beganMs: number, retryAfterMs: number): void;
  restarted(wanted: Wanted, beganMs: number): void;
  /** It wants no restart any more. */
  ended(id: DelegationId): void;
  /** How long this restart is not to be made; 0: it may be, when its turn comes. */
  putOffMs(wanted: Wanted): number;
  /** When this restart, the most urgent one, has to begin so that all are in time. */
  beginMs(wanted: Wanted): number;
}

/** Without a refusal for so long we do as if there were no limit: it may have been raised. */
const FORGET_AFTER_MS = 120_000;
/** The rate is measured over at least so long, and only over a time in which the homeserver can have saved up little. */
const SHORTEST_MEASURE_MS = 250;
const LONGEST_MEASURE_MS = 5_000;
/** So many calls are to be left for leaves. No homeserver is believed to save up more for us than one beside them. */
const LEFT_FOR_LEAVES = 1;
const MOST_SAVED = LEFT_FOR_LEAVES + 2;
/** One that is let through, and one that is refused. */
const CALLS_TO_FIND_OUT = 2;
/** The parts of a delay after which a restart is made: where enough is left, and at the latest. */
const USUAL_PART = 0.8;
const LATEST_PART = 0.93;
/** Nobody needs one before. */
const EARLIEST_PART = 0.4;
/** Who is reckoned with is made wait until then at the very most: a rate measured some percent too low must cost nobody. */
const LAST_PART = 0.97;
/** A call that begins so long before an event's end is in time. */
const ON_THE_WAY_MS = 50;
const AGAIN_MS = 1_000;
/** Who can be kept is reckoned anew so often, for somebody may have left. */
const RECKON_MS = 1_000;
/** Longer delays weigh next to nothing: they are neither counted nor held back. */
const SHORT_DELAY_MS = 120_000;
const MOST_REMEMBERED = 4_096;
/** Beyond so many, one turn more or less hardly matters: only the rate counts. */
const MOST_TURNS = 64;

export function createBudget(nowMs: () => number): Budget {
  /** Calls in a ms; null: not known yet. */
  let rate: number | null = null;
  let refusedAtMs = Number.NEGATIVE_INFINITY;
  /** When the first call after a refusal is let through: the rate is what passes from there to the next such moment. */
  let measuredFromMs = Number.NEGATIVE_INFINITY;
  let passes = 0;
  /** How many calls would be let through at once, as far as we know. */
  let saved = { calls: 0, atMs: 0 };
  /** Who has been restarted lately or wants to be, the newest last: when a limit shows, all who need a share are known. */
  const remembered = new Map<DelegationId, Remembered>();
  let kept: ReadonlySet<DelegationId> = new Set();
  /** Who is let through to find the rate out. */
  const findingOut = new Set<DelegationId>();
  let reckonedAtMs = Number.NEGATIVE_INFINITY;

  const savedNow = (): number => Math.min(saved.calls + (nowMs() - saved.atMs) * (rate ?? 0), MOST_SAVED);

  function remember(wanted: Wanted, fromMs: number): void {
    if (wanted.delayMs > SHORT_DELAY_MS) return;
    if (!remembered.delete(wanted.id)) reckonedAtMs = Number.NEGATIVE_INFINITY;
    remembered.set(wanted.id, { ...wanted, fromMs });
    if (remembered.size <= MOST_REMEMBERED) return;
    for (const id of remembered.keys()) {
      remembered.delete(id);
      return;
    }
  }

  /**
   * Those who fit into the rate in the long run, and of them those whose next restarts can all be in time one after the other: of sixteen
   * who came at once only some can be, and those are to be known before the calls are spent on others. Who is kept stays kept if at all possible.
   */
  function reckon(perMs: number): void {
    const atMs = nowMs();
    if (atMs - reckonedAtMs < RECKON_MS) return;
    reckonedAtMs = atMs;
    for (const [id, { lostMs }] of remembered) if (lostMs < atMs) remembered.delete(id);
    const order = [...remembered.values()].sort(
      (a, b) => Number(kept.has(b.id)) - Number(kept.has(a.id)) || b.delayMs - a.delayMs || a.createdAtMs - b.createdAtMs,
    );
    const chosen: Turn[] = [];
    let spent = 0;
    for (const { id, delayMs, fromMs, expiryMs, lostMs } of order) {
      const more = 1 / (delayMs * LAST_PART);
      if (spent + more > perMs) continue;
      const turn = { id, fromMs, byMs: (expiryMs < atMs ? lostMs : expiryMs) - ON_THE_WAY_MS };
      if (chosen.length < MOST_TURNS && !areInTime([...chosen, turn], { atMs, saved: savedNow(), perMs })) continue;
      spent += more;
      chosen.push(turn);
    }
    kept = new Set(chosen.map(({ id }) => id));
  }

  /** Until the rate is known few are let through; the other calls are better saved for when they are needed. */
  function findsOut(id: DelegationId): boolean {
    if (findingOut.size < CALLS_TO_FIND_OUT) findingOut.add(id);
    return findingOut.has(id);
  }

  const isIdle = (atMs: number): boolean => (rate === null ? atMs - refusedAtMs >= AGAIN_MS : savedNow() >= MOST_SAVED);
  const isLimited = (): boolean => nowMs() - refusedAtMs < FORGET_AFTER_MS;

  return {
    get limited() {
      return isLimited();
    },
    passed: (beganMs) => {
      if (beganMs < refusedAtMs) return;
      passes += 1;
      saved = { calls: savedNow() - 1, atMs: nowMs() };
    },
    refused: (beganMs, retryAfterMs) => {
      refusedAtMs = nowMs();
      findingOut.clear();
      const nextMs = beganMs + retryAfterMs;
      saved = { calls: 1, atMs: nextMs };
      const tookMs = nextMs - measuredFromMs;
      if (tookMs < SHORTEST_MEASURE_MS) return;
      if (passes > 0 && tookMs <= LONGEST_MEASURE_MS) {
        rate = passes / tookMs;
        reckonedAtMs = Number.NEGATIVE_INFINITY;
      }
      measuredFromMs = nextMs;
      passes = 0;
    },
    restarted: (wanted, beganMs) => {
      const { delayMs } = wanted;
      remember({ ...wanted, expiryMs: beganMs + delayMs, lostMs: nowMs() + delayMs }, beganMs + delayMs * USUAL_PART);
    },
    ended: (id) => void remembered.delete(id),
    putOffMs: (wanted) => {
      if (!isLimited()) return 0;
      const atMs = nowMs();
      // Run out by our count, and perhaps not: its client or a process before us may have restarted it. One call tells, when none of the
      // others needs it.
      if (wanted.lostMs < atMs) return isIdle(atMs) ? 0 : AGAIN_MS;
      const earliestMs = Math.max(wanted.expiryMs - wanted.delayMs * (1 - EARLIEST_PART), atMs);
      remember(wanted, earliestMs);
      if (wanted.delayMs > SHORT_DELAY_MS) return 0;
      if (rate === null) return findsOut(wanted.id) ? 0 : earliestMs - atMs;
      reckon(rate);
      return kept.has(wanted.id) ? earliestMs - atMs : AGAIN_MS;
    },
    beginMs: ({ delayMs: ofWanted }) => {
      if (rate === null || !isLimited() || ofWanted > SHORT_DELAY_MS) return Number.NEGATIVE_INFINITY;
      reckon(rate);
      const gapMs = 1 / rate;
      const part = savedNow() > LEFT_FOR_LEAVES + 1 ? USUAL_PART : LATEST_PART;
      const latest = [...kept]
        .flatMap((id) => remembered.get(id) ?? [])
        .map(({ expiryMs, delayMs }) => expiryMs - delayMs * (1 - part))
        .sort((a, b) => a - b);
      return Math.min(...latest.map((ms, place) => ms - place * gapMs));
    },
  };
}

/** A restart that is to begin after one time and before another. */
interface Turn {
  readonly id: DelegationId;
  readonly fromMs: number;
  readonly byMs: number;
}

/** Can all have their turn in time, the most urgent of those who are there first, with what is saved and comes in? */
function areInTime(turns: readonly Turn[], { atMs, saved, perMs }: { atMs: number; saved: number; perMs: number }): boolean {
  const coming = turns.toSorted((a, b) => b.fromMs - a.fromMs);
  const there: Turn[] = [];
  let nowMs = atMs;
  let calls = saved;
  while (coming.length > 0 || there.length > 0) {
    const nextMs = coming.at(-1)?.fromMs ?? Number.POSITIVE_INFINITY;
    if (nextMs <= nowMs) there.push(coming.pop() as Turn);
    else if (there.length > 0 && calls >= 1) {
      const first = there.reduce((a, b) => (b.byMs < a.byMs ? b : a));
      if (nowMs > first.byMs) return false;
      there.splice(there.indexOf(first), 1);
      calls -= 1;
    } else {
      const untilMs = there.length > 0 ? Math.min(nowMs + (1 - calls) / perMs, nextMs) : nextMs;
      // What is saved is counted in fractions, and must not stop just below a whole one.
      calls = Math.min(calls + (untilMs - nowMs) * perMs + 1e-9, MOST_SAVED);
      nowMs = untilMs;
    }
  }
  return true;
}
