// A real redis-server (or valkey-server) of a test's own, on a free loopback port. Tests that need one are skipped where there is none.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createClient } from '@redis/client';
import { valkeyBinary } from '../e2e/stack/processes.ts';

const first = (...names: readonly (string | undefined)[]): string | undefined =>
  names.find((name) => name !== undefined && spawnSync(name, ['--version']).status === 0);
const VALKEY = first(process.env.LASTWILL_VALKEY_SERVER, 'valkey-server', valkeyBinary);
const BINARY = first(process.env.LASTWILL_REDIS_SERVER, 'redis-server') ?? VALKEY;

/** Null: there is one. Else why not. */
export const NO_REDIS: string | null = BINARY === undefined ? 'there is no redis-server here (Debian: apt-get install redis-server)' : null;

/** Each kind of server that the store is promised to work on. */
export const KINDS: readonly { readonly name: string; readonly binary: string | undefined; readonly missing: string | null }[] = [
  { name: 'Redis', binary: BINARY, missing: NO_REDIS },
  { name: 'Valkey', binary: VALKEY, missing: VALKEY === undefined ? 'there is no valkey-server here: npm run test:e2e brings it' : null },
];

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as { port: number };
  await new Promise<void>((done) => void server.close(() => done()));
  return port;
}

export class RedisServer {
  readonly port: number;
  tlsPort = 0;
  readonly dir: string;
  readonly #args: readonly string[];
  readonly #binary: string;
  #child: ChildProcess | null = null;

  private constructor(port: number, args: readonly string[], binary: string) {
    this.port = port;
    this.#binary = binary;
    this.#args = args;
    this.dir = mkdtempSync(path.join(tmpdir(), 'lastwill-redis-'));
  }

  static async start(args: readonly string[] = [], port?: number, binary: string = BINARY ?? ''): Promise<RedisServer> {
    const server = new RedisServer(port ?? (await freePort()), args, binary);
    await server.startAgain();
    return server;
  }

  /** With TLS on a port of its own beside the plain one. */
  static async startTls(args: readonly string[], binary?: string): Promise<RedisServer> {
    const tlsPort = await freePort();
    const server = await RedisServer.start(['--tls-port', String(tlsPort), ...args], undefined, binary);
    server.tlsPort = tlsPort;
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** With what its files hold. */
  async startAgain(): Promise<void> {
    const log = openSync(path.join(this.dir, 'log'), 'a');
    const basics = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.dir, '--save', '', '--appendonly', 'no'];
    const child = spawn(this.#binary, [...basics, ...this.#args], { stdio: ['ignore', log, log] });
    closeSync(log);
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    for (let tries = 0; tries < 400; tries += 1) {
      if (child.exitCode !== null) break;
      if (await this.#answers()) return;
      await new Promise((done) => void setTimeout(done, 25));
    }
    throw new Error(`redis-server did not start: ${readFileSync(path.join(this.dir, 'log'), 'utf8').slice(-1_000)}`);
  }

  async #answers(): Promise<boolean> {
    try {
      return (await this.ask('PING')) === 'PONG';
    } catch (error) {
      return /NOAUTH|NOPERM|WRONGPASS/.test(String(error));
    }
  }

  /** One command by a connection of its own. */
  async ask(...args: string[]): Promise<unknown> {
    const client = createClient({ url: this.url, socket: { reconnectStrategy: false }, disableOfflineQueue: true });
    client.on('error', () => {});
    await client.connect();
    try {
      return await client.sendCommand(args);
    } finally {
      client.destroy();
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  /** For good. */
  async end(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
