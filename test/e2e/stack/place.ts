// The places where stories happen: the shared stack, or one of their own for those that kill a server or meddle with webhooks.
import { inject, test } from 'vitest';
import { Member } from './call.ts';
import { Lastwill, synapseAt } from './lastwill.ts';
import { LastwillApi } from './lastwill-api.ts';
import { LiveKit } from './livekit.ts';
import { freePort } from './processes.ts';
import { type Place, Seat, seatNames } from './seat.ts';
import { type RateLimit, Synapse } from './synapse.ts';
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

/** What one story needs, taken down when it is over, last things first. */
export class Stage {
  readonly #closers: (() => unknown)[] = [];

  /** Its own LiveKit and lastwill, with a tap between them; the homeserver is the shared one unless told otherwise. */
  async place(
    options: { synapse?: Synapse; homeservers?: Readonly<Record<string, string>>; env?: Record<string, string>; copies?: Copies } = {},
  ): Promise<OwnPlace> {
    const shared = inject('shared');
    const synapseUrl = options.synapse?.url ?? shared.synapseUrl;
    const synapseLog = options.synapse?.logFile ?? shared.synapseLog;
    const port = await freePort();
    const tap = await WebhookTap.start({ target: `http://127.0.0.1:${port}/sfu_webhook` });
    this.later(() => tap.stop());
    if (options.copies !== undefined) tap.copies = options.copies;
    const livekit = await LiveKit.start([tap.url]);
    this.later(() => livekit.kill());
    const homeservers = { ...synapseAt(synapseUrl), ...options.homeservers };
    const lastwill = await Lastwill.start({ port, sfu: livekit.address, homeservers, env: options.env ?? {} });
    this.later(() => lastwill.kill());
    const webhooks = async (room: string): Promise<readonly Webhook[]> => tap.seen.filter((webhook) => webhook.room === room);
    return { synapseUrl, synapseLog, sfu: livekit.address, lastwill, livekit, tap, webhooks, timesFile: shared.timesFile, shared: false };
  }

  /** A homeserver of its own, for stories that stop it. */
  async synapse(options: { delayedEventLimit?: RateLimit } = {}): Promise<Synapse> {
    const synapse = await Synapse.start(options);
    this.later(() => synapse.kill());
    return synapse;
  }

  async member(place: Place = sharedPlace()): Promise<Member> {
    const member = await Member.enter(place);
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
  // biome-ignore lint/correctness/noEmptyPattern: the runner wants a pattern here.
  stage: async ({}, use) => {
    const stage = new Stage();
    await use(stage);
    await stage.close();
  },
});
