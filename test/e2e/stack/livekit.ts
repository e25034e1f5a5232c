// A real livekit-server on loopback: no STUN, no TURN, its webhooks sent where the test says.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AccessToken, RoomServiceClient } from 'livekit-server-sdk';
import { freePort, livekitBinary, Server, sleep } from './processes.ts';

export const API_KEY = 'e2e-key';
export const API_SECRET = 'e2e-secret-of-at-least-32-characters';

export interface LiveKitAddress {
  /** 127.0.0.1, unless told otherwise. */
  readonly host?: string;
  readonly port: number;
  readonly rtcTcpPort: number;
  readonly rtcUdpPort: number;
}

export interface LiveKitOptions {
  /** For participants who are not on loopback: the network's address, and the interface that has it. */
  readonly network?: { readonly address: string; readonly bridge: string };
  /** Settings of its `rtc` section that go before ours. */
  readonly rtc?: Readonly<Record<string, unknown>>;
  /** host:port of a Redis that keeps its rooms. */
  readonly redis?: string;
  /** Who is in a room is asked of the node that has it. */
  readonly listsByNode?: true;
}

export class LiveKit {
  readonly address: LiveKitAddress;
  readonly #dir: string;
  readonly #settings: Readonly<Record<string, unknown>>;
  #server: Server | undefined;

  private constructor(address: LiveKitAddress, dir: string, settings: Readonly<Record<string, unknown>>) {
    this.address = address;
    this.#dir = dir;
    this.#settings = settings;
  }

  static async start(webhookUrls: readonly string[], { network, rtc, redis, listsByNode }: LiveKitOptions = {}): Promise<LiveKit> {
    const host = network?.address ?? '127.0.0.1';
    const address = { host, port: await freePort(), rtcTcpPort: await freePort(), rtcUdpPort: await freePort() };
    const dir = mkdtempSync(join(tmpdir(), 'lastwill-e2e-livekit-'));
    const livekit = new LiveKit(address, dir, {
      port: address.port,
      bind_addresses: [host],
      rtc: {
        tcp_port: address.rtcTcpPort,
        udp_port: address.rtcUdpPort,
        node_ip: host,
        use_external_ip: false,
        enable_loopback_candidate: network === undefined,
        interfaces: { includes: [network?.bridge ?? 'lo'] },
        stun_servers: [],
        ...rtc,
      },
      keys: { [API_KEY]: API_SECRET },
      ...(redis === undefined ? {} : { redis: { address: redis } }),
      ...(listsByNode && { api: { enable_psrpc_for_get_list_participants: true } }),
      webhook: { api_key: API_KEY, urls: webhookUrls },
      logging: { level: 'info', json: true },
    });
    await livekit.startAgain();
    return livekit;
  }

  /** Same ports, same configuration but for what is `changed`, nothing remembered but what a Redis has. */
  async startAgain(changed: Readonly<Record<string, unknown>> = {}): Promise<void> {
    // JSON is YAML.
    writeFileSync(join(this.#dir, 'livekit.yaml'), JSON.stringify({ ...this.#settings, ...changed }));
    this.#server = new Server('livekit-server', livekitBinary, ['--config', join(this.#dir, 'livekit.yaml')], {
      cwd: this.#dir,
      logFile: join(this.#dir, 'livekit.log'),
    });
    await this.#server.ready(20_000, async () => (await fetch(httpUrl(this.address))).ok);
  }

  get rooms(): RoomServiceClient {
    return roomService(this.address);
  }

  get logFile(): string {
    return join(this.#dir, 'livekit.log');
  }

  /** Takes connections, answers nothing. */
  freeze(): void {
    this.#server?.signal('SIGSTOP');
  }

  thaw(): void {
    this.#server?.signal('SIGCONT');
  }

  async kill(): Promise<void> {
    await this.#server?.kill();
  }

  /** Asked to stop, as a supervisor does; with participants it drains, so it is asked twice. */
  async terminate(): Promise<void> {
    this.#server?.signal('SIGTERM');
    await sleep(500);
    await this.#server?.stop();
  }
}

const at = ({ host = '127.0.0.1', port }: LiveKitAddress): string => `${host}:${port}`;
const httpUrl = (address: LiveKitAddress): string => `http://${at(address)}`;
export const sfuUrl = (address: LiveKitAddress): string => `ws://${at(address)}`;
export const roomService = (address: LiveKitAddress): RoomServiceClient => new RoomServiceClient(httpUrl(address), API_KEY, API_SECRET);

/** The participant's own token, as an authorisation service would give it. */
export async function participantToken(
  room: string,
  identity: string,
  options: { ttlSeconds?: number; secret?: string } = {},
): Promise<string> {
  const token = new AccessToken(API_KEY, options.secret ?? API_SECRET, { identity, ttl: options.ttlSeconds ?? 3600 });
  token.addGrant({ room, roomJoin: true, canPublish: true, canSubscribe: true });
  return token.toJwt();
}
