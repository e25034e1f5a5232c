// The settings of the store: Redis or not, and the key that seals tokens. Read by the service and by the command that copies stores.
import { parseRedisUrl, type RedisPlace } from '../redis-url.ts';
import { isQuoted, type Reader, readBoolean, readInteger } from './reader.ts';
import { SHORTEST_STORE_KEY } from './settings.ts';

export interface RedisConfig {
  readonly place: RedisPlace;
  /** How many Redis replicas must have a write before it is answered. */
  readonly waitFor: number;
  /** Whether jobs that were taken over are removed. */
  readonly removeJobs: boolean;
}

const MOST_REDIS_REPLICAS = 10;

/** In a folder of nearly the same name, made without a word, nothing would be left of what was promised before. */
export function readDataDir(reader: Reader): string {
  const folder = reader.get('LASTWILL_DATA_DIR') ?? './data';
  if (folder !== folder.trim() || isQuoted(folder)) reader.fault('LASTWILL_DATA_DIR', 'a folder, without spaces or quotes around it');
  return folder;
}

/** Null: not set. `remark`: note it if there is none. The file goes before the variable, as with API keys. */
export function readStoreKey(reader: Reader, { remark }: { readonly remark: boolean }): string | null {
  const [variable, fileVariable] = ['LASTWILL_STORE_KEY', 'LASTWILL_STORE_KEY_FROM_FILE'];
  const given = reader.get(variable);
  const isFile = reader.get(fileVariable) !== null;
  if (isFile && given !== null) reader.note(`${variable} is not used, because ${fileVariable} is set.`);
  const key = isFile ? (reader.file(fileVariable)?.trim() ?? null) : given;
  if (key !== null && key.length < SHORTEST_STORE_KEY) {
    if (isFile) reader.fault(fileVariable, `a file of at least ${SHORTEST_STORE_KEY} characters`);
    else reader.fault(variable, `at least ${SHORTEST_STORE_KEY} characters`);
  }
  if (!isFile && key === null && remark) reader.note(`${variable} is not set: delay ids and tokens are stored unsealed.`);
  return key;
}

export function readRedis(reader: Reader): RedisConfig | null {
  const url = reader.get('LIVEKIT_REDIS_URL');
  const password = reader.get('LIVEKIT_REDIS_PASSWORD');
  const removeJobs = readBoolean(reader, 'LASTWILL_TAKEOVER_REMOVE', false);
  const waitFor = readInteger(reader, 'LASTWILL_REDIS_WAIT', 0, MOST_REDIS_REPLICAS) ?? 0;
  if (url === null) return null;
  const place = parseRedisUrl(url, password);
  if (place === null) {
    reader.fault(
      'LIVEKIT_REDIS_URL',
      'redis://host:port, unix:///path, redis+sentinel://host:port,…/master or redis+cluster://host:port,… (rediss with TLS)',
    );
    return null;
  }
  if (place.anyCertificate) reader.note('LIVEKIT_REDIS_URL has skip_verify: the certificate of Redis is not checked.');
  reader.note('LIVEKIT_REDIS_URL: delegations are kept there, for all replicas; LASTWILL_DATA_DIR is not used.');
  return { place, waitFor, removeJobs };
}
