// A model LiveKit on virtual time: rooms, sessions by SID, and its webhooks in the order and at the pace that was measured on the real one
// (models.test.ts holds it to recordings). It is the truth that a simulated run is judged by.
import type { Identity, RoomName, RoomSid, Sid } from '../../src/delegation/ids.ts';
import { causeOfReason } from '../../src/delegation/reasons.ts';
import type { Event, Seen } from '../../src/delegation/state.ts';
import type { Called } from '../../src/sfu/room-service.ts';
import type { Webhook } from '../../src/sfu/webhook.ts';
import type { Chance } from './chance.ts';
import type { Timeline } from './timeline.ts';

export type Hook = Extract<Webhook, { kind: 'participant' | 'room' }>;

export interface SfuSession {
  readonly room: RoomName;
  readonly roomSid: RoomSid;
  readonly node: SfuNode;
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
  /** It was lost from the lists once, or was not in all of them. */
  wasUnlisted: boolean;
}

/** A room as its node has it. */
interface ModelRoom {
  readonly name: RoomName;
  readonly sid: RoomSid;
  readonly node: SfuNode;
  readonly sessions: Map<Identity, SfuSession>;
}

export interface SfuNode {
  readonly name: string;
  /** Killed: it tells nothing any more. */
  killed: boolean;
}

/** What is written of a room in the Redis of an SFU that has one: by identity, whichever node has it. */
interface Written {
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
/** A client that hears nothing of a frozen node looks for another, and the node finds out that its clients are gone when it wakes up. */
const SHORTEST_FREEZE_MS = 5_000;
const STRUCK_OFF_MS = [100, 20_000] as const;
/** Somebody who was struck off mutes a track, and is written anew. */
const WRITTEN_ANEW_MS = [1_000, 60_000] as const;
const NOTICED_MS = [19_500, 21_500] as const;

type Told = 'participant_joined' | 'participant_left' | 'participant_connection_aborted';

export interface SfuDeps {
  readonly timeline: Timeline;
  readonly chance: Chance;
  /** One try of a webhook: true when it was answered 2xx or is refused for good. */
  /** Its rooms are on nodes, which tell one another by a Redis; whatever is listed is what is written there. */
  readonly hasRedis: boolean;
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
  /** Where whoever comes is taken to. */
  readonly #rooms = new Map<RoomName, ModelRoom>();
  /** On a node that was frozen, and has woken up: others are where it was. */
  readonly #leftOver = new Set<ModelRoom>();
  readonly #written: Map<RoomName, Written> | null;
  /** A node with the room is asked for its list (api.enable_psrpc_for_get_list_participants), not the Redis. */
  readonly listsByNode: boolean;
  /** Rooms that were ended where others are in a room of the same SID, or on their way back to it: by a node that had been frozen, or by the API. */
  readonly endedElsewhere = new Set<RoomSid>();
  #nodes: [SfuNode, ...SfuNode[]];
  readonly #queues = new Map<RoomName, Promise<void>>();
  readonly #foundMs = new Map<string, number>();
  #names = 0;
  /** Whatever a webhook says happened: for the checker's account of what was told. */
  onHook: (hook: Hook, session: SfuSession | null) => void = () => {};

  constructor(deps: SfuDeps) {
    this.#deps = deps;
    this.#written = deps.hasRedis ? new Map() : null;
    this.listsByNode = deps.hasRedis && deps.chance.happens('lists by node', 0.3);
    this.#nodes = this.#freshNodes();
  }

  get hasRedis(): boolean {
    return this.#written !== null;
  }

  #freshNodes(): [SfuNode, ...SfuNode[]] {
    const names = this.#deps.hasRedis ? ['node 0', 'node 1'] : ['node 0'];
    return names.map((name) => ({ name, killed: false })) as unknown as [SfuNode, ...SfuNode[]];
  }

  /** Who is there, as the API would answer now. */
  list(room: RoomName): { readonly present: readonly Seen[]; readonly roomSid: RoomSid | null } {
    const found = (this.#written ?? this.#rooms).get(room);
    return { present: seenIn(found), roomSid: found?.sid ?? null };
  }

  /** The answer of ListParticipants. */
  listed(room: RoomName): Called {
    const { present, roomSid } = this.list(room);
    const nodes = this.#onNodes(room);
    if (this.listsByNode && nodes.length === 0) return { kind: 'nowhere' };
    if (!this.listsByNode && roomSid === null) return { kind: 'not_found' };
    const found = this.listsByNode ? seenIn(this.#deps.chance.pick('node that lists', nodes)) : present;
    // Of a node that has woken up, and does not know yet that they are gone.
    if (this.listsByNode && this.#leftOn(room).length > 0)
      for (const { identity } of found) this.#foundMs.set(`${room} ${identity}`, this.#deps.timeline.nowMs);
    const participants = found.map(({ active, ...one }) => ({ ...one, state: active ? 'ACTIVE' : 'JOINED' }));
    return { kind: 'answered', message: { participants } };
  }

  /** The answer of ListRooms. */
  named(room: RoomName): Called {
    const { roomSid } = this.list(room);
    return { kind: 'answered', message: { rooms: roomSid === null ? [] : [{ name: room, sid: roomSid }] } };
  }

  /** Whether a node has the room. */
  hosts(name: RoomName): boolean {
    return this.#onNodes(name).length > 0;
  }

  /** Whether a node has a session of the identity, whichever. */
  hostsSession(name: RoomName, identity: Identity): boolean {
    const has = this.#onNodes(name).some(({ sessions }) => sessions.has(identity));
    if (has && !this.#isOnLists(name, identity)) this.#foundMs.set(`${name} ${identity}`, this.#deps.timeline.nowMs);
    return has;
  }

  #isOnLists(name: RoomName, identity: Identity): boolean {
    if (this.listsByNode) return this.#onNodes(name).every(({ sessions }) => sessions.has(identity)) && this.#leftOn(name).length === 0;
    return this.list(name).present.some((one) => one.identity === identity);
  }

  /** When it was last said of an identity that a node has it, though the lists are not those of that; long ago: never. */
  foundMs(name: RoomName, identity: Identity): number {
    return this.#foundMs.get(`${name} ${identity}`) ?? Number.NEGATIVE_INFINITY;
  }

  /** The room on each node that has it. */
  #onNodes(name: RoomName): readonly ModelRoom[] {
    return [this.#rooms.get(name) ?? [], this.#leftOn(name)].flat();
  }

  #leftOn(name: RoomName): readonly ModelRoom[] {
    return [...this.#leftOver].filter((room) => room.name === name);
  }

  /** Whether all of its lists show somebody who is there. */
  isListed({ room, sid }: SfuSession): boolean {
    if (this.listsByNode) return this.#onNodes(room).length === 1;
    return this.list(room).present.some((one) => one.sid === sid);
  }

  sessionOf(room: RoomName, identity: Identity): SfuSession | null {
    return this.#rooms.get(room)?.sessions.get(identity) ?? null;
  }

  /** Opens signalling, and media unless `signallingOnly`. Null: the SFU is down, or went down meanwhile. */
  async connect(room: RoomName, identity: Identity, signallingOnly = false): Promise<SfuSession | null> {
    const { timeline } = this.#deps;
    if (!this.up) return null;
    const [node] = this.#nodes;
    const before = this.sessionOf(room, identity);
    if (before !== null) this.#end(before, 'DUPLICATE_IDENTITY');
    await timeline.wait(before === null ? UNTIL_JOINED_MS : NOBODY_MS);
    if (node.killed) return null;
    const raced = this.sessionOf(room, identity);
    if (raced !== null) this.#end(raced, 'DUPLICATE_IDENTITY');
    const session = this.#open(room, identity);
    if (signallingOnly) return session;
    await timeline.wait(UNTIL_ACTIVE_MS);
    if (session.ended) return null;
    session.active = true;
    this.#write(session);
    this.#say('participant_joined', session);
    return session;
  }

  #open(name: RoomName, identity: Identity): SfuSession {
    const { timeline, trace, onPresence } = this.#deps;
    let room = this.#rooms.get(name);
    this.#names += 1;
    if (room === undefined) {
      const sid = this.#written?.get(name)?.sid ?? (`RM_${this.#names}` as RoomSid);
      room = { name, sid, node: this.#deps.chance.pick('node', this.#nodes), sessions: new Map() };
      this.#rooms.set(name, room);
      this.#sayOfRoom('room_started', room);
    }
    const session: SfuSession = {
      room: name,
      roomSid: room.sid,
      node: room.node,
      identity,
      sid: `PA_${this.#names}` as Sid,
      joinedAtMs: timeline.nowMs,
      toldJoinedAtMs: this.#wallMs(),
      active: false,
      silent: false,
      onEnd: () => {},
      ended: false,
      wasUnlisted: false,
    };
    room.sessions.set(identity, session);
    this.#write(session);
    trace(`sfu: ${name} ${identity} is there as ${session.sid} on ${room.node.name}`);
    onPresence(session, true, 'joined');
    return session;
  }

  #write(session: SfuSession): void {
    const { room: name, roomSid: sid, identity, ended } = session;
    if (this.#written === null || ended) return;
    const written = this.#written.get(name) ?? { sid, sessions: new Map() };
    written.sessions.set(identity, session);
    this.#written.set(name, written);
  }

  /** The Redis is started anew without its data: nobody is listed, unless they come, or do something that is written, after that. */
  loseLists(): void {
    if (this.#written === null) return;
    this.#deps.trace('sfu: its lists are lost');
    const lost = [...this.#written.values()].flatMap(({ sessions }) => [...sessions.values()]);
    this.#written.clear();
    for (const session of lost) this.#writeAnew(session);
  }

  #writeAnew(session: SfuSession): void {
    session.wasUnlisted = true;
    const { chance, timeline } = this.#deps;
    if (chance.happens('written anew', 0.5))
      timeline.after(chance.between('when written anew', ...WRITTEN_ANEW_MS), () => this.#write(session));
  }

  /** One of its nodes is killed: whoever was on it stays listed. */
  killNode(): void {
    const node = this.#another();
    if (node === null) return;
    this.#deps.trace(`sfu: ${node.name} is killed`);
    node.killed = true;
    for (const room of this.#without(node)) this.#forget(room, 'node gone');
  }

  /**
   * One of its nodes is frozen: its clients look for another one. When it wakes up it finds out that they are gone, and strikes off the list
   * whoever has their names; and when its room has ended there, all of them.
   */
  freezeNode(forMs: number): void {
    const node = this.#another();
    if (node === null) return;
    const { timeline, trace } = this.#deps;
    trace(`sfu: ${node.name} is frozen`);
    const rooms = this.#without(node);
    const sessions = rooms.map((room) => [...room.sessions.values()]);
    for (const room of rooms) this.#forget(room, 'node frozen');
    timeline.after(Math.max(forMs, SHORTEST_FREEZE_MS), () => {
      if (node.killed) return;
      trace(`sfu: ${node.name} wakes up`);
      for (const [index, room] of rooms.entries()) this.#wake(room, sessions[index] ?? []);
    });
  }

  #wake(room: ModelRoom, sessions: readonly SfuSession[]): void {
    const { chance, timeline } = this.#deps;
    this.#leftOver.add(room);
    for (const session of sessions)
      timeline.after(chance.between('struck off', ...STRUCK_OFF_MS), () => {
        if (room.node.killed) return;
        room.sessions.delete(session.identity);
        const written = this.#written?.get(room.name)?.sessions;
        const struck = written?.get(session.identity);
        written?.delete(session.identity);
        this.#deps.trace(`sfu: ${room.node.name} strikes off ${session.identity}`);
        this.#say(session.active ? 'participant_left' : 'participant_connection_aborted', session, 'CONNECTION_TIMEOUT');
        if (struck !== undefined && !struck.ended) this.#writeAnew(struck);
      });
    timeline.after(STRUCK_OFF_MS[1] + ROOM_CLOSES_MS, () => {
      this.#leftOver.delete(room);
      if (room.node.killed) return;
      this.#written?.delete(room.name);
      this.endedElsewhere.add(room.sid);
      this.#sayOfRoom('room_finished', room);
      for (const session of this.#rooms.get(room.name)?.sessions.values() ?? []) this.#writeAnew(session);
    });
  }

  /** A node beside the first one; another one takes its place. Null: it has no other. */
  #another(): SfuNode | null {
    const node = this.#nodes[1];
    if (!this.up || node === undefined) return null;
    this.#names += 1;
    this.#nodes[1] = { name: `node ${this.#names}`, killed: false };
    return node;
  }

  /** Takes its rooms off a node. */
  #without(node: SfuNode): readonly ModelRoom[] {
    const rooms = [...this.#rooms.values()].filter((room) => room.node === node);
    for (const { name } of rooms) this.#rooms.delete(name);
    return rooms;
  }

  #forget(room: ModelRoom, reason: string): void {
    for (const session of room.sessions.values()) {
      session.ended = true;
      this.#deps.onPresence(session, false, reason);
      session.onEnd('SFU_GONE');
    }
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
      this.endedElsewhere.add(room.sid);
      this.#finish(room);
    });
  }

  /** Everything is forgotten without a word; TERM says some of it. */
  crash(withWord: boolean): void {
    const rooms = [...this.#rooms.values()];
    if (withWord) for (const room of rooms) void this.#stop(room);
    this.up = false;
    this.#outages.push({ fromMs: this.#deps.timeline.nowMs, toMs: Number.POSITIVE_INFINITY });
    this.#deps.trace('sfu: is gone');
    if (!withWord) this.#queues.clear();
    for (const node of [...this.#nodes, ...[...this.#leftOver].map((room) => room.node)]) node.killed = true;
    this.#nodes = this.#freshNodes();
    this.#rooms.clear();
    this.#leftOver.clear();
    for (const room of rooms) this.#forget(room, 'sfu gone');
  }

  /**
   * An SFU that stops closes each room: it tells of one departure after the other, and then that the room is finished, until its process ends,
   * some milliseconds later. What was not answered by then is never told again. With a Redis it may end before it has taken the room off the
   * list as well; the room then keeps its SID.
   */
  async #stop(room: ModelRoom): Promise<void> {
    const { chance, deliver, timeline } = this.#deps;
    const sessions = [...room.sessions.values()];
    const told = chance.between('told at the stop', 0, sessions.length + 1);
    const isOffList = told > sessions.length || chance.happens('off the list at the stop', 0.5);
    if (isOffList) this.#written?.delete(room.name);
    const hooks = [
      ...sessions.map((session) => () => this.#hookOf(wordOfEnd(session), session, 'SERVER_SHUTDOWN')),
      () => this.#hookOfRoom('room_finished', room),
    ];
    for (const [index, make] of hooks.slice(0, told).entries()) {
      const hook = make();
      this.onHook(hook, sessions[index] ?? null);
      await timeline.wait(2);
      if (!(await deliver(hook))) return;
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
    this.#written?.get(session.room)?.sessions.delete(session.identity);
    trace(`sfu: ${session.sid} of ${session.identity} is gone [${reason}]`);
    onPresence(session, false, reason);
    const wasUp = session.active || reason === 'DUPLICATE_IDENTITY';
    this.#say(wasUp ? 'participant_left' : 'participant_connection_aborted', session, reason);
    session.onEnd(reason);
    if (room !== undefined && room.sessions.size === 0) {
      timeline.after(ROOM_CLOSES_MS, () => {
        if (room.sessions.size === 0) this.#finish(room);
      });
    }
  }

  #finish(room: ModelRoom): void {
    if (this.#rooms.get(room.name) !== room) return;
    this.#rooms.delete(room.name);
    this.#written?.delete(room.name);
    this.#sayOfRoom('room_finished', room);
  }

  #say(event: Told, session: SfuSession, reason = ''): void {
    this.#post(this.#hookOf(event, session, reason), session, session.node);
  }

  #hookOf(event: Told, session: SfuSession, reason: string): Hook {
    const { identity, sid, toldJoinedAtMs: joinedAtMs, roomSid, room } = session;
    const leftAtMs = Math.floor(this.#wallMs() / 1_000) * 1_000;
    const about: Event =
      event === 'participant_joined'
        ? { kind: 'joined', identity, sid, joinedAtMs, roomSid }
        : event === 'participant_left'
          ? { kind: 'left', identity, sid, joinedAtMs, roomSid, cause: causeOfReason(reason), leftAtMs }
          : { kind: 'aborted', identity, sid };
    return { kind: 'participant', event, onceKey: this.#onceKey(), room, identity, about };
  }

  #sayOfRoom(event: 'room_started' | 'room_finished', room: ModelRoom): void {
    this.#post(this.#hookOfRoom(event, room), null, room.node);
  }

  #hookOfRoom(event: 'room_started' | 'room_finished', { name: room, sid: roomSid }: ModelRoom): Hook {
    const closed = event === 'room_finished' ? { closedAtMs: Math.floor(this.#wallMs() / 1_000) * 1_000 } : {};
    return { kind: 'room', event, onceKey: this.#onceKey(), room, about: { kind: event, roomSid, ...closed } };
  }

  #wallMs(): number {
    return this.#deps.timeline.nowMs + this.wallOffMs();
  }

  #onceKey(): string {
    this.#names += 1;
    return `EV_${this.#names}`;
  }

  /** One queue for each room; what is late is overtaken. */
  #post(hook: Hook, session: SfuSession | null, node: SfuNode): void {
    const { chance, rates, timeline } = this.#deps;
    this.onHook(hook, session);
    const bornMs = timeline.nowMs;
    if (chance.happens('webhook lost', rates.webhookLost)) return;
    const copies = chance.happens('webhook doubled', rates.webhookDoubled) ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      if (copy > 0 || chance.happens('webhook late', rates.webhookLate)) {
        timeline.after(chance.between('how late', 1, 8_000), () => void this.#carry(hook, bornMs, node));
        continue;
      }
      const before = this.#queues.get(hook.room) ?? Promise.resolve();
      this.#queues.set(
        hook.room,
        before.then(() => this.#carry(hook, bornMs, node)),
      );
    }
  }

  async #carry(hook: Hook, bornMs: number, node: SfuNode): Promise<void> {
    const { timeline, deliver } = this.#deps;
    const startedMs = timeline.nowMs;
    if (startedMs - bornMs > TOO_OLD_MS) return;
    for (const tryMs of TRIES_MS) {
      await timeline.wait(startedMs + tryMs - timeline.nowMs + 2);
      // An SFU that is gone has forgotten its queue.
      if (node.killed) return;
      if (await deliver(hook)) return;
    }
  }
}

function wordOfEnd({ active }: SfuSession): Told {
  return active ? 'participant_left' : 'participant_connection_aborted';
}

function seenIn(room: Pick<ModelRoom, 'sessions'> | undefined): readonly Seen[] {
  return [...(room?.sessions.values() ?? [])].map(({ identity, sid, toldJoinedAtMs: joinedAtMs, active }) => ({
    identity,
    sid,
    joinedAtMs,
    active,
  }));
}
