// The authorization service under test: lastwill, or whatever command LASTWILL_PEER names, for side-by-side records. Both get the
// same settings, and nothing is asked of them but the drop-in API.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Homeserver } from '../../stack/homeserver.ts';
import { API_KEY, API_SECRET, type LiveKitAddress, sfuUrl } from '../../stack/livekit.ts';
import { nodeBinary, repositoryDir, Server } from '../../stack/processes.ts';

const peerOf = (command: string | undefined): string[] => command?.trim().split(/\s+/) ?? [];
const nameOf = ([program]: readonly string[]): string =>
  program === undefined ? 'lastwill' : `LASTWILL_PEER (${program.split('/').at(-1)})`;
export const underTest = nameOf(peerOf(process.env.LASTWILL_PEER));

export interface ServiceOptions {
  /** Its command line, if it is not lastwill. */
  readonly peer?: string | undefined;
  readonly env?: Readonly<Record<string, string>>;
}

export class Service {
  readonly logFile: string;
  readonly #start: () => Server;
  readonly #url: string;
  #server: Server;

  private constructor(url: string, logFile: string, start: () => Server) {
    this.#url = url;
    this.logFile = logFile;
    this.#start = start;
    this.#server = start();
  }

  static async start(
    port: number,
    sfu: LiveKitAddress,
    homeserver: Pick<Homeserver, 'serverName' | 'url'>,
    options: ServiceOptions = { peer: process.env.LASTWILL_PEER },
  ): Promise<Service> {
    const peer = peerOf(options.peer);
    const dir = mkdtempSync(join(tmpdir(), 'lastwill-e2e-data-'));
    const logFile = join(dir, 'service.log');
    const [command = nodeBinary, ...args] = peer[0] === undefined ? [nodeBinary, join(repositoryDir, 'src/main.ts')] : peer;
    const env = {
      PATH: process.env.PATH,
      NODE_ENV: 'production',
      LIVEKIT_URL: sfuUrl(sfu),
      LIVEKIT_KEY: API_KEY,
      LIVEKIT_SECRET: API_SECRET,
      LIVEKIT_JWT_BIND: `127.0.0.1:${port}`,
      LIVEKIT_LOG_LEVEL: 'debug',
      LIVEKIT_FULL_ACCESS_HOMESERVERS: homeserver.serverName,
      LIVEKIT_CS_API_URL_OVERRIDES: `${homeserver.serverName}=${homeserver.url}`,
      LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING',
      ...(peer[0] === undefined ? { LASTWILL_DATA_DIR: dir } : {}),
      ...options.env,
    };
    const service = new Service(
      `http://127.0.0.1:${port}`,
      logFile,
      () => new Server(nameOf(peer), command, args, { cwd: dir, logFile, env }),
    );
    await service.#ready();
    return service;
  }

  /** Same data, same port. */
  async startAgain(): Promise<void> {
    this.#server = this.#start();
    await this.#ready();
  }

  log(): string {
    return this.#server.log();
  }

  async stop(): Promise<void> {
    await this.#server.stop();
  }

  async kill(): Promise<void> {
    await this.#server.kill();
  }

  async #ready(): Promise<void> {
    await this.#server.ready(20_000, async () => (await fetch(`${this.#url}/healthz`)).ok);
  }
}
