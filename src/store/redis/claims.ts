// Due work, and who acts on it. In each shard the rows wait in lanes, in the order of their due times; a claim moves its row to the end
// of its lease, where it comes free by itself, and the exact moment is the fence: whoever takes the row changes it.
import { type Cancel, type Clock, inTime } from '../../clock.ts';
import { dueAtMs } from '../../delegation/decide.ts';
import type { DelegationId, HomeserverUrl } from '../../delegation/ids.ts';
import { sharedOut } from '../shares.ts';
import { type Claim, type Claimed, type Excluded, type First, StoreUnavailable, type Write } from '../store.ts';
import type { Beliefs } from './beliefs.ts';
import type { RedisRun } from './connection.ts';
import { idIn, isLeave, isRestart, laneOf, pausedMember, prefixOf } from './keys.ts';
import { createLeases, type Lease, type Leases, longestLeaseMs, RENEW_EVERY_MS } from './leases.ts';
import { CLAIM, LOOK, RELEASE, RENEW } from './scripts.ts';
import { type Planned, type Reading, readFound } from './update.ts';

export interface RedisClaimsDeps {
  readonly run: RedisRun;
  readonly clock: Clock;
  readonly beliefs: Beliefs;
  readonly reading: Reading;
  /** The shards whose keys one script may touch: all of them, or in a cluster each alone. */
  readonly together: readonly (readonly number[])[];
}

interface Asked {
  readonly nowMs: number;
  readonly first: First;
  readonly without: readonly string[];
}

interface Due {
  readonly shard: number;
  readonly lane: string;
  readonly id: string;
  readonly score: number;
}

/** Looks for due rows that others take before we do. */
const MOST_LOOKS = 8;
/** A shard that says nothing for so long doesn't keep the work of the others waiting. */
const LATE_MS = 400;
/** Claims that are renewed by one call. */
const RENEW_BATCH = 500;

export class RedisClaims {
  readonly leases: Leases = createLeases();
  readonly #deps: RedisClaimsDeps;
  readonly #renewals = new Map<DelegationId, Promise<unknown>>();
  #looking: Promise<unknown> = Promise.resolve();
  #stopTimer: Cancel | null = null;
  #next: { readonly afterMs: number; readonly dueMs: number | null } | null = null;
  /** Why a part of a cluster was not looked into, the last time. */
  #missing: Error | null = null;
  #stopped = false;

  constructor(deps: RedisClaimsDeps) {
    this.#deps = deps;
  }

  /** One look after the other: those of one process would only find the same rows. */
  claimDue(nowMs: number, leaseMs: number, limit: number, excluded: Excluded, first: First = 'oldest'): Promise<readonly Claimed[]> {
    const lanes = (classes: readonly string[], homeservers: ReadonlySet<HomeserverUrl>): string[] =>
      [...homeservers].flatMap((one) => classes.map((name) => `${name}${pausedMember(one)}`));
    const without = [
      ...lanes(['R'], excluded.restarts),
      ...lanes(['L', 'C'], excluded.leaves),
      ...(excluded.allRestarts ? ['R'] : []),
      ...(excluded.others ? ['L', 'C', 'W'] : []),
    ];
    const looking = this.#looking.catch(() => {}).then(() => this.#claimAll({ nowMs, first, without }, leaseMs, limit));
    this.#looking = looking;
    return looking;
  }

  /** What another replica has taken between the look and the claim makes room for others. */
  async #claimAll(asked: Asked, leaseMs: number, limit: number): Promise<readonly Claimed[]> {
    const claimed: Claimed[] = [];
    for (let looks = 0; looks < MOST_LOOKS; looks += 1) {
      const wanted = limit - claimed.length;
      const chosen = choose(await this.#look(asked, wanted), wanted, asked.first);
      const taking = [...Map.groupBy(chosen, ({ shard }) => shard)].map((part) => this.#take(part, leaseMs));
      const { values: taken, error } = await whoeverAnswers(taking);
      const rows = new Map(taken.flat().map((one) => [idIn(one.row.id), one]));
      claimed.push(...chosen.flatMap(({ id }) => rows.get(id) ?? []));
      if (error !== null || rows.size === chosen.length || claimed.length === limit) break;
    }
    return claimed;
  }

  /** One trip, where it may be one. It also tells what is due next. A master of a cluster may be away: the others' work is done. */
  async #look({ nowMs, first, without }: Asked, limit: number): Promise<Due[]> {
    const { together, run, clock } = this.#deps;
    const late = (): Error => new StoreUnavailable(`unanswered for ${LATE_MS} ms`);
    const looks = together.map(async (shards) => {
      const words = [String(nowMs), String(limit), first, String(shards.length), ...shards.map(prefixOf), ...without];
      const reply = run(LOOK, shards[0] ?? 0, 'lanes', words);
      return { shards, reply: await (together.length === 1 ? reply : inTime(clock, LATE_MS, reply, late)) };
    });
    const { values: replies, error } = await whoeverAnswers(looks);
    this.#missing = error;
    const coming = replies.flatMap(({ reply: [first] }) => (first === undefined || first.length === 0 ? [] : [Number(first)]));
    this.#next = { afterMs: nowMs, dueMs: coming.length === 0 ? null : Math.min(...coming) };
    return replies.flatMap(({ shards, reply }) => dueIn(reply, shards));
  }

  /** As the last look saw it, unless something was written since. @throws Error if it did not see everything. */
  async nextDueMs(afterMs: number): Promise<number | null> {
    if (this.#next?.afterMs !== afterMs) await this.#look({ nowMs: afterMs, first: 'oldest', without: [] }, 0);
    if (this.#missing !== null) throw this.#missing;
    return this.#next?.dueMs ?? null;
  }

  /** What is due next may be another row now. */
  written(): void {
    this.#next = null;
  }

  async #take([shard, due]: [number, Due[]], leaseMs: number): Promise<Claimed[]> {
    const askedAtMs = this.#deps.clock.nowMs();
    const attempt = this.#deps.beliefs.next();
    const words = due.flatMap(({ lane, id, score }) => [lane, id, String(score), String(Math.min(leaseMs, longestLeaseMs(lane)))]);
    const reply = await this.#deps.run(CLAIM, shard, 'lanes', words);
    const taken: Claimed[] = [];
    for (let at = 0; at + 2 < reply.length; at += 3) {
      const [id, score, bytes] = reply.slice(at, at + 3) as [Buffer, Buffer, Buffer];
      const [found] = readFound([id, bytes], this.#deps.reading);
      const lane = found?.row === null || found === undefined ? null : laneOf(found.row);
      if (found === undefined || found.row === null || found.rev === null || lane === null) continue;
      const { row, rev } = found;
      this.#deps.beliefs.told(attempt, null, [{ row, rev }]);
      const dueMs = dueAtMs(row.state) ?? 0;
      this.#hold(row.id, { shard, lane, rev, score: String(score), dueMs, askedAtMs, wantedUntilMs: askedAtMs + leaseMs });
      taken.push({ row, claim: { id: row.id, rev } });
    }
    return taken;
  }

  async holds(claim: Claim, agoMs = 0): Promise<boolean> {
    const nowMs = this.#deps.clock.nowMs();
    const lease = this.leases.get(claim);
    if (lease === null || lease.wantedUntilMs <= nowMs) return false;
    if (nowMs - lease.askedAtMs < agoMs) return true;
    await (this.#renewals.get(claim.id) ?? this.#renew([[claim.id, lease]]));
    return this.leases.get(claim) !== null;
  }

  /** A lease that somebody else has taken is dropped. */
  async #renew(leases: readonly [DelegationId, Lease][]): Promise<void> {
    const idle = leases.filter(([id]) => !this.#renewals.has(id));
    const parts = [...Map.groupBy(idle, ([, lease]) => lease.shard)].flatMap(([shard, all]) =>
      Array.from({ length: Math.ceil(all.length / RENEW_BATCH) }, (_, nth) => ({
        shard,
        part: all.slice(nth * RENEW_BATCH, (nth + 1) * RENEW_BATCH),
      })),
    );
    await Promise.all(
      parts.map(({ shard, part }) => {
        const renewal = this.#renewIn(shard, part).finally(() => {
          for (const [id] of part) this.#renewals.delete(id);
        });
        for (const [id] of part) this.#renewals.set(id, renewal);
        return renewal;
      }),
    );
  }

  async #renewIn(shard: number, part: readonly [DelegationId, Lease][]): Promise<void> {
    const askedAtMs = this.#deps.clock.nowMs();
    const words = part.flatMap(([id, { lane, score, rev, wantedUntilMs }]) => {
      const leaseMs = Math.min(longestLeaseMs(lane), Math.max(wantedUntilMs - askedAtMs, 0));
      return [lane, idIn(id), score, String(rev), String(leaseMs)];
    });
    const reply = await this.#deps.run(RENEW, shard, 'lanes', words);
    for (const [index, [id, lease]] of part.entries()) {
      const score = String(reply[index] ?? '');
      // Written by us meanwhile: another lease.
      if (this.leases.get({ id, rev: lease.rev }) === null) continue;
      if (score === '') this.leases.drop(id);
      else this.leases.hold(id, { ...lease, score, askedAtMs });
    }
  }

  async release(claim: Claim): Promise<void> {
    await this.#renewals.get(claim.id)?.catch(() => {});
    const lease = this.leases.get(claim);
    if (lease === null) return;
    this.leases.drop(claim.id);
    await this.#deps.run(RELEASE, lease.shard, 'lanes', [lease.lane, idIn(claim.id), lease.score, String(lease.dueMs)]);
  }

  /** The leases that an update's writes began, as Redis answers, and the end of those that they voided. */
  begun(
    planned: readonly Planned[],
    writes: readonly Write[],
    shard: number,
    reply: readonly Buffer[],
    askedAtMs: number,
  ): ReadonlyMap<DelegationId, Claim> {
    const ends = new Map<string, string>();
    for (let at = 0; at + 1 < reply.length; at += 2) ends.set(String(reply[at]), String(reply[at + 1]));
    const claims = new Map<DelegationId, Claim>();
    for (const [index, { row, rev, lane }] of planned.entries()) {
      const score = ends.get(idIn(row.id));
      if (score === undefined || lane === null) {
        this.leases.drop(row.id);
        continue;
      }
      const wantedUntilMs = askedAtMs + (writes[index]?.leaseMs ?? 0);
      this.#hold(row.id, { shard, lane, rev, score, dueMs: dueAtMs(row.state) ?? 0, askedAtMs, wantedUntilMs });
      claims.set(row.id, { id: row.id, rev });
    }
    return claims;
  }

  #hold(id: DelegationId, lease: Lease): void {
    this.leases.hold(id, lease);
    this.#arm();
  }

  /** A timer only while something is held. */
  #arm(): void {
    if (this.#stopTimer !== null || this.#stopped) return;
    this.#stopTimer = this.#deps.clock.after(RENEW_EVERY_MS, () => {
      this.#stopTimer = null;
      void this.#renew(this.leases.toRenew(this.#deps.clock.nowMs())).catch(() => {});
      if (this.leases.size > 0) this.#arm();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#stopTimer?.();
  }
}

/** @throws the first error, if nobody answers. */
async function whoeverAnswers<T>(asked: readonly Promise<T>[]): Promise<{ readonly values: readonly T[]; readonly error: Error | null }> {
  const settled = await Promise.allSettled(asked);
  const values = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failed = settled.find((one) => one.status === 'rejected');
  if (failed !== undefined && values.length === 0) throw failed.reason;
  return { values, error: failed?.reason ?? null };
}

/** Of what several masters have told, each of what it has. */
function choose(due: readonly Due[], limit: number, first: First): readonly Due[] {
  const of = (is: (lane: string) => boolean): Due[] => due.filter(({ lane }) => is(lane)).sort((a, b) => a.score - b.score);
  const others = of((lane) => !isLeave(lane) && !isRestart(lane));
  const restarts = first === 'newest' ? of(isRestart).reverse() : of(isRestart);
  return sharedOut({ leaves: of(isLeave), restarts, others }, limit, ({ score }) => score);
}

function dueIn(reply: readonly Buffer[], shards: readonly number[]): Due[] {
  const due: Due[] = [];
  for (let at = 1; at + 3 < reply.length; at += 4) {
    const [place, lane = '', id = '', score] = reply.slice(at, at + 4).map(String);
    due.push({ shard: shards[Number(place)] ?? 0, lane, id, score: Number(score) });
  }
  return due;
}
