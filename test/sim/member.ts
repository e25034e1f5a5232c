// A member of a call as its client behaves: it announces itself in the room, schedules its leave, connects to the SFU, hands the leave over,
// and then lives: hangs up, crashes, loses its network, reconnects, is thrown out. It does what Element Call was seen to do.
import type { HandOver } from '../../src/delegation/decide.ts';
import {
  type DelayId,
  type DelegationId,
  type FutureToken,
  type HomeserverUrl,
  type Identity,
  type Owner,
  participantOwner,
  type RoomName,
  sha256,
  type UserId,
} from '../../src/delegation/ids.ts';
import type { Handles } from '../../src/delegation/state.ts';
import type { Chance } from './chance.ts';
import type { DelayedLeave, ModelHomeserver } from './model-homeserver.ts';
import type { ModelSfu, SfuSession } from './model-sfu.ts';
import type { Deed, MemberPlan } from './plan.ts';
import type { Timeline } from './timeline.ts';

/** A leave that its client tried to hand over, as one of its names, and what came of it. */
export interface Delegated {
  readonly leave: DelayedLeave;
  readonly owner: Owner;
  id: DelegationId | null;
  /** From then on it is promised. */
  ackedAtMs: number | null;
  /** From then on nothing is owed: the client asked for it back. */
  askedBackAtMs: number | null;
}

/** lastwill as a client reaches it; null: no answer, or one that promises nothing. */
export interface Service {
  handOver(handOver: Omit<HandOver, 'id'>): Promise<DelegationId | null>;
  handBack(room: RoomName, id: DelegationId, owner: Owner): Promise<boolean>;
}

export interface MemberDeps {
  readonly index: number;
  readonly plan: MemberPlan;
  readonly timeline: Timeline;
  readonly chance: Chance;
  readonly sfu: ModelSfu;
  readonly homeserver: ModelHomeserver;
  readonly homeserverUrl: HomeserverUrl;
  readonly service: Service;
  readonly trace: (text: string) => void;
}

/** How long clients took to be back from a full reconnect, or from a migration (deploy/reasons.md). */
const LONGEST_GAP_MS = 3_300;
/** How many do not come back from a node that has gone: an SFU with a Redis goes on listing those alone. */
const DIES_WITH_NODE = 0.2;
const OWN_RESTART_MS = 300_000;
/** How a client tries to hand over: then it gives up, and looks after its event by itself. */
const HAND_OVER_TRIES_MS = [0, 1_000, 3_000] as const;

export class Member {
  readonly index: number;
  readonly room: RoomName;
  readonly identities: readonly Identity[];
  readonly plan: MemberPlan;
  readonly delegations: Delegated[] = [];
  /** The room's state. */
  joined = false;
  /** The delayed leave that belongs to the newest announcement. */
  leave: DelayedLeave | null = null;
  readonly #deps: MemberDeps;
  readonly #identity: Identity;
  #session: SfuSession | null = null;
  #wantsIn = false;
  #online = true;
  /** Grows when the client ends: what an older one still wanted is void. */
  #client = 0;

  constructor(deps: MemberDeps) {
    this.#deps = deps;
    this.index = deps.index;
    this.plan = deps.plan;
    this.room = `room-${deps.plan.room}` as RoomName;
    const names = [`m${deps.index}`, `m${deps.index}:clear`] as Identity[];
    this.identities = deps.plan.compatible ? names : names.slice(0, 1);
    this.#identity = this.identities.at(-1) as Identity;
  }

  do(deed: Deed, forMs: number): void {
    this.#deps.trace(`m${this.index}: ${deed} (${forMs} ms)`);
    const running = this.#wantsIn;
    switch (deed) {
      case 'join':
        if (!running) this.#join(forMs);
        break;
      case 'never-connect':
        if (!running && this.#session === null)
          void this.#announce(this.#begin()).then((leave) => leave && this.#handOver(leave, this.#client));
        break;
      case 'hang-up':
        if (running) this.#hangUp();
        break;
      case 'crash':
        if (running) this.#crash();
        break;
      case 'cut':
        if (running) this.#cut(forMs);
        break;
      case 'full-reconnect':
        if (this.#session?.active) this.#comeBack('CLIENT_INITIATED', 45 + Math.min(forMs, LONGEST_GAP_MS));
        break;
      case 'migrated':
        if (this.#session?.active) this.#comeBack('MIGRATION', 45 + Math.min(forMs, LONGEST_GAP_MS));
        break;
      case 'takeover':
        if (running) void this.#connect(this.#client);
        break;
      case 'reload':
        if (this.#session?.active) this.#reload(1_000 + Math.min(forMs, 500));
        break;
      case 'knock':
        if (!running) void this.#knock(forMs);
        break;
      case 'takeover-and-go':
        if (running) void this.#knock(forMs);
        break;
      case 'redelegate':
        if (running) void this.#announceAndHandOver(this.#client);
        break;
      case 'hand-back':
        void this.#handBack();
        break;
      case 'removed':
        if (this.#session !== null) this.#deps.sfu.leave(this.#session, 'PARTICIPANT_REMOVED');
        break;
      case 'room-deleted':
        this.#deps.sfu.deleteRoom(this.room);
        break;
      case 'reset':
        if (running) this.#reset();
        break;
      default:
        deed satisfies never;
    }
  }

  #begin(): number {
    this.#client += 1;
    return this.#client;
  }

  #join(forMs: number): void {
    const client = this.#begin();
    this.#wantsIn = true;
    this.#online = true;
    // Clients hand their leave over before, while or after they connect.
    const { timeline, chance } = this.#deps;
    const [connectMs, announceMs] = chance.happens('delegates late', 0.5) ? [0, Math.min(forMs, 6_000)] : [Math.min(forMs, 6_000), 0];
    timeline.after(connectMs, () => void this.#connect(client));
    timeline.after(announceMs, () => void this.#announceAndHandOver(client));
  }

  #isRunning(client: number): boolean {
    return client === this.#client && this.#wantsIn && this.#online;
  }

  async #connect(client: number): Promise<void> {
    const { sfu, timeline, chance } = this.#deps;
    for (let tries = 0; tries < 12 && this.#isRunning(client); tries += 1) {
      const aborted = chance.happens('connection aborted', 0.1);
      const session = await sfu.connect(this.room, this.#identity, aborted);
      if (session !== null && aborted) {
        await timeline.wait(chance.between('aborted after', 50, 3_000));
        sfu.leave(session, 'SIGNAL_CLOSE');
      } else if (session !== null) {
        if (this.#isRunning(client)) this.#isIn(session, client);
        else sfu.fallSilent(session);
        return;
      }
      await timeline.wait(chance.between('connects again', 1_000, 4_000));
    }
  }

  #isIn(session: SfuSession, client: number): void {
    this.#session = session;
    session.onEnd = (reason) => this.#isOut(session, reason, client);
    // Who finds the room without its membership announces itself again.
    const { timeline, chance } = this.#deps;
    timeline.after(chance.between('looks at the room', 230, 330), () => {
      if (this.#isRunning(client) && this.leave !== null && !this.joined) void this.#announceAndHandOver(client);
    });
  }

  #isOut(session: SfuSession, reason: string, client: number): void {
    if (this.#session !== session) return;
    this.#session = null;
    if (client !== this.#client || !this.#wantsIn) return;
    const { sfu, timeline, chance } = this.#deps;
    const isGoneToo = reason === 'SFU_GONE' && sfu.hasRedis && chance.happens('dies with its node', DIES_WITH_NODE);
    if (reason === 'PARTICIPANT_REMOVED' || reason === 'ROOM_DELETED' || isGoneToo) this.#wantsIn = false;
    else if (reason === 'SFU_GONE' && this.#online)
      timeline.after(chance.between('after a restart', 4_000, 7_000), () => void this.#connect(client));
  }

  /** The room hears that we are in, and our leave is scheduled. Null: it ended before that worked. */
  async #announce(client: number): Promise<DelayedLeave | null> {
    const { homeserver, timeline, plan } = this.#deps;
    while (!homeserver.answers) {
      await timeline.wait(1_000);
      if (client !== this.#client) return null;
    }
    this.joined = true;
    const leave = homeserver.schedule(this.index, plan.delayMs, plan.lost);
    this.leave = leave;
    this.#deps.trace(`m${this.index}: announces itself, leave ${leave.name} after ${plan.delayMs} ms`);
    if (plan.restarts) this.#restartByItself(leave, client);
    return leave;
  }

  #restartByItself(leave: DelayedLeave, client: number): void {
    const { homeserver, timeline } = this.#deps;
    timeline.after(Math.min(OWN_RESTART_MS, leave.delayMs / 2), () => {
      if (client !== this.#client || this.leave !== leave || leave.final !== null) return;
      if (this.#online && homeserver.answers) homeserver.restart(leave);
      this.#restartByItself(leave, client);
    });
  }

  async #announceAndHandOver(client: number): Promise<void> {
    if (!this.#isRunning(client)) return;
    const leave = await this.#announce(client);
    if (leave !== null) await this.#handOver(leave, client);
  }

  async #handOver(leave: DelayedLeave, client: number): Promise<void> {
    const { timeline, chance, plan } = this.#deps;
    const handedOver = [this.#handOverAs(this.identities, leave, client)];
    if (plan.twice && plan.compatible) {
      await timeline.wait(chance.between('hands over again', 0, 3_000));
      handedOver.push(this.#handOverAs(this.identities.slice(1), leave, client));
    }
    await Promise.all(handedOver);
  }

  async #handOverAs(identities: readonly Identity[], leave: DelayedLeave, client: number): Promise<void> {
    const { service, timeline, homeserver, homeserverUrl, index } = this.#deps;
    const owner = participantOwner(this.room, identities[0] as Identity);
    const delegated: Delegated = { leave, owner, id: null, ackedAtMs: null, askedBackAtMs: null };
    this.delegations.push(delegated);
    const handles = handlesOf(leave, homeserver.dialect === 'A');
    const handOver = {
      owner,
      room: this.room,
      identities,
      homeserver: homeserverUrl,
      userId: `@m${index}:simulation.example` as UserId,
      handles,
      handlesHash: sha256(JSON.stringify(handles)),
      delayMs: leave.delayMs,
    };
    for (const pauseMs of HAND_OVER_TRIES_MS) {
      await timeline.wait(pauseMs);
      if (client !== this.#client || this.leave !== leave || leave.final !== null) return;
      const id = await service.handOver(handOver);
      if (id === null) continue;
      delegated.id = id;
      delegated.ackedAtMs = timeline.nowMs;
      return;
    }
  }

  async #handBack(): Promise<void> {
    const { leave } = this;
    const delegated = this.delegations.filter((one) => one.leave === leave && one.id !== null && one.askedBackAtMs === null);
    if (leave === null || delegated.length === 0) return;
    const { service, timeline } = this.#deps;
    if (leave.final === null) this.#restartByItself(leave, this.#client);
    for (const one of delegated) one.askedBackAtMs = timeline.nowMs;
    for (const one of delegated) await service.handBack(this.room, one.id as DelegationId, one.owner);
  }

  #hangUp(): void {
    const { sfu, homeserver, timeline, chance, plan } = this.#deps;
    this.#wantsIn = false;
    this.#begin();
    const { leave } = this;
    if (this.#session !== null) sfu.leave(this.#session);
    this.#session = null;
    if (!plan.ownLeave || leave === null) return;
    timeline.after(chance.between('own leave', 50, 400), () => {
      if (!homeserver.answers || this.leave !== leave) return;
      this.joined = false;
      homeserver.end(leave, 'cancelled', 'client');
    });
  }

  #crash(): void {
    this.#wantsIn = false;
    this.#begin();
    if (this.#session !== null) this.#deps.sfu.fallSilent(this.#session);
    this.#session = null;
  }

  #cut(forMs: number): void {
    const { sfu, timeline, chance } = this.#deps;
    const client = this.#client;
    this.#online = false;
    if (this.#session !== null) sfu.fallSilent(this.#session);
    timeline.after(forMs, () => {
      if (client !== this.#client || !this.#wantsIn) return;
      this.#online = true;
      const session = this.#session;
      if (session !== null && sfu.resume(session)) return;
      timeline.after(chance.between('back on line', 300, 3_000), () => void this.#connect(client));
    });
  }

  /** The session ends, and another one follows. */
  #comeBack(reason: string, afterMs: number): void {
    const { sfu, timeline } = this.#deps;
    const [session, client] = [this.#session, this.#client];
    if (session === null) return;
    this.#session = null;
    sfu.leave(session, reason);
    timeline.after(afterMs, () => void this.#connect(client));
  }

  /** A new client of the same member: nothing of the old one goes on. */
  #reload(afterMs: number): void {
    const { sfu, timeline, chance } = this.#deps;
    if (this.#session !== null) sfu.leave(this.#session);
    this.#session = null;
    const client = this.#begin();
    timeline.after(afterMs, () => void this.#connect(client));
    timeline.after(afterMs + chance.between('announces again', 230, 330), () => void this.#announceAndHandOver(client));
  }

  /** Signalling only, and gone again. */
  async #knock(forMs: number): Promise<void> {
    const { sfu, timeline } = this.#deps;
    const session = await sfu.connect(this.room, this.#identity, true);
    if (session === null) return;
    const wasIn = this.#session;
    await timeline.wait(Math.min(forMs, 3_000));
    sfu.leave(session, 'SIGNAL_CLOSE');
    // The tab that was thrown out does not come back.
    if (wasIn === null && this.#wantsIn && this.#session === null) this.#wantsIn = false;
  }

  /** Somebody else writes our state: the homeserver cancels the leave, and the client schedules another. */
  #reset(): void {
    const { homeserver, timeline } = this.#deps;
    const client = this.#client;
    if (this.leave === null || this.leave.final !== null || !homeserver.answers) return;
    homeserver.end(this.leave, 'cancelled', 'reset');
    timeline.after(300, () => void this.#announceAndHandOver(client));
  }
}

function handlesOf({ name, hasLost }: DelayedLeave, tokens: boolean): Handles {
  if (!tokens) return { kind: 'delay', delayId: name as DelayId };
  const token = (does: string): FutureToken => `${does}-${name}` as FutureToken;
  const leave = { send: token('send'), refresh: token('refresh'), cancel: token('cancel') };
  return { kind: 'futures', leave, lost: hasLost ? { send: token('lostsend'), refresh: null, cancel: token('lostcancel') } : null };
}
