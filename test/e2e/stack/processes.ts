// Child processes, ports and waiting. Each server is its own process group and is ended by its own pid;
// waiting is always for a condition, and says at the end what it last saw instead.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const repositoryDir = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
export const nodeBinary = join(repositoryDir, 'node_modules/node/bin/node');

const cacheDir = process.env.LASTWILL_E2E_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'lastwill-e2e');
/** Another may be named, to see what holds with it: install.ts brings it beside this one. */
export const LIVEKIT_VERSION = process.env.LASTWILL_LIVEKIT_VERSION ?? '1.13.5';
export const SYNAPSE_VERSION = '1.163.2';
export const livekitDir = join(cacheDir, `livekit-server-${LIVEKIT_VERSION}`);
export const livekitBinary = join(livekitDir, 'server');
export const synapseDir = join(cacheDir, `synapse-${SYNAPSE_VERSION}`);
export const valkeyDir = join(cacheDir, 'valkey');
export const valkeyBinary = join(valkeyDir, 'usr/bin/valkey-server');
export const synapsePython = join(synapseDir, 'bin/python');

export const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
export const now = (): number => performance.timeOrigin + performance.now();

/** Tries `look` until it returns something; it throws (or returns undefined) to say "not yet". */
export async function eventually<T>(what: string, timeoutMs: number, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = now() + timeoutMs;
  let reason: unknown = 'nothing yet';
  for (let pause = 10; ; pause = Math.min(pause * 1.5, 100)) {
    try {
      const found = await look();
      if (found !== undefined) return found;
    } catch (error) {
      reason = error;
    }
    if (now() >= deadline) {
      const why = reason instanceof Error ? (reason.cause ?? reason.message) : reason;
      throw new Error(`waited ${timeoutMs} ms for ${what}; last: ${String(why)}`, { cause: reason });
    }
    await sleep(pause);
  }
}

// Systems take the ports of outgoing connections from 32768 (Linux) or 49152 up: what is free there now may be gone in a moment.
// Each process that asks has a range of its own and goes round in it, since a port is given out long before a server listens on it.
const PORTS = { first: 20_000, ranges: 60, each: 200 } as const;
let portsGiven = 0;

/** A port that nobody listens on, and that no outgoing connection will take before we do. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + (process.pid % PORTS.ranges) * PORTS.each + (portsGiven++ % PORTS.each);
    const server = createServer();
    const free = await new Promise<boolean>((answer) => {
      server.once('error', () => answer(false)).listen(port, '127.0.0.1', () => answer(true));
    });
    await new Promise((closed) => server.close(closed));
    if (free) return port;
  }
}

/** A server as a child process. `stop` asks, then insists; `kill` is the crash. Both return when it is gone. */
export class Server {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #logFile: string;
  readonly #exited: Promise<void>;

  constructor(name: string, command: string, args: readonly string[], options: { env?: NodeJS.ProcessEnv; cwd: string; logFile: string }) {
    this.#name = name;
    this.#logFile = options.logFile;
    const log = openSync(options.logFile, 'a');
    this.#child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['ignore', log, log],
      detached: true,
    });
    closeSync(log);
    this.#exited = new Promise((exited) => {
      this.#child.once('exit', () => exited());
      this.#child.once('error', () => exited());
    });
    endWithUs.add(this);
    void this.#exited.then(() => endWithUs.delete(this));
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  log(): string {
    return existsSync(this.#logFile) ? readFileSync(this.#logFile, 'utf8') : '';
  }

  /** Until `look` succeeds; fails at once, with the end of the log, when the process has died. */
  async ready(timeoutMs: number, look: () => Promise<boolean>): Promise<void> {
    let died = false;
    await eventually(`${this.#name} to be ready`, timeoutMs, async () => {
      const ready = await look().catch((error: unknown) => {
        if (this.running) throw error;
      });
      // Asked afterwards: the answer may have been another server's.
      died = !this.running;
      return died || ready ? true : undefined;
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.#tail()}`);
    });
    if (died) throw new Error(`${this.#name} ended while starting\n${this.#tail()}`);
  }

  signal(signal: NodeJS.Signals): void {
    if (this.running) this.#child.kill(signal);
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#exited;
  }

  async stop(graceMs = 10_000): Promise<void> {
    this.signal('SIGTERM');
    const insist = setTimeout(() => this.signal('SIGKILL'), graceMs);
    await this.#exited;
    clearTimeout(insist);
  }

  #tail(): string {
    return `--- end of ${this.#logFile}\n${this.log().split('\n').slice(-30).join('\n')}`;
  }
}

// A test run that is cut short must not leave servers behind.
const endWithUs = new Set<Server>();
const endAll = (): void => {
  for (const server of endWithUs) server.signal('SIGKILL');
};
process.once('exit', endAll);
for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    endAll();
    process.kill(process.pid, signal);
  });
}
