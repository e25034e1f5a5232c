// What LiveKit's webhooks look like from outside: a tap that records and passes on (or drops, or doubles), and a signer.
import { createHash } from 'node:crypto';
import { createServer, type Server as HttpServer, type IncomingMessage } from 'node:http';
import { AccessToken } from 'livekit-server-sdk';
import { API_KEY, API_SECRET } from './livekit.ts';
import { now } from './processes.ts';

export interface Webhook {
  readonly atMs: number;
  readonly event: string;
  readonly room: string;
  readonly identity: string;
  readonly sid: string;
  readonly reason: string;
  readonly authorization: string;
  readonly body: string;
}
/** How many times a webhook is passed on. */
export type Copies = (webhook: Webhook) => number;

/** Stands between LiveKit and lastwill. With no target it only listens. */
export class WebhookTap {
  readonly seen: Webhook[] = [];
  /** What the target answered, one entry for each copy passed on. */
  readonly answers: number[] = [];
  copies: Copies = () => 1;
  readonly #server: HttpServer;
  readonly #target: string | undefined;

  private constructor(target: string | undefined) {
    this.#target = target;
    this.#server = createServer((request, response) => {
      void this.#take(request).then(
        (answer) => response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.text),
        () => response.writeHead(502).end(),
      );
    });
  }

  static async start(options: { port?: number; target?: string } = {}): Promise<WebhookTap> {
    const tap = new WebhookTap(options.target);
    await new Promise<void>((listening) => tap.#server.listen(options.port ?? 0, '127.0.0.1', listening));
    return tap;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the tap listens on a port');
    return `http://127.0.0.1:${address.port}`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  find(event: string, identity: string): Webhook[] {
    return this.seen.filter((webhook) => webhook.event === event && webhook.identity === identity);
  }

  async #take(request: IncomingMessage): Promise<{ status: number; text: string }> {
    const room = new URL(request.url ?? '/', 'http://tap').searchParams.get('room');
    if (request.method === 'GET') return { status: 200, text: JSON.stringify(this.seen.filter((webhook) => webhook.room === room)) };
    const body = await text(request);
    const webhook = describe(body, request.headers.authorization ?? '');
    this.seen.push(webhook);
    let status = 200;
    if (this.#target === undefined) return { status, text: '{}' };
    for (let copy = this.copies(webhook); copy > 0; copy -= 1) {
      status = await deliver(this.#target, body, webhook.authorization);
      this.answers.push(status);
    }
    return { status, text: '{}' };
  }
}

function describe(body: string, authorization: string): Webhook {
  const told = JSON.parse(body) as {
    event?: string;
    room?: { name?: string };
    participant?: { identity?: string; sid?: string; disconnectReason?: string };
  };
  return {
    atMs: now(),
    event: told.event ?? '',
    room: told.room?.name ?? '',
    identity: told.participant?.identity ?? '',
    sid: told.participant?.sid ?? '',
    reason: told.participant?.disconnectReason ?? '',
    authorization,
    body,
  };
}

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** Posts a webhook as LiveKit would; the answer's status. */
export async function deliver(url: string, body: string, authorization: string): Promise<number> {
  const headers = { 'content-type': 'application/webhook+json', authorization };
  const response = await fetch(url, { method: 'POST', headers, body });
  await response.arrayBuffer();
  return response.status;
}

/** The Authorization of a webhook: right by default, wrong where told. */
export async function sign(body: string, options: { secret?: string; hashOf?: string; ttlSeconds?: number } = {}): Promise<string> {
  const token = new AccessToken(API_KEY, options.secret ?? API_SECRET, { ttl: options.ttlSeconds ?? 300 });
  token.sha256 = createHash('sha256')
    .update(options.hashOf ?? body)
    .digest('base64');
  return token.toJwt();
}
