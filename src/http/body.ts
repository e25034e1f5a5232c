// Bodies within a bound. One whose length is announced is taken as it is (the parser below holds it to that); one that comes in pieces is
// counted as it comes, and what is too much is not kept.
import type { Context } from 'hono';
import { MatrixError } from './errors.ts';

/** @throws MatrixError 413 beyond `mostBytes`. */
export async function readBody({ req }: Context, mostBytes: number): Promise<Buffer> {
  const tooLarge = (): never => {
    throw new MatrixError(413, 'M_TOO_LARGE', `The body is larger than ${mostBytes} bytes`);
  };
  const length = req.header('Content-Length');
  if (length !== undefined && req.header('Transfer-Encoding') === undefined) {
    if (Number(length) > mostBytes) tooLarge();
    return Buffer.from(await req.arrayBuffer());
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of req.raw.body ?? []) {
    bytes += chunk.length;
    if (bytes > mostBytes) tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
