// A real Synapse on loopback with delayed events (MSC4140) and sticky events (MSC4354) on, its state in one SQLite file.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, Server, synapsePython } from './processes.ts';

export const SERVER_NAME = 'lastwill.test';

export interface RateLimit {
  readonly per_second: number;
  readonly burst_count: number;
}
/** What Synapse does when nothing is configured. */
export const DEFAULT_DELAYED_EVENT_LIMIT: RateLimit = { per_second: 1, burst_count: 5 };
export const DEFAULT_MESSAGE_LIMIT: RateLimit = { per_second: 0.2, burst_count: 10 };
const GENEROUS: RateLimit = { per_second: 1000, burst_count: 1000 };

export interface SynapseOptions {
  readonly delayedEventLimit?: RateLimit;
  /** How much each user may send. */
  readonly messageLimit?: RateLimit;
  /** An application service that may act as any of its users, and is not limited unless told. */
  readonly asToken?: string;
  readonly asLimited?: boolean;
}

export class Synapse {
  readonly url: string;
  readonly #dir: string;
  #server: Server | undefined;

  private constructor(url: string, dir: string) {
    this.url = url;
    this.#dir = dir;
  }

  static async start(options: SynapseOptions = {}): Promise<Synapse> {
    const port = await freePort();
    const dir = mkdtempSync(join(tmpdir(), 'lastwill-e2e-synapse-'));
    writeConfiguration(dir, port, options);
    const synapse = new Synapse(`http://127.0.0.1:${port}`, dir);
    await synapse.startAgain();
    return synapse;
  }

  /** Same database, same port. */
  async startAgain(): Promise<void> {
    this.#server = new Server('Synapse', synapsePython, ['-m', 'synapse.app.homeserver', '--config-path', 'homeserver.yaml'], {
      cwd: this.#dir,
      logFile: join(this.#dir, 'output.log'),
    });
    await this.#server.ready(60_000, async () => (await fetch(`${this.url}/_matrix/client/versions`)).ok);
  }

  get logFile(): string {
    return join(this.#dir, 'homeserver.log');
  }

  async stop(): Promise<void> {
    await this.#server?.stop();
  }

  async kill(): Promise<void> {
    await this.#server?.kill();
  }

  /** Takes connections, answers nothing. */
  freeze(): void {
    this.#server?.signal('SIGSTOP');
  }

  thaw(): void {
    this.#server?.signal('SIGCONT');
  }
}

/** The calls that reached a Synapse about one delayed event, in order: restart, send or cancel, with the answer's status. */
export function callsAbout(logFile: string, delayId: string): { action: string; status: number }[] {
  return readFileSync(logFile, 'utf8')
    .split('\n')
    .filter((line) => line.includes(`/delayed_events/${delayId}`) && line.includes('Processed request'))
    .map((line) => ({
      action: /delayed_events\/[^/ ?]+\/([a-z]+)/.exec(line)?.[1] ?? 'other',
      status: Number(/ (\d{3}) "/.exec(line)?.[1] ?? 0),
    }));
}

function writeConfiguration(dir: string, port: number, options: SynapseOptions): void {
  const { delayedEventLimit = GENEROUS, messageLimit = GENEROUS, asToken, asLimited = false } = options;
  const keyVersion = randomBytes(3).toString('hex');
  writeFileSync(join(dir, 'signing.key'), `ed25519 a_${keyVersion} ${randomBytes(32).toString('base64').replace(/=+$/, '')}\n`);
  writeFileSync(
    join(dir, 'log.yaml'),
    JSON.stringify({
      version: 1,
      formatters: { line: { format: '%(asctime)s %(levelname)s %(name)s %(request)s %(message)s' } },
      filters: { context: { '()': 'synapse.logging.context.LoggingContextFilter', request: '' } },
      handlers: { file: { class: 'logging.FileHandler', filename: join(dir, 'homeserver.log'), formatter: 'line', filters: ['context'] } },
      loggers: { 'synapse.storage.SQL': { level: 'WARNING' } },
      root: { level: 'INFO', handlers: ['file'] },
      disable_existing_loggers: false,
    }),
  );
  if (asToken !== undefined) {
    const users = [{ exclusive: false, regex: `@.*:${SERVER_NAME.replaceAll('.', '\\.')}` }];
    const tokens = { as_token: asToken, hs_token: randomBytes(16).toString('hex') };
    const names = { id: 'lastwill', url: null, sender_localpart: 'lastwill', namespaces: { users } };
    writeFileSync(join(dir, 'registration.yaml'), JSON.stringify({ ...names, ...tokens, rate_limited: asLimited }));
  }
  const login = { address: GENEROUS, account: GENEROUS, failed_attempts: GENEROUS };
  writeFileSync(
    join(dir, 'homeserver.yaml'),
    JSON.stringify({
      server_name: SERVER_NAME,
      public_baseurl: `http://127.0.0.1:${port}/`,
      listeners: [{ port, type: 'http', bind_addresses: ['127.0.0.1'], resources: [{ names: ['client', 'federation'] }] }],
      database: { name: 'sqlite3', args: { database: join(dir, 'homeserver.db') } },
      media_store_path: join(dir, 'media'),
      pid_file: join(dir, 'homeserver.pid'),
      signing_key_path: join(dir, 'signing.key'),
      log_config: join(dir, 'log.yaml'),
      macaroon_secret_key: randomBytes(16).toString('hex'),
      form_secret: randomBytes(16).toString('hex'),
      trusted_key_servers: [],
      suppress_key_server_warning: true,
      report_stats: false,
      enable_registration: true,
      enable_registration_without_verification: true,
      bcrypt_rounds: 4,
      max_event_delay_duration: '24h',
      experimental_features: { msc4140_enabled: true, msc4143_enabled: true, msc4354_enabled: true },
      rc_message: messageLimit,
      rc_registration: GENEROUS,
      rc_room_creation: GENEROUS,
      rc_login: login,
      rc_joins: { local: GENEROUS, remote: GENEROUS },
      rc_delayed_event_mgmt: delayedEventLimit,
      ...(asToken !== undefined && { app_service_config_files: [join(dir, 'registration.yaml')] }),
    }),
  );
}
