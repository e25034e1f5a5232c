// One lastwill of a simulated world: the real engine and the real client of homeservers in a process that can be killed at any call of
// the world outside, and is started again on what was committed.

import type { HomeserverUrl } from '../../src/delegation/ids.ts';
import type { Policy } from '../../src/delegation/state.ts';
import { createEngine, type Engine } from '../../src/engine/engine.ts';
import { createDelayedEvents } from '../../src/homeserver/delayed-events.ts';
import type { Outbound } from '../../src/homeserver/outbound.ts';
import type { Log } from '../../src/log.ts';
import type { Metrics } from '../../src/metrics.ts';
import type { Rooms } from '../../src/sfu/rooms.ts';
import type { Sightings } from '../../src/store/sightings.ts';
import type { Store } from '../../src/store/store.ts';
import { createSeededRandom } from '../support/virtual-clock.ts';
import type { Chance } from './chance.ts';
import { AS_TOKEN, type ModelHomeserver } from './model-homeserver.ts';
import type { ModelSfu } from './model-sfu.ts';
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
  readonly onSin: (sin: 'ghost' | 'false leave') => void;
  /** Something that must never be logged. */
  readonly onBroken: (message: string, fields: object) => void;
}

/** What the SFU takes to answer. */
const LOOK_MS = 2;
const SLOW_LOOK_MS = 400;
/** When a question that is not answered is given up (sfu/room-service.ts). */
const GIVEN_UP_MS = 5_000;

export class Replica {
  readonly name: string;
  process: Process;
  engine: Engine;
  readonly #deps: ReplicaDeps;
  #lives = 0;

  constructor(deps: ReplicaDeps) {
    this.name = deps.name;
    this.#deps = deps;
    [this.process, this.engine] = this.#start();
  }

  /** The same binary again, on what is on disk. */
  restart(): void {
    [this.process, this.engine] = this.#start();
  }

  #start(): [Process, Engine] {
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
    const engine = createEngine({
      store: openStore(process),
      rooms: this.#rooms(process),
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
    return [process, engine];
  }

  #heard(process: Process, sightings: Sightings): Sightings {
    return { tell: (...told) => process.hears(sightings.tell(...told)), last: (room) => process.hears(sightings.last(room)) };
  }

  #rooms(process: Process): Rooms {
    const { timeline, chance, sfu, sfuSlow, mayDie, onLook } = this.#deps;
    const ask = async <T>(look: () => T): Promise<T | null> => {
      if (!process.alive) return new Promise(() => {});
      mayDie(process, 'a question to the SFU');
      const slowMs = chance.happens('slow SFU', sfuSlow) ? chance.between('how slow', 1, SLOW_LOOK_MS) : 0;
      await timeline.wait(LOOK_MS + slowMs / 2);
      if (sfu.apiStalled > 0) {
        await timeline.wait(GIVEN_UP_MS);
        return null;
      }
      const answer = sfu.up && sfu.apiAway === 0 ? look() : null;
      await timeline.wait(LOOK_MS + slowMs / 2);
      return answer;
    };
    return {
      look: (room, { whichRoom = false } = {}) => {
        onLook(room);
        return process.hears(
          ask(() => sfu.list(room)).then((found) => {
            if (found === null) return { kind: 'unreachable', why: 'down' };
            return { kind: 'list', present: found.present, roomSid: found.present.length > 0 && !whichRoom ? undefined : found.roomSid };
          }),
        );
      },
      answers: () => process.hears(ask(() => true).then((found) => found !== null)),
    };
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
