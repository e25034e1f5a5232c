// Whether another lastwill is at work here beside another SFU: each of the two would find nobody of the other's participants on its own, and
// send their leaves. Only said, not refused: replicas of one SFU may know it by several names, and a name may change while they are
// replaced one by one.
import type { Clock } from '../../clock.ts';
import type { RedisConnection } from './connection.ts';
import { SFU_KEY } from './keys.ts';
import { isBeating } from './pulse.ts';

/** To be called before our own pulse beats. The LIVEKIT_URL of the others, if it is not ours; it takes a while only then. */
export async function otherSfu(connection: RedisConnection, clock: Clock, livekitUrl: string): Promise<string | null> {
  const known = await connection.command(0, ['GET', SFU_KEY]);
  if (known !== null && String(known) === livekitUrl) return null;
  const isOthers = known !== null && (await isBeating(connection, clock));
  await connection.command(0, ['SET', SFU_KEY, livekitUrl]);
  return isOthers ? String(known) : null;
}
