// The store of several replicas: Redis (7 or later) or Valkey (7.2 or later). A decision takes one trip: it is made on what is believed
// of the rows and sent with that, and counts only if it is still so (scripts.ts); the answer to a wrong belief is the truth.
//
// Durable is what Redis has taken, and as durable as Redis is: what a crash of it can lose is said at the start (durability.ts),
// and with `waitFor` an update is answered only when so many Redis replicas have it.
import type { Cancel, Clock, Random } from '../../clock.ts';
import type { HomeserverUrl, RoomName } from '../../delegation/ids.ts';
import type { State } from '../../delegation/state.ts';
import type { Attendance, MovableGiven } from '../attendance.ts';
import type { Seal } from '../seal.ts';
import {
  type Change,
  type Claim,
  type Claimed,
  isLaterPart,
  type Limit,
  type Old,
  type OnceKey,
  type Step,
  type Store,
  StoreUnavailable,
  StoreUnusable,
  type Updated,
  type Where,
} from '../store.ts';
import { createRedisAttendance } from './attendance.ts';
import { type Beliefs, createBeliefs } from './beliefs.ts';
import { RedisClaims } from './claims.ts';
import type { RedisConnection, RedisRun } from './connection.ts';
import { ALL_SHARDS, beatKeyOf, idFrom, onceMember, shardOf, shardsBetween } from './keys.ts';
import { RedisLimits } from './limits.ts';
import { meet } from './meeting.ts';
import { createPulse, type Pulse } from './pulse.ts';
import { purgeShards } from './purge.ts';
import { createDoubts, createReplicated, type Doubts, type Replicated } from './replicated.ts';
import type { Stored } from './row.ts';
import * as scripts from './scripts.ts';
import {
  expectations,
  type Found,
  listsMade,
  listsOf,
  type Place,
  type Planned,
  placeOf,
  plan,
  type Reading,
  readFound,
  rowsFor,
  walked,
  wordsFor,
  writeWords,
} from './update.ts';
import type { Argument } from './wire.ts';

export interface RedisStoreOptions {
  readonly connection: RedisConnection;
  readonly clock: Clock;
  readonly random: Random;
  readonly seal: Seal | null;
  /** How many Redis replicas must have a write before it is answered. */
  readonly waitFor: number;
  /** Each shard of a cluster is replicated by itself. */
  readonly cluster: boolean;
  /** What leases are measured by; null: Redis' own time. */
  readonly leaseClock: Clock | null;
  readonly onCommit?: (ok: boolean, updates: number, tookMs: number) => void;
  readonly onUnreadable?: (id: string, why: Error) => void;
  /** Redis came back without what it had been told. */
  readonly onLost?: () => void;
}

export interface RedisStore extends Store, Attendance, MovableGiven {
  /** Redis' time minus ours, ms. */
  readonly shiftMs: number;
}

/** What Redis answered: where that was, and what is there. */
interface Seen {
  readonly place: Place;
  readonly found: readonly Found[];
}

/** An update that finds other rows so many times in a row gives up: its caller tries again. */
const MOST_TRIES = 32;

/** @throws StoreUnusable when the keys were written by a newer version, or sealed with another key. StoreUnavailable: Redis is away. */
export async function openRedisStore(options: RedisStoreOptions): Promise<RedisStore> {
  const { connection, seal, clock, random, leaseClock } = options;
  try {
    await meet(connection, seal, clock);
    const pulse = createPulse({ connection, clock, random, measures: leaseClock === null, onLost: () => options.onLost?.() });
    await pulse.beat();
    return new SharedStore(options, pulse);
  } catch (error) {
    if (error instanceof StoreUnusable || error instanceof StoreUnavailable) throw error;
    throw new StoreUnavailable(error);
  }
}

class SharedStore implements RedisStore {
  readonly #options: RedisStoreOptions;
  readonly #pulse: Pulse;
  readonly #beliefs: Beliefs = createBeliefs();
  readonly #claims: RedisClaims;
  readonly #reading: Reading;
  readonly #limits: RedisLimits;
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #replicated: Replicated;
  readonly #doubts: Doubts;
  readonly #unreadable = new Set<string>();
  readonly #stopTicking: Cancel;
  readonly track: Attendance['track'];
  readonly untrack: Attendance['untrack'];
  readonly trackedRooms: Attendance['trackedRooms'];
  readonly trackedIn: Attendance['trackedIn'];
  readonly give: Attendance['give'];
  readonly givenTo: Attendance['givenTo'];
  readonly allGiven: MovableGiven['allGiven'];
  readonly takeGiven: MovableGiven['takeGiven'];
  #rev: number;
  #closed = false;

  constructor(options: RedisStoreOptions, pulse: Pulse) {
    this.#options = options;
    this.#pulse = pulse;
    // Its own part of all the numbers there are: no two replicas give the same revision.
    this.#rev = Buffer.from(options.random.bytes(6)).readUIntBE(0, 6) * 8;
    this.#reading = {
      seal: options.seal,
      believed: (id) => this.#beliefs.row(id),
      onUnreadable: (id, why) => this.#tellUnreadable(id, why),
    };
    const { clock } = options;
    const together = options.cluster ? ALL_SHARDS.map((shard) => [shard]) : [ALL_SHARDS];
    this.#claims = new RedisClaims({ run: this.#run, clock, beliefs: this.#beliefs, reading: this.#reading, together });
    const attendance = createRedisAttendance(this.#run, options.connection.command);
    ({ track: this.track, untrack: this.untrack, give: this.give, givenTo: this.givenTo } = attendance);
    ({ trackedRooms: this.trackedRooms, trackedIn: this.trackedIn } = attendance);
    ({ allGiven: this.allGiven, takeGiven: this.takeGiven } = attendance);
    this.#replicated = createReplicated(options);
    const touch = (shard: number) => options.connection.command(shard, ['INCR', beatKeyOf(shard)]);
    this.#doubts = createDoubts(options.waitFor, touch, this.#replicated);
    this.#limits = new RedisLimits(this.#run, options.connection, Buffer.from(options.random.bytes(9)).toString('base64url'));
    pulse.onLost(() => this.#forgetAll());
    this.#stopTicking = options.clock.everySecond(() => pulse.tick());
  }

  get shiftMs(): number {
    return this.#pulse.shiftMs;
  }

  #forgetAll(): void {
    this.#beliefs.clear();
    this.#claims.leases.clear();
  }

  readonly #run: RedisRun = (script, shard, key, args) => {
    if (this.#closed) return Promise.reject(new StoreUnavailable('closed'));
    const time = this.#options.leaseClock === null ? '' : String(this.#options.leaseClock.nowMs());
    const running = this.#options.connection.run(script, shard, key, time, args).catch((error) => {
      throw new StoreUnavailable(error);
    });
    this.#underWay.add(running);
    const done = () => void this.#underWay.delete(running);
    running.then(done, done);
    return running;
  };

  async update<T>(where: Where, once: OnceKey | null, step: Step<T>): Promise<Updated<T>> {
    let place = placeOf(where);
    let found = this.#believed(where, place);
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const fresh = found === null;
      if (found === null) {
        const read = await this.#read(place, once);
        if (read === 'duplicate') return this.#duplicate(place);
        place = read.place;
        // What we have sent meanwhile is newer than the answer.
        found = this.#believed(where, place) ?? read.found;
      }
      const kept = place.next === undefined ? once : null;
      const rows = rowsFor(where, found);
      const change = step(rows);
      const isRead = change.writes.length === 0 && (kept === null || (found.length === 0 && !isLaterPart(where)));
      if (isRead && fresh) return this.#onlyRead(place, change.value);
      const answer = await this.#write(where, place, kept, found, change);
      if (answer.kind !== 'stale') return answer;
      place = answer.place;
      found = this.#believed(where, place) ?? answer.found;
    }
    throw new StoreUnavailable(new Error('others kept writing the same rows'));
  }

  /** Whoever wrote that may have been refused for want of replicas, be it another process. */
  #duplicate({ shard }: Place): Updated<never> {
    this.#doubts.read(shard);
    return { kind: 'duplicate' };
  }

  /** The same; whoever looks at a whole room promises nobody anything. */
  #onlyRead<T>({ shard, isOfMany, next }: Place, value: T): Updated<T> {
    if (!isOfMany) this.#doubts.read(shard);
    return { kind: 'done', value, claims: new Map(), next };
  }

  #believed(where: Where, place: Place): readonly Found[] | null {
    const one = where.by === 'id' ? this.#beliefs.row(where.id) : null;
    if (one !== null && one.row.room !== where.room) return null;
    const known = one !== null ? [one] : place.list === null ? null : this.#beliefs.list(place.list);
    return known?.map(({ row, rev }) => ({ id: row.id, row, rev })) ?? null;
  }

  async #read(place: Place, once: OnceKey | null): Promise<Seen | 'duplicate'> {
    const attempt = this.#beliefs.next();
    const words = wordsFor(place, once === null ? '' : onceMember(once), 0, 'read');
    const [verdict, ...rest] = await this.#run(scripts.UPDATE, place.shard, place.key, words);
    return verdict?.toString() === 'duplicate' ? 'duplicate' : this.#seen(attempt, place, verdict, rest);
  }

  #seen(attempt: number, place: Place, verdict: Buffer | undefined, rest: readonly Buffer[]): Seen {
    if (verdict?.toString() !== 'part') return { place, found: this.#told(attempt, place, rest) };
    const part = walked(place, rest);
    this.#beliefs.forget(place.list, []);
    return { place: part.place, found: this.#told(attempt, part.place, part.found) };
  }

  #told(attempt: number, place: Place, reply: readonly Buffer[]): readonly Found[] {
    const found = readFound(reply, this.#reading);
    const readable = found.flatMap(({ row, rev }): Stored[] => (row === null || rev === null ? [] : [{ row, rev }]));
    const areAll = found.length === readable.length;
    this.#beliefs.told(attempt, areAll ? place.list : null, place.isOfMany ? [] : readable);
    // Else what was believed of the list would be sent again and again: it is made of rows that can be read.
    if (!areAll) this.#beliefs.forget(place.list, []);
    if (place.where === 'ids' && !place.isOfMany && found.length === 0) this.#beliefs.gone(attempt, idFrom(place.what));
    return found;
  }

  #tellUnreadable(id: string, why: Error): void {
    if (this.#unreadable.has(id)) return;
    this.#unreadable.add(id);
    this.#options.onUnreadable?.(id, why);
  }

  async #write<T>(
    where: Where,
    place: Place,
    once: OnceKey | null,
    found: readonly Found[],
    change: Change<T>,
  ): Promise<Updated<T> | ({ readonly kind: 'stale' } & Seen)> {
    const { connection, clock, seal, onCommit } = this.#options;
    const { taught } = connection;
    const planned = plan(change.writes, found, seal, () => {
      this.#rev += 1;
      return this.#rev;
    });
    const nowMs = clock.nowMs();
    const attempt = this.#beliefs.next();
    const words = [
      ...wordsFor(place, once === null ? '' : onceMember(once), nowMs + this.shiftMs, place.isOfMany ? 'written' : 'all'),
      ...expectations(place, found, planned),
      ...writeWords(where, planned),
    ];
    this.#claims.written();
    for (const one of planned) this.#believe(one);
    const isWrite = planned.length > 0 || once !== null;
    try {
      const sent = this.#run(scripts.UPDATE, place.shard, place.key, words);
      const [[verdict, ...rest]] = await Promise.all([sent, isWrite ? this.#replicated(place.shard) : null]);
      // Sent once more, it went after the question who has it.
      if (isWrite && connection.taught !== taught) await this.#replicated(place.shard);
      switch (verdict?.toString()) {
        case 'duplicate':
          this.#disown(planned);
          return this.#duplicate(place);
        case 'rows':
        case 'part':
          this.#disown(planned);
          return { kind: 'stale', ...this.#seen(attempt, place, verdict, rest) };
        case 'done': {
          if (!isWrite) return this.#onlyRead(place, change.value);
          onCommit?.(true, 1, clock.nowMs() - nowMs);
          const claims = this.#claims.begun(planned, change.writes, place.shard, rest, nowMs);
          return { kind: 'done', value: change.value, claims, next: place.next };
        }
        default:
          throw new StoreUnavailable(new Error('a new delegation has the id of another'));
      }
    } catch (error) {
      this.#disown(planned);
      this.#beliefs.forget(
        place.list,
        found.map(({ id }) => id),
      );
      if (isWrite) onCommit?.(false, 1, clock.nowMs() - nowMs);
      throw error;
    }
  }

  #believe({ row, rev, before }: Planned): void {
    this.#beliefs.wrote({ row, rev });
    if (row.state.kind === 'ended') for (const list of listsOf(row).slice(1)) this.#beliefs.forget(list, []);
    else for (const list of listsMade({ row, before })) this.#beliefs.added(list, row.id);
  }

  /** What was believed of a write that was not made. */
  #disown(planned: readonly Planned[]): void {
    for (const { row, rev, before } of planned) {
      if (this.#beliefs.row(row.id)?.rev === rev) this.#beliefs.forget(null, [row.id]);
      for (const list of listsMade({ row, before })) this.#beliefs.forget(list, []);
    }
  }

  /** LASTWILL_REDIS_WAIT is waited for within each commit; what was only read may be another's, who was refused for want of replicas. */
  async durable(room?: RoomName): Promise<void> {
    const shards = room === undefined ? ALL_SHARDS : [shardOf(room)];
    await Promise.all(shards.map((shard) => this.#doubts.dispel(shard))).catch((error) => {
      throw error instanceof StoreUnavailable ? error : new StoreUnavailable(error);
    });
  }

  claimDue(...args: Parameters<Store['claimDue']>): Promise<readonly Claimed[]> {
    return this.#claims.claimDue(...args);
  }

  holds(...args: Parameters<Store['holds']>): Promise<boolean> {
    return this.#claims.holds(...args);
  }

  release(claim: Claim): Promise<void> {
    return this.#claims.release(claim);
  }

  nextDueMs(afterMs: number): Promise<number | null> {
    return this.#claims.nextDueMs(afterMs);
  }

  #everywhere(script: scripts.Script, key: string, args: readonly Argument[]): Promise<(readonly Buffer[])[]> {
    return Promise.all(ALL_SHARDS.map((shard) => this.#run(script, shard, key, args)));
  }

  async rooms(fromSlot: number, toSlot: number, notWithinMs = 0): Promise<readonly RoomName[]> {
    const parts = shardsBetween(fromSlot, toSlot);
    const replies = await Promise.all(
      parts.map(({ shard, from, to }) => this.#run(scripts.ROOMS, shard, 'rooms', [String(from), String(to), String(notWithinMs)])),
    );
    return replies.flat().map((name) => name.toString() as RoomName);
  }

  pause(homeserver: HomeserverUrl, untilMs: number): Promise<void> {
    return this.#limits.pause(homeserver, untilMs);
  }

  reserve(homeserver: HomeserverUrl, limit: Limit): Promise<boolean> {
    return this.#limits.reserve(homeserver, limit);
  }

  reservations(): Promise<ReadonlyMap<HomeserverUrl, Limit>> {
    return this.#limits.reservations();
  }

  async count(): Promise<Readonly<Record<State['kind'], number>>> {
    const counts = { awaiting: 0, connected: 0, settling: 0, leaving: 0, cancelling: 0, ended: 0 };
    for (const reply of await this.#everywhere(scripts.ENTRIES, 'count', [])) {
      for (let at = 0; at + 1 < reply.length; at += 2) counts[String(reply[at]) as State['kind']] += Number(reply[at + 1]);
    }
    return counts;
  }

  purge(old: Old): Promise<number> {
    return purgeShards(this.#run, this.#options.seal, old);
  }

  async ping(): Promise<void> {
    if (this.#closed) throw new StoreUnavailable('closed');
    const beating = this.#pulse.beat();
    await Promise.all([beating, this.#replicated(0)]).catch((error) => {
      throw error instanceof StoreUnavailable ? error : new StoreUnavailable(error);
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#stopTicking();
    this.#claims.stop();
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
    if (this.#closed) return;
    this.#closed = true;
    await this.#options.connection.close();
  }
}
