// The places where stories happen: the shared stack, or one of their own for those that kill a server or meddle with webhooks.
import { inject, onTestFinished } from 'vitest';
import { Member, type Place } from './call.ts';
import { Lastwill, synapseAt } from './lastwill.ts';
import { LastwillApi } from './lastwill-api.ts';
import { LiveKit } from './livekit.ts';
import { freePort } from './processes.ts';
import { type RateLimit, Synapse } from './synapse.ts';
import { type Copies, type Webhook, WebhookTap } from './webhooks.ts';

export function sharedPlace(): Place {
  const shared = inject('shared');
  return {
    synapseUrl: shared.synapseUrl,
    synapseLog: shared.synapseLog,
    sfu: shared.sfu,
    lastwill: new LastwillApi(shared.lastwillUrl),
    timesFile: shared.timesFile,
    webhooks: async (room) => (await (await fetch(`${shared.tapUrl}/?room=${encodeURIComponent(room)}`)).json()) as Webhook[],
  };
}

export interface OwnPlace extends Place {
  readonly lastwill: Lastwill;
  readonly livekit: LiveKit;
  readonly tap: WebhookTap;
}

/** Its own LiveKit and lastwill, with a tap between them; the homeserver is the shared one unless told otherwise. */
export async function ownPlace(
  options: { synapse?: Synapse; homeservers?: Readonly<Record<string, string>>; env?: Record<string, string>; copies?: Copies } = {},
): Promise<OwnPlace> {
  const shared = inject('shared');
  const synapseUrl = options.synapse?.url ?? shared.synapseUrl;
  const synapseLog = options.synapse?.logFile ?? shared.synapseLog;
  const port = await freePort();
  const tap = await WebhookTap.start({ target: `http://127.0.0.1:${port}/sfu_webhook` });
  onTestFinished(() => tap.stop());
  if (options.copies !== undefined) tap.copies = options.copies;
  const livekit = await LiveKit.start([tap.url]);
  onTestFinished(() => livekit.kill());
  const homeservers = { ...synapseAt(synapseUrl), ...options.homeservers };
  const lastwill = await Lastwill.start({ port, sfu: livekit.address, homeservers, env: options.env ?? {} });
  onTestFinished(() => lastwill.kill());
  const webhooks = async (room: string): Promise<readonly Webhook[]> => tap.seen.filter((webhook) => webhook.room === room);
  return { synapseUrl, synapseLog, sfu: livekit.address, lastwill, livekit, tap, webhooks, timesFile: shared.timesFile };
}

/** A homeserver of its own, for stories that stop it. */
export async function ownSynapse(options: { delayedEventLimit?: RateLimit } = {}): Promise<Synapse> {
  const synapse = await Synapse.start(options);
  onTestFinished(() => synapse.kill());
  return synapse;
}

export async function member(place: Place): Promise<Member> {
  const entered = await Member.enter(place);
  onTestFinished(() => entered.end());
  return entered;
}
