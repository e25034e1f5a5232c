// Notices that the SFU's webhooks do not arrive. Without them departures are still found, by lists, only later; so nobody would notice.
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';

export interface WebhookWatch {
  /** A webhook of the SFU came, of whichever participant or room. */
  heard(): void;
  /** A leave was sent for a participant of whose departure only lists had told, and no webhook. */
  missed(): void;
}

/** So many departures without a webhook before anything is said: one or two may be lost in an outage. */
const FEW = 3;
const SILENT_MS = 600_000;
const QUIET_MS = 3_600_000;
const ADVICE =
  "webhook.urls in the SFU's configuration must name http://<lastwill>/sfu_webhook, reachable from the SFU, and webhook.api_key a key of lastwill's";

export function createWebhookWatch({ clock, log }: { readonly clock: Clock; readonly log: Log }): WebhookWatch {
  let heardAtMs = Number.NEGATIVE_INFINITY;
  let saidAtMs = Number.NEGATIVE_INFINITY;
  let missed = 0;
  return {
    heard: () => {
      heardAtMs = clock.nowMs();
      missed = 0;
    },
    missed: () => {
      missed += 1;
      const nowMs = clock.nowMs();
      if (missed < FEW || nowMs - heardAtMs < SILENT_MS || nowMs - saidAtMs < QUIET_MS) return;
      saidAtMs = nowMs;
      log.error({ advice: ADVICE }, 'no webhooks of the SFU arrive: departures are noticed late');
    },
  };
}
