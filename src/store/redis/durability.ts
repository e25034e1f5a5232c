// What a crash of Redis can lose, said honestly: durability is the operator's choice, and is made in Redis' own settings.
import type { RedisConnection } from './connection.ts';

export interface Durability {
  /** One line. */
  readonly line: string;
  /** Something that can't be meant: a row that Redis throws away is a leave that nobody sends. */
  readonly alarm: string | null;
}

const ASKED = ['appendonly', 'appendfsync', 'save', 'min-replicas-to-write', 'maxmemory', 'maxmemory-policy'] as const;
export type RedisSettings = Readonly<Partial<Record<(typeof ASKED)[number], string>>>;

/** Empty where CONFIG GET is forbidden, as managed services do. */
export async function readRedisSettings(connection: RedisConnection): Promise<RedisSettings> {
  try {
    return Object.fromEntries(pairsOf(await connection.command(0, ['CONFIG', 'GET', ...ASKED])));
  } catch {
    return {};
  }
}

/** A map, an object or a flat list: it depends on the protocol. */
function pairsOf(reply: unknown): [string, string][] {
  if (Array.isArray(reply)) return Array.from({ length: reply.length / 2 }, (_, at) => [String(reply[at * 2]), String(reply[at * 2 + 1])]);
  const entries = reply instanceof Map ? [...reply] : Object.entries(reply as object);
  return entries.map(([name, value]) => [String(name), String(value)]);
}

export function durabilityOf(settings: RedisSettings, waitFor: number): Durability {
  const policy = settings['maxmemory-policy'];
  const alarm =
    policy === undefined || policy === 'noeviction'
      ? null
      : `maxmemory-policy is ${policy}: Redis may throw delegations away, and then nobody sends their leaves. Set it to noeviction.`;
  return { line: `a crash of Redis can lose ${lossOf(settings)}; ${failoverOf(settings, waitFor)}`, alarm };
}

function lossOf({ appendonly, appendfsync, save }: RedisSettings): string {
  if (appendonly === undefined) return 'what its settings allow (CONFIG GET is refused, so they are not known)';
  if (appendonly === 'yes') {
    if (appendfsync === 'always') return 'nothing that was answered (appendonly, appendfsync always)';
    if (appendfsync === 'everysec') return 'the last second of what was answered (appendonly, appendfsync everysec)';
    return 'the last half minute or so of what was answered (appendonly, appendfsync no)';
  }
  return save === undefined || save === ''
    ? 'every delegation (neither appendonly nor save is set)'
    : `everything since its last snapshot (no appendonly; save ${save})`;
}

function failoverOf(settings: RedisSettings, waitFor: number): string {
  if (waitFor > 0) return `an answer waits until ${waitFor} of its replicas have the write (LASTWILL_REDIS_WAIT)`;
  const least = Number(settings['min-replicas-to-write'] ?? 0);
  const rest = least > 0 ? `, of which ${least} must be connected` : '';
  return `a failover can lose what its replicas${rest} had not received yet (LASTWILL_REDIS_WAIT waits for them)`;
}
