// The judge of a simulated run. It knows the truth (who was on the SFU when, what is in the rooms) and what lastwill could know of it, and
// holds it to what the README promises, and to its bounds: no false leave, no ghost beyond its bound, no forgotten promise, at most one
// ending of a group, no call after an end, as few calls as promised.
//
// A promise counts only from the moment from which it could be kept: what is wrong in the world (wellness.ts) puts a bound off, and a
// departure that nobody told has the time of a presence interval. With everything well the bounds are those of the README, to the second.
import type { DelegationId, Identity, RoomName, RoomSid } from '../../src/delegation/ids.ts';
import { causeOfReason, waitMsOf } from '../../src/delegation/reasons.ts';
import type { Cause, Delegation, Policy, State } from '../../src/delegation/state.ts';
import { FRESH_MS } from '../../src/delegation/steps/moves.ts';
import type { Verdict } from '../../src/engine/engine.ts';
import type { OnceKey } from '../../src/store/store.ts';
import type { Delegated, Member } from './member.ts';
import type { Call, DelayedLeave, ModelHomeserver } from './model-homeserver.ts';
import type { Hook, SfuSession } from './model-sfu.ts';
import { FAULTY_MS } from './plan.ts';
import type { Timeline } from './timeline.ts';
import type { Part, Wellness } from './wellness.ts';

/** One promise that was broken. */
export interface Violation {
  readonly never:
    | 'false leave'
    | 'ghost'
    | 'forgotten promise'
    | 'two endings'
    | 'call after an end'
    | 'too many calls'
    | 'broken invariant';
  readonly atMs: number;
  readonly what: string;
}

/** What is known of one member's stays on the SFU. */
interface Stay {
  present: Set<SfuSession>;
  /** Since when somebody has been there without a break; null: nobody is. */
  sinceMs: number | null;
  /** The same of the stay before, while nobody is there. */
  lastSinceMs: number | null;
  /** Since when nobody has been there, and why. */
  absentSinceMs: number;
  cause: Cause;
  /** With their node, of which nothing tells: they stay listed, if the SFU has a Redis. */
  withNode: boolean;
  /** The newest session that was up and is gone. */
  up: { readonly session: SfuSession; readonly cause: Cause; readonly untilMs: number } | null;
  last: SfuSession | null;
  sessions: number;
  /** The latest time that the SFU has told of a join. */
  newestToldMs: number;
  abortedMs: number;
  /** When a webhook last spoke of a departure, of whichever session. */
  departureToldMs: number;
  /** The same for an arrival. */
  arrivalToldMs: number;
  presentMs: number;
}

interface Told {
  joinedMs: number;
  leftMs: number;
}

export interface CheckerDeps {
  readonly timeline: Timeline;
  readonly wellness: Wellness;
  readonly policy: Policy;
  readonly members: readonly Member[];
  readonly homeserverOf: (member: number) => { readonly model: ModelHomeserver; readonly part: Part };
  /** Whether the SFU lists somebody who is there. */
  readonly isListed: (session: SfuSession) => boolean;
  /** When a node was last found to have an identity that the lists lack, or one that is gone; long ago: never. */
  readonly foundMs: (room: RoomName, identity: Identity) => number;
  /** The room of that name on the SFU now. */
  readonly roomSidOf: (room: RoomName) => RoomSid | null;
  /** Whether a room of this SID was ended where others were in one on another node, or on their way back to it. */
  readonly hasEndedElsewhere: (room: RoomSid) => boolean;
  /** When the SFU was back, if it was away from the one time to the other. */
  readonly sfuBackMs: (sinceMs: number, untilMs: number) => number | undefined;
  readonly isKept: (id: DelegationId) => boolean;
  readonly isKnown: (onceKey: OnceKey) => boolean;
  readonly sfuSlow: boolean;
  /** The SFU has nodes, and lists that may be wrong. */
  readonly hasRedis: boolean;
  /** Its lists are those of nodes: that one was killed does not show in them. */
  readonly listsByNode: boolean;
  readonly replicas: number;
}

/** From a question to the SFU to the call that its answer leads to. */
const KNOWLEDGE_MS = FRESH_MS + 30;
const SLOW_KNOWLEDGE_MS = FRESH_MS + 450;
/** Everything is tried again within so long after something was wrong: the longest backoff, and a look at everything. */
const RECOVERY_MS = 12_000;
const SLACK_MS = 1_000;
/** To a slow SFU, at most. */
const SLOW_WAY_MS = 202;
/** From a look at a claim to the call, where the store is a network away. */
const OVERTAKEN_MS = 100;
const SHORTEST_JUDGED_MS = 3_000;
/** However much there is to save, a restart that fails is not tried again more often than this. */
const HASTE_MS = 2_000;
const MOST_IN_HASTE = 20;
/** What a homeserver takes at most to say whose hand-over it is, and by how much at most a clock is set back within that. */
const LONGEST_LOOK_UP_MS = 10_000;
const CLOCK_SET_MS = 3_000;
/** That a node was killed is found out within five minutes and the time that it takes the SFU to look for it, twice. */
export const LOST_NODE_MS = 300_000 + 2 * 3_000;
/** What a node has said of a session counts for so long, and some. */
const HOSTED_MS = 26_000;
/** While the SFU looks in vain for who is missing from a list, each look waits so long for that. */
const NODES_MS = 800;
/** Clocks of replicas differ by so much. */
const CLOCKS_MS = 50;

/** Of what ends sessions on a node without a word. That one was frozen it says itself, as of clients that it hears no more. */
const CAUSES_BY_NODE: Readonly<Record<string, Cause>> = { 'sfu gone': 'sfu_down', 'node gone': 'sfu_down', 'node frozen': 'lost' };

export class Checker {
  readonly violations: Violation[] = [];
  readonly #deps: CheckerDeps;
  readonly #stays: Stay[];
  readonly #told = new Map<SfuSession, Told>();
  readonly #endedMs = new Map<string, number>();
  readonly #leaveOfRow = new Map<DelegationId, string>();
  readonly #supersededMs = new Map<string, number>();
  readonly #restarts = new Map<string, number>();
  readonly #lately = new Map<string, readonly number[]>();
  /** Restarts of what was final. */
  readonly #inVain = new Map<string, number>();
  readonly #looks = new Map<string, number[]>();
  /** The process that spoke with a homeserver last knows what it speaks, since its first call there. */
  readonly #spokenInLife = new Map<ModelHomeserver, { readonly life: number; readonly sinceMs: number }>();
  readonly #seenGhost = new Set<DelayedLeave>();
  /** What a failover of the store has lost. */
  readonly #lost = new Set<DelegationId>();
  readonly #forgotten = new Set<string>();
  readonly #over = new Set<string>();
  /** Rooms of which a webhook has told that they are over. */
  readonly #finished = new Set<RoomSid>();
  /** Until when the SFU was last looking in vain for the node of a room, or of somebody in it. */
  readonly #soughtUntilMs = { room: new Map<RoomName, number>(), session: new Map<RoomName, number>() };
  /** By which session the row of a leave has said that somebody is there, and when first. */
  readonly #known = new Map<string, number>();
  /** When a process last started, after another one. */
  #startedMs = Number.NEGATIVE_INFINITY;
  /** Since when somebody is weighed or owed a leave: rows tell it by the clocks of processes. */
  readonly #owedSinceMs = new Map<DelegationId, number>();
  readonly #heldUp = new Set<number>();
  /** When a process last started by a clock that was ahead of that of the process before it, and when by one that was behind. */
  #clockAheadMs = Number.NEGATIVE_INFINITY;
  #clockBehindMs = Number.NEGATIVE_INFINITY;
  #forgotMs = Number.NEGATIVE_INFINITY;
  #failovers = 0;
  lives = 0;
  /** Commits that failed: what they were to tell is found out again. */
  unwritten = 0;
  falseLeaves = 0;
  ghosts = 0;

  constructor(deps: CheckerDeps) {
    this.#deps = deps;
    this.#stays = deps.members.map(() => ({
      present: new Set<SfuSession>(),
      sinceMs: null,
      lastSinceMs: null,
      absentSinceMs: Number.NEGATIVE_INFINITY,
      cause: 'left' as Cause,
      withNode: false,
      up: null,
      last: null,
      sessions: 0,
      newestToldMs: Number.NEGATIVE_INFINITY,
      abortedMs: Number.NEGATIVE_INFINITY,
      departureToldMs: Number.NEGATIVE_INFINITY,
      arrivalToldMs: Number.NEGATIVE_INFINITY,
      presentMs: 0,
    }));
  }

  #violate(never: Violation['never'], what: string): void {
    this.violations.push({ never, atMs: this.#deps.timeline.sinceStartMs, what });
  }

  broken(message: string): void {
    this.#violate('broken invariant', message);
  }

  #memberOf(room: RoomName, identity: Identity): Member | undefined {
    return this.#deps.members.find((member) => member.room === room && member.identities.includes(identity));
  }

  presence(session: SfuSession, present: boolean, reason: string): void {
    const member = this.#memberOf(session.room, session.identity);
    if (member === undefined) return;
    const stay = this.#stays[member.index] as Stay;
    const nowMs = this.#deps.timeline.nowMs;
    if (present) {
      stay.present.add(session);
      stay.sinceMs ??= nowMs;
      stay.sessions += 1;
      stay.newestToldMs = Math.max(stay.newestToldMs, session.toldJoinedAtMs);
      return;
    }
    stay.present.delete(session);
    const cause = CAUSES_BY_NODE[reason] ?? causeOfReason(reason);
    if (session.active) stay.up = { session, cause, untilMs: nowMs };
    else if (reason === 'SIGNAL_CLOSE') stay.abortedMs = nowMs;
    if (stay.present.size > 0 || stay.sinceMs === null) return;
    stay.presentMs += nowMs - stay.sinceMs;
    stay.lastSinceMs = stay.sinceMs;
    stay.sinceMs = null;
    stay.absentSinceMs = nowMs;
    stay.cause = cause;
    stay.withNode = this.#deps.hasRedis && reason in CAUSES_BY_NODE;
    stay.last = session;
  }

  /** A webhook is on its way in: what it says may be acted upon before it is answered. */
  comes(hook: Hook, session: SfuSession | null): void {
    const member = session === null ? undefined : this.#memberOf(session.room, session.identity);
    const stay = member === undefined ? undefined : this.#stays[member.index];
    if (stay !== undefined && hook.event === 'participant_joined') stay.arrivalToldMs = this.#deps.timeline.nowMs;
  }

  /** A webhook was answered 2xx, and said to mean something. */
  told(hook: Hook, session: SfuSession | null, verdict: Verdict): void {
    if (verdict === 'irrelevant') return;
    if (!this.#deps.isKnown(hook.onceKey) && this.#forgotMs < this.#deps.timeline.nowMs - SLACK_MS)
      this.#violate('forgotten promise', `${hook.event} was answered and is not in the store`);
    if (hook.about.kind === 'room_finished' && hook.about.roomSid !== null) this.#finished.add(hook.about.roomSid);
    if (session === null) return;
    const member = this.#memberOf(session.room, session.identity);
    const stay = member === undefined ? undefined : this.#stays[member.index];
    if (stay !== undefined) stay[hook.event === 'participant_joined' ? 'arrivalToldMs' : 'departureToldMs'] = this.#deps.timeline.nowMs;
    const told = this.#told.get(session) ?? { joinedMs: Number.POSITIVE_INFINITY, leftMs: Number.POSITIVE_INFINITY };
    const nowMs = this.#deps.timeline.nowMs;
    // What is a duplicate now was told before, perhaps of another delegation.
    if (hook.event !== 'participant_joined') told.leftMs = Math.min(told.leftMs, nowMs);
    else if (verdict !== 'duplicate') told.joinedMs = Math.min(told.joinedMs, nowMs);
    this.#told.set(session, told);
  }

  /** A row was committed. */
  wrote(row: Delegation): void {
    if (row.handles !== null) {
      const name = row.handles.kind === 'delay' ? row.handles.delayId : row.handles.leave.send.slice('send-'.length);
      // Handed over anew after its end, with which its handles were forgotten, and what had been tried.
      if (!this.#leaveOfRow.has(row.id)) this.#endedMs.delete(name);
      if (!this.#leaveOfRow.has(row.id) && this.#over.has(name)) this.#forgotten.add(name);
      this.#leaveOfRow.set(row.id, name);
    }
    const name = this.#leaveOfRow.get(row.id);
    if (name === undefined) return;
    if (row.state.kind === 'connected') this.#knows(`${name} ${row.state.session.sid}`);
    if (row.state.kind !== 'leaving' && row.state.kind !== 'settling') this.#owedSinceMs.delete(row.id);
    else if (!this.#owedSinceMs.has(row.id)) this.#owedSinceMs.set(row.id, this.#deps.timeline.nowMs);
    if (row.state.kind === 'ended' && !this.#endedMs.has(name)) this.#endedMs.set(name, this.#deps.timeline.nowMs);
    if (row.state.kind === 'ended' && row.state.outcome !== 'superseded') this.#over.add(name);
    if (row.state.kind === 'cancelling' && !this.#supersededMs.has(name)) this.#supersededMs.set(name, this.#deps.timeline.nowMs);
  }

  #knows(known: string): void {
    if (!this.#known.has(known)) this.#known.set(known, this.#deps.timeline.nowMs);
  }

  /**
   * The store failed over and lost the newest of what it had answered. Off is only what it can't hold without WAIT: a delegation of which
   * nothing is left, that nothing is called after an end that is forgotten, and that of a group whose ending is forgotten the other is not
   * tried (it finds the group final). Whatever lives on has to come right: no false leave by the old news, no ghost for longer than the next
   * list takes.
   */
  forgot(sinceMs: number, rows: ReadonlySet<string>, left: ReadonlyMap<DelegationId, State['kind']>): void {
    this.#forgotMs = this.#deps.timeline.nowMs;
    this.#failovers += 1;
    for (const told of this.#told.values()) {
      if (told.joinedMs >= sinceMs) told.joinedMs = Number.POSITIVE_INFINITY;
      if (told.leftMs >= sinceMs) told.leftMs = Number.POSITIVE_INFINITY;
    }
    for (const [id, name] of this.#leaveOfRow) {
      const kind = left.get(id);
      if (kind === undefined) this.#lost.add(id);
      if (rows.has(id)) this.#forgotten.add(name);
      if (kind !== 'ended') this.#endedMs.delete(name);
      if (kind !== 'cancelling') this.#supersededMs.delete(name);
    }
  }

  /** Since when its delegation has been promised; null: it is not, or not any more. */
  #promisedMs(member: Member, leave: DelayedLeave): number | null {
    return this.#promises(member, leave)[0] ?? null;
  }

  /** Those of them that were good at that time, the first one first. */
  #promises({ delegations }: Member, leave: DelayedLeave, atMs: number = this.#deps.timeline.nowMs): readonly number[] {
    const isPromised = ({ id, askedBackAtMs }: Delegated): boolean =>
      id !== null && (askedBackAtMs ?? Number.POSITIVE_INFINITY) > atMs && !this.#lost.has(id);
    const promises = delegations.flatMap((one) => (one.leave === leave && isPromised(one) ? (one.ackedAtMs ?? []) : []));
    return promises.toSorted((one, other) => one - other);
  }

  called(call: Call): void {
    const { leave, act, sentAtMs } = call;
    const { model } = this.#deps.homeserverOf(leave.member);
    if (this.#spokenInLife.get(model)?.life !== this.lives)
      this.#spokenInLife.set(model, { life: this.lives, sinceMs: this.#deps.timeline.nowMs });
    if (leave.endings.size > 1 && !this.#forgotten.has(leave.name)) this.#violate('two endings', leave.name);
    const endedMs = this.#endedMs.get(leave.name);
    // A restart that another replica's end overtakes on its way finds the event final, and does nothing.
    const overtakenMs = act === 'restart' && this.#deps.replicas > 1 ? OVERTAKEN_MS : 0;
    // While the store is away a replica goes by what it remembers, and another may have ended it; one that was stopped does so afterwards.
    const isFromMemory =
      act === 'restart' && this.#deps.replicas > 1 && this.#deps.wellness.since('store', 'service') >= sentAtMs - SLACK_MS;
    if (endedMs !== undefined && sentAtMs > endedMs + overtakenMs && !isFromMemory) {
      this.#violate('call after an end', `${act} of ${leave.name}, ${sentAtMs - endedMs} ms after`);
    }
    if (act === 'restart') this.#restarted(call);
    if (act === 'cancel' && call.took) this.#cancelled(leave);
  }

  /** A hand-over has come to a process that is stopped, and reads it only later: nothing tells then that it is older than others. */
  heldUp(room: RoomName, identities: readonly Identity[]): void {
    for (const identity of identities) {
      const member = this.#memberOf(room, identity);
      if (member !== undefined) this.#heldUp.add(member.index);
    }
  }

  /** Of two events the older one is cancelled: with the newest, its member would have none that ends anything. */
  #cancelled(leave: DelayedLeave): void {
    // Nor does anything where a clock was set back just before: the older one seems to have come while the newer one was looked up.
    const isSetBack = this.#clockBehindMs >= this.#deps.timeline.nowMs - LONGEST_LOOK_UP_MS - CLOCK_SET_MS;
    if (this.#deps.members[leave.member]?.leave === leave && !this.#heldUp.has(leave.member) && !isSetBack)
      this.#violate('ghost', `${leave.name} was cancelled, and is the newest`);
  }

  /** No evidence, no restart: a lease, not a hope. */
  #restarted({ leave, sentAtMs, took }: Call): void {
    const lately = [...(this.#lately.get(leave.name) ?? []), sentAtMs].filter((ms) => ms > sentAtMs - HASTE_MS);
    this.#lately.set(leave.name, lately);
    if (lately.length === MOST_IN_HASTE * this.#deps.replicas) {
      this.#violate('too many calls', `${lately.length} restarts of ${leave.name} within ${HASTE_MS} ms`);
    }
    this.#restarts.set(leave.name, (this.#restarts.get(leave.name) ?? 0) + 1);
    if (!took) this.#inVain.set(leave.name, (this.#inVain.get(leave.name) ?? 0) + 1);
    const stay = this.#stays[leave.member] as Stay;
    const leaseMs = Math.max(2_000, Math.min(this.#deps.policy.presenceIntervalMs, leave.delayMs / 2));
    // Evidence may grow as old again while the call waits for its turn.
    const evidenceMs = Math.max(stay.absentSinceMs, stay.arrivalToldMs);
    if (
      stay.sinceMs === null &&
      sentAtMs - Math.max(evidenceMs, this.#believedMs(leave.member)) > 2 * leaseMs + SLOW_KNOWLEDGE_MS &&
      !this.#isWaitedFor(stay, sentAtMs) &&
      this.#clockBehindMs < stay.absentSinceMs
    ) {
      this.#violate('ghost', `${leave.name} was restarted for somebody who had been gone for ${sentAtMs - stay.absentSinceMs} ms`);
    }
  }

  /** Until when a node is believed which has said that it has somebody who is not listed. */
  #believedMs(index: number): number {
    const { room, identities } = this.#deps.members[index] as Member;
    return Math.max(...identities.map((identity) => this.#deps.foundMs(room, identity))) + HOSTED_MS;
  }

  /** Who may be back with their SFU is kept for as long as that takes. */
  #isWaitedFor({ cause, absentSinceMs, withNode }: Stay, nowMs: number): boolean {
    if (cause !== 'sfu_down' && !withNode) return false;
    const fromMs =
      (this.#deps.sfuBackMs(absentSinceMs, nowMs) ?? absentSinceMs) + (withNode ? LOST_NODE_MS + this.#deps.policy.presenceIntervalMs : 0);
    return nowMs <= fromMs + this.#deps.policy.waitMs.sfuDown + SLOW_KNOWLEDGE_MS;
  }

  soughtInVain(what: 'room' | 'session', room: RoomName, forMs: number): void {
    this.#soughtUntilMs[what].set(room, this.#deps.timeline.nowMs + forMs);
  }

  /** How much longer a list may have taken since then: while a node is asked for somebody in vain it waits for that (sfu/unlisted.ts). */
  #listWaitsMs(room: RoomName, sinceMs: number): number {
    return (this.#soughtUntilMs.session.get(room) ?? Number.NEGATIVE_INFINITY) >= sinceMs ? NODES_MS : 0;
  }

  looked(room: string): void {
    const looks = this.#looks.get(room) ?? [];
    looks.push(this.#deps.timeline.nowMs);
    this.#looks.set(room, looks);
  }

  acked(id: DelegationId): void {
    if (!this.#deps.isKept(id) && !this.#lost.has(id)) this.#violate('forgotten promise', `${id} was answered and is not in the store`);
  }

  /** A leave is in the room. Was somebody there whom lastwill could know of? */
  left(leave: DelayedLeave, sentAtMs: number | null): void {
    const member = this.#deps.members[leave.member] as Member;
    const stay = this.#stays[leave.member] as Stay;
    const wasJoined = member.joined;
    member.joined = false;
    if (!wasJoined) return;
    // On its way since before they went: what counts is whether they were there when it was sent.
    const sentBefore = sentAtMs !== null && stay.sinceMs === null && sentAtMs < stay.absentSinceMs;
    const sinceMs = sentBefore ? stay.lastSinceMs : stay.sinceMs;
    if (sinceMs === null) {
      if (sentAtMs !== null) this.#checkWait(leave, sentAtMs, stay);
      return;
    }
    const why =
      sentAtMs === null ? this.#ranOut(leave, this.#promisedMs(member, leave), stay) : this.#sentUnder(leave, sentAtMs, sinceMs, stay);
    if (why === null) return;
    this.falseLeaves += 1;
    this.#violate('false leave', `${leave.name} of m${leave.member}: ${why}`);
  }

  /**
   * A process started by a clock that is so far ahead of that of the process before it, or behind. For how long nobody ran can't be told then:
   * waits for a return may be over sooner, and what was evidence may be older. Nobody is taken out by that who is there: the SFU is asked.
   */
  startedBy(aheadMs: number): void {
    this.#startedMs = this.#deps.timeline.nowMs;
    if (aheadMs > 0) this.#clockAheadMs = this.#deps.timeline.nowMs;
    if (aheadMs < 0) this.#clockBehindMs = this.#deps.timeline.nowMs;
  }

  /** Whoever may be about to come back is given the time for it. */
  #checkWait(leave: DelayedLeave, sentAtMs: number, stay: Stay): void {
    const told = stay.last === null ? undefined : this.#told.get(stay.last);
    if (stay.last === null || told === undefined) return;
    // An attempt that was aborted makes nothing undone of what its member was on the way back from, and once it is told the wait begins anew; not
    // where it was over before, and the leave only had not been taken yet.
    const aborted = !stay.last.active && stay.cause === 'lost' && stay.up?.cause === 'sfu_down';
    const up = aborted ? stay.up : { session: stay.last, cause: stay.cause, untilMs: stay.absentSinceMs };
    // An SFU that was killed tells nothing, and yet it shows: the room is another one.
    if (up === null || (told.leftMs === Number.POSITIVE_INFINITY && up.cause !== 'sfu_down')) return;
    if (told.leftMs === Number.POSITIVE_INFINITY && stay.withNode && (this.#deps.listsByNode || up.session.wasUnlisted)) return;
    // Nor does it where a node that has woken up, or an operator, has ended a room of the same SID, in which they seem to have been.
    if (stay.withNode && this.#finished.has(up.session.roomSid) && this.#deps.hasEndedElsewhere(up.session.roomSid)) return;
    // Nor is it known which session is the newest if the SFU's clock was set back between them, and the older one is told of late.
    if (stay.withNode && up.session.toldJoinedAtMs < stay.newestToldMs) return;
    // Nor does an attempt to come back tell that it was from a node that was killed: with a Redis the room keeps its SID.
    if (aborted && this.#deps.hasRedis && (this.#told.get(up.session)?.leftMs ?? Number.POSITIVE_INFINITY) === Number.POSITIVE_INFINITY)
      return;
    // Only where lastwill knows all that there is to know: otherwise it may be weighing an older departure.
    if ((this.#told.get(up.session)?.joinedMs ?? Number.POSITIVE_INFINITY) > up.untilMs) return;
    // A leave that was handed over later belongs to somebody who has not come yet.
    const [promisedMs] = this.#promises(this.#deps.members[leave.member] as Member, leave, sentAtMs);
    if (promisedMs === undefined || promisedMs > up.untilMs) return;
    // Nor may one that was handed over after the word of the join have found who joined, if nobody could be asked.
    const isToldOf = (this.#told.get(up.session)?.joinedMs ?? 0) > promisedMs;
    if (!isToldOf && this.#deps.wellness.since('service', 'store', 'sfu api') > promisedMs) return;
    const { waitMs: waits } = this.#deps.policy;
    const waitMs = up.cause === 'sfu_down' ? waits.sfuDown : Math.min(waitMsOf(up.cause, this.#deps.policy), waits.missing);
    // Clients of an SFU that was down for longer than they are waited for can't be back before it is.
    const waitedMs = (this.#deps.sfuBackMs(up.untilMs, up.untilMs + waitMs) ?? up.untilMs) + waitMs;
    const isTooLate = told.leftMs > sentAtMs || told.leftMs >= waitedMs || stay.last.joinedAtMs >= up.untilMs + waitMs;
    const awayMs = aborted && isTooLate ? up.untilMs : stay.absentSinceMs;
    const backMs = up.cause === 'sfu_down' ? this.#deps.sfuBackMs(awayMs, awayMs + waitMs) : undefined;
    // A question that was on its way when the SFU was back is answered, and counts from when it was put.
    const onItsWayMs = backMs !== undefined && this.#deps.sfuSlow ? SLOW_WAY_MS : 0;
    const earliestMs = (backMs ?? awayMs) - onItsWayMs + waitMs;
    if (sentAtMs >= earliestMs - CLOCKS_MS || Math.max(this.#clockAheadMs, this.#clockBehindMs) >= stay.absentSinceMs) return;
    this.#violate(
      'false leave',
      `${leave.name} was sent ${earliestMs - sentAtMs} ms before the wait for a return [${stay.cause}] was over`,
    );
  }

  /** When the present stay was told by a webhook; infinite: not yet. */
  #joinToldMs(stay: Stay): number {
    return Math.min(...[...stay.present].map((session) => this.#told.get(session)?.joinedMs ?? Number.POSITIVE_INFINITY));
  }

  /** Sent by lastwill: it has to have asked, or been told. */
  #sentUnder(leave: DelayedLeave, sentAtMs: number, sinceMs: number, stay: Stay): string | null {
    const { policy, wellness, sfuSlow } = this.#deps;
    const { room } = this.#deps.members[leave.member] as Member;
    const knowledgeMs = (sfuSlow ? SLOW_KNOWLEDGE_MS : KNOWLEDGE_MS) + this.#listWaitsMs(room, sentAtMs - NODES_MS);
    if (this.#isUnknown(leave, sentAtMs, stay)) return null;
    if (this.#joinToldMs(stay) <= sentAtMs - knowledgeMs) return 'sent although a webhook had told of the participant';
    if (sinceMs > sentAtMs - knowledgeMs) return null;
    if (wellness.since('sfu api') >= sinceMs) return this.#onAWord(sentAtMs, sinceMs, stay);
    // By the operator's wish the webhook alone decides.
    if (policy.waitMs.left === 0 || policy.waitMs.lost === 0) return null;
    return `sent although the participant had been there for ${sentAtMs - sinceMs} ms`;
  }

  /** The SFU does not list them, and no process had been told of them by then, nor is in the store that they were there. */
  #isUnknown(leave: DelayedLeave, sentAtMs: number, stay: Stay): boolean {
    if (this.#joinToldMs(stay) >= this.#startedMs && this.#joinToldMs(stay) <= sentAtMs) return false;
    const isStored = ({ sid }: SfuSession): boolean => (this.#known.get(`${leave.name} ${sid}`) ?? Number.POSITIVE_INFINITY) <= sentAtMs;
    return [...stay.present].every((session) => !this.#deps.isListed(session) && !isStored(session));
  }

  /** Nobody could be asked: then there was a webhook's word, or an absence that was seen before. */
  #onAWord(sentAtMs: number, sinceMs: number, stay: Stay): string | null {
    const { waitMs, presenceIntervalMs } = this.#deps.policy;
    const fromMs = sentAtMs - Math.max(...Object.values(waitMs)) - presenceIntervalMs - RECOVERY_MS;
    return stay.departureToldMs >= fromMs || sinceMs >= fromMs ? null : 'sent although nobody had said that they had left';
  }

  /** Run out: it was to be restarted, or cancelled, while everything was well. */
  #ranOut(leave: DelayedLeave, promisedMs: number | null, stay: Stay): string | null {
    const { timeline, wellness, policy, sfuSlow } = this.#deps;
    const { model, part } = this.#deps.homeserverOf(leave.member);
    if (promisedMs === null || model.hasLimit || this.#isUnknown(leave, timeline.nowMs, stay)) return null;
    // A second and a half leaves no time for any fault: it is judged where there is none.
    if (leave.delayMs < SHORTEST_JUDGED_MS && timeline.sinceStartMs < FAULTY_MS + SHORTEST_JUDGED_MS) return null;
    const nowMs = timeline.nowMs;
    const beganMs = nowMs - leave.delayMs;
    // A store that is away costs nobody who had been kept alive before, unless who remembered them died; behind a network it has to be read
    // for that before it goes.
    const readMs = this.#deps.replicas > 1 ? Math.min(beganMs, wellness.brokeMs('store')) : beganMs;
    const isRemembered = this.#restarts.has(leave.name) && wellness.since('service') < readMs - policy.presenceIntervalMs;
    const wellMs = isRemembered ? wellness.since('sfu api', part) : wellness.since('service', 'store', 'sfu api', part);
    const supersededMs = this.#supersededMs.get(leave.name);
    const sinceMs = stay.sinceMs as number;
    // Told by a webhook, or found when it is asked for the last time.
    const knownMs = Math.min(
      this.#joinToldMs(stay),
      sinceMs <= beganMs + leave.delayMs * 0.8 - SLOW_KNOWLEDGE_MS ? sinceMs : Number.POSITIVE_INFINITY,
    );
    const fromMs = Math.max(beganMs + leave.delayMs * 0.85, knownMs, promisedMs, supersededMs ?? 0);
    // The question to the SFU and the way to the homeserver take their time, and a short delay has little.
    const { room } = this.#deps.members[leave.member] as Member;
    const slowMs = (sfuSlow ? SLOW_KNOWLEDGE_MS : 0) + this.#listWaitsMs(room, fromMs) + model.slowestWayMs;
    const inTimeMs = Math.min(SLACK_MS, leave.delayMs * 0.05) + slowMs;
    if (fromMs + inTimeMs > nowMs) return null;
    // By a clock that was set back while nobody ran less of the delay is over than it is, and nothing shows it.
    if (this.#clockBehindMs >= beganMs) return null;
    // While the SFU looks for the node of the room whoever is asked about waits, and what is to be done for them after that.
    if ((this.#soughtUntilMs.room.get(room) ?? Number.NEGATIVE_INFINITY) > fromMs) return null;
    // Trouble in the last part of a delay needs time to be mended.
    if (wellMs > beganMs + leave.delayMs * 0.7 - policy.presenceIntervalMs / 10 && wellMs + 4_000 + leave.delayMs / 4 > nowMs) return null;
    // An absence that is being weighed when the participant comes back without a word is found out when the wait is over. That the client has
    // restarted its event meanwhile is known to nobody else.
    const restartedMs = this.#lately.get(leave.name)?.at(-1) ?? promisedMs;
    const notTold = this.#joinToldMs(stay) === Number.POSITIVE_INFINITY && sinceMs > restartedMs;
    if (notTold && nowMs - sinceMs < policy.presenceIntervalMs + SLACK_MS) return null;
    return `ran out ${nowMs - fromMs} ms after it could have been ${supersededMs === undefined ? 'restarted' : 'cancelled'}`;
  }

  /** To be called after every step: is somebody gone for longer than promised? */
  watch(): void {
    for (const member of this.#deps.members) {
      const deadlineMs = this.#deadlineOf(member);
      if (deadlineMs === null || this.#deps.timeline.nowMs <= deadlineMs) continue;
      const leave = member.leave as DelayedLeave;
      if (this.#seenGhost.has(leave)) continue;
      this.#seenGhost.add(leave);
      this.ghosts += 1;
      const stay = this.#stays[member.index] as Stay;
      this.#violate(
        'ghost',
        `m${member.index} [${stay.cause}], ${leave.name}, gone for ${this.#deps.timeline.nowMs - stay.absentSinceMs} ms`,
      );
    }
  }

  /** Until when the leave of somebody who is not there has to be in the room; null: nobody owes it. */
  #deadlineOf(member: Member): number | null {
    const { policy, wellness } = this.#deps;
    const stay = this.#stays[member.index] as Stay;
    const { leave } = member;
    if (!member.joined || leave === null || leave.final !== null || stay.sinceMs !== null) return null;
    // Who hands over once more has the time to connect anew, unless they were known to have come after the first time.
    const promises = this.#promises(member, leave);
    const [firstMs, lastMs] = [promises[0], promises.at(-1)];
    if (firstMs === undefined || lastMs === undefined) return null;
    const toldMs = (stay.last === null ? undefined : this.#told.get(stay.last)?.joinedMs) ?? Number.POSITIVE_INFINITY;
    const promisedMs = toldMs < Number.POSITIVE_INFINITY && stay.absentSinceMs > firstMs ? firstMs : lastMs;
    const { model, part } = this.#deps.homeserverOf(member.index);
    const wellMs = wellness.since('service', 'store', 'sfu api', 'sfu lists', part, `sender ${member.index}`);
    const bound = this.#boundOf(member.index, stay, promisedMs, leave.delayMs);
    const troubled = wellMs >= bound.fromMs;
    const waits = Object.values(policy.waitMs);
    const spoken = this.#spokenInLife.get(model);
    const isKnown = this.#deps.replicas === 1 && spoken?.life === this.lives && spoken.sinceMs <= stay.absentSinceMs;
    const moreMs = (model.hasLimit ? 10_000 : 0) + (isKnown ? 0 : model.findingOutMs);
    if (!troubled) return bound.untilMs + moreMs;
    // A minute after an event's end it lives only by its own client, and its leave is tried once a minute.
    const endedMs = (this.#lately.get(leave.name)?.at(-1) ?? promisedMs) + leave.delayMs + 60_000;
    const recoveryMs = wellMs >= endedMs ? RECOVERY_MS + 60_000 : RECOVERY_MS;
    return Math.max(bound.untilMs, wellMs + Math.max(...waits) + policy.presenceIntervalMs + recoveryMs) + moreMs;
  }

  #boundOf(index: number, stay: Stay, ackedAtMs: number, delayMs: number): { readonly fromMs: number; readonly untilMs: number } {
    const { policy, wellness } = this.#deps;
    const believedMs = Math.max(this.#believedMs(index) - stay.absentSinceMs, 0);
    const nodesMs = stay.withNode ? Math.max(LOST_NODE_MS, believedMs) : believedMs;
    const missedMs = policy.presenceIntervalMs + SLACK_MS + Math.max(policy.waitMs.missing, policy.waitMs.sfuDown) + SLACK_MS + nodesMs;
    if (stay.last === null || stay.absentSinceMs < ackedAtMs) {
      // By a clock that was set back they have only just been handed over.
      const connectByMs = Math.max(ackedAtMs, this.#clockBehindMs) + Math.min(delayMs, policy.connectTimeoutMs, 300_000);
      // An old word of a join, come late, is weighed as an absence that is found by a list.
      const wordMs = stay.arrivalToldMs + Math.max(policy.waitMs.missing, policy.waitMs.sfuDown) + SLACK_MS;
      // Whose node was killed are listed all the same.
      const lostMs = stay.withNode ? stay.absentSinceMs + missedMs : Number.NEGATIVE_INFINITY;
      const untilMs = Math.max(connectByMs, stay.abortedMs + policy.waitMs.aborted, wordMs, lostMs) + SLACK_MS;
      return { fromMs: Math.min(ackedAtMs, stay.absentSinceMs), untilMs };
    }
    const told = this.#told.get(stay.last);
    const joined = told !== undefined && told.joinedMs < Number.POSITIVE_INFINITY;
    const toldMs = told?.leftMs ?? Number.POSITIVE_INFINITY;
    // Gone right after the hand-over, before a list could show it: it might be the departure of an older client.
    const sfuBackMs = wellness.since('sfu api');
    const askedMs = sfuBackMs > ackedAtMs ? sfuBackMs + RECOVERY_MS : ackedAtMs + 2_000;
    if (stay.last.joinedAtMs < ackedAtMs && stay.absentSinceMs < askedMs) {
      // Where no webhook told of it either, it might be somebody who has not come yet.
      const isTold = toldMs < Number.POSITIVE_INFINITY;
      const knownMs = isTold ? toldMs : ackedAtMs + Math.min(delayMs, policy.connectTimeoutMs, 300_000);
      return { fromMs: stay.absentSinceMs, untilMs: Math.max(knownMs, stay.absentSinceMs) + policy.waitMs.aborted + missedMs };
    }
    // A connection that never was one leaves the time for another.
    const aborted = !stay.last.active && stay.cause === 'lost';
    // Come and gone between two looks, or while nothing could be written, and no word of it: lastwill waits for somebody who has not come yet.
    const unseen = !joined && toldMs === Number.POSITIVE_INFINITY && stay.last.joinedAtMs > ackedAtMs;
    const unwritten = wellness.since('service', 'store', 'sfu api') > stay.last.joinedAtMs;
    if (unseen && (unwritten || stay.absentSinceMs - stay.last.joinedAtMs < policy.presenceIntervalMs + SLACK_MS)) {
      const connectByMs = ackedAtMs + Math.min(delayMs, policy.connectTimeoutMs, 300_000);
      const foundMs = stay.absentSinceMs + missedMs + policy.waitMs.aborted;
      return { fromMs: stay.absentSinceMs, untilMs: Math.max(connectByMs, foundMs) + SLACK_MS };
    }
    if (toldMs === Number.POSITIVE_INFINITY || !joined || aborted) {
      return { fromMs: stay.absentSinceMs, untilMs: stay.absentSinceMs + missedMs + policy.waitMs.aborted + SLACK_MS };
    }
    // Taken over in a room that is gone: whoever took over may have been forgotten with it.
    const forgotten = stay.cause === 'replaced' && this.#deps.roomSidOf(stay.last.room) !== stay.last.roomSid;
    if (stay.cause === 'sfu_down' || forgotten || wellness.since('webhooks') > stay.absentSinceMs)
      return { fromMs: stay.absentSinceMs, untilMs: Math.max(toldMs, stay.absentSinceMs) + missedMs };
    const untilMs = toldMs + waitMsOf(stay.cause, policy) + SLACK_MS + this.#listWaitsMs(stay.last.room, stay.absentSinceMs);
    return { fromMs: Math.min(stay.absentSinceMs, toldMs), untilMs };
  }

  /** Whether somebody is not out yet who went with their node: nothing may have shown so far that it was killed. */
  get waitsForNode(): boolean {
    return this.#deps.members.some(({ index, joined }) => joined && this.#stays[index]?.sinceMs === null && this.#stays[index].withNode);
  }

  /** When all faults have been over for long enough: what was owed has arrived, what lives is kept, and no more was asked than promised. */
  end(rows: readonly Delegation[], wellSinceMs: number): void {
    const nowMs = this.#deps.timeline.nowMs;
    for (const { id, state } of rows) {
      if (state.kind === 'cancelling' || state.kind === 'leaving' || state.kind === 'settling') {
        const name = this.#leaveOfRow.get(id) ?? id;
        const { model } = this.#deps.homeserverOf(Number(/^d(\d+)-/.exec(name)?.[1] ?? 0));
        const sinceMs = state.kind === 'cancelling' ? wellSinceMs : (this.#owedSinceMs.get(id) ?? wellSinceMs);
        if (!model.hasLimit && nowMs - sinceMs > 90_000) this.#violate('forgotten promise', `${name} is still ${state.kind}`);
      }
    }
    for (const [index, stay] of this.#stays.entries()) this.#checkRestarts(index, stay, nowMs);
    for (const [room, looks] of this.#looks) {
      const late = looks.filter((atMs) => atMs > nowMs - 60_000).length;
      if (late > 70 + 20 * (this.#deps.replicas - 1)) this.#violate('too many calls', `${late} questions about ${room} in the last minute`);
    }
  }

  #checkRestarts(index: number, stay: Stay, nowMs: number): void {
    const member = this.#deps.members[index] as Member;
    for (const { leave, ackedAtMs } of member.delegations) {
      if (ackedAtMs === null) continue;
      const restarts = this.#restarts.get(leave.name) ?? 0;
      const most = Math.ceil((nowMs - ackedAtMs) / (0.7 * leave.delayMs)) + 3 * this.#deps.replicas * (stay.sessions + this.lives) + 5;
      const { model } = this.#deps.homeserverOf(index);
      const inVain = this.#inVain.get(leave.name) ?? 0;
      if (inVain > 3 + this.lives + this.#failovers + this.unwritten + model.troubles)
        this.#violate('too many calls', `${inVain} restarts of ${leave.name}, which was final`);
      if (restarts > most + model.troubles)
        this.#violate('too many calls', `${restarts} restarts of ${leave.name}, at most ${most} are needed`);
    }
  }

  /** Time on the SFU of all members, in ms. */
  get presentMs(): number {
    const nowMs = this.#deps.timeline.nowMs;
    return this.#stays.reduce((sum, { presentMs, sinceMs }) => sum + presentMs + (sinceMs === null ? 0 : nowMs - sinceMs), 0);
  }
}
