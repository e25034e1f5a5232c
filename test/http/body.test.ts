// What of a body is kept, and for how long.
import { EventEmitter } from 'node:events';
import type { Context } from 'hono';
import { expect, test } from 'vitest';
import { createBodies } from '../../src/http/body.ts';
import type { MatrixError } from '../../src/http/errors.ts';

const LIMIT = 1_000;

/** A request whose body the test sends. */
function request(headers: Record<string, string> = { 'transfer-encoding': 'chunked' }) {
  const incoming = Object.assign(new EventEmitter(), { headers });
  return {
    c: { env: { incoming } } as unknown as Context,
    send: (bytes: number) => incoming.emit('data', Buffer.allocUnsafeSlow(bytes).fill('a')),
    end: () => incoming.emit('end') && incoming.emit('close'),
    cutOff: () => incoming.emit('close'),
    get listens() {
      return incoming.listenerCount('data');
    },
  };
}

const refusalOf = (body: Promise<Buffer>) =>
  body.then(
    () => null,
    ({ status, retryAfterMs }: MatrixError) => [status, retryAfterMs],
  );

test('a body in one piece is that piece', async () => {
  const { c, end } = request({ 'content-length': '3' });
  const body = createBodies().read(c, LIMIT);
  const piece = Buffer.from('{ }');
  (c.env as { incoming: EventEmitter }).incoming.emit('data', piece);
  end();
  expect(await body).toBe(piece);
});

test('one that announces to be too large is not read at all', async () => {
  const one = request({ 'content-length': String(LIMIT + 1) });
  expect(await refusalOf(createBodies().read(one.c, LIMIT))).toEqual([413, null]);
  expect(one.listens).toBe(0);
});

test('one that turns out to be too large is let go', async () => {
  const bodies = createBodies(LIMIT);
  const [large, other] = [request(), request()];
  const refused = refusalOf(bodies.read(large.c, LIMIT));
  for (let sent = 0; sent <= LIMIT; sent += 100) large.send(100);
  expect(await refused).toEqual([413, null]);
  expect(large.listens).toBe(0);
  const body = bodies.read(other.c, LIMIT);
  other.send(900);
  other.end();
  expect(await body).toHaveLength(900);
});

test('unfinished bodies have one bound together; who goes beyond it is told to come again', async () => {
  const bodies = createBodies(2 * LIMIT);
  const [one, other, third, fourth] = [request(), request(), request(), request()];
  const body = bodies.read(one.c, LIMIT);
  void bodies.read(other.c, LIMIT);
  for (const { send } of [one, other]) send(900);
  const refused = refusalOf(bodies.read(third.c, LIMIT));
  third.send(300);
  expect(await refused).toEqual([503, 2_000]);
  expect(third.listens).toBe(0);

  // Neither what has come to its end nor what was cut off counts any more.
  one.end();
  expect(await body).toHaveLength(900);
  other.cutOff();
  const later = bodies.read(fourth.c, LIMIT);
  fourth.send(500);
  fourth.send(400);
  fourth.end();
  expect(await later).toHaveLength(900);
});

test('a body that comes whole is taken, whatever others hold', async () => {
  const bodies = createBodies(LIMIT);
  const [holds, whole] = [request(), request({ 'content-length': '500' })];
  void bodies.read(holds.c, LIMIT);
  holds.send(900);
  const body = bodies.read(whole.c, LIMIT);
  whole.send(500);
  whole.end();
  expect(await body).toHaveLength(500);
});
