// Who may use the keys in Redis. Replicas of neighbouring versions work side by side; one that could not read what a newer one has
// written, or has another key, refuses to start rather than to forget. What one seals others must be able to read: so the key changes only
// while nobody else is at work.

import type { Clock } from '../../clock.ts';
import type { Seal } from '../seal.ts';
import { StoreUnusable } from '../store.ts';
import type { RedisConnection } from './connection.ts';
import { ALL_SHARDS, prefixOf } from './keys.ts';
import { isBeating } from './pulse.ts';
import { MEET } from './scripts.ts';

/** The version of what keys.ts and row.ts describe, and the oldest that can read what this one writes. */
export const SCHEMA = { own: 1, least: 1 } as const;

/** @throws StoreUnusable: the keys were written by a newer version, or sealed with another key, or are used by somebody with another. */
export async function meet(connection: RedisConnection, seal: Seal | null, clock: Clock): Promise<void> {
  const isWelcome = await meetAll(connection, seal, false);
  if (isWelcome) return;
  const isAlone = !(await isBeating(connection, clock));
  // Somebody with the same key may have been first meanwhile.
  if (await meetAll(connection, seal, isAlone)) return;
  const how = seal === null ? 'with a LASTWILL_STORE_KEY, and here none is set' : 'without this LASTWILL_STORE_KEY';
  throw new StoreUnusable(
    `another lastwill runs on this Redis ${how}: what one of them writes the other can not read. Stop all of them first`,
  );
}

/** Whether a lastwill has kept anything there, and whether sealed. To be asked by who only reads: to meet is to have one's own key counted. */
export async function foundThere(connection: RedisConnection): Promise<'nothing' | 'sealed' | 'open'> {
  const [schema, seal] = (await connection.command(0, ['HMGET', `${prefixOf(0)}meta`, 'schema', 'seal'])) as (Buffer | null)[];
  if (!schema) return 'nothing';
  return seal?.length ? 'sealed' : 'open';
}

/** False: the key is not the one that was used until now. */
async function meetAll(connection: RedisConnection, seal: Seal | null, alone: boolean): Promise<boolean> {
  const words = [String(SCHEMA.own), String(SCHEMA.least), seal?.keyName ?? '', alone ? 'alone' : ''];
  let isWelcome = true;
  for (const shard of ALL_SHARDS) {
    const [verdict, detail, least] = (await connection.run(MEET, shard, 'meta', '', words)).map(String);
    if (verdict === 'newer') {
      throw new StoreUnusable(
        `the store in Redis has schema ${detail}, to be read by ${least} or later; this version of lastwill knows ${SCHEMA.own}: start the newer version again`,
      );
    }
    if (verdict === 'sealed') {
      const why = seal === null ? 'LASTWILL_STORE_KEY is not set' : 'LASTWILL_STORE_KEY is another';
      throw new StoreUnusable(`the delegations in Redis can not be read: they are sealed with a key (${detail}), and ${why}`);
    }
    if (verdict === 'others') isWelcome = false;
  }
  return isWelcome;
}
