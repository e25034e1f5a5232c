// The authorization service under test: lastwill, or whatever command LASTWILL_PEER names, for side-by-side records. Both get the
// same settings, and nothing is asked of them but the drop-in API.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Homeserver } from '../../stack/homeserver.ts';
import { API_KEY, API_SECRET, type LiveKitAddress, sfuUrl } from '../../stack/livekit.ts';
import { nodeBinary, repositoryDir, Server } from '../../stack/processes.ts';

const peer = process.env.LASTWILL_PEER?.trim().split(/\s+/) ?? [];
export const underTest = peer[0] === undefined ? 'lastwill' : `LASTWILL_PEER (${peer[0].split('/').at(-1)})`;

export class Service {
  readonly logFile: string;
  readonly #server: Server;

  private constructor(server: Server, logFile: string) {
    this.#server = server;
    this.logFile = logFile;
  }

  static async start(port: number, sfu: LiveKitAddress, homeserver: Homeserver): Promise<Service> {
    const dir = mkdtempSync(join(tmpdir(), 'lastwill-e2e-data-'));
    const logFile = join(dir, 'service.log');
    const [command = nodeBinary, ...args] = peer[0] === undefined ? [nodeBinary, join(repositoryDir, 'src/main.ts')] : peer;
    const server = new Server(underTest, command, args, {
      cwd: dir,
      logFile,
      env: {
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
      },
    });
    await server.ready(20_000, async () => (await fetch(`http://127.0.0.1:${port}/healthz`)).ok);
    return new Service(server, logFile);
  }

  log(): string {
    return this.#server.log();
  }

  async stop(): Promise<void> {
    await this.#server.stop();
  }
}
