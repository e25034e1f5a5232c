// Where the SFU sends its webhooks. 200 means committed: LiveKit forgets what was answered 2xx, and 4xx as well, but repeats on 5xx.
import { Hono } from 'hono';
import type { Engine } from '../engine/engine.ts';
import type { Keys } from '../sfu/keys.ts';
import { readWebhook } from '../sfu/webhook.ts';
import type { Log, Metrics } from '../telemetry.ts';
import { headerOf, readBody } from './body.ts';
import { MatrixError } from './errors.ts';

export interface WebhooksDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly assertOpen: () => void;
}

/** Resolves when the webhook may be answered 200. @throws MatrixError, StoreUnavailable: nothing was done. */
export type TakeWebhook = (body: Buffer, authorization: string | undefined) => Promise<void>;

/** Participants' metadata and attributes ride along; LiveKit caps them far below this. */
export const MOST_WEBHOOK_BYTES = 1024 * 1024;
export const WEBHOOK_PATHS: readonly string[] = ['/sfu_webhook', '/v1/webhook'];

export function webhookTaker({ engine, keys, metrics, log, assertOpen }: WebhooksDeps): TakeWebhook {
  return async (body, authorization) => {
    assertOpen();
    const webhook = readWebhook(body, authorization, keys);
    switch (webhook.kind) {
      case 'unauthorized':
        metrics.webhook('other', 'rejected');
        log.warn({}, 'a webhook was refused: its signature, time or body hash is wrong');
        throw new MatrixError(401, 'M_UNAUTHORIZED', 'The webhook is not signed with an API key of this SFU');
      case 'malformed':
        metrics.webhook('other', 'rejected');
        throw new MatrixError(400, 'M_NOT_JSON', 'The body is not a LiveKit webhook');
      case 'irrelevant':
        metrics.webhook(webhook.event, 'irrelevant');
        return;
      case 'participant':
      case 'room': {
        const verdict = await engine.webhook(webhook).catch((error) => {
          metrics.webhook(webhook.event, 'failed');
          throw error;
        });
        metrics.webhook(webhook.event, verdict);
        return;
      }
      default:
        webhook satisfies never;
    }
  };
}

export function webhookRoutes(take: TakeWebhook): Hono {
  const app = new Hono();
  app.post('/', async (c) => {
    await take(await readBody(c, MOST_WEBHOOK_BYTES), headerOf(c, 'authorization'));
    return c.body(null, 200);
  });
  app.all('/', (c) => {
    c.header('Allow', 'POST');
    throw new MatrixError(405, 'M_UNRECOGNIZED', 'The method must be POST');
  });
  return app;
}
