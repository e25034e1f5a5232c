// A real redis-server on loopback that keeps nothing on disk.
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@redis/client';
import { freePort, Server } from './processes.ts';

export const redisBinary = process.env.LASTWILL_REDIS_SERVER ?? '/usr/bin/redis-server';
export const noRedis = existsSync(redisBinary)
  ? undefined
  : `no ${redisBinary}: npm run test:e2e installs Debian's redis-server as root; LASTWILL_REDIS_SERVER may name another`;

export class Redis {
  readonly url: string;
  readonly #dir: string;
  #server: Server | undefined;

  private constructor(url: string, dir: string) {
    this.url = url;
    this.#dir = dir;
  }

  static async start(): Promise<Redis> {
    const port = await freePort();
    const dir = mkdtempSync(join(tmpdir(), 'lastwill-e2e-redis-'));
    const redis = new Redis(`redis://127.0.0.1:${port}`, dir);
    await redis.startAgain();
    return redis;
  }

  /** Same port, nothing remembered. */
  async startAgain(): Promise<void> {
    const args = ['--port', new URL(this.url).port, '--bind', '127.0.0.1', '--dir', this.#dir, '--save', '', '--appendonly', 'no'];
    this.#server = new Server('redis-server', redisBinary, args, { cwd: this.#dir, logFile: join(this.#dir, 'log') });
    await this.#server.ready(10_000, async () => (await this.fields('none')).length === 0);
  }

  /** The fields of a hash. */
  async fields(key: string): Promise<string[]> {
    return this.#ask((client) => client.hKeys(key));
  }

  async set(key: string, field: string, value: string): Promise<void> {
    await this.#ask((client) => client.hSet(key, field, value));
  }

  async kill(): Promise<void> {
    await this.#server?.kill();
  }

  async #ask<T>(question: (client: ReturnType<typeof createClient>) => Promise<T>): Promise<T> {
    const client = createClient({ url: this.url, socket: { reconnectStrategy: false } });
    client.on('error', () => {});
    await client.connect();
    return question(client as ReturnType<typeof createClient>).finally(() => client.destroy());
  }
}
