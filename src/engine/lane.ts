// What is known of one homeserver: who is called and who waits, how many calls it takes at once, how it limits them, who can't be kept.
import type { Clock } from '../clock.ts';
import type { HomeserverUrl } from '../delegation/ids.ts';
import type { Answer } from '../delegation/state.ts';
import { type Budget, createBudget, LIKELY_SAVED } from './budget.ts';
import { type Errand, Queue, type Waiting } from './errand.ts';
import { createPace, type Pace } from './pace.ts';
import { createTriage, type Triage } from './triage.ts';
import { createUnderWay, type UnderWay } from './under-way.ts';
import { createWidth, type Width } from './width.ts';

export interface Lane {
  readonly homeserver: HomeserverUrl;
  readonly underWay: UnderWay;
  /** Beyond these there is no connection for a call. */
  readonly mostAtOnce: number;
  /** How many of the newest calls that were let through were restarts. */
  restartsInARow: number;
  /** How many leaves have been refused that may have been so alone (`isRefusedAlone`), since other calls were last let through. */
  refusedAloneInARow: number;
  readonly width: Width;
  readonly queue: Queue;
  blockedUntilMs: number;
  /** When those who have waited long enough were last given back. */
  givenBackMs: number;
  /** Somebody was turned away and waits to be called again. */
  owesCall: boolean;
  readonly budget: Budget;
  readonly pace: Pace;
  readonly triage: Triage;
  /** False: its restarts are another process's. */
  ours: boolean;
  /** When all others know that the restarts are ours; null: nothing is reserved. */
  aloneFromMs: number | null;
  isAlone: boolean;
  /** A timer waits for the next one's time. */
  looksLater: boolean;
}

/** Waiting errands for each that may run: a burst fits, and a homeserver that fails, whose lane is narrow, keeps few. */
const QUEUE_FACTOR = 64;
/** Their turn comes seldom, and those who wait for it keep places that others need. */
const MOST_DOUBTFUL = 16;
const DOUBTFUL_AGAIN_MS = { least: 250, most: 10_000 };
/** A restart's evidence may be renewed so long before it is too old; it is back within a fraction of that. */
const REFRESH_MS = 1_000;
/** Without a refusal for so long more may be let through at once. */
const UNCLEAR_MS = 1_500;
const MOST_LEFT_BY_OWED = 32;
/** Of so many one after the other, with nothing let through in between, hardly each has sent too much. */
const MOST_REFUSED_ALONE = 8;
/** A rate may be measured too high, and others may be let through first. */
const LONGER_THAN_ONE = 2;
/** Not all that may be under way at once (scheduler.ts): a crowd that leaves leaves room for restarts. */
const MOST_OWED = 2_048;

export function createLane(homeserver: HomeserverUrl, clock: Clock, mostAtOnce: number): Lane {
  return {
    homeserver,
    underWay: createUnderWay(),
    mostAtOnce,
    restartsInARow: 0,
    refusedAloneInARow: 0,
    width: createWidth(mostAtOnce),
    queue: new Queue(),
    blockedUntilMs: 0,
    givenBackMs: clock.nowMs(),
    owesCall: false,
    ...{ budget: createBudget(clock.nowMs), pace: createPace(clock.nowMs), triage: createTriage(clock.nowMs) },
    ours: true,
    aloneFromMs: null,
    isAlone: false,
    looksLater: false,
  };
}

/** What one that nobody would miss is answered, where as many wait before it as are called in a while. */
export function beyondDoubts({ queue }: Lane, { kind, action, beginByMs }: Errand, nowMs: number): Answer | null {
  if (kind !== 'doubtful' || queue.doubtsBefore(action) < MOST_DOUBTFUL) return null;
  const { least, most } = DOUBTFUL_AGAIN_MS;
  return { kind: 'limited', retryAfterMs: Math.min(Math.max(beginByMs - nowMs, least), most) };
}

/**
 * Its evidence is too old, or will be when its turn comes: whoever is asked about anew just then is not there when the call is, and it goes
 * to somebody less urgent.
 */
export function isStale({ budget }: Lane, next: Waiting, nowMs: number): boolean {
  const restMs = next.beginByMs - nowMs;
  return restMs < 0 || (next.kind !== 'owed' && restMs < REFRESH_MS && budget.beginMs(next) > next.beginByMs);
}

/** Leaves and cancellations (`owed`), or all others: no more can wait. */
export function isFull(lane: Lane, owed: boolean): boolean {
  return owed ? lane.queue.owed >= mostOwed(lane) : lane.queue.others >= lane.width.atOnce * QUEUE_FACTOR;
}

export function hasRoom(lane: Lane): boolean {
  return lane.queue.owed <= mostOwed(lane) / 2 && lane.queue.others <= (lane.width.atOnce * QUEUE_FACTOR) / 2;
}

function mostOwed({ width }: Lane): number {
  return Math.min(width.atOnce * QUEUE_FACTOR, MOST_OWED);
}

/**
 * Of the calls at once: restarts leave a quarter for leaves. Where calls are counted, one at a time shows what is left, or as many as come in
 * during a call: where each takes a while, one after the other would be fewer than are let through.
 */
export function mostRestarts(lane: Lane): number {
  const { budget, width } = lane;
  const most = Math.ceil(width.atOnce * 0.75);
  return budget.limited ? Math.min(Math.max(Math.ceil(comingIn(lane)), 1), most) : most;
}

/**
 * How many calls are let through in the time that one takes. Where the rate is not known, as after a single refusal, there may be one more for each
 * few that were let through since: if that is too many, the refusals that follow tell the rate.
 */
function comingIn({ budget: { limit, passedSince }, width }: Lane): number {
  const perMs = limit?.perMs ?? null;
  return perMs === null ? Math.floor(passedSince / LIKELY_SAVED) : perMs * width.latelyMs;
}

/** Leaves and cancellations leave some for restarts: a crowd that leaves a homeserver which answers not all of them would keep all places. */
export function mostOwedAtOnce({ width }: Lane): number {
  return width.atOnce - Math.min(Math.floor(width.atOnce * 0.2), MOST_LEFT_BY_OWED);
}

/**
 * Where calls are refused at a rate that is not known, what goes beside another is refused, and of that nobody learns anything. Where it is
 * known, so many are let through as are saved up or come in during a call; others beside them would be let through in their stead.
 */
export function mostWhereLimited({ budget: { limit, limited, savedNow }, width }: Lane): number {
  if (limit === null) return Number.POSITIVE_INFINITY;
  if (limit.perMs === null) return limit.refusedAgoMs < UNCLEAR_MS ? 1 : Number.POSITIVE_INFINITY;
  return limited ? Math.max(Math.floor(savedNow() + limit.perMs * width.latelyMs), 1) : Number.POSITIVE_INFINITY;
}

/** Whether this process may make it. */
export function isOurs({ ours }: Lane, { action, remembered = false }: Errand): boolean {
  return ours || action !== 'restart' || remembered;
}

/** One whose time is its event's: where calls are counted, the budget says whose turn it is. */
export function isRestart({ budget }: Lane, { kind }: Errand): boolean {
  return kind === 'restart' && !budget.limited;
}

/**
 * Whether a refusal may be of this call alone: homeservers limit how much each of their users sends, too (Synapse: rc_message), and refuse a
 * leave for that in the same words. If calls are counted as well, the next one that is no leave shows it; with none, a row of leaves does. Where
 * their rate is known, or what it is at least, it does not make anybody wait for longer than the next call.
 */
export function isRefusedAlone(lane: Lane, { action }: Errand, { retryAfterMs }: Extract<Answer, { readonly kind: 'limited' }>): boolean {
  if (action !== 'send' || retryAfterMs === null || isDoubted(lane)) return false;
  const { budget } = lane;
  return !budget.limited || retryAfterMs > LONGER_THAN_ONE / (budget.limit?.perMs ?? leastPerMs(budget));
}

/**
 * What the rate is at least. At the last refusal less than one call was left, so all that was let through since has come in since, but for one; what
 * was called together with the refused one does not make much of it.
 */
function leastPerMs({ limit, passedSince }: Budget): number {
  return Math.max(passedSince - 1, 0) / Math.max(limit?.refusedAgoMs ?? Number.POSITIVE_INFINITY, UNCLEAR_MS);
}

/** Whether so many leaves were refused, and nothing else let through since, that all calls may be counted: there are to be few at once. */
export function isDoubted({ refusedAloneInARow }: Lane): boolean {
  return refusedAloneInARow >= MOST_REFUSED_ALONE;
}

export function doubt(lane: Lane): void {
  lane.refusedAloneInARow = Math.min(lane.refusedAloneInARow + 1, 2 * MOST_REFUSED_ALONE);
}

/** One leave that goes through does not show that others may. */
export function letThrough(lane: Lane, { action }: Errand): void {
  lane.refusedAloneInARow = action === 'send' && isDoubted(lane) ? lane.refusedAloneInARow - 1 : 0;
}

/**
 * Whether no refusal but those of leaves has shown so far that calls are counted. Each may still have been its sender's own: the next restart
 * will tell, and must not wait for as long as they have to.
 */
export function isShownByLeavesAlone({ budget, refusedAloneInARow }: Lane, { action }: Errand): boolean {
  return action === 'send' && !budget.limited && refusedAloneInARow > 0;
}

export function isIdle(lane: Lane, nowMs: number): boolean {
  return lane.underWay.all === 0 && lane.queue.owed + lane.queue.others === 0 && nowMs >= lane.blockedUntilMs;
}
