// The places where stories happen: the shared stack, or one of their own for those that kill a server or meddle with webhooks.
import { inject, test } from 'vitest';
import { type Entrance, Member } from './call.ts';
import { Homeserver } from './homeserver.ts';
import { Lastwill, synapseAt } from './lastwill.ts';
import { LastwillApi } from './lastwill-api.ts';
import { LiveKit, type LiveKitOptions } from './livekit.ts';
import { freePort } from './processes.ts';
import { printedRegistration } from './registration.ts';
import { type Place, Seat, seatNames } from './seat.ts';
import { Synapse, type SynapseOptions } from './synapse.ts';
import { type Copies, type Webhook, WebhookTap } from './webhooks.ts';

function sharedPlace(): Place {
  const shared = inject('shared');
  return {
    synapseUrl: shared.synapseUrl,
    synapseLog: shared.synapseLog,
    sfu: shared.sfu,
    lastwill: new LastwillApi(shared.lastwillUrl),
    timesFile: shared.timesFile,
    shared: true,
    webhooks: async (room) => (await (await fetch(`${shared.tapUrl}/?room=${encodeURIComponent(room)}`)).json()) as Webhook[],
  };
}

export interface OwnPlace extends Place {
  readonly lastwill: Lastwill;
  readonly livekit: LiveKit;
  readonly tap: WebhookTap;
}

export interface PlaceBehindHomeserver extends OwnPlace {
  readonly homeserver: Homeserver;
}

/** What one story needs, taken down when it is over, last things first. */
export class Stage {
  readonly #closers: (() => unknown)[] = [];

  /** Its own LiveKit and lastwill, with a tap between them; the homeserver is the shared one unless told otherwise. */
  async place(
    options: {
      synapse?: Synapse;
      homeservers?: Readonly<Record<string, string>>;
      env?: Record<string, string>;
      copies?: Copies;
      sfu?: LiveKitOptions;
    } = {},
  ): Promise<OwnPlace> {
    const shared = inject('shared');
    const synapseUrl = options.synapse?.url ?? shared.synapseUrl;
    const synapseLog = options.synapse?.logFile ?? shared.synapseLog;
    const port = await freePort();
    const tap = await WebhookTap.start({ target: `http://127.0.0.1:${port}/sfu_webhook` });
    this.later(() => tap.stop());
    if (options.copies !== undefined) tap.copies = options.copies;
    const livekit = await LiveKit.start([tap.url], options.sfu);
    this.later(() => livekit.kill());
    const homeservers = { ...synapseAt(synapseUrl), ...options.homeservers };
    const lastwill = await Lastwill.start({ port, sfu: livekit.address, homeservers, env: options.env ?? {} });
    this.later(() => lastwill.kill());
    const webhooks = async (room: string): Promise<readonly Webhook[]> => tap.seen.filter((webhook) => webhook.room === room);
    return { synapseUrl, synapseLog, sfu: livekit.address, lastwill, livekit, tap, webhooks, timesFile: shared.timesFile, shared: false };
  }

  /** Another replica for a place whose lastwill keeps its delegations in a Redis. */
  async beside(place: OwnPlace, synapse: Pick<Synapse, 'url'>, env: Record<string, string>): Promise<Lastwill> {
    const lastwill = await Lastwill.start({ port: await freePort(), sfu: place.sfu, homeservers: synapseAt(synapse.url), env });
    this.later(() => lastwill.kill());
    return lastwill;
  }

  /** A homeserver of its own, for stories that stop it. */
  async synapse(options: SynapseOptions = {}): Promise<Synapse> {
    const synapse = await Synapse.start(options);
    this.later(() => synapse.kill());
    return synapse;
  }

  /** A homeserver that passes requests on to its lastwill, with default limits, the two known to each other by the printed registration. */
  async behindHomeserver(env: Record<string, string> = {}): Promise<PlaceBehindHomeserver> {
    const { timesFile } = inject('shared');
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const tap = await WebhookTap.start({ target: `${url}/sfu_webhook` });
    this.later(() => tap.stop());
    const livekit = await LiveKit.start([tap.url]);
    this.later(() => livekit.kill());
    const homeserver = await Homeserver.start({ serviceUrl: url, registration: (name) => printedRegistration(name, url) });
    this.later(() => homeserver.kill());
    const lastwill = await Lastwill.start({
      port,
      sfu: livekit.address,
      homeservers: { [homeserver.serverName]: homeserver.url },
      env: {
        LIVEKIT_AS_REGISTRATION_FILE: homeserver.registrationFile,
        LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS: '1',
        LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING',
        ...env,
      },
    });
    this.later(() => lastwill.kill());
    return {
      ...{ homeserver, livekit, lastwill, tap, timesFile, shared: true },
      ...{ synapseUrl: homeserver.url, synapseLog: homeserver.logFile, sfu: livekit.address },
      webhooks: async (room) => tap.seen.filter((webhook) => webhook.room === room),
    };
  }

  async member(place: Place = sharedPlace(), entrance: Entrance = {}): Promise<Member> {
    const member = await Member.enter(place, entrance);
    this.later(() => member.end());
    return member;
  }

  /** A participant whose homeserver is none of the stack's. */
  async seat(place: Place, identity?: string): Promise<Seat> {
    const seat = new Seat(place, await seatNames(identity));
    this.later(() => seat.end());
    return seat;
  }

  later(close: () => unknown): void {
    this.#closers.push(close);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.reverse()) await close();
  }
}

export const story = test.extend<{ stage: Stage }>({
  stage: async ({ onTestFinished }, use) => {
    const stage = new Stage();
    onTestFinished(() => stage.close());
    await use(stage);
  },
});
