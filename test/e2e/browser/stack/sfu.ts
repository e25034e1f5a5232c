// A real livekit-server as MSC4195 wants it beside an authorization service: rooms are made by the service, never by joining.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { API_KEY, API_SECRET, type LiveKitAddress } from '../../stack/livekit.ts';
import { freePort, livekitBinary, Server } from '../../stack/processes.ts';

export class Sfu {
  readonly address: LiveKitAddress;
  readonly #server: Server;

  private constructor(address: LiveKitAddress, server: Server) {
    this.address = address;
    this.#server = server;
  }

  static async start(webhookUrls: readonly string[]): Promise<Sfu> {
    const address = { port: await freePort(), rtcTcpPort: await freePort(), rtcUdpPort: await freePort() };
    const dir = mkdtempSync(join(tmpdir(), 'lastwill-e2e-livekit-'));
    // JSON is YAML.
    writeFileSync(
      join(dir, 'livekit.yaml'),
      JSON.stringify({
        port: address.port,
        bind_addresses: ['127.0.0.1'],
        rtc: {
          tcp_port: address.rtcTcpPort,
          udp_port: address.rtcUdpPort,
          node_ip: '127.0.0.1',
          use_external_ip: false,
          enable_loopback_candidate: true,
          interfaces: { includes: ['lo'] },
          stun_servers: [],
        },
        room: { auto_create: false },
        keys: { [API_KEY]: API_SECRET },
        webhook: { api_key: API_KEY, urls: webhookUrls },
        logging: { level: 'info', json: true },
      }),
    );
    const options = { cwd: dir, logFile: join(dir, 'livekit.log') };
    const server = new Server('livekit-server', livekitBinary, ['--config', join(dir, 'livekit.yaml')], options);
    await server.ready(20_000, async () => (await fetch(`http://127.0.0.1:${address.port}`)).ok);
    return new Sfu(address, server);
  }

  async kill(): Promise<void> {
    await this.#server.kill();
  }
}
