// One lastwill of a simulated world: the real engine and the real client of homeservers in a process that can be killed at any call of
// the world outside, and is started again on what was committed.

import type { HomeserverUrl, Identity, RoomName } from '../../src/delegation/ids.ts';
import type { Policy } from '../../src/delegation/state.ts';
import { createEngine, type Engine, type Verdict } from '../../src/engine/engine.ts';
import { MOST_AT_ONCE } from '../../src/engine/width.ts';
import { createDelayedEvents } from '../../src/homeserver/delayed-events.ts';
import type { Outbound } from '../../src/homeserver/outbound.ts';
import { knownSessions } from '../../src/known-sessions.ts';
import type { Log } from '../../src/log.ts';
import type { Metrics } from '../../src/metrics.ts';
import type { Called, RoomService } from '../../src/sfu/room-service.ts';
import { type RoomsTold, roomsOf } from '../../src/sfu/rooms.ts';
import type { Sightings } from '../../src/store/sightings.ts';
import type { Store } from '../../src/store/store.ts';
import { createSeededRandom } from '../support/virtual-clock.ts';
import type { Chance } from './chance.ts';
import { AS_TOKEN, type ModelHomeserver } from './model-homeserver.ts';
import type { Hook, ModelSfu } from './model-sfu.ts';
import { Process, type Timeline } from './timeline.ts';

export interface ReplicaDeps {
  readonly name: string;
  readonly timeline: Timeline;
  readonly chance: Chance;
  readonly sfu: ModelSfu;
  readonly homeservers: ReadonlyMap<HomeserverUrl, ModelHomeserver>;
  /** The homeserver that takes the as_token. */
  readonly ownHomeserver: HomeserverUrl | null;
  readonly policy: Policy;
  readonly skewMs: number;
  /** How far the wall clock of its machine is off. */
  readonly wallOffMs: () => number;
  readonly sfuSlow: number;
  readonly openStore: (process: Process) => Store;
  /** Undefined: nobody else works on the store. */
  readonly sightings: Sightings | undefined;
  readonly mayDie: (process: Process, where: string) => void;
  readonly onLook: (room: string) => void;
  readonly onSoughtInVain: (what: 'room' | 'session', room: RoomName, forMs: number) => void;
  readonly onSin: (sin: 'ghost' | 'false leave') => void;
  /** Something that must never be logged. */
  readonly onBroken: (message: string, fields: object) => void;
}

/** What the SFU takes to answer. */
const LOOK_MS = 2;
const SLOW_LOOK_MS = 400;
/** What it takes to find out that none of its nodes has somebody. */
const NOWHERE_MS = 3_000;
const DONE: Called = { kind: 'answered', message: {} };
const NOWHERE: Called = { kind: 'nowhere' };
/** When a question that is not answered is given up (sfu/room-service.ts). */
const GIVEN_UP_MS = 5_000;

export class Replica {
  readonly name: string;
  process: Process;
  engine: Engine;
  #rooms: RoomsTold;
  readonly #deps: ReplicaDeps;
  #lives = 0;

  constructor(deps: ReplicaDeps) {
    this.name = deps.name;
    this.#deps = deps;
    [this.process, this.engine, this.#rooms] = this.#start();
  }

  /** The same binary again, on what is on disk. */
  restart(): void {
    [this.process, this.engine, this.#rooms] = this.#start();
  }

  /** As http/webhooks.ts takes it. */
  webhook(hook: Hook): Promise<Verdict> {
    if (hook.kind === 'participant') this.#rooms.told(hook.room, hook.about);
    return this.engine.webhook(hook);
  }

  #start(): [Process, Engine, RoomsTold] {
    const { timeline, policy, skewMs, wallOffMs, openStore, homeservers } = this.#deps;
    this.#lives += 1;
    const process = new Process(timeline, skewMs, wallOffMs, this.#deps.sightings !== undefined);
    const clock = process.clock();
    const ways = new Map([...homeservers].map(([url, homeserver]) => [url, homeserver.outbound(process)]));
    const outbound: Outbound = {
      request: (request) => {
        const way = ways.get(new URL(request.url).origin as HomeserverUrl);
        if (way === undefined) throw new Error(`no homeserver at ${request.url}`);
        return way.request(request);
      },
      close: async () => {},
    };
    const homeserver = this.#deps.ownHomeserver;
    const store = openStore(process);
    const rooms = this.#createRooms(process, store);
    const engine = createEngine({
      mostAtOnce: MOST_AT_ONCE,
      store,
      rooms,
      delayedEvents: createDelayedEvents({
        clock,
        outbound,
        applicationService: homeserver === null ? null : { homeserver, asToken: AS_TOKEN },
      }),
      clock,
      random: createSeededRandom(Math.floor(this.#deps.chance.roll(`random of ${this.name}`) * 2 ** 31)),
      policy,
      metrics: quietMetrics(this.#deps.onSin),
      log: this.#log(),
      ...(this.#deps.sightings === undefined ? {} : { sightings: this.#heard(process, this.#deps.sightings) }),
    });
    engine.start();
    return [process, engine, rooms];
  }

  #heard(process: Process, sightings: Sightings): Sightings {
    return { tell: (...told) => process.hears(sightings.tell(...told)), last: (room) => process.hears(sightings.last(room)) };
  }

  /** The real client of the SFU's lists, but for its connections. Whoever asks is killed, and the SFU is slow, with the first call of a look. */
  #createRooms(process: Process, store: Store): RoomsTold {
    const { sfu, onLook, onSoughtInVain } = this.#deps;
    const nowhere = (what: 'room' | 'session', room: RoomName): Called => {
      onSoughtInVain(what, room, NOWHERE_MS);
      return NOWHERE;
    };
    const answers: Record<string, (room: RoomName, identity: Identity) => Called> = {
      ListParticipants: (room) => sfu.listed(room),
      ListRooms: (room) => sfu.named(room),
      SendData: (room) => (sfu.hosts(room) ? DONE : nowhere('room', room)),
      UpdateSubscriptions: (room, identity) => (sfu.hostsSession(room, identity) ? DONE : nowhere('session', room)),
    };
    const call: RoomService['call'] = (method, _, request) => {
      const { room, names, identity } = request as { room?: RoomName; names?: readonly RoomName[]; identity?: Identity };
      const answer = answers[method];
      if (answer === undefined) throw new Error(`the model SFU has no ${method}`);
      return process.hears(this.#ask(process, method, () => answer(room ?? (names?.[0] as RoomName), identity as Identity)));
    };
    const rooms = roomsOf({ call }, process.clock(), (room) => knownSessions(store, room));
    return {
      ...rooms,
      look: (room, how) => {
        onLook(room);
        return rooms.look(room, how);
      },
    };
  }

  async #ask(process: Process, method: string, answer: () => Called): Promise<Called> {
    const { timeline, chance, sfu, sfuSlow, mayDie } = this.#deps;
    if (!process.alive) return new Promise(() => {});
    const isFirst = method === 'ListParticipants';
    if (isFirst) mayDie(process, 'a question to the SFU');
    const slowMs = isFirst && chance.happens('slow SFU', sfuSlow) ? chance.between('how slow', 1, SLOW_LOOK_MS) : 0;
    await timeline.wait(LOOK_MS + slowMs / 2);
    if (sfu.apiStalled > 0) {
      await timeline.wait(GIVEN_UP_MS);
      return { kind: 'failed', why: 'no answer' };
    }
    const called: Called = sfu.up && sfu.apiAway === 0 ? answer() : { kind: 'failed', why: 'down' };
    await timeline.wait(called.kind === 'nowhere' ? NOWHERE_MS : LOOK_MS + slowMs / 2);
    return called;
  }

  #log(): Log {
    const loud = (fields: object, message: string): void => {
      if (/invariant|unexpectedly/.test(message)) this.#deps.onBroken(message, fields);
    };
    const log: Log = { debug: () => {}, info: () => {}, warn: loud, error: loud };
    return log;
  }
}

function quietMetrics(onSin: ReplicaDeps['onSin']): Metrics {
  const nothing = (): void => {};
  return {
    ghost: () => onSin('ghost'),
    falseLeave: () => onSin('false leave'),
    ghostAvoided: nothing,
    leave: nothing,
    overdueLeaveFailed: nothing,
    departureToLeave: nothing,
    restart: nothing,
    lateRestart: nothing,
    restartsGivenUp: nothing,
    homeserverRequest: nothing,
    homeserverFailure: nothing,
    delegation: nothing,
    webhook: nothing,
    sfuRequest: nothing,
    storeUp: nothing,
    storeCommit: nothing,
    storeSync: nothing,
    dueLag: nothing,
    lostLines: nothing,
    countDelegationsWith: nothing,
    watchProcess: nothing,
  };
}
