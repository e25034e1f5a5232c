// What replicas tell one another of homeservers that limit calls: until when one wants none, and whose the restarts with it are.
import type { HomeserverUrl } from '../../delegation/ids.ts';
import { type Limit, RESERVED_MS } from '../store.ts';
import type { RedisConnection, RedisRun } from './connection.ts';
import { ALL_SHARDS, LIMITS_SHARD, pausedMember, prefixOf } from './keys.ts';
import { RESERVATIONS, RESERVE } from './scripts.ts';

export class RedisLimits {
  readonly #run: RedisRun;
  readonly #connection: RedisConnection;
  /** Who we are among the replicas. */
  readonly #name: string;

  constructor(run: RedisRun, connection: RedisConnection, name: string) {
    this.#run = run;
    this.#connection = connection;
    this.#name = name;
  }

  /** In each shard, where the looks for due rows see it. */
  async pause(homeserver: HomeserverUrl, untilMs: number): Promise<void> {
    const words = [pausedMember(homeserver), String(untilMs)];
    await Promise.all(ALL_SHARDS.map((shard) => this.#connection.command(shard, ['HSET', `${prefixOf(shard)}paused`, ...words])));
  }

  async reserve(homeserver: HomeserverUrl, { perMs, refusedAgoMs }: Limit): Promise<boolean> {
    const words = [homeserver, this.#name, String(RESERVED_MS), String(perMs ?? '-'), String(Math.round(refusedAgoMs))];
    return (await this.#run(RESERVE, LIMITS_SHARD, 'limits', words)).length > 0;
  }

  async reservations(): Promise<ReadonlyMap<HomeserverUrl, Limit>> {
    const reply = (await this.#run(RESERVATIONS, LIMITS_SHARD, 'limits', [this.#name])).map(String);
    const found = new Map<HomeserverUrl, Limit>();
    for (let at = 0; at + 2 < reply.length; at += 3) {
      const [homeserver, perMs, agoMs] = reply.slice(at, at + 3) as [HomeserverUrl, string, string];
      found.set(homeserver, { perMs: perMs === '-' ? null : Number(perMs), refusedAgoMs: Number(agoMs) });
    }
    return found;
  }
}
