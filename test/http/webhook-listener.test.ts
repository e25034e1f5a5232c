// Webhooks come in by node's own request where they are plain, and by the framework otherwise: nobody can tell which.
import { type ClientRequest, type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  createHarness,
  FOREIGN_KEY,
  type Harness,
  handOverBody,
  participantEvent,
  participantToken,
  serve,
  webhookToken,
} from './harness.ts';

let at: Harness;
let served: Awaited<ReturnType<typeof serve>>;
let port: number;
beforeEach(async () => {
  at = createHarness();
  at.engine.start();
  await at.post(handOverBody());
  await at.clock.settle();
  served = await serve(at);
  port = served.port;
});
afterEach(async () => {
  await served.close();
  await at.close();
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** In one piece with its length, or in two and without. */
function send(path: string, body: string | Buffer, headers: Record<string, string>, chunked = false): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const length = chunked ? {} : { 'content-length': Buffer.byteLength(body) };
    const asked = request({ port, path, method: 'POST', headers: { ...headers, ...length } }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text: Buffer.concat(chunks).toString() }),
      );
    });
    asked.on('error', reject);
    const half = Buffer.from(body);
    asked.write(half.subarray(0, half.length / 2));
    asked.end(half.subarray(half.length / 2));
  });
}

const JOINED = JSON.stringify(participantEvent('participant_joined'));
const TRACK = JSON.stringify({ ...participantEvent('participant_joined'), event: 'track_published', id: 'EV_track' });
const MIB = 1024 * 1024;
const LONG = JSON.stringify({ ...participantEvent('participant_joined'), id: 'EV_long', padding: 'x'.repeat(2 * MIB) });
const LARGE = Buffer.alloc(16 * MIB + 1, 32);

describe.each(['/sfu_webhook', '/v1/webhook', '/sfu_webhook/', '/v1/webhook/'])('at %s', (path) => {
  test.each<[string, () => Promise<[string | Buffer, Record<string, string>]>, number]>([
    ['one that concerns a delegation', async () => [JOINED, { authorization: await webhookToken(JOINED) }], 200],
    ['one that does not', async () => [TRACK, { authorization: await webhookToken(TRACK) }], 200],
    ['one signed by somebody else', async () => [JOINED, { authorization: await webhookToken(JOINED, FOREIGN_KEY) }], 401],
    ['one signed for another body', async () => [TRACK, { authorization: await webhookToken(JOINED) }], 401],
    ['one that is not signed', async () => [JOINED, {}], 401],
    ['one that is no JSON', async () => ['{', { authorization: await webhookToken('{') }], 400],
    ['nothing', async () => ['', {}], 401],
    ['one that is too large', async () => [LARGE, { authorization: await webhookToken('') }], 413],
  ])('%s is answered alike', async (_, made, status) => {
    const [body, headers] = await made();
    const plain = await send(path, body, headers);
    const chunked = await send(path, body, headers, true);
    const [mine, theirs] = [plain, chunked].map(({ headers: { date: _date, ...rest }, ...answer }) => ({
      ...answer,
      type: rest['content-type'],
    }));
    expect(mine).toEqual(theirs);
    expect(plain.status).toBe(status);
    if (status === 200) expect(plain.headers['content-length'] ?? '0').toBe('0');
  });

  test('what can not be kept is refused for the time being, alike', async () => {
    const headers = { authorization: await webhookToken(JOINED) };
    at.storeAway = true;
    const away = [await send(path, JOINED, headers), await send(path, JOINED, headers, true)];
    at.storeAway = false;
    at.draining = true;
    const draining = [await send(path, JOINED, headers), await send(path, JOINED, headers, true)];
    for (const [mine, theirs] of [away, draining] as const) {
      expect(mine?.status).toBe(503);
      expect(mine?.headers['retry-after']).toBe('2');
      expect([mine?.text, mine?.headers['retry-after'], mine?.headers['content-type']]).toEqual([
        theirs?.text,
        theirs?.headers['retry-after'],
        theirs?.headers['content-type'],
      ]);
    }
  });

  test.each(['content-length: 1000000', 'transfer-encoding: chunked'])(
    'a stranger is refused before there is a body (%s)',
    async (length) => {
      const socket = connect(port, '127.0.0.1');
      socket.write([`POST ${path} HTTP/1.1`, 'host: x', 'authorization: Bearer x', length, '', ''].join('\r\n'));
      const answer = await new Promise((done) => void socket.once('data', (bytes) => done(bytes.toString())));
      socket.destroy();
      expect(answer).toMatch(/^HTTP\/1\.1 401 /);
    },
  );

  test.each([
    ['with their length', 16 * MIB],
    ['without', undefined],
  ])('long ones that do not end (%s) have a bound together, and hold up no others', async (_, length) => {
    const headers = { authorization: await webhookToken(LONG) };
    const holding: ClientRequest[] = [];
    const oneMore = async (chunked: boolean): Promise<number> => {
      const announced = length === undefined ? {} : { 'content-length': length };
      const asked = request({ port, path, method: 'POST', headers: { ...headers, ...announced } }).on('error', () => {});
      asked.write(LARGE.subarray(0, 16 * MIB - 1));
      holding.push(asked);
      return (await send(path, LONG, headers, chunked)).status;
    };
    // LiveKit sends it again.
    for (const chunked of [false, true]) await expect.poll(() => oneMore(chunked), { timeout: 15_000 }).toBe(503);
    expect((await send(path, JOINED, { authorization: await webhookToken(JOINED) })).status).toBe(200);
    const authorization = `Bearer ${await participantToken()}`;
    expect((await send('/v1/delegations', '{}', { authorization }, true)).status, 'read, and no delegation').toBe(400);
    for (const asked of holding) asked.destroy();
    await expect.poll(async () => (await send(path, LONG, headers)).status, { timeout: 15_000 }).toBe(200);
  });

  test('a body that is cut off does nothing', async () => {
    const socket = connect(port, '127.0.0.1');
    const head = [`POST ${path} HTTP/1.1`, 'host: x', `authorization: ${await webhookToken(JOINED)}`, `content-length: ${JOINED.length}`];
    socket.write(`${head.join('\r\n')}\r\n\r\n${JOINED.slice(0, 20)}`);
    await new Promise((done) => void setTimeout(done, 50));
    socket.destroy();
    await new Promise((done) => void setTimeout(done, 50));
    expect(await at.metric('lastwill_webhooks_total{event="participant_joined",verdict="applied"}')).toBe(0);
    expect((await send(path, JOINED, { authorization: await webhookToken(JOINED) })).status).toBe(200);
  });
});
