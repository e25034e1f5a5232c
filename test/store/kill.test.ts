// What was answered is there after a kill -9 at any moment, and nothing is half done: of the store alone, and of the whole service.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import type { Store } from '../../src/store/store.ts';
import { API_KEY, handOverBody, participantEvent, participantToken, webhookToken } from '../http/harness.ts';
import { ended, handOver, room, row } from '../support/fixtures.ts';
import { createSeededRandom } from '../support/virtual-clock.ts';

type Child = ChildProcessByStdio<null, Readable, null>;

const ROOT = path.resolve(import.meta.dirname, '../..');
const random = createSeededRandom(process.pid);
let folder: string;
let children: Child[];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-kill-'));
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

function start(
  script: string,
  args: readonly string[],
  env: Record<string, string> = {},
): { child: Child; lines: string[]; said: (what: RegExp) => Promise<string> } {
  const child = spawn(process.execPath, [path.join(ROOT, script), ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: process.env.PATH, ...env },
  });
  children.push(child);
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout });
  reader.on('line', (line) => lines.push(line));
  const said = async (what: RegExp): Promise<string> => {
    for (;;) {
      const line = lines.find((one) => what.test(one));
      if (line !== undefined) return line;
      const [event] = await Promise.race([once(reader, 'line'), once(reader, 'close').then(() => [null])]);
      if (event === null) throw new Error(`${script} ended before it said ${what}: ${lines.slice(-3).join(' | ')}`);
    }
  };
  return { child, lines, said };
}

async function kill(child: Child): Promise<void> {
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));

describe('a store whose process is killed', () => {
  const STORIES = 100_000;
  /** Of what was answered in each round, the newest. */
  const MOST_CHECKED = 2_000;

  /** Its log was copied and begun anew, and soon is again. */
  const hasCopied = async (file: string): Promise<void> => {
    const first = generationOf(file);
    while (generationOf(file) === first) await pause(5);
  };
  /** The part of its log's salt that is counted up whenever it is begun anew. */
  const generationOf = (file: string): number => {
    const head = Buffer.alloc(32);
    const log = openSync(`${file}-wal`, 'r');
    readSync(log, head);
    closeSync(log);
    return head.readUInt32BE(16);
  };

  test.each([
    { when: 'at once', rounds: 10, ready: async () => {} },
    { when: 'while its log is copied', rounds: 3, ready: hasCopied },
  ])('$when has every answered update, and no other by half', { timeout: 120_000 }, async ({ rounds, ready }) => {
    const file = path.join(folder, 'lastwill.sqlite');
    const answered: string[] = [];
    for (let round = 0; round < rounds; round += 1) {
      const { child, lines, said } = start('test/store/writer.ts', [file, String(round * STORIES + 1)]);
      await said(/^opened$/);
      await ready(file);
      await pause(random.roll() * 120);
      await kill(child);
      const heard = lines.filter((line) => line !== 'opened').slice(-MOST_CHECKED);
      answered.push(...heard);
      const store = openSqliteStore({ path: file, clock: systemClock(), seal: null });
      await check(store, round === rounds - 1 ? answered : heard, round * STORIES + 1);
      await store.close();
    }
    expect(answered.length).toBeGreaterThan(rounds);
  });

  async function check(store: Store, heard: readonly string[], first: number): Promise<void> {
    const said = new Set(heard);
    const numbers = heard.map((line) => Number(line.split(' ')[1]));
    const newest = Math.max(first, ...numbers);
    // Those behind and before the newest may have been under way.
    const near = Array.from({ length: 24 }, (_, index) => newest + (index - 12) * 2).filter((n) => n >= first);
    await Promise.all([...new Set([...numbers, ...near])].map((n) => checkStory(store, n, said)));
  }

  async function checkStory(store: Store, n: number, said: ReadonlySet<string>): Promise<void> {
    const { owner } = handOver(n);
    const found = await store.update({ by: 'owner', room: room(n), owner }, null, (rows) => ({ writes: [], value: rows }));
    const rows = found.kind === 'done' ? found.value : [];
    // A step that throws leaves no key behind; where the key is known it does not run.
    const known = await store.update({ by: 'owner', room: room(n), owner }, `webhook ${n}`, unknown).catch(() => null);
    const whole = [
      ['', [], false],
      ['delegated', [row(n)], false],
      ['joined', [row(n, { kind: 'connected' })], true],
      ['superseded', [row(n + 1, { over: { owner, room: room(n) } }), ended(row(n), { outcome: 'superseded' })], true],
    ] as const;
    const least = whole.findLastIndex(([name]) => said.has(`${name} ${n}`));
    const allowed = whole.slice(Math.max(least, 0)).map(([, stored, kept]) => [stored, kept]);
    expect(allowed, `participant ${n}`).toContainEqual([rows, known !== null]);
  }
});

function unknown(): never {
  throw new Error('the key is not known');
}

describe('a service that is killed', () => {
  const ROUNDS = 4;
  let around: Server;

  beforeEach(async () => {
    around = createServer(answerAround);
    around.listen(0, '127.0.0.1');
    await once(around, 'listening');
  });
  afterEach(() => {
    around.closeAllConnections();
    around.close();
  });

  test('has kept every promise that it answered', { timeout: 60_000 }, async () => {
    const promised = new Map<number, Promised>();
    let [next, total] = [1, 0];
    for (let round = 0; round < ROUNDS; round += 1) {
      const service = await startService();
      await checkPromises(service.url, promised);
      promised.clear();
      const clients = Array.from({ length: 8 }, async () => {
        while (await client(service.url, next++, promised));
      });
      await pause(random.roll() * 400 + 20);
      await kill(service.child);
      await Promise.all(clients);
      total += promised.size;
    }
    const last = await startService();
    await checkPromises(last.url, promised);
    expect(total).toBeGreaterThan(0);
  });

  interface Promised {
    readonly id: string;
    joined: boolean;
    handedBack: boolean;
  }

  const joinedOf = (n: number) => JSON.stringify(participantEvent('participant_joined', n, { id: `EV_of_${n}` }));
  const bodyOf = (n: number) => JSON.stringify(handOverBody(n, { homeserver: urlOf(around), timeout_ms: 3_600_000 }));

  /** False: the service is gone. */
  async function client(url: string, n: number, promised: Map<number, Promised>): Promise<boolean> {
    try {
      const created = await call(url, 'POST', '/v1/delegations', n, bodyOf(n));
      expect(created.status).toBe(201);
      const one: Promised = { id: created.json.id, joined: false, handedBack: false };
      promised.set(n, one);
      one.joined = (await hook(url, joinedOf(n))) === 200;
      if (n % 3 === 0) one.handedBack = (await call(url, 'DELETE', `/v1/delegations/${one.id}`, n)).status === 200;
      return true;
    } catch (error) {
      if (error instanceof TypeError) return false;
      throw error;
    }
  }

  async function checkPromises(url: string, promised: ReadonlyMap<number, Promised>): Promise<void> {
    const alive = await Promise.all([...promised].map(async ([n, one]) => ((await checkPromise(url, n, one)) && one.joined ? [n] : [])));
    const joined = alive.flat();
    const before = await duplicates(url);
    await Promise.all(joined.map((n) => hook(url, joinedOf(n))));
    expect(await duplicates(url)).toBe(before + joined.length);
  }

  /** False: it has ended, perhaps by a request whose answer the kill has cut off. */
  async function checkPromise(url: string, n: number, one: Promised): Promise<boolean> {
    const { status, json } = await call(url, 'GET', `/v1/delegations/${one.id}`, n);
    expect(status, `delegation of participant ${n}`).toBe(200);
    const events = json.history.map(({ event }: { event: string }) => event);
    expect(events[0]).toBe('delegated');
    if (one.joined) expect(events, `participant ${n} joined`).toContain('joined');
    if (one.handedBack) expect([json.state, json.outcome]).toEqual(['ended', 'handed-back']);
    if (json.state === 'ended') return false;
    expect((await call(url, 'POST', '/v1/delegations', n, bodyOf(n))).json.id).toBe(one.id);
    return true;
  }

  async function startService(): Promise<{ child: Child; url: string }> {
    const { child, said } = start('src/main.ts', [], {
      NODE_ENV: 'development',
      LIVEKIT_URL: urlOf(around).replace('http', 'ws'),
      LIVEKIT_KEY: API_KEY.key,
      LIVEKIT_SECRET: API_KEY.secret,
      LIVEKIT_JWT_BIND: '127.0.0.1:0',
      LASTWILL_DATA_DIR: folder,
    });
    const { port } = JSON.parse(await said(/"msg":"listening"/));
    return { child, url: `http://127.0.0.1:${port}` };
  }

  async function call(url: string, method: string, to: string, n: number, body?: string) {
    const headers = { authorization: `Bearer ${await participantToken(n)}` };
    const response = await fetch(url + to, { method, headers, ...(body === undefined ? {} : { body }) });
    return { status: response.status, json: JSON.parse(await response.text()) };
  }

  async function hook(url: string, body: string): Promise<number> {
    const response = await fetch(`${url}/sfu_webhook`, { method: 'POST', body, headers: { authorization: await webhookToken(body) } });
    await response.arrayBuffer();
    return response.status;
  }

  async function duplicates(url: string): Promise<number> {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(/^lastwill_webhooks_total\{event="participant_joined",verdict="duplicate"\} (\d+)$/m.exec(text)?.[1] ?? 0);
  }
});

/** A homeserver that takes everything, and an SFU that answers nothing: what is known of participants is known by webhooks. */
function answerAround({ url = '' }: IncomingMessage, response: ServerResponse): void {
  const answer = url.endsWith('/versions') ? { versions: [], unstable_features: { 'org.matrix.msc4140': true } } : {};
  response.writeHead(url.startsWith('/twirp/') ? 500 : 200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
}

const urlOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
