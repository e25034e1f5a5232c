// A simulated world: the SFU, the homeservers, the members and the replicas of one plan, on one time line, and its judge.
import type { DelegationId, HomeserverUrl, RoomName } from '../../src/delegation/ids.ts';
import type { Delegation } from '../../src/delegation/state.ts';
import type { Engine, Verdict } from '../../src/engine/engine.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import { Chance } from './chance.ts';
import { Checker, LOST_NODE_MS, type Violation } from './checker.ts';
import { Member, type Service } from './member.ts';
import { ModelHomeserver, type Moods } from './model-homeserver.ts';
import { type Hook, ModelSfu, type SfuSession } from './model-sfu.ts';
import { createModelSightings, Disk, LONGEST_TAIL_MS, ModelStore } from './model-store.ts';
import { FAULTY_MS, type HomeserverPlan, hasNodes, type OutageKind, type OutagePlan, type Plan } from './plan.ts';
import { Replica } from './replica.ts';
import { type Process, Timeline } from './timeline.ts';
import { createTornStore } from './torn-store.ts';
import { type Part, Wellness } from './wellness.ts';

export interface Result {
  readonly violations: readonly Violation[];
  readonly simulatedMs: number;
  /** Time on the SFU of all participants. */
  readonly presentMs: number;
  readonly falseLeaves: number;
  readonly ghosts: number;
}

const URLS: readonly HomeserverUrl[] = ['https://one.example' as HomeserverUrl, 'https://two.example' as HomeserverUrl];
const MOODS: Partial<Record<OutageKind, keyof Moods>> = {
  'homeserver-down': 'down',
  'homeserver-stalled': 'stalled',
  'homeserver-5xx': 'failing',
  'homeserver-garbage': 'garbage',
  'homeserver-loses-answers': 'losing',
  'homeserver-refuses': 'refusing',
  'homeserver-limits': 'limiting',
};
const HOUR_MS = 3_600_000;
/** How far wall clocks are set: all of them, or the SFU's alone, which is off others by less than two seconds (README). */
const CLOCK_SETS = [
  { whose: 'all', byMs: HOUR_MS },
  { whose: 'all', byMs: -HOUR_MS },
  { whose: 'all', byMs: 3_000 },
  { whose: 'all', byMs: -3_000 },
  { whose: 'sfu', byMs: 1_500 },
  { whose: 'sfu', byMs: -1_500 },
] as const;
const RESTART_MS = [300, 3_000] as const;

export class World {
  readonly timeline = new Timeline();
  readonly #plan: Plan;
  readonly #chance: Chance;
  readonly #wellness: Wellness;
  readonly #disk = new Disk();
  readonly #sfu: ModelSfu;
  readonly #homeservers: readonly ModelHomeserver[];
  readonly #members: readonly Member[];
  readonly #replicas: Replica[] = [];
  readonly #checker: Checker;
  readonly #sessionOfHook = new Map<Hook, SfuSession | null>();
  /** What waits for an answer of a process: the connection breaks when it dies. */
  readonly #open = new Map<Process, Set<() => void>>();
  readonly #trace: (text: string) => void;
  #faulty = true;
  /** Ends what is wrong with those who send too much. */
  #talkative: readonly (() => void)[] = [];
  /** How far wall clocks are off. */
  readonly #wallOffMs = { all: 0, sfu: 0 };
  #storeAway = 0;
  #webhooksAway = 0;

  constructor(plan: Plan, trace: (line: string) => void = () => {}) {
    this.#plan = plan;
    this.#trace = (text) => trace(`${(this.timeline.sinceStartMs / 1_000).toFixed(3).padStart(9)} ${text}`);
    this.#chance = new Chance(plan.seed);
    this.#wellness = new Wellness(() => this.timeline.nowMs);
    this.#sfu = this.#createSfu();
    this.#homeservers = plan.homeservers.map((homeserver, index) => this.#createHomeserver(index, homeserver));
    const service = this.#service();
    this.#members = plan.members.map((member, index) => {
      const homeserver = this.#homeserverOf(index);
      const parts = { timeline: this.timeline, chance: this.#chance, sfu: this.#sfu, homeserver, trace: this.#trace };
      return new Member({ ...parts, index, plan: member, homeserverUrl: URLS[member.homeserver] as HomeserverUrl, service });
    });
    this.#checker = new Checker({
      timeline: this.timeline,
      wellness: this.#wellness,
      policy: plan.policy,
      members: this.#members,
      homeserverOf: (index) => ({ model: this.#homeserverOf(index), part: `homeserver ${plan.members[index]?.homeserver ?? 0}` }),
      isListed: (session) => this.#sfu.isListed(session),
      foundMs: (room, identity) => this.#sfu.foundMs(room, identity),
      roomSidOf: (room) => this.#sfu.list(room).roomSid,
      hasEndedElsewhere: (room) => this.#sfu.endedElsewhere.has(room),
      sfuBackMs: (...away) => this.#sfu.backMs(...away),
      isKept: (id) => this.#disk.rows.has(id),
      isKnown: (onceKey) => this.#disk.once.has(onceKey),
      sfuSlow: plan.rates.sfuSlow > 0,
      hasRedis: hasNodes(plan),
      listsByNode: this.#sfu.listsByNode,
      replicas: plan.replicas,
    });
    for (let index = 0; index < plan.replicas; index += 1) this.#replicas.push(this.#createReplica(index));
  }

  async run(): Promise<Result> {
    this.#schedule();
    const start = this.timeline.nowMs;
    const { waitMs, presenceIntervalMs, connectTimeoutMs } = this.#plan.policy;
    await this.#until(start + FAULTY_MS);
    this.#mend();
    const nodesMs = this.#checker.waitsForNode ? LOST_NODE_MS : 0;
    const calmMs = connectTimeoutMs + 2 * presenceIntervalMs + Math.max(...Object.values(waitMs)) + 60_000 + nodesMs;
    const wellSinceMs = this.timeline.nowMs;
    await this.#until(wellSinceMs + calmMs);
    this.#checker.end(
      [...this.#disk.rows.values()].map(({ row }) => row),
      wellSinceMs,
    );
    const { violations, presentMs, falseLeaves, ghosts } = this.#checker;
    return { violations, simulatedMs: this.timeline.sinceStartMs, presentMs, falseLeaves, ghosts };
  }

  async #until(atMs: number): Promise<void> {
    await this.timeline.runUntil(atMs, () => this.#checker.watch());
  }

  #schedule(): void {
    this.#talkative = this.#plan.members.flatMap(({ sendsTooMuch }, index) =>
      sendsTooMuch ? [this.#wellness.break(`sender ${index}`)] : [],
    );
    let atMs = 0;
    for (const step of this.#plan.steps) {
      atMs += step.afterMs;
      const member = this.#members[step.member % this.#members.length] as Member;
      if (atMs >= FAULTY_MS) break;
      this.timeline.after(atMs, () => member.do(step.deed, step.forMs));
      if (step.trouble !== null)
        this.#scheduleOutage({ ...step.trouble, atMs: atMs + step.trouble.afterMs, which: member.plan.homeserver });
    }
    for (const member of this.#members) {
      const { joinsAtMs } = member.plan;
      if (joinsAtMs !== null) this.timeline.after(joinsAtMs, () => member.do('join', joinsAtMs % 6_000));
    }
    for (const outage of this.#plan.outages) this.#scheduleOutage(outage);
  }

  #scheduleOutage(outage: OutagePlan): void {
    if (outage.atMs < FAULTY_MS) this.timeline.after(outage.atMs, () => this.#begin(outage));
  }

  /** The end of all faults: from here on everything has to come right. */
  #mend(): void {
    this.#trace('--- all faults are over ---');
    this.#faulty = false;
    for (const mended of this.#talkative) mended();
  }

  #rate(rate: number): number {
    return this.#faulty ? rate : 0;
  }

  #createSfu(): ModelSfu {
    const rates = (): Plan['rates'] => this.#plan.rates;
    const rate = (of: number): number => this.#rate(of);
    const sfu: ModelSfu = new ModelSfu({
      timeline: this.timeline,
      chance: this.#chance,
      hasRedis: hasNodes(this.#plan),
      deliver: (hook) => this.#deliver(hook),
      rates: {
        get webhookLost() {
          return rate(rates().webhookLost);
        },
        get webhookDoubled() {
          return rate(rates().webhookDoubled);
        },
        get webhookLate() {
          return rate(rates().webhookLate);
        },
      },
      trace: this.#trace,
      onPresence: (session, present, reason) => this.#checker.presence(session, present, reason),
    });
    sfu.wallOffMs = () => this.#wallOffMs.all + this.#wallOffMs.sfu;
    sfu.onHook = (hook, session) => this.#sessionOfHook.set(hook, session);
    return sfu;
  }

  #createHomeserver(index: number, plan: HomeserverPlan): ModelHomeserver {
    const first = index === 0;
    // One homeserver takes the as_token, and dialect D takes nothing else.
    const dialect = !first && plan.dialect === 'D' ? 'C' : plan.dialect;
    const rate = (): number => this.#rate(this.#plan.rates.homeserverFails);
    return new ModelHomeserver({
      timeline: this.timeline,
      chance: this.#chance,
      plan: { ...plan, dialect, asToken: first && (plan.asToken || dialect === 'D') && dialect !== 'A' },
      url: URLS[index] as HomeserverUrl,
      get failRate() {
        return rate();
      },
      trace: this.#trace,
      sendsTooMuch: (member) => this.#faulty && (this.#plan.members[member]?.sendsTooMuch ?? false),
      onFault: () => this.#wellness.blip(`homeserver ${index}`),
      onCall: (call) => {
        this.#trace(
          `homeserver: ${call.act} of ${call.leave.name}${call.took ? '' : ' (final)'}, sent ${this.timeline.nowMs - call.sentAtMs} ms ago`,
        );
        this.#checker.called(call);
      },
      onLeave: (leave, sentAtMs) => this.#checker.left(leave, sentAtMs),
      mayDie: (process, where) => this.#mayDie(process, where),
    });
  }

  #homeserverOf(member: number): ModelHomeserver {
    return this.#homeservers[this.#plan.members[member]?.homeserver ?? 0] as ModelHomeserver;
  }

  #createReplica(index: number): Replica {
    const [own] = this.#homeservers;
    const skewMs = index === 0 ? 0 : this.#plan.skewMs * (index % 2 === 0 ? 1 : -1);
    return new Replica({
      name: `lastwill ${index}`,
      timeline: this.timeline,
      chance: this.#chance,
      sfu: this.#sfu,
      homeservers: new Map(URLS.map((url, at) => [url, this.#homeservers[at] as ModelHomeserver])),
      ownHomeserver: own?.takesAsToken ? (URLS[0] as HomeserverUrl) : null,
      policy: this.#plan.policy,
      skewMs,
      wallOffMs: () => this.#wallOffMs.all,
      sfuSlow: this.#plan.rates.sfuSlow,
      openStore: (process) => this.#openStore(process),
      sightings: this.#plan.replicas > 1 ? createModelSightings(this.#disk, skewMs, () => this.#storeAway > 0) : undefined,
      mayDie: (process, where) => this.#mayDie(process, where),
      onLook: (room) => this.#checker.looked(room),
      onSoughtInVain: (what, room, forMs) => this.#checker.soughtInVain(what, room, forMs),
      onSin: (sin) => this.#trace(`lastwill: counts a ${sin}`),
      onBroken: (message, fields) => this.#checker.broken(`${message} ${JSON.stringify(fields, nameErrors)}`),
    });
  }

  #openStore(process: Process) {
    this.#checker.lives += 1;
    const shared = this.#plan.replicas > 1;
    const base = new ModelStore({
      disk: this.#disk,
      clock: process.clock(),
      onWrite: (row) => this.#wrote(row),
      ...(shared ? { claims: this.#disk.claims } : {}),
    });
    const failRate = (): number => this.#rate(this.#plan.rates.storeFails);
    return createTornStore({
      base,
      process,
      chance: this.#chance,
      isAway: () => this.#storeAway > 0,
      remote: shared,
      get failRate() {
        return failRate();
      },
      onFault: () => {
        this.#wellness.blip('store');
        this.#checker.unwritten += 1;
      },
      wait: (ms) => this.timeline.wait(ms),
      mayDie: (where, at) => this.#mayDie(where, at),
    });
  }

  #wrote(row: Delegation): void {
    const { state } = row;
    const more = state.kind === 'ended' ? `${state.outcome}${state.sin === null ? '' : `, a ${state.sin}`}` : '';
    this.#trace(`store: ${row.id.slice(0, 8)} of ${row.identities[0]} is ${state.kind} ${more} by ${row.history.at(-1)?.event}`);
    this.#checker.wrote(row);
  }

  #mayDie(process: Process, where: string): void {
    if (!process.alive || !this.#chance.happens('killed', this.#rate(this.#plan.rates.killed))) return;
    const replica = this.#replicas.find((one) => one.process === process);
    if (replica === undefined) return;
    this.#trace(`${replica.name}: killed, ${where}`);
    this.#kill(replica, this.#chance.between('starts again', ...RESTART_MS));
  }

  #kill(replica: Replica, forMs: number): void {
    const { process } = replica;
    process.kill();
    for (const broken of this.#open.get(process) ?? []) broken();
    this.#open.delete(process);
    const mended = this.#breakService();
    this.timeline.after(forMs, () => {
      this.#trace(`${replica.name}: starts`);
      replica.restart();
      this.#checker.startedBy(replica.process.startedOffMs - process.startedOffMs);
      mended();
    });
  }

  /** While none of the replicas runs nothing can be promised; when one of several is away, what it held comes to the others. */
  #breakService(): () => void {
    return this.#wellness.break('service');
  }

  /** One request to a process: what it answers, or null if it is not there, or dies before the answer. */
  #ask<T>(replica: Replica, work: (engine: Engine, replica: Replica) => Promise<T>): Promise<T | null> {
    const { process } = replica;
    if (!process.alive) return Promise.resolve(null);
    return new Promise((resolve, reject) => {
      const open = this.#open.get(process) ?? new Set();
      this.#open.set(process, open);
      const broken = (): void => resolve(null);
      open.add(broken);
      process.enter(() => {
        work(replica.engine, replica).then(
          (answer) => {
            this.#mayDie(process, 'before an answer');
            open.delete(broken);
            if (process.alive) resolve(answer);
          },
          (error) => {
            open.delete(broken);
            if (error instanceof StoreUnavailable) resolve(null);
            else reject(error);
          },
        );
      });
    });
  }

  #anyReplica(): Replica {
    return this.#chance.pick('replica', this.#replicas) as Replica;
  }

  async #deliver(hook: Hook): Promise<boolean> {
    if (this.#webhooksAway > 0) return false;
    this.#checker.comes(hook, this.#sessionOfHook.get(hook) ?? null);
    const verdict: Verdict | null = await this.#ask(this.#anyReplica(), (_, replica) => replica.webhook(hook));
    if (verdict === null) return false;
    this.#trace(
      `webhook: ${hook.event} ${hook.kind === 'participant' ? `${hook.identity} ` : ''}${JSON.stringify(hook.about)}: ${verdict}`,
    );
    this.#checker.told(hook, this.#sessionOfHook.get(hook) ?? null, verdict);
    return true;
  }

  #service(): Service {
    return {
      handOver: async (handOver) => {
        const replica = this.#anyReplica();
        if (replica.process.paused) this.#checker.heldUp(handOver.room, handOver.identities);
        const answer = await this.#ask(replica, async (engine) => {
          const { process } = replica;
          const askedAtMs = process.clock().nowMs();
          // The client may be gone when its homeserver has answered.
          if (this.#chance.happens('look-up is slow', this.#rate(this.#plan.rates.lookUpSlow)))
            await process.hears(this.timeline.wait(this.#chance.between('look-up takes', 100, 9_500)));
          return engine.handOver({ ...handOver, askedAtMs });
        });
        if (answer === null) return null;
        const { id } = answer.row;
        this.#trace(`lastwill: ${answer.kind} ${id.slice(0, 8)} for ${handOver.identities[0]}`);
        this.#checker.acked(id);
        return id;
      },
      handBack: async (room: RoomName, id: DelegationId, owner) =>
        (await this.#ask(this.#anyReplica(), (engine) => engine.handBack(room, id, owner))) !== null,
    };
  }

  #begin(outage: OutagePlan): void {
    const { kind, forMs, which } = outage;
    this.#trace(`--- ${kind} ${which} for ${forMs} ms ---`);
    const until = (mend: () => void): void => {
      this.timeline.after(Math.min(forMs, FAULTY_MS - this.timeline.sinceStartMs), mend);
    };
    const mood = MOODS[kind];
    if (mood === undefined) this.#breakDown(outage, until);
    else this.#beginMood(which % this.#homeservers.length, mood, until);
  }

  #breakDown({ kind, forMs, which }: OutagePlan, until: (mend: () => void) => void): void {
    const replica = this.#replicas[which % this.#replicas.length] as Replica;
    switch (kind) {
      case 'kill':
        if (replica.process.alive) this.#kill(replica, Math.min(forMs, FAULTY_MS - this.timeline.sinceStartMs));
        return;
      case 'pause':
        this.#pause(replica, until);
        return;
      case 'sfu-crash':
      case 'sfu-stop':
        if (!this.#sfu.up) return;
        this.#sfu.crash(kind === 'sfu-stop');
        until(this.#both(this.#wellness.break('sfu api'), () => this.#sfu.start()));
        return;
      case 'sfu-api-away':
        this.#sfu.apiAway += 1;
        until(this.#both(this.#wellness.break('sfu api'), () => (this.#sfu.apiAway -= 1)));
        return;
      case 'sfu-api-stalled':
        this.#sfu.apiStalled += 1;
        until(this.#both(this.#wellness.break('sfu api'), () => (this.#sfu.apiStalled -= 1)));
        return;
      case 'webhooks-away':
        this.#webhooksAway += 1;
        until(this.#both(this.#wellness.break('webhooks'), () => (this.#webhooksAway -= 1)));
        return;
      case 'store-away':
        this.#storeAway += 1;
        until(this.#both(this.#wellness.break('store'), () => (this.#storeAway -= 1)));
        return;
      case 'clock-set':
        this.#setClock(until);
        return;
      case 'node-killed':
        this.#sfu.killNode();
        this.#nodeIsGone();
        return;
      case 'node-frozen':
        this.#sfu.freezeNode(forMs);
        this.#nodeIsGone();
        return;
      case 'lists-lost':
        this.#sfu.loseLists();
        return;
      case 'store-forgets':
        this.#forget(this.timeline.nowMs - Math.min(forMs, LONGEST_TAIL_MS));
        return;
      default:
        throw new Error(`no outage is called ${kind}`);
    }
  }

  /** Where it is nodes that list, the SFU takes seconds to find out that none is there that does. */
  #nodeIsGone(): void {
    if (this.#sfu.listsByNode) this.#wellness.blip('sfu lists');
  }

  #forget(sinceMs: number): void {
    const rows = this.#disk.forget(sinceMs);
    this.#trace(`store: has forgotten ${rows.size} writes`);
    this.#wellness.blip('store');
    this.#checker.forgot(sinceMs, rows, new Map([...this.#disk.rows.values()].map(({ row }) => [row.id, row.state.kind])));
  }

  #both(first: () => void, second: () => void): () => void {
    return () => {
      second();
      first();
    };
  }

  #beginMood(index: number, mood: keyof Moods, until: (mend: () => void) => void): void {
    const homeserver = this.#homeservers[index] as ModelHomeserver;
    const mended = this.#wellness.break(`homeserver ${index}` as Part);
    homeserver.moods[mood] += 1;
    until(() => {
      homeserver.moods[mood] -= 1;
      homeserver.catchUp();
      mended();
    });
  }

  #setClock(until: (mend: () => void) => void): void {
    const { whose, byMs } = this.#chance.pick('clock is set', CLOCK_SETS);
    this.#trace(`the clock of ${whose} is set by ${byMs} ms`);
    this.#wallOffMs[whose] += byMs;
    until(() => (this.#wallOffMs[whose] -= byMs));
  }

  #pause(replica: Replica, until: (mend: () => void) => void): void {
    const { process } = replica;
    if (!process.runs) return;
    const mended = this.#breakService();
    process.pause();
    until(() => {
      process.resume();
      mended();
    });
  }
}

function nameErrors(_: string, value: unknown): unknown {
  return value instanceof Error ? `${value.name}: ${value.message}\n${value.stack}` : value;
}
