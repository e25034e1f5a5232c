// A model homeserver on virtual time, in each dialect of MSC4140, at the other end of the real client: memberships, delayed leaves
// whose timers fire, limits by caller, and whatever goes wrong with an HTTP server. Its rooms are the truth about memberships.
import type { Cancel } from '../../src/clock.ts';
import type { HomeserverUrl } from '../../src/delegation/ids.ts';
import type { Outbound, Reply, Request } from '../../src/homeserver/outbound.ts';
import type { Chance } from './chance.ts';
import type { Dialect, HomeserverPlan } from './plan.ts';
import type { Process, Timeline } from './timeline.ts';

export type Act = 'send' | 'restart' | 'cancel';
export type Ending = 'leave' | 'lost';

/** One scheduled leave (and in dialect A the other ending of its group). */
export interface DelayedLeave {
  readonly name: string;
  readonly member: number;
  readonly delayMs: number;
  readonly hasLost: boolean;
  final: 'sent' | 'cancelled' | null;
  /** Who made it final. */
  by: 'service' | 'timer' | 'client' | 'reset' | null;
  expiresAtMs: number;
  timer: Cancel;
  readonly endings: Set<Ending>;
}

/** A call of a replica, as it arrived. */
export interface Call {
  readonly leave: DelayedLeave;
  readonly act: Act;
  readonly ending: Ending;
  readonly sentAtMs: number;
  readonly arrivedAtMs: number;
  /** It did what it asked for. */
  readonly took: boolean;
}

export interface Moods {
  down: number;
  stalled: number;
  failing: number;
  garbage: number;
  losing: number;
  refusing: number;
  limiting: number;
}

export interface HomeserverDeps {
  readonly timeline: Timeline;
  readonly chance: Chance;
  readonly plan: HomeserverPlan;
  readonly url: HomeserverUrl;
  readonly failRate: number;
  readonly trace: (text: string) => void;
  /** Whether this member sends so much that its leave is mostly refused: that of nobody else is, and no other call. */
  readonly sendsTooMuch: (member: number) => boolean;
  /** A call met something that was wrong. */
  readonly onFault: () => void;
  readonly onCall: (call: Call) => void;
  /** A leave is in the room from now on. */
  readonly onLeave: (leave: DelayedLeave, sentAtMs: number | null) => void;
  /** Now and then a process dies between a call and its answer. */
  readonly mayDie: (process: Process, where: string) => void;
}

export const AS_TOKEN = 'as_token_of_the_simulation';
const UNSTABLE = '/_matrix/client/unstable/org.matrix.msc4140';
const STABLE = '/_matrix/client/v1';
const TIMEOUT: Reply = { kind: 'failed', reached: true, why: 'timeout' };
const REFUSED: Reply = { kind: 'failed', reached: false, why: 'refused' };

const says = (status: number, json: unknown, headers: Record<string, string> = {}): Reply => ({
  ...{ kind: 'answered', status, headers, json },
  empty: json === undefined,
});
const error = (status: number, errcode: string): Reply => says(status, { errcode, error: errcode });
/** Synapse's rc_message lets one message in five seconds through, once they are used up. */
const LONGEST_HINT_MS = 5_000;
const REFUSED_ALONE = 0.8;
const UNRECOGNISED = error(404, 'M_UNRECOGNIZED');

export class ModelHomeserver {
  readonly moods: Moods = { down: 0, stalled: 0, failing: 0, garbage: 0, losing: 0, refusing: 0, limiting: 0 };
  readonly leaves = new Map<string, DelayedLeave>();
  readonly #refusedAlone = new WeakSet<Reply>();
  readonly #deps: HomeserverDeps;
  /** Calls that did not work because of it. */
  troubles = 0;
  #names = 0;
  #bucket = { tokens: 0, atMs: 0 };
  /** Timers that fired while it was down: it catches up when it is back. */
  #overdue: DelayedLeave[] = [];

  constructor(deps: HomeserverDeps) {
    this.#deps = deps;
    this.#bucket = { tokens: deps.plan.limit?.burst ?? 0, atMs: deps.timeline.nowMs };
  }

  get dialect(): Dialect {
    return this.#deps.plan.dialect;
  }

  get hasLimit(): boolean {
    return this.#deps.plan.limit !== null && !this.#deps.plan.asToken;
  }

  get answers(): boolean {
    return this.moods.down === 0 && this.moods.stalled === 0;
  }

  /** Nothing is wrong with it that could keep a call from working. */
  get well(): boolean {
    return Object.values(this.moods).every((depth) => depth === 0);
  }

  get takesAsToken(): boolean {
    return this.#deps.plan.asToken;
  }

  /** From a call's start to its arrival, at most. */
  get slowestWayMs(): number {
    return this.#deps.plan.latencyMs * 1.5;
  }

  /** To find out what it speaks takes a question more, or two, there and back, at most. */
  get findingOutMs(): number {
    const questions = this.dialect === 'B' ? 2 : this.dialect === 'C' && !this.takesAsToken ? 0 : 1;
    return questions * 2 * this.slowestWayMs;
  }

  #troubled(): void {
    this.troubles += 1;
    this.#deps.onFault();
  }

  schedule(member: number, delayMs: number, hasLost: boolean): DelayedLeave {
    this.#names += 1;
    const leave: DelayedLeave = {
      name: `d${member}-${this.#names}-${this.dialect}`,
      member,
      delayMs,
      hasLost: hasLost && this.dialect === 'A',
      final: null,
      by: null,
      expiresAtMs: 0,
      timer: () => {},
      endings: new Set(),
    };
    this.leaves.set(leave.name, leave);
    this.restart(leave);
    return leave;
  }

  /** By the client itself, which shares the fate of its homeserver only. */
  restart(leave: DelayedLeave): boolean {
    if (leave.final !== null) return false;
    const { timeline } = this.#deps;
    leave.timer();
    leave.expiresAtMs = timeline.nowMs + leave.delayMs;
    leave.timer = timeline.after(leave.delayMs, () => this.#expire(leave));
    return true;
  }

  end(leave: DelayedLeave, final: 'sent' | 'cancelled', by: DelayedLeave['by'], sentAtMs: number | null = null): void {
    if (leave.final !== null) return;
    leave.timer();
    leave.final = final;
    leave.by = by;
    this.#deps.trace(`homeserver: ${leave.name} is ${final} by the ${by}`);
    if (final === 'sent') this.#deps.onLeave(leave, sentAtMs);
  }

  /** Everything that fell due while it was away. */
  catchUp(): void {
    if (!this.answers) return;
    const overdue = this.#overdue;
    this.#overdue = [];
    for (const leave of overdue) this.end(leave, 'sent', 'timer');
  }

  #expire(leave: DelayedLeave): void {
    if (this.answers) this.end(leave, 'sent', 'timer');
    else this.#overdue.push(leave);
  }

  /** The way to it from one process. */
  outbound(process: Process): Outbound {
    return { request: (request) => process.hears(this.#request(process, request)), close: async () => {} };
  }

  async #request(process: Process, request: Request): Promise<Reply> {
    const { timeline, chance, plan, mayDie } = this.#deps;
    const sentAtMs = timeline.nowMs;
    if (!process.alive) return new Promise(() => {});
    mayDie(process, 'a call to a homeserver was sent');
    const halfMs = plan.latencyMs * (0.5 + chance.roll('latency'));
    const inTime = (atMs: number): boolean => atMs - sentAtMs < request.timeoutMs;
    await timeline.wait(Math.min(halfMs, request.timeoutMs));
    if (!inTime(timeline.nowMs + 1)) {
      this.#troubled();
      return TIMEOUT;
    }
    const reply = await this.#meet(request, sentAtMs);
    const unclear = this.moods.garbage > 0 || reply.kind === 'failed' || reply.json === undefined;
    const isLimited = !unclear && reply.status === 429 && !this.#refusedAlone.has(reply);
    if (unclear || reply.status >= 500 || isLimited || reply.status === 403) this.#troubled();
    mayDie(process, 'a call to a homeserver was taken');
    await timeline.wait(Math.min(halfMs, Math.max(sentAtMs + request.timeoutMs - timeline.nowMs, 0)));
    if (inTime(timeline.nowMs)) return reply;
    this.#troubled();
    return TIMEOUT;
  }

  async #meet(request: Request, sentAtMs: number): Promise<Reply> {
    const { timeline, chance } = this.#deps;
    const atTimeout = (): Promise<void> => timeline.wait(sentAtMs + request.timeoutMs - timeline.nowMs);
    if (this.moods.down > 0) return REFUSED;
    this.#attempted(request);
    if (this.moods.stalled > 0) {
      await atTimeout();
      // A stalled server may still work on what it has taken in.
      if (this.moods.stalled === 0 && chance.happens('stalled, and done all the same', 0.5)) this.#answer(request, sentAtMs);
      return TIMEOUT;
    }
    const reply = this.#faulty(request, sentAtMs);
    if (reply !== 'lost') return reply;
    await atTimeout();
    return TIMEOUT;
  }

  /** An ending that came here counts as tried, whatever its answer says. */
  #attempted({ url }: Request): void {
    const wanted = this.dialect === 'A' ? readToken(new URL(url).pathname) : null;
    const leave = wanted?.act === 'send' ? this.leaves.get(wanted.name) : undefined;
    if (wanted !== null && leave !== undefined) leave.endings.add(wanted.ending);
  }

  #faulty(request: Request, sentAtMs: number): Reply | 'lost' {
    const { chance, failRate } = this.#deps;
    if (this.moods.garbage > 0) {
      if (chance.happens('garbage, and done', 0.5)) this.#answer(request, sentAtMs);
      return chance.pick<Reply>('garbage', [
        says(200, undefined),
        says(502, undefined),
        says(200, []),
        says(404, { errcode: 'M_UNKNOWN' }),
      ]);
    }
    if (this.moods.failing > 0 || chance.happens('fails', failRate)) {
      if (chance.happens('fails, and done', 0.3)) this.#answer(request, sentAtMs);
      return chance.pick<Reply>('failure', [error(500, 'M_UNKNOWN'), says(502, undefined), says(503, undefined), says(504, undefined)]);
    }
    if (this.moods.losing > 0) {
      if (chance.happens('lost on the way back', 0.6)) this.#answer(request, sentAtMs);
      return 'lost';
    }
    if (this.moods.refusing > 0) return error(403, 'M_FORBIDDEN');
    return this.#answer(request, sentAtMs);
  }

  #answer(request: Request, sentAtMs: number): Reply {
    const url = new URL(request.url);
    if (url.pathname === '/_matrix/client/versions') {
      const stable = this.dialect === 'D';
      return says(200, { unstable_features: { 'org.matrix.msc4140': !stable, 'org.matrix.msc4140.stable': stable } });
    }
    const asService = request.headers?.authorization === `Bearer ${AS_TOKEN}`;
    const wanted = this.dialect === 'A' ? readToken(url.pathname) : this.#readDelay(url.pathname, request.body ?? '');
    if (wanted === null) return UNRECOGNISED;
    if (this.dialect === 'D' && !asService) return error(401, 'M_MISSING_TOKEN');
    const limited = asService ? null : this.#limit();
    if (limited !== null) return limited;
    const alone = asService ? null : this.#limitOfSender(wanted);
    return alone ?? this.#act(wanted.name, wanted.act, wanted.ending, sentAtMs);
  }

  /** In the words of the other limit, and with a hint that more messages of the member may make too short. */
  #limitOfSender({ name, act }: { readonly name: string; readonly act: Act }): Reply | null {
    const leave = this.leaves.get(name);
    if (act !== 'send' || leave === undefined || leave.final !== null) return null;
    const { chance, sendsTooMuch } = this.#deps;
    if (!sendsTooMuch(leave.member) || !chance.happens('sent too much', REFUSED_ALONE)) return null;
    const hintMs = chance.between('hint to a sender', 50, LONGEST_HINT_MS);
    const reply = says(429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: hintMs });
    this.#refusedAlone.add(reply);
    return reply;
  }

  #readDelay(pathname: string, body: string): { name: string; act: Act; ending: Ending } | null {
    const prefix = this.dialect === 'D' ? STABLE : UNSTABLE;
    const found = new RegExp(`^${prefix}/delayed_events/([^/]+)(?:/(send|restart|cancel))?$`).exec(pathname);
    const [, name, inPath] = found ?? [];
    if (name === undefined || (inPath === undefined) !== (this.dialect === 'B')) return null;
    return { name, act: (inPath ?? JSON.parse(body).action) as Act, ending: 'leave' };
  }

  #act(name: string, act: Act, ending: Ending, sentAtMs: number): Reply {
    const leave = this.leaves.get(name);
    if (leave === undefined) return error(404, 'M_NOT_FOUND');
    const took = leave.final === null;
    this.#deps.onCall({ leave, act, ending, sentAtMs, arrivedAtMs: this.#deps.timeline.nowMs, took });
    if (!took) {
      const same = (act === 'send' && leave.final === 'sent') || (act === 'cancel' && leave.final === 'cancelled');
      if (this.dialect === 'D') return same ? says(200, {}) : error(409, 'M_UNKNOWN');
      return this.dialect === 'A' && !same ? error(410, 'M_NOT_FOUND') : error(404, 'M_NOT_FOUND');
    }
    if (act === 'restart') this.restart(leave);
    else this.end(leave, act === 'send' ? 'sent' : 'cancelled', 'service', sentAtMs);
    return says(200, {});
  }

  /** A bucket for the one address that all replicas call from. */
  #limit(): Reply | null {
    const { plan, timeline } = this.#deps;
    if (this.moods.limiting > 0) return says(429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 1_000 });
    if (plan.limit === null) return null;
    const { perSecond, burst } = plan.limit;
    const tokens = Math.min(burst, this.#bucket.tokens + ((timeline.nowMs - this.#bucket.atMs) / 1_000) * perSecond);
    this.#bucket = { tokens: tokens >= 1 ? tokens - 1 : tokens, atMs: timeline.nowMs };
    if (tokens >= 1) return null;
    return says(429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: Math.ceil(((1 - tokens) / perSecond) * 1_000) });
  }
}

/** `send-<name>`, `refresh-<name>` and so on: what a token does is its own business. */
function readToken(pathname: string): { name: string; act: Act; ending: Ending } | null {
  const found = new RegExp(`^(?:${STABLE}|${UNSTABLE})/future/(send|lostsend|refresh|cancel|lostcancel)-([^/]+)$`).exec(pathname);
  if (found === null) return null;
  const [, does = '', name = ''] = found;
  const act: Act = does.endsWith('send') ? 'send' : does === 'refresh' ? 'restart' : 'cancel';
  return { name, act, ending: does.startsWith('lost') ? 'lost' : 'leave' };
}
