// What a homeserver that limits us lets us do, and for whom it is spent. Synapse's default of one call a second carries nine participants
// with a delay of 10 s; sixteen that share it evenly are lost one after the other. So the rate is learnt from the refusals, restarts are
// for those who can be kept with it (the longest delays, which cost the least, then the oldest delegations, as far as their turns come in
// time), and they are made as late as it takes to leave something over: a leave that comes must find the homeserver willing.
import type { DelegationId } from '../delegation/ids.ts';
import type { Limit } from '../store/store.ts';

/** A restart that somebody wants. */
export interface Wanted {
  readonly id: DelegationId;
  readonly createdAtMs: number;
  readonly delayMs: number;
  /** The event runs out not before, and as far as we know not after. */
  readonly expiryMs: number;
  readonly lostMs: number;
  /** Its homeserver has restarted it before. */
  readonly proven: boolean;
}

interface Remembered extends Wanted {
  /** When it comes for its next restart. */
  readonly fromMs: number;
}

export interface Budget {
  /** Calls have been refused lately. */
  readonly limited: boolean;
  /** What is known of the limit, or was lately; null: nothing. */
  readonly limit: Limit | null;
  /** How many of our calls have been let through since the last refusal, ours or another's. */
  readonly passedSince: number;
  /** Another process knows the limit better. */
  adopt(theirs: Limit): void;
  /** Others have called meanwhile. */
  measureAnew(): void;
  /** A call for this one that was begun at `beganMs` was let through, whatever became of it. */
  passed(id: DelegationId, beganMs: number): void;
  /** A call was refused; the next one is let through `retryAfterMs` after it began. */
  refused(beganMs: number, retryAfterMs: number): void;
  restarted(wanted: Wanted, beganMs: number): void;
  /** It wants no restart any more. */
  ended(id: DelegationId): void;
  /** How many calls are let through now, as far as we know. */
  savedNow(): number;
  /** When the next one is; in the past: it is now. */
  willingMs(): number;
  /** How long a call is not to be made that nobody would miss; 0: none of the others needs it now. */
  spareMs(): number;
  /** How long this restart is not to be made; 0: it may be, when its turn comes. */
  putOffMs(wanted: Wanted): number;
  /** When this restart, the most urgent one, has to begin so that all are in time. */
  beginMs(wanted: Wanted): number;
  /** Whether it would be too late for this one, who can be kept, if what is owed went first. */
  isUrgent(wanted: Wanted): boolean;
}

/** Without a refusal for so long we do as if there were no limit: it may have been raised. */
const FORGET_AFTER_MS = 120_000;
/** And are told of by us for longer: whether there is a limit still is for one to find out, not for all at once. */
const KNOWN_FOR_MS = 2 * FORGET_AFTER_MS;
/**
 * The rate is measured from refusal to refusal: at each the homeserver had nothing left. The longer the time between the first and the
 * last, the less it matters that a call is on its way for a while, as long as no two lie so far apart that more was saved up than it saves.
 */
const SHORTEST_MEASURE_MS = 250;
const LONGEST_GAP_MS = 5_000;
const LONGEST_MEASURE_MS = 60_000;
/**
 * Who is refused when the refusal before had said that they would not be, by more than one way takes longer than another, learns nothing of a
 * rate: a proxy refuses everything for a while, or others spend it as well. A rate that was measured so would be far too low for two minutes.
 */
const JITTER_MS = 250;
/** A homeserver is believed to save up so many calls for us, or as many as it is seen to have. */
export const LIKELY_SAVED = 3;
const MOST_SAVED = 8;
/** What is not left for leaves may be spent before it has to be. */
const SPARE = 1;
/** One that is let through, and one that is refused. */
const CALLS_TO_FIND_OUT = 2;
/** The parts of a delay after which a restart is made: where enough is left, and at the latest. */
const USUAL_PART = 0.8;
const LATEST_PART = 0.93;
/** Where the rate is not known, or has just been forgotten, a pause may be as long as what is left after this part. */
const URGENT_PART = 0.75;
/** Nobody needs one before. */
const EARLIEST_PART = 0.4;
/** Who is reckoned with is made wait until then at the very most: a rate measured some percent too low must cost nobody. */
const LAST_PART = 0.97;
/** So long before an event's end a call has to begin. */
const ON_THE_WAY_MS = 50;
/** A restart of ours was answered within less: the time of its arrival, and so the event's end, is known as well as that. */
const ANSWERED_WITHIN_MS = 1_000;
/** Two clocks, and hints in whole ms. What it costs is not lost: it is saved up. */
const CLOCKS_MS = 20;
const AGAIN_MS = 1_000;
/** Who can be kept is reckoned anew so often, for somebody may have left. */
const RECKON_MS = 1_000;
/** Longer delays weigh next to nothing: they are neither counted nor held back. */
const SHORT_DELAY_MS = 120_000;
const MOST_REMEMBERED = 4_096;
/** Enough to see the largest of what is saved up. */
const MOST_PASSED = 32;
/** Beyond so many, one turn more or less hardly matters: only the rate counts. */
const MOST_TURNS = 64;

const NOT_MEASURED = { beganMs: Number.NEGATIVE_INFINITY, fromMs: Number.NEGATIVE_INFINITY, toMs: Number.NEGATIVE_INFINITY };

export function createBudget(nowMs: () => number): Budget {
  /** Calls in a ms; null: not known yet. */
  let rate: number | null = null;
  /** By another process, which had measured it. */
  let isTold = false;
  let refusedAtMs = Number.NEGATIVE_INFINITY;
  /** When the next call was to be let through after the first and after the last of the refusals between which the rate is measured. */
  let measured = NOT_MEASURED;
  /** What was begun before was not alone. */
  let aloneFromMs = Number.NEGATIVE_INFINITY;
  let passes = 0;
  /** The newest refusal: when its call began, when the next was to be let through, and whether one has been since. */
  let last = { beganMs: Number.NEGATIVE_INFINITY, nextMs: Number.POSITIVE_INFINITY, hasPassed: false };
  let passedSince = 0;
  /** How many calls would be let through at once, as far as we know, and how many at the very most. */
  let saved = { calls: 0, atMs: 0 };
  let mostSaved = LIKELY_SAVED;
  /** When the latest calls that were let through began. */
  const passedMs: number[] = [];
  /** Who has been restarted lately or wants to be, the newest last: when a limit shows, all who need a share are known. */
  const remembered = new Map<DelegationId, Remembered>();
  let kept: ReadonlySet<DelegationId> = new Set();
  /** Who is let through to find the rate out, until they are: that was none of the refusals to be measured by. */
  const findingOut = new Set<DelegationId>();
  let reckonedAtMs = Number.NEGATIVE_INFINITY;

  const savedNow = (): number => Math.min(saved.calls + (nowMs() - saved.atMs) * (rate ?? 0), mostSaved);

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
      const turn = { id, fromMs, byMs: endMs({ expiryMs, lostMs }, atMs) };
      if (chosen.length < MOST_TURNS && !areInTime([...chosen, turn], { atMs, saved: savedNow(), mostSaved, perMs })) continue;
      spent += more;
      chosen.push(turn);
    }
    kept = new Set(chosen.map(({ id }) => id));
  }

  /** Until the rate is known few are let through without an answer; the other calls are better saved for when they are needed. */
  function findsOut(id: DelegationId): boolean {
    if (findingOut.size < CALLS_TO_FIND_OUT) findingOut.add(id);
    return findingOut.has(id);
  }

  /** What was let through in any time before a refusal, beyond the rate, had been saved up. */
  function savedUp(perMs: number, nextMs: number): number {
    const sorted = passedMs.toSorted((a, b) => b - a);
    const most = Math.max(...sorted.map((fromMs, place) => place + 2 - (nextMs - fromMs) * perMs));
    return Math.min(Math.floor(most), MOST_SAVED);
  }

  /** When the homeserver will let a call through: one that comes before is refused, and Synapse takes half a second to say so. */
  const willingMs = (perMs: number): number => nowMs() + (savedNow() < 1 ? (1 - savedNow()) / perMs + CLOCKS_MS : 0);

  /** When the next restart has to begin at the latest, for all who are kept to be in time after this part of their delays. */
  function latestMs(perMs: number, part: number): number {
    const latest = [...kept]
      .flatMap((id) => remembered.get(id) ?? [])
      .map(({ expiryMs, delayMs }) => expiryMs - delayMs * (1 - part))
      .sort((a, b) => a - b);
    return Math.min(...latest.map((ms, place) => ms - place / perMs));
  }

  const isIdle = (atMs: number): boolean => (rate === null ? atMs - refusedAtMs >= AGAIN_MS : savedNow() >= mostSaved);
  const spareMs = (): number => ((rate !== null || isLimited()) && !isIdle(nowMs()) ? AGAIN_MS : 0);
  const isKnown = (): boolean => nowMs() - refusedAtMs < KNOWN_FOR_MS;
  const isLimited = (): boolean => nowMs() - refusedAtMs < FORGET_AFTER_MS;

  return {
    get limited() {
      return isLimited();
    },
    get limit() {
      return isKnown() ? { perMs: rate, refusedAgoMs: nowMs() - refusedAtMs } : null;
    },
    get passedSince() {
      return passedSince;
    },
    adopt: ({ perMs, refusedAgoMs }) => {
      passedSince = 0;
      refusedAtMs = Math.max(refusedAtMs, nowMs() - refusedAgoMs);
      if (perMs === null || perMs === rate) return;
      rate = perMs;
      isTold = true;
      reckonedAtMs = Number.NEGATIVE_INFINITY;
    },
    measureAnew: () => {
      if (!isTold) rate = null;
      measured = NOT_MEASURED;
      aloneFromMs = nowMs();
    },
    passed: (id, beganMs) => {
      findingOut.delete(id);
      passedMs.push(beganMs);
      if (passedMs.length > MOST_PASSED) passedMs.shift();
      if (beganMs > measured.beganMs) passes += 1;
      if (beganMs > last.beganMs) {
        last.hasPassed = true;
        passedSince += 1;
      }
      if (beganMs < refusedAtMs) return;
      // One was there, whatever we thought.
      saved = { calls: Math.max(savedNow(), 1) - 1, atMs: nowMs() };
    },
    refused: (beganMs, retryAfterMs) => {
      refusedAtMs = nowMs();
      findingOut.clear();
      const nextMs = beganMs + retryAfterMs;
      saved = { calls: 1, atMs: nextMs };
      const isBroken = beganMs >= last.nextMs && !last.hasPassed && retryAfterMs > JITTER_MS;
      last = { beganMs, nextMs, hasPassed: false };
      passedSince = 0;
      if (isBroken && !isTold) rate = null;
      if (beganMs < aloneFromMs) return;
      const tookMs = nextMs - measured.fromMs;
      if (isBroken || nextMs - measured.toMs > LONGEST_GAP_MS || tookMs > LONGEST_MEASURE_MS) {
        measured = { beganMs, fromMs: nextMs, toMs: nextMs };
        passes = passedMs.filter((ms) => ms > beganMs).length;
        return;
      }
      measured = { ...measured, toMs: nextMs };
      if (tookMs < SHORTEST_MEASURE_MS || passes === 0) return;
      rate = passes / tookMs;
      isTold = false;
      mostSaved = Math.max(mostSaved, savedUp(rate, nextMs));
      reckonedAtMs = Number.NEGATIVE_INFINITY;
    },
    restarted: (wanted, beganMs) => {
      const { delayMs } = wanted;
      remember({ ...wanted, expiryMs: beganMs + delayMs, lostMs: nowMs() + delayMs }, beganMs + delayMs * USUAL_PART);
    },
    ended: (id) => void remembered.delete(id),
    savedNow,
    willingMs: () => (rate === null ? Number.NEGATIVE_INFINITY : willingMs(rate)),
    spareMs,
    putOffMs: (wanted) => {
      const atMs = nowMs();
      // Run out by our count, and perhaps not: its client or a process before us may have restarted it. One call tells, when none of the
      // others needs it: also when there seems to be no limit any more, for all of them at once would find out otherwise.
      if (ranOutMs(wanted) < atMs && (rate !== null || isLimited())) return spareMs();
      if (!isLimited()) return 0;
      const earliestMs = Math.max(wanted.expiryMs - wanted.delayMs * (1 - EARLIEST_PART), atMs);
      remember(wanted, earliestMs);
      // One that may be an invention has time to wait for a call that is left over.
      if (wanted.delayMs > SHORT_DELAY_MS) return wanted.proven || atMs > wanted.expiryMs - wanted.delayMs / 2 ? 0 : spareMs();
      if (rate === null) return findsOut(wanted.id) ? 0 : earliestMs - atMs;
      reckon(rate);
      return kept.has(wanted.id) ? earliestMs - atMs : AGAIN_MS;
    },
    beginMs: (wanted) => {
      if (rate === null || !isLimited() || wanted.delayMs > SHORT_DELAY_MS) return Number.NEGATIVE_INFINITY;
      reckon(rate);
      const part = savedNow() > mostSaved - SPARE ? USUAL_PART : LATEST_PART;
      return Math.max(latestMs(rate, part), Math.min(willingMs(rate), endMs(wanted, nowMs())));
    },
    isUrgent: (wanted) => {
      const atMs = nowMs();
      if (wanted.delayMs > SHORT_DELAY_MS || wanted.lostMs < atMs) return false;
      if (rate === null) return atMs >= wanted.expiryMs - wanted.delayMs * (1 - URGENT_PART);
      reckon(rate);
      return kept.has(wanted.id) && atMs + 1 / rate >= latestMs(rate, LATEST_PART);
    },
  };
}

/** When it has run out by our count. A call that begins later would be spent in vain. */
function ranOutMs({ expiryMs, lostMs }: Pick<Wanted, 'expiryMs' | 'lostMs'>): number {
  return lostMs - expiryMs < ANSWERED_WITHIN_MS ? expiryMs : lostMs;
}

/** A call that begins by then is in time. */
function endMs({ expiryMs, lostMs }: Pick<Wanted, 'expiryMs' | 'lostMs'>, nowMs: number): number {
  return (expiryMs < nowMs ? lostMs : expiryMs) - ON_THE_WAY_MS;
}

/** A restart that is to begin after one time and before another. */
interface Turn {
  readonly id: DelegationId;
  readonly fromMs: number;
  readonly byMs: number;
}

interface Income {
  readonly atMs: number;
  readonly saved: number;
  readonly mostSaved: number;
  readonly perMs: number;
}

/** Can all have their turn in time, the most urgent of those who are there first, with what is saved and comes in? */
function areInTime(turns: readonly Turn[], { atMs, saved, mostSaved, perMs }: Income): boolean {
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
      calls = Math.min(calls + (untilMs - nowMs) * perMs + 1e-9, mostSaved);
      nowMs = untilMs;
    }
  }
  return true;
}
