// The same webhooks, taken from node's own request. LiveKit tells of every track of everybody, nearly all of which changes nothing, and most
// of what such a webhook costs would be the objects that a framework makes of a request and its answer. Only the plainest requests come
// this way; all others, and whatever is wrong with them, are the framework's.
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Log } from '../telemetry.ts';
import { bodyOf, headersOf, refusalOf } from './errors.ts';
import { MOST_WEBHOOK_BYTES, type TakeWebhook, WEBHOOK_PATHS } from './webhooks.ts';

export function webhookListener(take: TakeWebhook, log: Log, otherwise: RequestListener): RequestListener {
  return (incoming, outgoing) => {
    if (!isPlain(incoming)) return otherwise(incoming, outgoing);
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    // A body that was cut off has no end, and nobody waits for the answer.
    incoming.on('end', () => {
      const [first = Buffer.alloc(0), ...more] = chunks;
      take(more.length === 0 ? first : Buffer.concat(chunks), incoming.headers.authorization).then(
        () => outgoing.end(),
        (error: unknown) => refuse(outgoing, error, log),
      );
    });
  };
}

function isPlain({ method, url, headers }: IncomingMessage): boolean {
  return (
    method === 'POST' &&
    WEBHOOK_PATHS.includes(url ?? '') &&
    headers['transfer-encoding'] === undefined &&
    Number(headers['content-length']) <= MOST_WEBHOOK_BYTES
  );
}

function refuse(outgoing: ServerResponse, error: unknown, log: Log): void {
  const refusal = refusalOf(error, log);
  outgoing.writeHead(refusal.status, { 'Content-Type': 'application/json', ...headersOf(refusal) });
  outgoing.end(JSON.stringify(bodyOf(refusal)));
}
