// Whether Redis is there, is the one it was, and what time it has. Each shard keeps a name that the first replica gave it: a Redis that
// comes back with another one, or with none, has lost what it was told, and that is to be known, not to be taken for an empty house.
//
// A Redis whose clock is set back, or whose place another server takes, would have all that is due come due later by as much. So each shard
// is told what time it was told before, and goes on from there.
import type { Clock, Random } from '../../clock.ts';
import type { RedisConnection } from './connection.ts';
import { ALL_SHARDS, beatKeyOf } from './keys.ts';
import { BEAT } from './scripts.ts';

export interface Pulse {
  /** A write in every shard. @throws Error when one of them can't be written. */
  beat(): Promise<void>;
  /** To be called every second. */
  tick(): void;
  onLost(told: () => void): void;
  /** Redis' time minus ours, ms: replicas with it have one time. */
  readonly shiftMs: number;
}

export interface PulseDeps {
  readonly connection: RedisConnection;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether Redis' time is asked for. */
  readonly measures: boolean;
  readonly onLost: () => void;
}

const BEAT_EVERY_MS = 5_000;
/** Below this, two clocks are the same. */
const SAME_MS = 10;

export function createPulse({ connection, clock, random, measures, onLost }: PulseDeps): Pulse {
  const listeners: (() => void)[] = [onLost];
  const epochs = new Map<number, string>();
  let shiftMs = 0;
  /** What Redis' time is ahead of ours at least, however long its word was on its way; null: not heard of yet. */
  let surelyMs: number | null = null;
  let shortestMs = Number.POSITIVE_INFINITY;
  let beatAtMs = Number.NEGATIVE_INFINITY;

  async function beat(): Promise<void> {
    beatAtMs = clock.nowMs();
    const name = Buffer.from(random.bytes(9)).toString('base64url');
    const beaten = await Promise.allSettled(ALL_SHARDS.map((shard) => beatIn(shard, name)));
    if (beaten.some((one) => one.status === 'fulfilled' && one.value)) for (const told of listeners) told();
    const failed = beaten.find((one) => one.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async function beatIn(shard: number, name: string): Promise<boolean> {
    const sentMs = clock.nowMs();
    const atLeast = surelyMs === null ? '' : String(Math.floor(sentMs + surelyMs));
    const [epoch, micros] = await connection.run(BEAT, shard, 'epoch', '', [name, atLeast]);
    const tookMs = clock.nowMs() - sentMs;
    if (shard === 0 && measures) measure(Number(micros) / 1_000 - sentMs - tookMs / 2, tookMs);
    const known = epochs.get(shard);
    epochs.set(shard, String(epoch));
    return known !== undefined && known !== String(epoch);
  }

  /** An answer that came quickly tells the time best; what is far off all the same is another server's clock. */
  function measure(foundMs: number, tookMs: number): void {
    shortestMs = Math.min(shortestMs + 1, tookMs);
    const apartMs = Math.abs(foundMs - shiftMs);
    if (tookMs > shortestMs && apartMs <= tookMs) return;
    surelyMs = foundMs - tookMs / 2;
    if (apartMs > SAME_MS) shiftMs = Math.round(foundMs);
  }

  return {
    beat,
    tick: () => {
      if (clock.nowMs() - beatAtMs >= BEAT_EVERY_MS) beat().catch(() => {});
    },
    onLost: (told) => void listeners.push(told),
    get shiftMs() {
      return shiftMs;
    },
  };
}

/** Longer than between two beats, however late a tick is. */
const LONGEST_PAUSE_MS = BEAT_EVERY_MS + 2_000;

/** Whether any replica runs: their pulse stands still when none of them does. It takes as long as a pause between two beats may. */
export async function isBeating(connection: RedisConnection, clock: Clock): Promise<boolean> {
  const read = async (): Promise<string> => String(await connection.command(0, ['GET', beatKeyOf(0)]));
  const before = await read();
  await new Promise<void>((resolve) => void clock.after(LONGEST_PAUSE_MS, resolve));
  return (await read()) !== before;
}
