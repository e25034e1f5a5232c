// The servers of a run, and what can be done to them: a real LiveKit, a real Synapse, the service under test, and between LiveKit and the
// service a tap that drops and doubles webhooks.

import { readFileSync } from 'node:fs';
import { Service } from '../e2e/browser/stack/service.ts';
import { Homeserver, register } from '../e2e/stack/homeserver.ts';
import { LiveKit } from '../e2e/stack/livekit.ts';
import { MatrixClient, type RoomWatcher } from '../e2e/stack/matrix.ts';
import { Network } from '../e2e/stack/network.ts';
import { freePort, now, sleep } from '../e2e/stack/processes.ts';
import { type Webhook, WebhookTap } from '../e2e/stack/webhooks.ts';
import type { Chance } from './chance.ts';
import type { Outage } from './evidence.ts';
import { type Account, MEMBER } from './person.ts';
import { HomeserverProxy } from './witness.ts';

export const PRESENCE_INTERVAL_MS = 10_000;
const DROPPED = 0.06;
const DOUBLED = 0.1;

export class World {
  readonly network: Network;
  readonly serviceUrl: string;
  readonly homeserver: Homeserver;
  readonly proxy: HomeserverProxy;
  readonly outages: Outage[] = [];
  readonly sfuKillsMs: number[] = [];
  /** When the departure of a session was first passed on to the service. */
  readonly told = new Map<string, number>();
  readonly watchers: RoomWatcher[] = [];
  readonly webhooks = { passed: 0, dropped: 0, doubled: 0 };
  readonly service: Service;
  readonly #livekit: LiveKit;
  readonly #tap: WebhookTap;

  private constructor(parts: {
    network: Network;
    serviceUrl: string;
    homeserver: Homeserver;
    proxy: HomeserverProxy;
    service: Service;
    livekit: LiveKit;
    tap: WebhookTap;
  }) {
    this.network = parts.network;
    this.serviceUrl = parts.serviceUrl;
    this.homeserver = parts.homeserver;
    this.proxy = parts.proxy;
    this.service = parts.service;
    this.#livekit = parts.livekit;
    this.#tap = parts.tap;
  }

  static async start(peer: string | undefined): Promise<World> {
    const network = await Network.lay();
    const port = await freePort();
    const serviceUrl = `http://127.0.0.1:${port}`;
    const tap = await WebhookTap.start({ target: `${serviceUrl}/sfu_webhook` });
    const proxy = await HomeserverProxy.start(() => homeserver.url);
    const [homeserver, livekit] = await Promise.all([
      Homeserver.start({ serviceUrl, publicUrl: proxy.url }),
      LiveKit.start([tap.url], { network }),
    ]);
    const { serverName } = homeserver;
    const env = { LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS: String(PRESENCE_INTERVAL_MS / 1000) };
    const service = await Service.start(port, livekit.address, { serverName, url: proxy.url }, { peer, env });
    const world = new World({ network, serviceUrl, homeserver, proxy, service, livekit, tap });
    world.meddleNoMore();
    return world;
  }

  /** A room for a call that everybody may announce themselves in, and its observer. */
  async room(): Promise<string> {
    const observer = await MatrixClient.register(this.homeserver.url, 'observer');
    const room = await observer.createRoom({ preset: 'public_chat', power_level_content_override: { events: { [MEMBER]: 0 } } });
    this.watchers.push(await observer.watch(room));
    return room;
  }

  async account(name: string, room: string): Promise<Account> {
    const account = await register(this.homeserver.url, name);
    const response = await fetch(`${this.homeserver.url}/_matrix/client/v3/join/${encodeURIComponent(room)}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${account.accessToken}` },
      body: '{}',
    });
    if (!response.ok) throw new Error(`${name} can't join the room: ${response.status} ${await response.text()}`);
    return account;
  }

  get sfuLog(): string {
    return readFileSync(this.#livekit.logFile, 'utf8');
  }

  meddle(chance: Chance): void {
    this.#tap.copies = (webhook) => {
      const roll = chance.roll();
      if (roll < DROPPED) {
        this.webhooks.dropped += 1;
        return 0;
      }
      this.#passesOn(webhook);
      this.webhooks[roll < DROPPED + DOUBLED ? 'doubled' : 'passed'] += 1;
      return roll < DROPPED + DOUBLED ? 2 : 1;
    };
  }

  meddleNoMore(): void {
    this.#tap.copies = (webhook) => {
      this.#passesOn(webhook);
      return 1;
    };
  }

  #passesOn({ event, sid, atMs }: Webhook): void {
    if ((event === 'participant_left' || event === 'participant_connection_aborted') && !this.told.has(sid)) this.told.set(sid, atMs);
  }

  async killService(downMs: number): Promise<void> {
    const fromMs = now();
    await this.service.kill();
    await sleep(downMs);
    await this.service.startAgain();
    this.outages.push({ part: 'service', fromMs, toMs: now() });
  }

  async killSfu(downMs: number): Promise<void> {
    const fromMs = now();
    await this.#livekit.kill();
    this.sfuKillsMs.push(fromMs);
    await sleep(downMs);
    await this.#livekit.startAgain();
    this.outages.push({ part: 'SFU', fromMs, toMs: now() });
  }

  async freezeHomeserver(forMs: number): Promise<void> {
    const fromMs = now();
    this.homeserver.freeze();
    await sleep(forMs);
    this.homeserver.thaw();
    this.outages.push({ part: 'homeserver', fromMs, toMs: now() });
  }

  async end(): Promise<void> {
    for (const watcher of this.watchers) watcher.stop();
    this.homeserver.thaw();
    await this.service.kill();
    await Promise.all([this.#livekit.kill(), this.homeserver.kill()]);
    this.proxy.stop();
    this.#tap.stop();
    await this.network.remove();
  }
}
