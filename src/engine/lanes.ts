// One lane for each homeserver: how many calls it gets at once, in which order, and when it gets none. A slow or dead homeserver
// fills only its own lane. Leaves go before restarts that have time, restarts by earliest expiry, so that a limited budget saves the most;
// where there is not time enough for all, triage.ts says who comes last.
// Where several processes share a store, one of them makes all restarts with a homeserver that limits calls.
import type { Clock } from '../clock.ts';
import type { HomeserverUrl } from '../delegation/ids.ts';
import type { Answer } from '../delegation/state.ts';
import { RESERVED_MS } from '../store/store.ts';
import type { Errand, Waiting } from './errand.ts';
import {
  beyondDoubts,
  createLane,
  doubt,
  hasRoom,
  isDoubted,
  isFull,
  isIdle,
  isOurs,
  isRefusedAlone,
  isRestart,
  isShownByLeavesAlone,
  isStale,
  type Lane,
  letThrough,
  mostOwedAtOnce,
  mostRestarts,
  mostWhereLimited,
} from './lane.ts';
import { createAgreement, type Reservations } from './reservations.ts';
import type { Begun } from './under-way.ts';

export interface Lanes {
  /**
   * Rejects as its work does. Null: deferred, nothing was called; the row stays due and is claimed again when the lane takes more. A restart
   * that a limit leaves no room for is answered as if the homeserver had refused it.
   */
  run(homeserver: HomeserverUrl, errand: Errand): Promise<Answer | null>;
  /** Homeservers that take no more of a kind now. */
  excluded(): { readonly restarts: ReadonlySet<HomeserverUrl>; readonly leaves: ReadonlySet<HomeserverUrl> };
  /** An event has run out, at `lostMs` at the latest, whose restart was due and was not claimed in time. */
  missed(homeserver: HomeserverUrl, lostMs: number): void;
  /** With one of them there was not time enough for all restarts of late (triage.ts). */
  isOverrun(): boolean;
  /** Homeservers that have refused calls lately because there were too many. */
  limiting(): readonly HomeserverUrl[];
}

/** A lane in which nothing has begun for so long is not full, it hangs. */
const HANGING_MS = 1_000;
/** A restart with less time left goes before leaves. */
const URGENT_MS = 10_000;
/** Where calls are counted, a leave comes after so many restarts that could not wait for it. */
const MOST_IN_A_ROW = 3;
const PAUSE_WITHOUT_HINT_MS = 1_000;
const LONGEST_PAUSE_MS = 300_000;
/** What a restart may wait that is due at the latest (with a delay of 10 s). */
const LEAVES_PAUSE_MS = 1_000;
const MOST_LANES = 10_000;
/** Before a pause ends, those who want a call gather in the order of their urgency. */
const GATHER_MS = 2_000;
/** It may have been carried out. */
const UNANSWERED: Answer = { kind: 'failed', reached: true };
/** Looked at again when there may be room for it: what has become of it its homeserver can tell then as well. */
const GIVEN_UP: Answer = { kind: 'limited', retryAfterMs: 30_000 };
/** Less than the lease of a claim: whoever waits longer is given back, and claimed anew. */
const PATIENT_MS = 20_000;
/** Whether there is any such is looked at so often. */
const GIVE_BACK_EVERY_MS = 1_000;
/** What has to be done by when may change while a restart waits for its time. */
const LOOK_AGAIN_MS = 250;

export interface LanesDeps {
  readonly clock: Clock;
  readonly onFree: () => void;
  /** A homeserver wants no calls for long: until then nobody need ask for work with it. */
  readonly onPause: (homeserver: HomeserverUrl, untilMs: number) => void;
  /** Restarts that are not made, because there is no time for them before the event runs out. */
  readonly onGivenUp: (homeserver: HomeserverUrl, count: number) => void;
  /** With one homeserver. */
  readonly mostAtOnce: number;
  /** Where several processes restart: whose the restarts with a homeserver are that limits calls (store.ts). */
  readonly reservations?: Reservations;
}

/** A call that has ended. */
interface Made {
  readonly call: Begun;
  /** Of the process, when its turn came. */
  readonly idleMs: number;
}

export function createLanes({ clock, onFree, onPause, onGivenUp, mostAtOnce, reservations }: LanesDeps): Lanes {
  const lanes = new Map<HomeserverUrl, Lane>();
  const agreement = reservations === undefined ? null : createAgreement({ clock, reservations, lanes: () => lanes.values(), assign });

  function laneOf(homeserver: HomeserverUrl): Lane {
    const known = lanes.get(homeserver);
    if (known !== undefined) return known;
    if (lanes.size >= MOST_LANES) {
      for (const [key, lane] of lanes) if (isIdle(lane, clock.nowMs())) lanes.delete(key);
    }
    const lane = createLane(homeserver, clock, mostAtOnce);
    lanes.set(homeserver, lane);
    agreement?.keep();
    return lane;
  }

  function assign(lane: Lane, ours: boolean): void {
    if (ours === lane.ours) return;
    lane.ours = ours;
    if (ours) {
      onFree();
      return;
    }
    for (const { resolve } of lane.queue.takeOthers((errand) => !isOurs(lane, errand))) resolve(null);
  }

  const isBlocked = (lane: Lane): boolean => clock.nowMs() < lane.blockedUntilMs;
  const isShut = (lane: Lane): boolean => clock.nowMs() + GATHER_MS < lane.blockedUntilMs;

  /** Whether a restart would have to wait for the others. */
  const isCrowded = (lane: Lane): boolean => lane.underWay.places >= mostRestarts(lane);

  /** Who ran out while they waited for a turn. */
  function giveUp(lane: Lane): void {
    const { queue, triage } = lane;
    const hasRunOut = (one: Waiting): boolean => isRestart(lane, one) && triage.hasRunOut(one);
    if (!isCrowded(lane) || queue.first === undefined || !hasRunOut(queue.first)) return;
    triage.missed();
    const gone = queue.takeOthers(hasRunOut);
    onGivenUp(lane.homeserver, gone.length);
    for (const { resolve } of gone) resolve(GIVEN_UP);
  }

  /** Whose turn it is: as long as there are some who wait behind others that have more time, there is not enough for all. */
  function nextOf(lane: Lane): Waiting | undefined {
    giveUp(lane);
    lane.queue.putBack(clock.nowMs());
    const { queue, triage } = lane;
    const mayWait = (other: Waiting): boolean => isRestart(lane, other) && triage.isLate(other);
    if (triage.on && isCrowded(lane) && queue.first !== undefined && mayWait(queue.first)) triage.missed();
    return queue.next((restart) => isUrgent(lane, restart), triage.on ? mayWait : null);
  }

  function pump(lane: Lane): void {
    while (!isBlocked(lane)) {
      const next = nextOf(lane);
      if (next === undefined) break;
      if (isStale(lane, next, clock.nowMs())) {
        lane.queue.remove(next);
        next.resolve(null);
        continue;
      }
      if (isBusy(lane, next)) break;
      if (next.kind !== 'owed' && isTooSoon(lane, next)) {
        if (next.kind === 'doubtful') giveBack(lane);
        break;
      }
      lane.queue.remove(next);
      const putOff = putOffBy(lane, next);
      if (putOff !== null) next.resolve(putOff);
      else void begin(lane, next);
    }
    if (lane.owesCall && !isBlocked(lane) && hasRoom(lane)) {
      lane.owesCall = false;
      onFree();
    }
  }

  /** One that is about to run out does not wait for all the leaves of a crowd. */
  function isUrgent(lane: Lane, one: Waiting): boolean {
    if (one.kind !== 'restart' || lane.underWay.restarts >= mostRestarts(lane)) return false;
    if (lane.budget.limited) return lane.restartsInARow < MOST_IN_A_ROW && lane.budget.isUrgent(one);
    return one.orderMs - clock.nowMs() < URGENT_MS;
  }

  function mostBeside(lane: Lane, next: Waiting): number {
    if (next.kind === 'owed') return mostOwedAtOnce(lane);
    return isUrgent(lane, next) ? lane.width.atOnce : mostRestarts(lane);
  }

  /** Calls that hang, for up to 10 s, must not cost those their turn who have less time: one more may begin beside them. */
  function isBusy(lane: Lane, next: Waiting): boolean {
    const { underWay, mostAtOnce } = lane;
    if (underWay.places < Math.min(mostBeside(lane, next), mostWhereLimited(lane)) && underWay.all < mostAtOnce) return false;
    const hangsInMs = underWay.beganMs + HANGING_MS - clock.nowMs();
    if (hangsInMs > 0) lookLater(lane, hangsInMs);
    return hangsInMs > 0;
  }

  /**
   * Those who have waited for too long are thought about anew: what nobody would miss as soon as nothing else is there, all others before more
   * are claimed, for whose claim ends while they wait would be claimed again and again.
   */
  function giveBack(lane: Lane): void {
    const nowMs = clock.nowMs();
    lane.givenBackMs = nowMs;
    for (const { resolve } of lane.queue.take(({ beginByMs }) => beginByMs < nowMs)) resolve(null);
  }

  /** What a call that the budget has no room for is answered. */
  function putOffBy(lane: Lane, errand: Errand): Answer | null {
    const putOffMs = putOffMsOf(lane, errand);
    return putOffMs > 0 ? { kind: 'limited', retryAfterMs: putOffMs } : null;
  }

  function putOffMsOf({ budget, pace, ours }: Lane, errand: Errand): number {
    switch (errand.kind) {
      case 'owed':
        return 0;
      case 'restart':
        return budget.putOffMs(errand);
      case 'doubtful':
        if (errand.action !== 'restart' && pace.isOverdue()) return 0;
        return ours ? budget.spareMs() : RESERVED_MS;
      default:
        return errand.kind satisfies never;
    }
  }

  /** Where calls are counted, a restart waits for its time, so that a leave finds something left; with leaves that wait for it, it goes as soon as it can. */
  function isTooSoon(lane: Lane, next: Waiting): boolean {
    const { budget, pace, queue } = lane;
    const waitMs =
      next.kind === 'restart'
        ? (queue.owed > 0 ? budget.willingMs() : budget.beginMs(next)) - clock.nowMs()
        : pace.waitMs(next, budget.limit !== null && budget.limit.perMs !== null);
    if (waitMs > 0) lookLater(lane, waitMs);
    return waitMs > 0;
  }

  function lookLater(lane: Lane, waitMs: number): void {
    if (lane.looksLater) return;
    lane.looksLater = true;
    clock.after(Math.min(Math.ceil(waitMs), LOOK_AGAIN_MS), () => {
      lane.looksLater = false;
      pump(lane);
    });
  }

  /** Nobody waits for a call that was overtaken: another try has an answer sooner, and finds what has come of the first. */
  async function begin(lane: Lane, errand: Waiting): Promise<void> {
    const [beganMs, idleMs] = [clock.nowMs(), clock.idleMs()];
    const overtaken = Promise.withResolvers<Answer>();
    const call = lane.underWay.begin(beganMs, errand.kind === 'restart', () => overtaken.resolve(UNANSWERED));
    const called = (): void => lane.underWay.called(call, clock.nowMs());
    lane.pace.begun(errand.kind);
    const work = errand.work({ latelyMs: lane.width.latelyMs, called });
    let answer: Answer | null = null;
    try {
      answer = await Promise.race([work, overtaken.promise]);
      const isAlone = answer?.kind === 'limited' && isRefusedAlone(lane, errand, answer);
      if (isAlone) refusedAlone(lane);
      else if (answer !== null) learn(lane, errand, answer, { call, idleMs });
      // Refused is not begun: for a short pause it keeps its place.
      const keepsPlace = !isAlone && !isShut(lane) && clock.nowMs() < errand.beginByMs && isOurs(lane, errand);
      if (answer?.kind === 'limited' && keepsPlace) lane.queue.add(errand);
      else errand.resolve(answer);
    } catch (error) {
      errand.reject(error);
    }
    const end = (): void => {
      lane.underWay.end(call);
      pump(lane);
    };
    if (answer !== UNANSWERED) end();
    else work.then(end, end);
  }

  function learn(lane: Lane, errand: Waiting, answer: Answer, { call, idleMs }: Made): void {
    const { calledMs } = call;
    if (answer.kind !== 'failed') lane.triage.heard();
    if (isRestart(lane, errand)) lane.triage.answered(errand, calledMs, answer);
    if (answer.kind !== 'limited' && answer.kind !== 'failed') {
      letThrough(lane, errand);
      lane.restartsInARow = errand.kind === 'restart' ? lane.restartsInARow + 1 : 0;
      lane.budget.passed(errand.id, calledMs);
      lane.pace.passed();
    }
    if (answer.kind === 'ok' && errand.kind === 'doubtful') lane.pace.proven();
    if (answer.kind === 'ok' && errand.action === 'restart') lane.budget.restarted(errand, calledMs);
    else if (answer.kind === 'ok') lane.budget.ended(errand.id);
    switch (answer.kind) {
      case 'limited':
        if (isShownByLeavesAlone(lane, errand)) {
          doubt(lane);
          block(lane, Math.min(answer.retryAfterMs ?? PAUSE_WITHOUT_HINT_MS, LEAVES_PAUSE_MS));
          return;
        }
        lane.budget.refused(calledMs, answer.retryAfterMs ?? 0);
        lane.pace.refused();
        void agreement?.reserve(lane).catch(() => {});
        // Its word is older than its way back.
        block(lane, Math.min(answer.retryAfterMs ?? PAUSE_WITHOUT_HINT_MS, LONGEST_PAUSE_MS) - (clock.nowMs() - calledMs));
        return;
      case 'failed':
        if (!call.overtaken) lane.width.failed();
        lane.triage.failed();
        lane.pace.failed();
        return;
      case 'ok':
      case 'final':
      case 'refused':
        lane.underWay.answered(call, clock.nowMs(), lane.budget.limited);
        if (!isDoubted(lane))
          lane.width.answered({
            tookMs: clock.nowMs() - call.beganMs,
            idleMs: clock.idleMs() - idleMs,
            beside: call.beside,
            ok: answer.kind === 'ok',
          });
        return;
      default:
        answer satisfies never;
    }
  }

  /** With nothing let through in between, it may well be all calls that are counted: then few are made until another shows it (`isRefusedAlone`). */
  function refusedAlone(lane: Lane): void {
    lane.triage.heard();
    doubt(lane);
    if (lane.refusedAloneInARow > 1) lane.width.refused();
  }

  /** Nobody is called before the homeserver wants it; who would wait long is turned away, to be called again. */
  function block(lane: Lane, pauseMs: number): void {
    lane.width.refused();
    lane.blockedUntilMs = Math.max(lane.blockedUntilMs, clock.nowMs() + pauseMs);
    lane.owesCall = true;
    if (isShut(lane)) {
      onPause(lane.homeserver, lane.blockedUntilMs - GATHER_MS);
      for (const waiting of lane.queue.takeAll()) waiting.resolve(null);
    }
    reopen(lane);
  }

  function reopen(lane: Lane, wasShut = isShut(lane)): void {
    const restMs = lane.blockedUntilMs - clock.nowMs();
    if (restMs <= 0) {
      pump(lane);
      return;
    }
    // A timer may fire a moment early.
    const shut = isShut(lane);
    clock.after(shut ? restMs - GATHER_MS : restMs, () => reopen(lane, shut));
    if (wasShut && !shut) onFree();
  }

  return {
    run: (homeserver, errand) => {
      const lane = laneOf(homeserver);
      if (isShut(lane) || (errand.kind !== 'doubtful' && isFull(lane, errand.kind === 'owed')) || !isOurs(lane, errand)) {
        lane.owesCall = true;
        return Promise.resolve(null);
      }
      // With nobody before it a call costs nothing, and its client may have kept the event alive.
      if (lane.triage.on && isCrowded(lane) && isRestart(lane, errand) && lane.triage.hasRunOut(errand)) {
        onGivenUp(homeserver, 1);
        return Promise.resolve(GIVEN_UP);
      }
      const putOff = putOffBy(lane, errand) ?? beyondDoubts(lane, errand, clock.nowMs());
      if (putOff !== null) return Promise.resolve(putOff);
      return new Promise((resolve, reject) => {
        const beginByMs = Math.min(clock.nowMs() + PATIENT_MS, errand.beginByMs);
        const orderMs = errand.kind !== 'owed' && errand.lostMs < clock.nowMs() ? Number.POSITIVE_INFINITY : errand.expiryMs;
        lane.queue.add({ ...errand, orderMs, beginByMs, resolve, reject });
        pump(lane);
      });
    },
    excluded: () => {
      const restarts = new Set<HomeserverUrl>();
      const leaves = new Set<HomeserverUrl>();
      for (const [homeserver, lane] of lanes) {
        if (clock.nowMs() >= lane.givenBackMs + GIVE_BACK_EVERY_MS) giveBack(lane);
        const blocked = isShut(lane);
        if (blocked || isFull(lane, false) || !lane.ours) restarts.add(homeserver);
        if (blocked || isFull(lane, true)) leaves.add(homeserver);
        if (restarts.has(homeserver) || leaves.has(homeserver)) lane.owesCall = true;
      }
      return { restarts, leaves };
    },
    missed: (homeserver, lostMs) => {
      const { triage } = laneOf(homeserver);
      if (triage.hasRunOut({ lostMs })) triage.missed();
    },
    isOverrun: () => [...lanes.values()].some(({ triage }) => triage.on),
    limiting: () => [...lanes].flatMap(([homeserver, { budget }]) => (budget.limited ? [homeserver] : [])),
  };
}
