// A short way for webhooks, past Hono. LiveKit sends one for every track of everybody, nearly all of which change nothing, and most of what
// such a webhook costs would be the objects that Hono makes of a request and its answer. Only plain requests come this way: POST, an exact
// path, a short Content-Length. All others, and all that is wrong with them, are left to Hono (webhooks.ts).
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { BodyBuffer } from '../body-buffer.ts';
import type { Log } from '../log.ts';
import { bodyOf, headersOf, refusalOf } from './errors.ts';
import { WEBHOOK_PATHS, type WebhookTaker } from './webhooks.ts';

/** Few are longer, by their participant's metadata. What such bodies take together has a bound of their own (webhooks.ts). */
const MOST_PLAIN_BYTES = 64 * 1024;

export function webhookListener({ admit, take }: WebhookTaker, log: Log, otherwise: RequestListener): RequestListener {
  return (incoming, outgoing) => {
    if (!isPlain(incoming)) return otherwise(incoming, outgoing);
    const refuse = (error: unknown): void => answerRefused(outgoing, error, log);
    let signedHash: string;
    try {
      signedHash = admit(incoming.headers.authorization);
    } catch (error) {
      return refuse(error);
    }
    // Its signature was checked and it is short, so it does not count towards a bound on unfinished bodies. The parser holds it to its length.
    const body = new BodyBuffer(MOST_PLAIN_BYTES);
    incoming.on('data', (piece: Buffer) => body.add(piece));
    // A body that is cut off never ends, and then nobody waits for the answer.
    incoming.on('end', () => {
      take(body.bytes, signedHash).then(() => outgoing.end(), refuse);
    });
  };
}

function isPlain({ method, url, headers }: IncomingMessage): boolean {
  return (
    method === 'POST' &&
    WEBHOOK_PATHS.includes(url ?? '') &&
    headers['transfer-encoding'] === undefined &&
    Number(headers['content-length']) <= MOST_PLAIN_BYTES
  );
}

function answerRefused(outgoing: ServerResponse, error: unknown, log: Log): void {
  const refusal = refusalOf(error, log);
  outgoing.writeHead(refusal.status, { 'Content-Type': 'application/json', ...headersOf(refusal) });
  outgoing.end(JSON.stringify(bodyOf(refusal)));
}
