// The real engine and store on virtual time, beside an SFU and homeservers that are two maps: for what only timing decides.
import { Registry } from 'prom-client';
import type { DelayId, Identity, RoomName, RoomSid, Sid } from '../../src/delegation/ids.ts';
import type { Answer, Cause, Policy, Seen } from '../../src/delegation/state.ts';
import { createEngine, type Engine } from '../../src/engine/engine.ts';
import { MOST_AT_ONCE } from '../../src/engine/width.ts';
import type { Call, DelayedEvents } from '../../src/homeserver/delayed-events.ts';
import { createLogger } from '../../src/log.ts';
import { createMetrics } from '../../src/metrics.ts';
import type { Look, Rooms, RoomsTold } from '../../src/sfu/rooms.ts';
import type { Webhook } from '../../src/sfu/webhook.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import type { Store } from '../../src/store/store.ts';
import { createModelSightings, Disk, ModelStore } from '../sim/model-store.ts';
import { policy as defaults, handOver, identity, sid } from '../support/fixtures.ts';
import { createSeededRandom, createVirtualClock, type VirtualClock } from '../support/virtual-clock.ts';

const HOMESERVER_MS = 5;
/** Every room is one only. */
export const ROOM_SID = 'RM' as RoomSid;

export interface Called {
  readonly atMs: number;
  readonly homeserver: string;
  readonly action: string;
  readonly target: string;
}

interface How {
  readonly path?: string;
  readonly shared?: boolean;
  readonly disk?: Disk | null;
  readonly seed?: number;
}

/** What is to hold whatever chance decides is tried with these. */
export const SEEDS = [0, 77, 154, 231, 308];

export class EngineWorld {
  readonly clock: VirtualClock = createVirtualClock();
  store: Store;
  readonly registry = new Registry();
  readonly calls: Called[] = [];
  readonly lines: string[] = [];
  readonly looks: { atMs: number; room: RoomName; expected: readonly Seen[] }[] = [];
  commits = 0;
  sfuUp = true;
  /** The SFU has lost its list: only its nodes still know who is there, and are asked for those who are expected. */
  listLost = false;
  /** Whom this process looks for on the nodes by itself where they are not listed; in vain, unless they are expected. */
  readonly sought = new Set<Sid>();
  /** Rooms that list somebody whom no node has. */
  readonly doubted: RoomName[] = [];
  /** How long it takes for a list, ms. */
  sfuMs = 3;
  /** What a homeserver answers to a call; null: it hangs until the call's own timeout. */
  answer: (homeserver: string, call: Call) => Answer | null = () => ({ kind: 'ok' });
  /** How long it takes for that, ms. */
  takesMs: (answer: Answer) => number = () => HOMESERVER_MS;
  /** Whether a call ends with its own timeout, too, where the homeserver takes longer. */
  givesUp = false;
  engine: Engine;
  #hooks = 0;
  #processes = 0;
  readonly #present = new Map<RoomName, Map<Identity, Seen>>();
  readonly #policy: Policy;

  readonly #path: string;
  /** Whether other processes use the store as well, as far as the engine knows. */
  readonly #shared: boolean;

  /** With a disk: what several processes have in common, each of `beside()` one of them. */
  readonly #disk: Disk | null;

  readonly #seed: number;

  /** `seed`: what chance decides, in ids and in jitter, is decided otherwise with another. */
  constructor(over: Partial<Policy> = {}, { path = ':memory:', shared = false, disk = null, seed = 0 }: How = {}) {
    this.#seed = seed;
    this.#path = path;
    this.#shared = shared;
    this.#disk = disk;
    this.#policy = defaults(over);
    this.store = this.#open();
    this.engine = this.#start();
  }

  #open(): Store {
    const onCommit = () => {
      this.commits += 1;
    };
    if (this.#disk !== null) return new ModelStore({ disk: this.#disk, clock: this.clock, claims: this.#disk.claims });
    return openSqliteStore({ path: this.#path, clock: this.clock, seal: null, onCommit });
  }

  /** Processes that draw the same numbers would give different delegations the same id. */
  #nextSeed(): number {
    this.#processes += 1;
    return this.#seed + this.#processes + this.#hooks;
  }

  #start(store = this.store, registry = this.registry, isAlive = () => true): Engine {
    registry.clear();
    const engine = createEngine({
      mostAtOnce: MOST_AT_ONCE,
      store,
      rooms: this.#rooms(),
      delayedEvents: this.#delayedEvents(isAlive),
      clock: this.clock,
      random: createSeededRandom(this.#nextSeed()),
      policy: this.#policy,
      metrics: createMetrics(registry, { process: false }),
      log: createLogger('info', (line) => void this.lines.push(line)),
      ...(this.#shared && { sightings: createModelSightings(this.#disk ?? new Disk()) }),
    });
    engine.start();
    return engine;
  }

  /** Another process on the same disk; what ends it is a kill. */
  beside(): { readonly engine: Engine; kill(): Promise<void> } {
    const store = this.#open();
    let alive = true;
    const engine = this.#start(store, new Registry(), () => alive);
    return {
      engine,
      kill: async () => {
        alive = false;
        await store.close();
        void engine.drain(0);
      },
    };
  }

  /** As after a kill: another engine on what was committed (in a file); what the old one still does can't be written any more. */
  async restart(): Promise<void> {
    await this.store.close();
    const drained = this.engine.drain(0);
    await this.clock.advance(1);
    await drained;
    this.store = this.#open();
    this.engine = this.#start();
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => void this.clock.after(ms, resolve));
  }

  #rooms(): Rooms & Pick<RoomsTold, 'isSought' | 'doubted'> {
    return {
      look: async (room, { whichRoom = false, expected = [] } = {}): Promise<Look> => {
        this.looks.push({ atMs: this.clock.nowMs(), room, expected });
        const up = this.sfuUp;
        const inside = this.#present.get(room);
        const isTold = ({ sid }: Seen) => !this.listLost || expected.some((one) => one.sid === sid);
        const present = [...(inside?.values() ?? [])].filter(isTold);
        await this.#wait(this.sfuMs);
        if (!up) return { kind: 'unreachable', why: 'down' };
        return { kind: 'list', present, roomSid: inside === undefined ? null : present.length > 0 && !whichRoom ? undefined : ROOM_SID };
      },
      answers: async () => {
        const up = this.sfuUp;
        await this.#wait(this.sfuMs);
        return up;
      },
      isSought: (_, { sid }) => this.sought.has(sid),
      doubted: (most) => this.doubted.splice(0, most),
    };
  }

  #delayedEvents(isAlive: () => boolean): DelayedEvents {
    return {
      act: async (homeserver, call, { timeoutMs }) => {
        if (!isAlive()) return new Promise(() => {});
        const [action, target] = call.kind === 'token' ? ['token', call.token] : [call.action, call.delayId];
        this.calls.push({ atMs: this.clock.nowMs(), homeserver, action, target });
        const answer = this.answer(homeserver, call);
        const takesMs = answer === null ? Number.POSITIVE_INFINITY : this.takesMs(answer);
        const givesUp = takesMs > timeoutMs && this.givesUp;
        await this.#wait(answer === null || givesUp ? timeoutMs : takesMs);
        return answer === null || givesUp ? { kind: 'failed', reached: true } : answer;
      },
      close: async () => {},
    };
  }

  join(room: RoomName, identity: Identity, sid: Sid): void {
    const inside = this.#present.get(room) ?? new Map<Identity, Seen>();
    inside.set(identity, { identity, sid, joinedAtMs: this.clock.nowMs(), active: true });
    this.#present.set(room, inside);
  }

  /** Somebody comes as a client does: on the SFU, its leave handed over, and the SFU tells of it. */
  async enter(n: number, where: RoomName, delayMs: number, delayId: DelayId): Promise<void> {
    const { id: _, ...rest } = handOver(n, { room: where, delayMs, handles: { kind: 'delay', delayId } });
    this.join(where, identity(n), sid(n));
    await this.engine.handOver(rest);
    await this.webhook(where, identity(n), sid(n), 'joined');
  }

  leave(room: RoomName, identity: Identity): void {
    this.#present.get(room)?.delete(identity);
  }

  async webhook(
    room: RoomName,
    identity: Identity,
    sid: Sid,
    what: 'joined' | Cause,
    joinedAtMs = this.clock.nowMs(),
    to = this.engine,
    leftAtMs?: number,
  ): Promise<string> {
    this.#hooks += 1;
    const about =
      what === 'joined'
        ? ({ kind: 'joined', identity, sid, joinedAtMs, roomSid: ROOM_SID } as const)
        : ({
            kind: 'left',
            identity,
            sid,
            joinedAtMs,
            roomSid: ROOM_SID,
            cause: what,
            ...(leftAtMs !== undefined && { leftAtMs }),
          } as const);
    const event = what === 'joined' ? 'participant_joined' : 'participant_left';
    const hook: Extract<Webhook, { kind: 'participant' }> = {
      kind: 'participant',
      event,
      onceKey: `hook-${this.#hooks}`,
      room,
      identity,
      about,
    };
    return to.webhook(hook);
  }

  /** A `onceKey` that was given before: the SFU sends the same webhook again. */
  async webhookOfRoom(room: RoomName, event: 'room_started' | 'room_finished', roomSid: RoomSid | null, onceKey?: string): Promise<string> {
    this.#hooks += 1;
    return this.engine.webhook({ kind: 'room', event, onceKey: onceKey ?? `hook-${this.#hooks}`, room, about: { kind: event, roomSid } });
  }

  actions(action: string, target?: string): Called[] {
    return this.calls.filter((call) => call.action === action && (target === undefined || call.target === target));
  }

  async metric(name: string): Promise<number> {
    const metric = await this.registry.getSingleMetric(name)?.get();
    return (metric?.values ?? []).reduce((sum, { value }) => sum + value, 0);
  }
}
