// The engine: events in, commits, effects out. It wires the parts around the pure heart and holds no state of its own about anyone.
//
//   webhook, hand-over ─▶ apply (decide inside the store's transaction) ─▶ answered after the commit
//   sweep, due rows ────▶    │                        ▲
//                            └─▶ perform (SFU, homeserver) ─▶ answers are events, too
import { type Cancel, type Clock, onceSent, type Random } from '../clock.ts';
import { type Decision, decide, dueAtMs } from '../delegation/decide.ts';
import type { DelegationId, HomeserverUrl, RoomName } from '../delegation/ids.ts';
import type { Delegation, Policy } from '../delegation/state.ts';
import type { DelayedEvents } from '../homeserver/delayed-events.ts';
import type { Rooms } from '../sfu/rooms.ts';
import type { Webhook } from '../sfu/webhook.ts';
import type { Sightings } from '../store/sightings.ts';
import { type Claimed, type Store, StoreUnavailable } from '../store/store.ts';
import type { Log, Metrics } from '../telemetry.ts';
import { createAlarms } from './alarms.ts';
import { type Applied, createApply, type Todo } from './apply.ts';
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
  readonly rooms: Rooms;
  readonly delayedEvents: DelayedEvents;
  readonly clock: Clock;
  readonly random: Random;
  readonly policy: Policy;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Other processes use the store as well, and tell what they see. */
  readonly sightings?: Sightings;
  /** So many calls are made to one homeserver at once, at most. */
  readonly mostAtOnce?: number;
}

/** While the store is away, due work tries it again after so long. */
const STORE_AGAIN_MS = 1_000;
/** What was not done is looked at again so soon: its row is due, and nothing else may wake the scheduler for it. */
const UNDONE_AGAIN_MS = 100;

/** The scheduler looks for due rows at least so often: what a dead replica leaves is found within its lease and this. */
const LONGEST_SLEEP_MS = 30_000;
const LONGEST_SLEEP_SHARED_MS = 500;
/** Those who come due within so long are claimed by one look, and called together. */
const GATHER_MS = 20;
/**
 * Ended delegations explain what happened: on disk for a day, in the memory that several processes share for an hour. However many end, they
 * take some 80 MB at most.
 */
const KEPT = { forMs: 24 * 3_600_000, most: 50_000 };
const KEPT_SHARED = { ...KEPT, forMs: 3_600_000 };

export type Verdict = 'applied' | 'duplicate' | 'irrelevant' | 'ignored';

export interface Engine extends HandOvers {
  /**
   * Commits what a verified webhook means. When this resolves, it survives a crash; what follows from it is begun before.
   * @throws StoreUnavailable: the SFU has to send it again.
   */
  webhook(webhook: Extract<Webhook, { kind: 'participant' | 'room' }>): Promise<Verdict>;
  read(room: RoomName, id: DelegationId): Promise<Delegation | null>;
  /** Null: the SFU has not been asked yet. */
  readonly sfuReachable: boolean | null;
  /** Homeservers that refuse calls because there are too many, and so may lose participants. */
  readonly limiting: readonly HomeserverUrl[];
  start(): void;
  /**
   * Takes no new work and resolves when what is under way is done, and then `lastly`, or after `graceMs`. Until then who is there is restarted:
   * others may have to be waited for, and whoever comes after us has to start first.
   */
  drain(graceMs: number, lastly?: () => Promise<void>): Promise<void>;
}

export function createEngine(deps: EngineDeps): Engine {
  const { store, rooms, delayedEvents, clock, random, policy, metrics, log, sightings } = deps;
  const shared = sightings !== undefined;
  const underWay = new Set<Promise<void>>();
  const restarts = new WeakSet<Promise<void>>();
  let storeAvailable = true;
  /** What the store refuses from now on it refuses because it is closed. */
  let drained = false;
  let ticking: Cancel = () => {};

  const watch = createWebhookWatch({ clock, log });
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
    clock,
    ...(deps.mostAtOnce !== undefined && { mostAtOnce: deps.mostAtOnce }),
    onFree: () => scheduler.wake(),
    onGivenUp: (homeserver, count) => {
      metrics.restartsGivenUp(count);
      alarms.failed(homeserver, 'overrun');
    },
    onPause: (homeserver, untilMs) => void store.pause(homeserver, untilMs).catch(() => {}),
    ...(shared && { reservations: { reserve: (...asked) => store.reserve(...asked), theirs: () => store.reservations() } }),
  });
  const [intervalMs, kept] = [policy.presenceIntervalMs, shared ? KEPT_SHARED : KEPT];
  const quietRooms = shared ? null : createQuietRooms({ clock, intervalMs });
  const onRow = (row: Delegation): void => keepAlive.remember(row);
  const onWrite = (before: Delegation | undefined, after: Delegation): void => {
    if (quietRooms !== null && moves(before, after)) quietRooms.moved(after.room);
  };
  const apply = createApply({ store, clock, random, policy, observer: createObserver(log, metrics, watch), log, onStore, onRow, onWrite });
  const onUndone = (): void => scheduler.expect(clock.nowMs() + UNDONE_AGAIN_MS);
  const performer = createPerformer({
    ...{ apply: watched, store, presence, lanes, delayedEvents, clock, policy, metrics, log, onUndone },
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
    onAnswer: () => storeAvailable && void keepAlive.end(),
  });
  const sweep = createSweep({ store, presence, quietRooms, apply: watched, clock, intervalMs, kept, perform, log });

  /** Whatever is written may be due before anything the scheduler waits for. */
  async function watched(...args: Parameters<typeof apply>): Promise<Applied> {
    const applied = await apply(...args);
    scheduler.expect(applied.earliestDueMs);
    return applied;
  }

  /** Before anything is promised to anybody. */
  async function durable(): Promise<void> {
    try {
      await store.durable();
    } catch (error) {
      if (error instanceof StoreUnavailable) onStore(error);
      throw error;
    }
  }

  /** Webhooks that came while the store was away are lost to us: the SFU is asked what they would have said. */
  function onStore(failed: StoreUnavailable | null): void {
    if (drained) return;
    const available = failed === null;
    if (!available) scheduler.expect(clock.nowMs() + STORE_AGAIN_MS);
    if (available === storeAvailable) return;
    storeAvailable = available;
    metrics.storeUp(available);
    if (available) {
      log.info({}, 'the store is writable again');
      // Who was kept alive meanwhile is not due.
      void keepAlive.end().then(() => {
        sweep.all();
        scheduler.wake();
      });
    } else {
      log.error(
        { why: failed.why },
        'the store can not make writes durable: nothing is promised until it can, and those who are there are kept alive',
      );
      keepAlive.begin();
    }
  }

  function onFailure(error: unknown): void {
    if (error instanceof StoreUnavailable) onStore(error);
    else log.error({ err: error }, 'due rows could not be looked for');
  }

  function tick(): void {
    sweep.tick();
    // Nothing else may have to be written for a while, and webhooks are being refused: its return must be noticed.
    if (!storeAvailable)
      store.ping().then(
        () => onStore(null),
        () => {},
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

  /** What is to be done about a row that was just claimed, if that changes nothing: the store need not be asked for it once more. */
  function effectsOfDue(row: Delegation): Decision['effects'] | null {
    const decision = decide(row, { kind: 'due' }, { nowMs: clock.nowMs(), roll: random.roll() }, policy);
    return decision.next === row && decision.effects.length > 0 ? decision.effects : null;
  }

  async function webhook(about: Extract<Webhook, { kind: 'participant' | 'room' }>): Promise<Verdict> {
    watch.heard();
    if (about.event === 'room_started') presence.roomStarted(about.room);
    const where = about.kind === 'room' ? roomOf(about.room) : ({ by: 'watched', room: about.room, identity: about.identity } as const);
    const applied = await watched(where, about.onceKey, () => about.about);
    for (const todo of applied.todo) perform(todo);
    if (applied.rows === 0 && !applied.duplicate) return 'irrelevant';
    // What was just begun is on its way first: the disk wants a processor as well.
    if (applied.todo.length > 0) await new Promise<void>((resolve) => onceSent(clock, resolve));
    await durable();
    if (applied.duplicate) return 'duplicate';
    return applied.changed > 0 || applied.todo.length > 0 ? 'applied' : 'ignored';
  }

  return {
    ...createHandOvers({ store, clock, random, policy, apply: watched, perform, onStore, onRow, onWrite, durable }),
    webhook,
    read: async (room, id) => {
      const found = await store.update({ by: 'id', room, id }, null, (rows) => ({ writes: [], value: rows[0] ?? null }));
      return found.kind === 'done' ? found.value : null;
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

const roomOf = (room: RoomName) => ({ by: 'room', room }) as const;

/** Work under way may begin more; all of it has ended when the set is empty. */
async function settled(work: ReadonlySet<Promise<void>>, counts: (one: Promise<void>) => boolean = () => true): Promise<void> {
  const left = () => [...work].filter(counts);
  for (let waited = left(); waited.length > 0; waited = left()) await Promise.allSettled(waited);
}
