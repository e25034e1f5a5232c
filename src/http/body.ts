// Reads request bodies within two bounds: the length of each, and the memory of all that have not come completely, together. A body that
// exceeds one of them is refused in the middle, and what has come of it is freed.
import type { IncomingMessage } from 'node:http';
import type { Context } from 'hono';
import { BodyBuffer } from '../body-buffer.ts';
import { MatrixError, unavailable } from './errors.ts';

export interface Bodies {
  /**
   * Never settles if the body is cut off, for then nobody waits for the answer.
   * @throws MatrixError 413 beyond `mostBytes`; 503 while too much memory is taken by bodies that have not come completely.
   */
  read(c: Context, mostBytes: number): Promise<Buffer>;
}

/** A thousand of the longest bodies that a client may send, or four of the longest webhooks. A body that comes in one piece takes none of it. */
const MOST_UNFINISHED_BYTES = 64 * 1024 * 1024;

const incomingOf = ({ env }: Context): IncomingMessage => (env as { readonly incoming: IncomingMessage }).incoming;

/** Read from Node's request, because Hono's would make objects of all headers first. */
export function authorizationOf(c: Context): string | undefined {
  return incomingOf(c).headers.authorization;
}

export function createBodies(mostUnfinishedBytes = MOST_UNFINISHED_BYTES): Bodies {
  let unfinishedBytes = 0;

  return {
    read: (c, mostBytes) =>
      new Promise((resolve, reject) => {
        const incoming = incomingOf(c);
        // The length that is announced, to which Node's parser holds it; null: chunked, and nothing is announced.
        const announced = incoming.headers['transfer-encoding'] === undefined ? Number(incoming.headers['content-length'] ?? 0) : null;
        let body = new BodyBuffer(mostBytes);
        let heldBytes = 0;

        const hold = (bytes: number): void => {
          unfinishedBytes += bytes - heldBytes;
          heldBytes = bytes;
        };
        const refuse = (error: MatrixError): void => {
          incoming.off('data', take).off('end', end);
          body = new BodyBuffer(0);
          hold(0);
          reject(error);
        };
        const take = (piece: Buffer): void => {
          if (!body.add(piece)) {
            refuse(tooLarge(mostBytes));
            return;
          }
          if (piece.length === announced) return;
          if (heldBytes === 0) incoming.once('close', () => hold(0));
          hold(body.heldBytes);
          if (unfinishedBytes > mostUnfinishedBytes) refuse(unavailable('Too many requests are unfinished'));
        };
        const end = (): void => resolve(body.bytes);

        if (announced !== null && announced > mostBytes) return reject(tooLarge(mostBytes));
        incoming.on('data', take).on('end', end);
      }),
  };
}

function tooLarge(mostBytes: number): MatrixError {
  return new MatrixError(413, 'M_TOO_LARGE', `The body is larger than ${mostBytes} bytes`);
}
