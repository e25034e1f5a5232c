// lastwill itself, as an operator would run it: a process, its settings, its HTTP API. Nothing of its source is used.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LastwillApi } from './lastwill-api.ts';
import { API_KEY, API_SECRET, type LiveKitAddress, sfuUrl } from './livekit.ts';
import { nodeBinary, now, repositoryDir, Server } from './processes.ts';
import { SERVER_NAME } from './synapse.ts';

export interface LastwillOptions {
  readonly port: number;
  readonly sfu: LiveKitAddress;
  /** Server name → client-server URL. */
  readonly homeservers: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
}

export class Lastwill extends LastwillApi {
  readonly dataDir: string;
  readonly logFile: string;
  readonly #options: LastwillOptions;
  #server: Server | undefined;

  private constructor(options: LastwillOptions) {
    super(`http://127.0.0.1:${options.port}`);
    this.#options = options;
    this.dataDir = mkdtempSync(join(tmpdir(), 'lastwill-e2e-data-'));
    this.logFile = join(this.dataDir, 'lastwill.log');
  }

  static async start(options: LastwillOptions): Promise<Lastwill> {
    const lastwill = new Lastwill(options);
    await lastwill.startAgain();
    return lastwill;
  }

  /** Same data folder, same port; returns how long it took until it was ready. */
  async startAgain(): Promise<number> {
    const startedMs = now();
    this.#server = new Server('lastwill', nodeBinary, [join(repositoryDir, 'src/main.ts')], {
      cwd: this.dataDir,
      env: this.#environment(),
      logFile: this.logFile,
    });
    await this.#server.ready(20_000, async () => (await fetch(`${this.url}/readyz`)).ok);
    return now() - startedMs;
  }

  async kill(): Promise<void> {
    await this.#server?.kill();
  }

  /** TERM; its exit code. */
  async stop(): Promise<number | null> {
    await this.#server?.stop();
    return this.#server?.exitCode ?? null;
  }

  log(): string {
    return this.#server?.log() ?? '';
  }

  #environment(): NodeJS.ProcessEnv {
    const names = Object.keys(this.#options.homeservers);
    return {
      PATH: process.env.PATH,
      NODE_ENV: 'production',
      LIVEKIT_URL: sfuUrl(this.#options.sfu),
      LIVEKIT_KEY: API_KEY,
      LIVEKIT_SECRET: API_SECRET,
      LIVEKIT_JWT_BIND: `127.0.0.1:${this.#options.port}`,
      LIVEKIT_LOG_LEVEL: 'debug',
      LIVEKIT_FULL_ACCESS_HOMESERVERS: names.join(','),
      LIVEKIT_CS_API_URL_OVERRIDES: names.map((name) => `${name}=${this.#options.homeservers[name]}`).join(','),
      LASTWILL_DATA_DIR: this.dataDir,
      LASTWILL_ALLOW_PRIVATE_ADDRESSES: 'true',
      ...this.#options.env,
    };
  }
}

export const synapseAt = (url: string): Readonly<Record<string, string>> => ({ [SERVER_NAME]: url });
