// The engine: events in, commits, effects out. It wires the parts around the pure decisions of delegation/, and knows nothing of anybody
// itself.
//
//   webhook, hand-over ─▶ apply (decide inside the store's transaction) ─▶ answered after the commit
//   sweep, due rows ────▶    │                        ▲
//                            └─▶ perform (SFU, homeserver) ─▶ answers are events, too
import { type Cancel, type Clock, onceSent, type Random } from '../clock.ts';
import { type Decision, decide, dueAtMs } from '../delegation/decide.ts';
import type { DelegationId, HomeserverUrl, RoomName } from '../delegation/ids.ts';
import type { Delegation, Policy } from '../delegation/state.ts';
import type { DelayedEvents } from '../homeserver/delayed-events.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Rooms, RoomsTold } from '../sfu/rooms.ts';
import type { Webhook } from '../sfu/webhook.ts';
import type { Sightings } from '../store/sightings.ts';
import { type Claimed, readRows, type Store, StoreUnavailable } from '../store/store.ts';
import { createAlarms } from './alarms.ts';
import { type Applied, applyInParts, createApply, type Todo } from './apply.ts';
import { createEarlyDepartures } from './early-departures.ts';
import { createHandOvers, type HandOvers } from './hand-over.ts';
import { createKeepAlive } from './keep-alive.ts';
import { createLanes } from './lanes.ts';
import { createObserver } from './observe.ts';
import { createPerformer } from './perform.ts';
import { createPresence } from './presence.ts';
import { createQuietRooms, moves } from './quiet-rooms.ts';
import { createScheduler } from './scheduler.ts';
import { createSweep } from './sweep.ts';
import { createWebhookWatch } from './webhook-watch.ts';

export interface EngineDeps {
  readonly store: Store;
  readonly rooms: Rooms & Pick<RoomsTold, 'isSought' | 'doubted'>;
  readonly delayedEvents: DelayedEvents;
  readonly clock: Clock;
  readonly random: Random;
  readonly policy: Policy;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Given if other processes use the same store: what they see on the SFU. */
  readonly sightings?: Sightings;
  /** The most calls to one homeserver at once: as many as there may be connections. */
  readonly mostAtOnce: number;
}

/** How soon due work is looked for again while the store is away. */
const STORE_AGAIN_MS = 1_000;
/** How often it is said that the store is away, and why by then: a connection first ends, and is refused only later, with the reason. */
const STORE_TELL_MS = 60_000;
/** How soon effects that were not performed are looked at again: their rows are due, and nothing else may wake the scheduler for them. */
const UNDONE_AGAIN_MS = 100;
/** Ticks come every second. */
const LATE_TICK_MS = 1_500;

/**
 * How often the scheduler looks for due rows at least. With other replicas: what a dead one has left is found within its lease and this.
 */
const LONGEST_SLEEP_MS = 30_000;
const LONGEST_SLEEP_SHARED_MS = 500;
/** Rows that come due within so long are claimed together. */
const GATHER_MS = 20;
/**
 * How long, and how many, ended delegations are kept to explain what happened: a day on disk, an hour in the memory of a Redis. The bound
 * on their number is some 80 MB.
 */
const KEPT = { forMs: 24 * 3_600_000, most: 50_000 };
const KEPT_SHARED = { ...KEPT, forMs: 3_600_000 };

/** What became of a webhook. `irrelevant`: it concerns no delegation; `ignored`: it changed nothing. */
export type Verdict = 'applied' | 'duplicate' | 'irrelevant' | 'ignored';

export interface Engine extends HandOvers {
  /**
   * Commits what a verified webhook means. When this resolves, that survives a crash, and what follows from it has been begun.
   * @throws StoreUnavailable: nothing was promised, and the SFU has to send it again.
   */
  webhook(webhook: Extract<Webhook, { kind: 'participant' | 'room' }>): Promise<Verdict>;
  /** Null: there is none. @throws StoreUnavailable */
  read(room: RoomName, id: DelegationId): Promise<Delegation | null>;
  /**
   * Whether a promise could be kept now. If not, that is told as where one was asked for: who is answered no asks for none, and nothing else may
   * be written.
   */
  canKeep(): Promise<boolean>;
  /** Whether the SFU answered the latest question; null: it has not been asked yet. */
  readonly sfuReachable: boolean | null;
  /** Homeservers that limit our calls (429), so that restarts may come too late. */
  readonly limiting: readonly HomeserverUrl[];
  start(): void;
  /**
   * Begins nothing new, and resolves when everything under way is done, and `lastly` after it; or after `graceMs`. Only restarts are still
   * begun until then: the drain may take seconds, and the process that comes next has to start first.
   */
  drain(graceMs: number, lastly?: () => Promise<void>): Promise<void>;
}

/** Alone a process has heard of whatever can be heard of. */
const soughtBy = ({ rooms, sightings }: EngineDeps): RoomsTold['isSought'] => (sightings === undefined ? () => true : rooms.isSought);

export function createEngine(deps: EngineDeps): Engine {
  const { store, rooms, delayedEvents, clock, random, policy, metrics, log, sightings, mostAtOnce } = deps;
  const [shared, doubted] = [sightings !== undefined, rooms.doubted];
  const underWay = new Set<Promise<void>>();
  const restarts = new WeakSet<Promise<void>>();
  let storeAwayToldMs: number | null = null;
  /** From then on the store may be closed, and its refusals mean nothing. */
  let drained = false;
  let ticking: Cancel = () => {};
  let tickedMs = clock.nowMs();

  const [watch, earlyDepartures] = [createWebhookWatch({ clock, log }), createEarlyDepartures(clock)];
  const presence = createPresence({
    ...{ rooms, clock },
    ...(shared && { sightings }),
    onReturn: () => {
      log.info({}, 'the SFU answers again');
      sweep.all();
    },
    onAnswer: (result) => metrics.sfuRequest(result),
  });
  const alarms = createAlarms({ clock, log });
  const lanes = createLanes({
    ...{ clock, mostAtOnce },
    onFree: () => scheduler.wake(),
    onGivenUp: (homeserver, count) => {
      metrics.restartsGivenUp(count);
      alarms.failed(homeserver, 'overrun');
    },
    onPause: (homeserver, untilMs) => void store.pause(homeserver, untilMs).catch(() => {}),
    ...(shared && { reservations: { reserve: (...asked) => store.reserve(...asked), theirs: () => store.reservations() } }),
  });
  const [intervalMs, kept, isSought] = [policy.presenceIntervalMs, shared ? KEPT_SHARED : KEPT, soughtBy(deps)];
  const quietRooms = shared ? null : createQuietRooms({ clock, intervalMs });
  const onRow = (row: Delegation): void => keepAlive.remember(row);
  const onWrite = (before: Delegation | undefined, after: Delegation): void => {
    if (quietRooms !== null && moves(before, after)) quietRooms.moved(after.room);
  };
  const apply = createApply({ store, clock, random, policy, observer: createObserver(log, metrics, watch), log, onStore, onRow, onWrite });
  const onUndone = (): void => scheduler.expect(clock.nowMs() + UNDONE_AGAIN_MS);
  const performer = createPerformer({
    ...{ apply: watched, store, presence, lanes, delayedEvents, clock, policy, metrics, log, isSought, onUndone },
    onUnwritten: (...restarted) => keepAlive.unwritten(...restarted),
    release: (claim) => keepAlive.release(claim),
    begin: perform,
  });
  const keepAlive = createKeepAlive({
    ...{ store, presence, apply: watched, clock, random, policy, log },
    remembers: shared,
    restart: performer.restart,
  });
  const scheduler = createScheduler({
    ...{ store, lanes, clock, take, onFailure },
    longestSleepMs: shared ? LONGEST_SLEEP_SHARED_MS : LONGEST_SLEEP_MS,
    gatherMs: GATHER_MS,
    onSilence: () => keepAlive.begin(),
    onAnswer: () => storeAwayToldMs === null && void keepAlive.end(),
  });
  const sweep = createSweep({ store, presence, quietRooms, isSought, doubted, apply: watched, clock, intervalMs, kept, perform, log });

  /** `apply`, and the scheduler is told when what was written is due: that may be before anything that it waits for. */
  async function watched(...args: Parameters<typeof apply>): Promise<Applied> {
    const applied = await apply(...args);
    scheduler.expect(applied.earliestDueMs);
    return applied;
  }

  /** Resolves when everything committed so far is on disk. To be awaited before anything is promised. @throws StoreUnavailable */
  async function durable(room: RoomName): Promise<void> {
    try {
      await store.durable(room);
    } catch (error) {
      if (error instanceof StoreUnavailable) onStore(error);
      throw error;
    }
  }

  /** The store was found to commit (null) or not to. When it is back, all rooms are looked at: webhooks were refused while it was away. */
  function onStore(failed: StoreUnavailable | null): void {
    if (drained) return;
    if (failed !== null) {
      scheduler.expect(clock.nowMs() + STORE_AGAIN_MS);
      if (storeAwayToldMs !== null && clock.nowMs() - storeAwayToldMs < STORE_TELL_MS) return;
      log.error(
        { why: failed.why },
        'the store can not make writes durable: nothing is promised until it can, and those who are there are kept alive',
      );
    }
    const wasAvailable = storeAwayToldMs === null;
    storeAwayToldMs = failed === null ? null : clock.nowMs();
    if (wasAvailable === (failed === null)) return;
    metrics.storeUp(failed === null);
    if (failed === null) {
      log.info({}, 'the store is writable again');
      // First the restarts made meanwhile are written, so that nobody is restarted again at once.
      void keepAlive.end().then(() => {
        sweep.all();
        scheduler.wake();
      });
    } else keepAlive.begin();
  }

  function onFailure(error: unknown): void {
    if (error instanceof StoreUnavailable) onStore(error);
    else log.error({ err: error }, 'due rows could not be looked for');
  }

  function tick(): void {
    // The timers of the platform did not go on while the machine was asleep, and what they were set for may be due.
    if (clock.nowMs() - tickedMs > LATE_TICK_MS) scheduler.wake();
    tickedMs = clock.nowMs();
    sweep.tick();
    // Nothing else may have to be written for a while: without this its return would not be noticed, and webhooks refused until then.
    if (storeAwayToldMs !== null)
      store.ping().then(
        () => onStore(null),
        (error) => {
          // Unless others have found it to be back meanwhile.
          if (storeAwayToldMs !== null) onFailure(error);
        },
      );
  }

  function perform(todo: Todo): void {
    track(performer.perform(todo));
  }

  function track(work: Promise<void>): void {
    underWay.add(work);
    void work.finally(() => underWay.delete(work));
  }

  function take({ row, claim }: Claimed): Promise<void> {
    const dueMs = dueAtMs(row.state);
    if (dueMs !== null) metrics.dueLag(Math.max(clock.nowMs() - dueMs, 0));
    const work = due(row, claim);
    if (row.state.kind === 'connected') restarts.add(work);
    track(work);
    return work;
  }

  async function due(row: Delegation, claim: Claimed['claim']): Promise<void> {
    if (keepAlive.takeOver({ row, claim })) return;
    try {
      const effects = effectsOfDue(row);
      if (effects !== null) return await performer.perform({ row, effects, claim });
      const applied = await watched({ by: 'id', room: row.room, id: row.id }, null, () => ({ kind: 'due' }));
      for (const todo of applied.todo) await performer.perform({ ...todo, claim: todo.claim ?? claim });
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) log.error({ delegation: row.id, err: error }, 'due work failed unexpectedly');
    } finally {
      await keepAlive.release(claim);
    }
  }

  /** The effects of a claimed row being due, if the row does not change by it: then the store need not be asked again. Else null. */
  function effectsOfDue(row: Delegation): Decision['effects'] | null {
    const decision = decide(row, { kind: 'due' }, { nowMs: clock.nowMs(), roll: random.roll() }, policy);
    return decision.next === row && decision.effects.length > 0 ? decision.effects : null;
  }

  async function webhook(about: Extract<Webhook, { kind: 'participant' | 'room' }>): Promise<Verdict> {
    watch.heard();
    if (about.event === 'room_started') presence.roomStarted(about.room);
    const { room, onceKey } = about;
    const where = about.kind === 'room' ? ({ by: 'room', room } as const) : ({ by: 'watched', room, identity: about.identity } as const);
    const all = () => applyInParts({ apply: watched, perform }, where, onceKey, () => about.about);
    const applied = about.kind === 'room' ? await all() : await earlyDepartures.heard(room, about.about, all);
    if (applied.rows === 0 && !applied.duplicate) return 'irrelevant';
    // The calls that were just begun go out first, since the sync of the disk takes processor time as well.
    if (applied.begun > 0) await new Promise<void>((resolve) => onceSent(clock, resolve));
    await durable(about.room);
    if (applied.duplicate) return 'duplicate';
    return applied.changed > 0 || applied.begun > 0 ? 'applied' : 'ignored';
  }

  return {
    ...createHandOvers({ ...deps, apply: watched, earlyDepartures, perform, onStore, onRow, onWrite, durable }),
    webhook,
    read: async (room, id) => (await readRows(store, { by: 'id', room, id }, ([row]) => row ?? null)).value,
    canKeep: async () => {
      try {
        await store.ping();
        return true;
      } catch (error) {
        if (error instanceof StoreUnavailable) onStore(error);
        return false;
      }
    },
    get sfuReachable() {
      return presence.reachable;
    },
    get limiting() {
      return lanes.limiting();
    },
    start: () => {
      metrics.countDelegationsWith(() => store.count());
      sweep.all();
      scheduler.start();
      ticking = clock.everySecond(tick);
    },
    drain: async (graceMs, lastly = async () => {}) => {
      ticking();
      sweep.stop();
      keepAlive.stop();
      scheduler.restartsOnly();
      const over = new Promise<void>((resolve) => clock.after(graceMs, resolve));
      await Promise.race([settled(underWay, (work) => !restarts.has(work)).then(lastly), over]);
      scheduler.stop();
      await Promise.race([settled(underWay), over]);
      drained = true;
    },
  };
}

/** Resolves when none is left of the work that `counts`; work may begin more work. */
async function settled(work: ReadonlySet<Promise<void>>, counts: (one: Promise<void>) => boolean = () => true): Promise<void> {
  const left = () => [...work].filter(counts);
  for (let waited = left(); waited.length > 0; waited = left()) await Promise.allSettled(waited);
}
