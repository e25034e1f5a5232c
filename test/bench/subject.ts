// What is measured: lastwill, or another service with the drop-in API, as a child process with the fakes as its SFU and homeserver.
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, createHmac } from 'node:crypto';
import { once as event } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { deviceOf, identityOf, JOINED_AT_MS, matrixRoom, memberOf, nowMs, roomSidOf, SLOT, sfuRoom, sidOf, userOf } from './shared.ts';
import { once, written } from './wire.ts';
import type { World } from './world.ts';

export type SubjectKind = 'lastwill' | 'peer';
export interface SubjectOptions {
  readonly kind: SubjectKind;
  readonly world: World;
  /** The peer's command line. */
  readonly command: string | null;
  readonly env?: Readonly<Record<string, string>>;
  /** The SFU's API key, if it isn't the world's; `env` has to say it as well. */
  readonly key?: { readonly name: string; readonly secret: string };
  /** Where to leave a CPU profile when it stops. */
  readonly profileDir?: string | null;
}

const KEY = 'bench-key';
const SECRET = 'bench-secret-of-at-least-32-characters';
const ROOT = resolve(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'src/main.ts');
/** As `npm start` has them: its environment, and between the program and the file. */
const [ENVIRONMENT, FLAGS] = startScript();
const LONGEST_START_MS = 60_000;
const TICK_MS = 10;

const part = (json: unknown): string => Buffer.from(JSON.stringify(json)).toString('base64url');
const HEADER = part({ alg: 'HS256', typ: 'JWT' });
const EXPIRES = Math.floor(Date.now() / 1000) + 6 * 3600;
function jwt(claims: Readonly<Record<string, unknown>>, key = { name: KEY, secret: SECRET }): string {
  const signed = `${HEADER}.${part({ iss: key.name, nbf: EXPIRES - 12 * 3600, exp: EXPIRES, ...claims })}`;
  return `${signed}.${createHmac('sha256', key.secret).update(signed).digest('base64url')}`;
}

export class Subject {
  readonly kind: SubjectKind;
  readonly dataDir: string;
  readonly #options: SubjectOptions;
  #port = 0;
  #child: ChildProcess | null = null;

  constructor(options: SubjectOptions) {
    this.kind = options.kind;
    this.#options = options;
    this.dataDir = mkdtempSync(join(tmpdir(), 'lastwill-bench-'));
  }

  get port(): number {
    return this.#port;
  }

  /** The time from the start of the process until it is ready. */
  async start(): Promise<number> {
    if (this.#port === 0) this.#port = await freePort();
    const log = openSync(join(this.dataDir, 'log'), 'a');
    const startedMs = nowMs();
    const { program, args, env } = this.#commandLine();
    const child = spawn(program, args, { cwd: ROOT, env, stdio: ['ignore', log, log] });
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    closeSync(log);
    const ready = written('GET', this.kind === 'lastwill' ? '/readyz' : '/healthz', {}, '');
    while ((await once(this.#port, ready)).status !== 200) {
      if (child.exitCode !== null || nowMs() - startedMs > LONGEST_START_MS) {
        throw new Error(`${this.kind} did not start:\n${this.log().slice(-2_000)}`);
      }
      await new Promise((done) => setTimeout(done, 2));
    }
    return nowMs() - startedMs;
  }

  log(): string {
    return readFileSync(join(this.dataDir, 'log'), 'utf8');
  }

  /** To a process that goes on. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(signal);
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = event(child, 'exit');
    child.kill(signal);
    const insist = setTimeout(() => child.kill('SIGKILL'), 15_000);
    await gone;
    clearTimeout(insist);
  }

  /** For good. */
  async end(): Promise<void> {
    await this.kill(this.#options.profileDir ? 'SIGTERM' : 'SIGKILL');
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  /** CPU time of the process so far, all threads; its resident memory. */
  cpuMs(): number {
    const fields = readFileSync(`/proc/${this.#child?.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  }
  rssMb(): number {
    return Number(readFileSync(`/proc/${this.#child?.pid}/statm`, 'utf8').split(' ')[1]) * (4096 / 1e6);
  }

  /** Hands the delayed event of a member over, by the native API where there is one. */
  delegation(member: number): string {
    if (this.kind === 'peer') return this.dropIn('/delegate_delayed_leave', member, true);
    const { world } = this.#options;
    const { rooms, delayMs } = world.shared;
    const video = { room: sfuRoom(member % rooms), roomJoin: true };
    const authorization = `Bearer ${jwt({ sub: this.identity(member), video }, this.#options.key)}`;
    const body = { homeserver: world.url, leave: { delay_id: `d-${member}` }, timeout_ms: delayMs };
    return written('POST', '/v1/delegations', { 'Content-Type': 'application/json', Authorization: authorization }, JSON.stringify(body));
  }

  /** By the API that both have. */
  dropIn(path: '/get_token' | '/delegate_delayed_leave', member: number, delegates: boolean): string {
    const { world } = this.#options;
    const { rooms, delayMs } = world.shared;
    const token = { access_token: `t${member}`, token_type: 'Bearer', matrix_server_name: world.serverName, expires_in: 3600 };
    const claimed = { claimed_user_id: userOf(member, world.serverName), claimed_device_id: deviceOf(member) };
    const body = {
      ...{ room_id: matrixRoom(member % rooms), slot_id: SLOT, openid_token: token, member: { id: memberOf(member), ...claimed } },
      ...(delegates && { delay_id: `d-${member}`, delay_timeout: delayMs, delay_cs_api_url: world.url }),
    };
    return written('POST', path, { 'Content-Type': 'application/json' }, JSON.stringify(body));
  }

  /** The status of a delegation taken. */
  get taken(): number {
    return this.kind === 'lastwill' ? 201 : 200;
  }

  identity(member: number): string {
    return identityOf(member, this.#options.world.serverName);
  }

  webhook(name: string, member: number, reason?: string): string {
    const number = member % this.#options.world.shared.rooms;
    const room = { sid: roomSidOf(number), name: sfuRoom(number), emptyTimeout: 300, creationTime: '1795420800', numParticipants: 2 };
    const permission = { canSubscribe: true, canPublish: true, canPublishData: true };
    const participant = {
      ...{ sid: sidOf(member), identity: this.identity(member), state: reason === undefined ? 'ACTIVE' : 'DISCONNECTED' },
      ...{ joinedAt: String(Math.floor(JOINED_AT_MS / 1000)), joinedAtMs: String(JOINED_AT_MS + member), version: 3, permission },
      ...(reason !== undefined && { disconnectReason: reason }),
    };
    const track = name.startsWith('track_') ? { track: { sid: `TR_${member}`, type: 'AUDIO', source: 'MICROPHONE' } } : {};
    serial += 1;
    const body = JSON.stringify({ event: name, room, participant, ...track, id: `EV_${serial}`, createdAt: '1795420810' });
    const sha256 = createHash('sha256').update(body).digest('base64');
    return written('POST', '/sfu_webhook', { 'Content-Type': 'application/webhook+json', Authorization: jwt({ sha256 }) }, body);
  }

  #commandLine(): { program: string; args: string[]; env: Record<string, string> } {
    const { kind, world, command, profileDir } = this.#options;
    const env: Record<string, string> = {
      PATH: process.env.PATH ?? '',
      LIVEKIT_URL: world.sfuUrl,
      LIVEKIT_KEY: KEY,
      LIVEKIT_SECRET: SECRET,
      LIVEKIT_JWT_BIND: `127.0.0.1:${this.#port}`,
      LIVEKIT_FULL_ACCESS_HOMESERVERS: '*',
      LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING',
      LIVEKIT_CS_API_URL_OVERRIDES: `${world.serverName}=${world.url}`,
      ...(kind === 'lastwill' ? { ...ENVIRONMENT, NODE_ENV: 'production', LASTWILL_DATA_DIR: this.dataDir } : {}),
      ...this.#options.env,
    };
    if (kind === 'peer') {
      const [program = '', ...args] = (command ?? '').split(/\s+/);
      return { program, args, env };
    }
    const profile = profileDir ? ['--cpu-prof', `--cpu-prof-dir=${profileDir}`] : [];
    return { program: process.execPath, args: [...FLAGS, ...profile, MAIN], env };
  }
}

function startScript(): readonly [environment: Readonly<Record<string, string>>, flags: readonly string[]] {
  const { scripts } = JSON.parse(readFileSync(resolve(import.meta.dirname, '../../package.json'), 'utf8')) as {
    scripts: { start: string };
  };
  const words = scripts.start.split(' ');
  const program = words.indexOf('node');
  const environment = Object.fromEntries(words.slice(0, program).flatMap((word) => (word.includes('=') ? [word.split('=')] : [])));
  return [environment, words.slice(program + 1, -1)];
}

let serial = 0;

/** A bench that is cut short leaves nothing running. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((done) => void server.close(() => done()));
  return port;
}
