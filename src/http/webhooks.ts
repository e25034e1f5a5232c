// The SFU's webhooks. 200 means that it is committed: LiveKit sends a webhook again after 5xx, and never after 2xx or 4xx.
import { Hono } from 'hono';
import type { Clock } from '../clock.ts';
import type { Engine } from '../engine/engine.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { onceAMinute } from '../once-a-minute.ts';
import type { Keys } from '../sfu/keys.ts';
import type { Unlisted } from '../sfu/unlisted.ts';
import { readWebhook, signedHashOf } from '../sfu/webhook.ts';
import { authorizationOf, type Bodies } from './body.ts';
import { MatrixError } from './errors.ts';

export interface WebhooksDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  readonly assertOpen: () => void;
  /** To be told of who came and who went. */
  readonly told: Unlisted['told'];
}

export interface WebhookTaker {
  /**
   * Checks the signature before the body is read. @returns the hash that the SFU signed for the body. @throws MatrixError 401, 503
   * (draining)
   */
  admit(authorization: string | undefined): string;
  /** Resolves when the webhook may be answered 200. @throws MatrixError 400, 401, 503; StoreUnavailable: nothing was done. */
  take(body: Buffer, signedHash: string): Promise<void>;
  /** Counts one whose body can't be had, and throws why. */
  unread(error: unknown): never;
}

/**
 * The metadata of the room and of its participant are in a webhook, and the participant's attributes: unless LiveKit is told otherwise up to
 * 512 KiB, 512 KiB and 64 KiB, which JSON may write six times as long. One that is refused for its length does not come again.
 */
export const MOST_WEBHOOK_BYTES = 16 * 1024 * 1024;
/** With a slash at the end as well, as an operator may have configured it in LiveKit. */
export const WEBHOOK_PATHS: readonly string[] = ['/sfu_webhook', '/v1/webhook', '/sfu_webhook/', '/v1/webhook/'];

export function webhookTaker({ engine, keys, metrics, log, clock, assertOpen, told }: WebhooksDeps): WebhookTaker {
  const mayTell = onceAMinute(clock);

  function refuse(): never {
    metrics.webhook('other', 'rejected');
    log[mayTell() ? 'warn' : 'debug']({}, 'a webhook was refused: its signature, time or body hash is wrong');
    throw new MatrixError(401, 'M_UNAUTHORIZED', 'The webhook is not signed with an API key of this SFU');
  }

  function admit(authorization: string | undefined): string {
    assertOpen();
    return signedHashOf(authorization, keys) ?? refuse();
  }

  async function take(body: Buffer, signedHash: string): Promise<void> {
    assertOpen();
    const webhook = readWebhook(body, signedHash);
    switch (webhook.kind) {
      case 'unauthorized':
        return refuse();
      case 'malformed':
        metrics.webhook('other', 'rejected');
        throw new MatrixError(400, 'M_NOT_JSON', 'The body is not a LiveKit webhook');
      case 'irrelevant':
        metrics.webhook(webhook.event, 'irrelevant');
        return;
      case 'participant':
      case 'room': {
        if (webhook.kind === 'participant') told(webhook.room, webhook.about);
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
  }
  function unread(error: unknown): never {
    const isTooLong = error instanceof MatrixError && error.status === 413;
    metrics.webhook('other', isTooLong ? 'rejected' : 'failed');
    const why = isTooLong ? 'too long: what it told is lost' : 'cut off, or too many are on their way';
    log[mayTell() ? 'warn' : 'debug']({ why }, 'a webhook could not be read');
    throw error;
  }

  return { admit, take, unread };
}

/**
 * `bodies`: of webhooks alone. LiveKit signs one for all of the URLs that it is told, and whoever gets it there could begin to send it any
 * number of times; nobody else's requests are to be refused for that.
 */
export function webhookRoutes({ admit, take, unread }: WebhookTaker, bodies: Bodies): Hono {
  const app = new Hono();
  app.post('/', async (c) => {
    const signedHash = admit(authorizationOf(c));
    await take(await bodies.read(c, MOST_WEBHOOK_BYTES).catch(unread), signedHash);
    return c.body(null, 200);
  });
  app.all('/', (c) => {
    c.header('Allow', 'POST');
    throw new MatrixError(405, 'M_UNRECOGNIZED', 'The method must be POST');
  });
  return app;
}
