// Where lk-jwt-service keeps its jobs: one hash in Redis. Read once at start; the originals stay unless told otherwise, which is the
// way back.
import { createClient } from 'redis';

export interface JobHash {
  /** Every field and value. @throws Error when Redis can't be read. */
  read(): Promise<ReadonlyMap<string, string>>;
  remove(fields: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

const KEY = 'lk-jwt:jobs';
const CONNECT_TIMEOUT_MS = 5_000;

/** Connects, without trying again: a start that waits for Redis would keep calls unattended. @throws Error when it is not reachable. */
export async function openJobHash(url: string, password: string | null): Promise<JobHash> {
  const client = createClient({
    url,
    ...(password === null ? {} : { password }),
    socket: { connectTimeout: CONNECT_TIMEOUT_MS, reconnectStrategy: false },
  });
  // Without a listener an error between calls would end the process; the calls themselves reject.
  client.on('error', () => {});
  await client.connect();
  return {
    read: async () => new Map(Object.entries(await client.hGetAll(KEY))),
    remove: async (fields) => {
      if (fields.length > 0) await client.hDel(KEY, [...fields]);
    },
    close: async () => {
      client.destroy();
    },
  };
}
