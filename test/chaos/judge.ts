// The judge: evidence in, sins out. Pure, so that it can be shown to see a sin where there is one (judge.test.ts).
//
// A false leave is one that the homeserver took while the participant was on the SFU, or between two sessions of one who came back
// within the time that its departure is to be waited for (unless its process was killed: then it is another one that came). A ghost is somebody gone from the SFU whose leave was not taken within that
// wait + 1 s, put off only by what README and design allow: a webhook that was lost, and parts that were down.
import type { Act, Announcement, Deed, Evidence, Outage, Session, Waits } from './evidence.ts';

export interface Departure {
  readonly identity: string;
  /** What was done, and what else was wrong at that time. */
  readonly cause: string;
  readonly disturbed: readonly string[];
  /** When the participant went. */
  readonly departedMs: number;
  /** When it was gone from the SFU. */
  readonly goneMs: number;
  /** When the homeserver took the leave; null: the participant was back, or announced itself anew, in time. */
  readonly leftMs: number | null;
  readonly latestMs: number;
}

export interface Sin {
  readonly identity: string;
  readonly atMs: number;
  readonly what: string;
}

export interface Verdict {
  readonly departures: readonly Departure[];
  readonly ghosts: readonly Sin[];
  readonly falseLeaves: readonly Sin[];
  /** Leaves that were asked for while nobody was there and taken when somebody was again: the homeserver had stopped in between. */
  readonly overtaken: number;
}

const ON_TIME_MS = 1_000;
/** README: a leave that a homeserver could not take is delivered at most 10 s after it is back. */
const BACKOFF_CAP_MS = 10_000;
/** A homeserver that has nothing else to do takes a leave in this time. */
const QUICK_MS = 100;
/** A leave on its way meets a join on its way. */
const CROSSING_MS = 100;
/** A deed explains a departure that the SFU noticed within this time: LiveKit takes 20 s to miss somebody, and is 30 s late at most. */
const EXPLAINS_MS = 60_000;

/** How a false leave begins to be told that no call of the service stands behind. */
export const BY_TIMER = "by the homeserver's own timer";

/** Causes that nobody's deed explains, as a table says them. */
const NAMED: Readonly<Record<string, string>> = {
  SFU_KILLED: 'the SFU was killed, and it did not come back in time',
  ABORTED: 'an attempt to connect was aborted',
};

export function judge(evidence: Evidence, waits: Waits): Verdict {
  const identities = new Set(evidence.sessions.map(({ identity }) => identity));
  const departures: Departure[] = [];
  const ghosts: Sin[] = [];
  const falseLeaves: Sin[] = [];
  let overtaken = 0;
  for (const identity of identities) {
    const one = new Case(identity, evidence, waits);
    for (const session of one.departures()) {
      const departure = one.weigh(session);
      if (departure === null) continue;
      if (departure.kind === 'ghost') ghosts.push({ identity, atMs: session.toMs, what: departure.what });
      else departures.push(departure.departure);
    }
    for (const leave of one.leaves()) {
      const found = one.falsehood(leave);
      if (found === 'overtaken') overtaken += 1;
      else if (found !== null) falseLeaves.push({ identity, atMs: leave.atMs, what: found });
    }
  }
  return { departures, ghosts, falseLeaves, overtaken };
}

type Weighed = { readonly kind: 'fine'; readonly departure: Departure } | { readonly kind: 'ghost'; readonly what: string };

/** One participant. */
class Case {
  readonly #identity: string;
  readonly #evidence: Evidence;
  readonly #waits: Waits;
  readonly #sessions: readonly Session[];
  readonly #announcements: readonly Announcement[];

  constructor(identity: string, evidence: Evidence, waits: Waits) {
    this.#identity = identity;
    this.#evidence = evidence;
    this.#waits = waits;
    this.#sessions = evidence.sessions.filter((session) => session.identity === identity).toSorted((a, b) => a.fromMs - b.fromMs);
    this.#announcements = evidence.announcements.filter((one) => one.identity === identity).toSorted((a, b) => a.atMs - b.atMs);
  }

  /** Sessions whose end left nobody on the SFU. */
  departures(): Session[] {
    return this.#sessions.filter(({ toMs }) => toMs < this.#evidence.endedMs && !this.#isThere(toMs));
  }

  leaves(): Announcement[] {
    return this.#announcements.filter(({ kind }) => kind === 'gone');
  }

  /** Null: no leave was owed to anybody's knowledge, or the run ended before it was. */
  weigh(session: Session): Weighed | null {
    const goneMs = session.toMs;
    const here = this.#announcements.findLast(({ atMs }) => atMs <= goneMs);
    if (here?.kind !== 'here') return null;
    const handOver = this.#evidence.handOvers.find(({ identity, serial }) => identity === this.#identity && serial === here.serial);
    if (handOver === undefined || handOver.takenMs === null || handOver.takenMs > goneMs) return null;
    const { latestMs, disturbed } = this.#latest(session);
    const deed = this.#deedBehind(session);
    const next = this.#announcements.find(({ atMs }) => atMs > goneMs);
    const backMs = this.#backMs(goneMs);
    const common = {
      identity: this.#identity,
      cause: deed?.what ?? NAMED[session.reason] ?? session.reason,
      disturbed,
      departedMs: deed?.atMs ?? goneMs,
      goneMs,
      latestMs,
    };
    const left = next?.kind === 'gone' && next.atMs <= latestMs + this.#slowMs(next) && next.atMs < backMs + CROSSING_MS;
    if (left) return { kind: 'fine', departure: { ...common, leftMs: next.atMs } };
    if (Math.min(next?.atMs ?? Number.POSITIVE_INFINITY, backMs) <= latestMs)
      return { kind: 'fine', departure: { ...common, leftMs: null } };
    if (latestMs > this.#evidence.endedMs) return null;
    const late = next === undefined ? 'never' : `after ${(next.atMs - goneMs).toFixed(0)} ms`;
    const what = `${common.cause} [${session.reason}${session.toldMs === null ? ', untold' : ''}], no leave within ${(latestMs - goneMs).toFixed(0)} ms, but ${late}; ${disturbed.join(', ') || 'nothing else wrong'}`;
    return { kind: 'ghost', what };
  }

  /** What was done to it in that session. Who was only cut off when the SFU was killed did not go by that. */
  #deedBehind({ fromMs, toMs, reason }: Session): Deed | undefined {
    const sinceMs = Math.max(fromMs, toMs - EXPLAINS_MS);
    const deed = this.#evidence.deeds.findLast(({ identity, atMs }) => identity === this.#identity && atMs >= sinceMs && atMs <= toMs);
    return reason === 'SFU_KILLED' && deed?.ended === null ? undefined : deed;
  }

  #backMs(goneMs: number): number {
    const joined = this.#sessions.map(({ fromMs }) => fromMs);
    const seen = this.#evidence.glimpses.filter(({ identity }) => identity === this.#identity).map(({ atMs }) => atMs);
    return Math.min(...[...joined, ...seen].filter((atMs) => atMs >= goneMs));
  }

  /** How long the homeserver took to take it, beyond what an idle one takes: nobody else's fault. */
  #slowMs(leave: Announcement): number {
    const act = this.#actBehind(leave);
    return act === undefined ? 0 : Math.max(act.endedMs - act.beganMs - QUICK_MS, 0);
  }

  /**
   * The last moment at which the leave is on time: when so much time has passed, not counting that in which something was down, as the
   * waits allow. What was down costs its own: missed departures are looked for twice, clients of an SFU that forgot are waited for, a
   * homeserver that is back is tried again within 10 s.
   */
  #latest(session: Session): { latestMs: number; disturbed: string[] } {
    const { presenceInterval, missing, sfuDown } = this.#waits;
    const told = session.toldMs !== null || session.reason === 'SFU_KILLED';
    // A webhook that LiveKit could not deliver at once is as good as lost, until it comes.
    const lateMs = Math.max((session.toldMs ?? 0) - session.toMs, 0);
    const waitMs = this.#waitOf(session);
    const lostMs = Math.max(presenceInterval + missing, waitMs);
    const disturbed: string[] = told ? [] : ['webhook lost'];
    const more = { service: missing + ON_TIME_MS, SFU: presenceInterval + sfuDown, homeserver: BACKOFF_CAP_MS, machine: 0 };
    let latestMs = session.toMs + ON_TIME_MS + (told ? Math.min(waitMs + lateMs, lostMs) : lostMs);
    for (const { part, fromMs, toMs } of this.#evidence.outages.toSorted((a, b) => a.fromMs - b.fromMs)) {
      if (toMs < session.toMs || fromMs > latestMs) continue;
      latestMs += toMs - Math.max(fromMs, session.toMs);
      // Clients are waited for anew each time that their SFU forgets them; the rest is done once.
      if (part === 'SFU' || !disturbed.includes(`${part} down`)) latestMs += more[part];
      if (part !== 'machine' && !disturbed.includes(`${part} down`)) disturbed.push(`${part} down`);
    }
    return { latestMs, disturbed };
  }

  #waitOf({ reason, fromMs }: Session): number {
    const { left, lost, replaced, sfuDown, aborted } = this.#waits;
    // An attempt that is aborted makes nothing undone of what its participant was on the way back from.
    if (reason === 'ABORTED') {
      const before = this.#sessions.findLast((one) => one.reason !== 'ABORTED' && one.toMs <= fromMs);
      return before === undefined ? aborted : Math.max(this.#waitOf(before), lost);
    }
    if (reason === 'SFU_KILLED' || reason === 'SERVER_SHUTDOWN') return sfuDown;
    if (reason === 'DUPLICATE_IDENTITY' || reason === 'MIGRATION') return replaced;
    return reason === 'CLIENT_INITIATED' ? left : lost;
  }

  #isThere(atMs: number, since = 0): boolean {
    return this.#sessions.some(({ fromMs, toMs }) => fromMs + since <= atMs && atMs < toMs);
  }

  falsehood(leave: Announcement): string | 'overtaken' | null {
    const act = this.#actBehind(leave);
    const askedMs = act?.beganMs ?? leave.atMs;
    const by = act === undefined ? BY_TIMER : 'by the service';
    const before = this.#sessions.findLast(({ toMs }) => toMs <= askedMs);
    if (this.#isThere(askedMs, CROSSING_MS)) return `${by}, while on the SFU`;
    const next = this.#sessions.find(({ fromMs }) => fromMs + CROSSING_MS > askedMs);
    if (before !== undefined && next !== undefined) {
      const end = this.#evidence.deeds.findLast(
        ({ identity, ended, atMs }) => identity === this.#identity && ended !== null && atMs > before.fromMs && atMs < askedMs,
      );
      const goneMs = Math.max(before.toMs, end?.atMs ?? 0);
      const waitMs = end?.ended === 'killed' ? 0 : end !== undefined ? this.#waits.left : this.#waitOf(before);
      if (askedMs - goneMs < waitMs && next.fromMs - goneMs < this.#waitOf(before)) {
        return `${by}, ${(askedMs - goneMs).toFixed(0)} ms after ${before.reason}, and back after ${(next.fromMs - goneMs).toFixed(0)} ms`;
      }
    }
    return this.#isThere(leave.atMs, CROSSING_MS) ? 'overtaken' : null;
  }

  /** The call of the service by which the homeserver took this leave. */
  #actBehind(leave: Announcement): Act | undefined {
    const ours = new Set(this.#evidence.handOvers.filter(({ identity }) => identity === this.#identity).map(({ delayId }) => delayId));
    return this.#evidence.acts.findLast(
      ({ delayId, action, beganMs, endedMs, status }) =>
        ours.has(delayId) && action === 'send' && status === 200 && beganMs <= leave.atMs + 1 && leave.atMs <= endedMs + 1,
    );
  }
}

/** Time during which parts were out of order, in all. */
export function outageMs(outages: readonly Outage[], part: Outage['part']): number {
  return outages.filter((one) => one.part === part).reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
}
