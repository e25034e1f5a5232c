// Forgetting what ended long ago, and old webhooks. One shard after the other: nobody waits for it.

import type { Seal } from '../seal.ts';
import type { Old } from '../store.ts';
import type { RedisRun } from './connection.ts';
import { ALL_SHARDS, idIn, ownerField, prefixOf, roomKey } from './keys.ts';
import { FORGET, FORGET_ONCE, OLD } from './scripts.ts';
import { readFound } from './update.ts';

export async function purgeShards(run: RedisRun, seal: Seal | null, { limit, ...old }: Old): Promise<number> {
  let [ended, keys] = [0, 0];
  for (const shard of ALL_SHARDS) {
    if (ended < limit) ended += await purgeEnded(run, seal, shard, { ...old, limit: limit - ended });
    if (keys < limit) {
      const [gone] = await run(FORGET_ONCE, shard, 'once', [String(old.onceBeforeMs), String(limit - keys)]);
      keys += Number(gone);
    }
  }
  return ended + keys;
}

async function purgeEnded(run: RedisRun, seal: Seal | null, shard: number, { endedBeforeMs, mostEnded, limit }: Old): Promise<number> {
  // Rooms are spread evenly enough over the shards for each to keep its part.
  const most = Math.ceil(mostEnded / ALL_SHARDS.length);
  const old = await run(OLD, shard, 'ended', [String(endedBeforeMs), String(most), String(limit)]);
  // What can't be read is forgotten all the same, save in its owner's list, where it is passed over.
  const found = readFound(old, {
    seal,
    believed: () => null,
    onUnreadable: () => {},
  });
  if (found.length === 0) return 0;
  const words = found.flatMap(({ id, row }) => [
    idIn(id),
    ...(row === null ? ['', ''] : [`${prefixOf(shard)}${roomKey(row.room)}`, ownerField(row.owner)]),
  ]);
  const [gone] = await run(FORGET, shard, 'ended', words);
  return Number(gone);
}
