// A model LiveKit on virtual time: rooms, sessions by SID, and its webhooks in the order and at the pace that was measured on the real one
// (traces.test.ts holds it to recordings). It is the truth that a simulated run is judged by.
import type { Identity, RoomName, RoomSid, Sid } from '../../src/delegation/ids.ts';
import { causeOfReason } from '../../src/delegation/reasons.ts';
import type { Event, Seen } from '../../src/delegation/state.ts';
import type { Webhook } from '../../src/sfu/webhook.ts';
import type { Chance } from './chance.ts';
import type { Timeline } from './timeline.ts';

export type Hook = Extract<Webhook, { kind: 'participant' | 'room' }>;

export interface SfuSession {
  readonly room: RoomName;
  readonly roomSid: RoomSid;
  readonly identity: Identity;
  readonly sid: Sid;
  readonly joinedAtMs: number;
  /** By the clock of the SFU, as it tells it. */
  readonly toldJoinedAtMs: number;
  active: boolean;
  /** The client is not heard any more; LiveKit notices when its timeouts end. */
  silent: boolean;
  /** Told when the session is over, if its client can hear it. */
  onEnd: (reason: string) => void;
  ended: boolean;
}

interface ModelRoom {
  readonly sid: RoomSid;
  readonly sessions: Map<Identity, SfuSession>;
}

/** When livekit-server tries to send a webhook, as was measured; after the last try it drops it. */
const TRIES_MS = [0, 1_000, 3_000, 7_000, 15_000] as const;
const TOO_OLD_MS = 30_000;
const ROOM_CLOSES_MS = 20_000;
const ROOM_DELETED_MS = 11;
const UNTIL_JOINED_MS = 10;
/** After a duplicate was thrown out. */
const NOBODY_MS = 40;
const UNTIL_ACTIVE_MS = 50;
const NOTICED_MS = [19_500, 21_500] as const;

export interface SfuDeps {
  readonly timeline: Timeline;
  readonly chance: Chance;
  /** One try of a webhook: true when it was answered 2xx or is refused for good. */
  readonly deliver: (hook: Hook) => Promise<boolean>;
  readonly rates: { readonly webhookLost: number; readonly webhookDoubled: number; readonly webhookLate: number };
  readonly trace: (text: string) => void;
  /** Presence changes of an identity: a new session is listed, or one is no more. */
  readonly onPresence: (session: SfuSession, present: boolean, reason: string) => void;
}

export class ModelSfu {
  up = true;
  readonly #outages: { readonly fromMs: number; toMs: number }[] = [];
  /** How far its wall clock is off. */
  wallOffMs: () => number = () => 0;
  /** Over 0: its API can not be reached from lastwill. */
  apiAway = 0;
  /** Over 0: what is asked is not answered. */
  apiStalled = 0;
  readonly #deps: SfuDeps;
  readonly #rooms = new Map<RoomName, ModelRoom>();
  readonly #queues = new Map<RoomName, Promise<void>>();
  #life = 0;
  #names = 0;
  /** Whatever a webhook says happened: for the checker's account of what was told. */
  onHook: (hook: Hook, session: SfuSession | null) => void = () => {};

  constructor(deps: SfuDeps) {
    this.#deps = deps;
  }

  /** Who is there, as the API would answer now. */
  list(room: RoomName): { readonly present: readonly Seen[]; readonly roomSid: RoomSid | null } {
    const found = this.#rooms.get(room);
    const present = [...(found?.sessions.values() ?? [])].map(({ identity, sid, toldJoinedAtMs: joinedAtMs, active }) => ({
      identity,
      sid,
      joinedAtMs,
      active,
    }));
    return { present, roomSid: found?.sid ?? null };
  }

  sessionOf(room: RoomName, identity: Identity): SfuSession | null {
    return this.#rooms.get(room)?.sessions.get(identity) ?? null;
  }

  /** Opens signalling, and media unless `signallingOnly`. Null: the SFU is down, or went down meanwhile. */
  async connect(room: RoomName, identity: Identity, signallingOnly = false): Promise<SfuSession | null> {
    const { timeline } = this.#deps;
    if (!this.up) return null;
    const life = this.#life;
    const before = this.sessionOf(room, identity);
    if (before !== null) this.#end(before, 'DUPLICATE_IDENTITY');
    await timeline.wait(before === null ? UNTIL_JOINED_MS : NOBODY_MS);
    if (life !== this.#life) return null;
    const raced = this.sessionOf(room, identity);
    if (raced !== null) this.#end(raced, 'DUPLICATE_IDENTITY');
    const session = this.#open(room, identity);
    if (signallingOnly) return session;
    await timeline.wait(UNTIL_ACTIVE_MS);
    if (session.ended) return null;
    session.active = true;
    this.#say('participant_joined', session);
    return session;
  }

  #open(name: RoomName, identity: Identity): SfuSession {
    const { timeline, trace, onPresence } = this.#deps;
    let room = this.#rooms.get(name);
    this.#names += 1;
    if (room === undefined) {
      room = { sid: `RM_${this.#names}` as RoomSid, sessions: new Map() };
      this.#rooms.set(name, room);
      this.#sayOfRoom('room_started', name, room.sid);
    }
    const session: SfuSession = {
      room: name,
      roomSid: room.sid,
      identity,
      sid: `PA_${this.#names}` as Sid,
      joinedAtMs: timeline.nowMs,
      toldJoinedAtMs: this.#wallMs(),
      active: false,
      silent: false,
      onEnd: () => {},
      ended: false,
    };
    room.sessions.set(identity, session);
    trace(`sfu: ${name} ${identity} is there as ${session.sid}`);
    onPresence(session, true, 'joined');
    return session;
  }

  /** The client says goodbye. */
  leave(session: SfuSession, reason = 'CLIENT_INITIATED'): void {
    if (session.ended) return;
    this.#end(session, reason);
  }

  /** Nothing is heard of the client any more. */
  fallSilent(session: SfuSession): void {
    if (session.ended || session.silent) return;
    session.silent = true;
    const { timeline, chance, trace } = this.#deps;
    trace(`sfu: ${session.sid} falls silent`);
    timeline.after(chance.between('noticed', ...NOTICED_MS), () => {
      if (session.silent && !session.ended) this.#end(session, 'CONNECTION_TIMEOUT');
    });
  }

  /** The client is heard again, and goes on with its session if that is still there. */
  resume(session: SfuSession): boolean {
    if (session.ended) return false;
    session.silent = false;
    return true;
  }

  deleteRoom(name: RoomName): void {
    const room = this.#rooms.get(name);
    if (room === undefined) return;
    const endAll = (): void => {
      for (const session of [...room.sessions.values()]) this.#end(session, 'ROOM_DELETED');
    };
    endAll();
    this.#deps.timeline.after(ROOM_DELETED_MS, () => {
      // Whoever came in the last moment goes with it.
      endAll();
      this.#finish(name, room);
    });
  }

  /** Everything is forgotten without a word; TERM says SERVER_SHUTDOWN where the connection still carries it. */
  crash(withWord: boolean): void {
    const sessions = [...this.#rooms.values()].flatMap(({ sessions }) => [...sessions.values()]);
    if (withWord) for (const session of sessions) this.#say('participant_left', session, 'SERVER_SHUTDOWN');
    this.up = false;
    this.#outages.push({ fromMs: this.#deps.timeline.nowMs, toMs: Number.POSITIVE_INFINITY });
    this.#deps.trace('sfu: is gone');
    if (!withWord) this.#queues.clear();
    this.#life += 1;
    this.#rooms.clear();
    for (const session of sessions) {
      session.ended = true;
      this.#deps.onPresence(session, false, 'sfu gone');
      session.onEnd('SFU_GONE');
    }
  }

  /** When it was back, if it was away from the one time to the other. */
  backMs(sinceMs: number, untilMs: number): number | undefined {
    return this.#outages.find(({ fromMs, toMs }) => fromMs <= sinceMs && toMs > untilMs)?.toMs;
  }

  start(): void {
    this.up = true;
    const last = this.#outages.at(-1);
    if (last !== undefined) last.toMs = this.#deps.timeline.nowMs;
    this.#deps.trace('sfu: starts');
  }

  #end(session: SfuSession, reason: string): void {
    if (session.ended) return;
    const { timeline, onPresence, trace } = this.#deps;
    session.ended = true;
    const room = this.#rooms.get(session.room);
    if (room?.sessions.get(session.identity) === session) room.sessions.delete(session.identity);
    trace(`sfu: ${session.sid} of ${session.identity} is gone [${reason}]`);
    onPresence(session, false, reason);
    const wasUp = session.active || reason === 'DUPLICATE_IDENTITY';
    this.#say(wasUp ? 'participant_left' : 'participant_connection_aborted', session, reason);
    session.onEnd(reason);
    if (room !== undefined && room.sessions.size === 0) {
      timeline.after(ROOM_CLOSES_MS, () => {
        if (room.sessions.size === 0) this.#finish(session.room, room);
      });
    }
  }

  #finish(name: RoomName, room: ModelRoom): void {
    if (this.#rooms.get(name) !== room) return;
    this.#rooms.delete(name);
    this.#sayOfRoom('room_finished', name, room.sid);
  }

  #say(event: 'participant_joined' | 'participant_left' | 'participant_connection_aborted', session: SfuSession, reason = ''): void {
    const { identity, sid, toldJoinedAtMs: joinedAtMs, roomSid, room } = session;
    const leftAtMs = Math.floor(this.#wallMs() / 1_000) * 1_000;
    const about: Event =
      event === 'participant_joined'
        ? { kind: 'joined', identity, sid, joinedAtMs, roomSid }
        : event === 'participant_left'
          ? { kind: 'left', identity, sid, joinedAtMs, roomSid, cause: causeOfReason(reason), leftAtMs }
          : { kind: 'aborted', identity, sid };
    this.#post({ kind: 'participant', event, onceKey: this.#onceKey(), room, identity, about }, session);
  }

  #sayOfRoom(event: 'room_started' | 'room_finished', room: RoomName, roomSid: RoomSid): void {
    this.#post({ kind: 'room', event, onceKey: this.#onceKey(), room, about: { kind: event, roomSid } }, null);
  }

  #wallMs(): number {
    return this.#deps.timeline.nowMs + this.wallOffMs();
  }

  #onceKey(): string {
    this.#names += 1;
    return `EV_${this.#names}`;
  }

  /** One queue for each room; what is late is overtaken. */
  #post(hook: Hook, session: SfuSession | null): void {
    const { chance, rates, timeline } = this.#deps;
    this.onHook(hook, session);
    const bornMs = timeline.nowMs;
    if (chance.happens('webhook lost', rates.webhookLost)) return;
    const copies = chance.happens('webhook doubled', rates.webhookDoubled) ? 2 : 1;
    const life = this.#life;
    for (let copy = 0; copy < copies; copy += 1) {
      if (copy > 0 || chance.happens('webhook late', rates.webhookLate)) {
        timeline.after(chance.between('how late', 1, 8_000), () => void this.#carry(hook, bornMs, life));
        continue;
      }
      const before = this.#queues.get(hook.room) ?? Promise.resolve();
      this.#queues.set(
        hook.room,
        before.then(() => this.#carry(hook, bornMs, life)),
      );
    }
  }

  async #carry(hook: Hook, bornMs: number, life: number): Promise<void> {
    const { timeline, deliver } = this.#deps;
    const startedMs = timeline.nowMs;
    if (startedMs - bornMs > TOO_OLD_MS) return;
    for (const tryMs of TRIES_MS) {
      await timeline.wait(startedMs + tryMs - timeline.nowMs + 2);
      // A killed SFU has forgotten its queue; a stopped one finishes with the word it gave.
      if (life !== this.#life && hook.about.kind !== 'left') return;
      if (await deliver(hook)) return;
    }
  }
}
