// Bodies within a bound. One whose length is announced is taken as it is (the parser below holds it to that); one that comes in pieces is
// counted as it comes, and what is too much is not kept.
import type { IncomingMessage } from 'node:http';
import type { Context } from 'hono';
import { MatrixError } from './errors.ts';

/** One header, without making objects of all the others first. `name` in lower case. */
export function headerOf({ env, req }: Context, name: 'authorization' | 'content-length' | 'transfer-encoding'): string | undefined {
  const { incoming } = (env ?? {}) as { readonly incoming?: IncomingMessage };
  return incoming === undefined ? req.header(name) : incoming.headers[name];
}

/** @throws MatrixError 413 beyond `mostBytes`. */
export async function readBody(c: Context, mostBytes: number): Promise<Buffer> {
  const tooLarge = (): never => {
    throw new MatrixError(413, 'M_TOO_LARGE', `The body is larger than ${mostBytes} bytes`);
  };
  const length = headerOf(c, 'content-length');
  if (length !== undefined && headerOf(c, 'transfer-encoding') === undefined) {
    if (Number(length) > mostBytes) tooLarge();
    return Buffer.from(await c.req.arrayBuffer());
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    bytes += chunk.length;
    if (bytes > mostBytes) tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
