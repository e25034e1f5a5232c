// Both services on the same stand: a homeserver that answers OpenID look-ups over TLS, an SFU that makes rooms, and a homeserver's
// client-server API that takes whatever it is asked. Everything that one request makes a service ask is written down.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server as HttpServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateRoomRequest, Room } from '@livekit/protocol';
import { TokenVerifier } from 'livekit-server-sdk';
import { freePort, nodeBinary, repositoryDir, Server } from '../e2e/stack/processes.ts';
import { answer, startScriptedServer } from '../support/scripted-server.ts';

export const API_KEY = 'stand-key';
export const API_SECRET = 'stand-secret-of-at-least-32-characters';

export type Env = Readonly<Record<string, string | undefined>>;

/** Settings instead of the usual ones; undefined takes one out. PORT in a value stands for the port that is listened for. */
export interface Settings {
  readonly env: Env;
  /** Files beside the service, by name. */
  readonly files?: Readonly<Record<string, string>>;
}

/** A service under comparison: how it is started, and where it listens. */
export interface Subject {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
}

export const LASTWILL: Subject = { name: 'lastwill', program: nodeBinary, args: [join(repositoryDir, 'src/main.ts')] };

export function peerOf(command: string): Subject {
  const [program = '', ...args] = command.trim().split(/\s+/);
  return { name: 'peer', program, args };
}

export interface Wanted {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** An answer, less what may differ between any two answers: times and the wording of errors. */
export interface Answered {
  readonly status: number;
  readonly contentType: string | null;
  readonly cors: readonly (string | null)[];
  readonly body: unknown;
  /** OpenID look-ups and rooms made, in order. */
  readonly asked: readonly string[];
}

export interface Stand {
  /** Served in full; its client-server API is known by an override. */
  readonly home: string;
  /** Served in full; its client-server API can not be found. */
  readonly lost: string;
  /** Not served in full. */
  readonly guest: string;
  /** What the SFU answers to CreateRoom. */
  roomStatus: number;
  /** The URL of an SFU with a certificate that nobody trusts. */
  readonly unknownSfu: string;
  start(subject: Subject, settings?: Settings): Promise<Running>;
  /** Whether the service comes up with these settings instead of the usual ones. */
  starts(subject: Subject, settings: Settings): Promise<boolean>;
  close(): Promise<void>;
}

export interface Running {
  readonly name: string;
  ask(wanted: Wanted): Promise<Answered>;
  stop(): Promise<void>;
}

const READY_MS = 20_000;

export async function openStand(): Promise<Stand> {
  const asked: string[] = [];
  const userInfoServer = () => {
    const script = (request: IncomingMessage, response: ServerResponse) => {
      const { status, body } = userInfo(request, asked);
      answer(response, status, body);
    };
    return startScriptedServer(script, { tls: true });
  };
  const [openid, elsewhere] = await Promise.all([userInfoServer(), userInfoServer()]);
  const clients = await listening(createServer((request, response) => void request.resume().on('end', () => answer(response, 200))));
  const sfu = await startRooms(asked);
  const unknown = await startScriptedServer(
    ({ headers, url = '' }, response) => {
      // Who is there, is asked at times of one's own.
      if (url.endsWith('/CreateRoom')) asked.push('make a room all the same');
      const type = headers['content-type'] ?? '';
      answer(response, 200, type === 'application/protobuf' ? '' : {}, { 'content-type': type });
    },
    { tls: true },
  );
  const [home, lost, guest] = [`localhost:${openid.port}`, `localhost:${elsewhere.port}`, `127.0.0.1:${openid.port}`];
  const folders: string[] = [];
  const running = new Set<Server>();

  const usual: Env = {
    LIVEKIT_URL: `ws://127.0.0.1:${sfu.port}`,
    LIVEKIT_KEY: API_KEY,
    LIVEKIT_SECRET: API_SECRET,
    LIVEKIT_FULL_ACCESS_HOMESERVERS: `${home},${lost}`,
    LIVEKIT_CS_API_URL_OVERRIDES: `${home}=http://127.0.0.1:${clients.port}`,
    LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING',
  };

  async function launch({ name, program, args }: Subject, { env, files = {} }: Settings): Promise<{ server: Server; url: string }> {
    const port = await freePort();
    const folder = mkdtempSync(join(tmpdir(), `lastwill-differential-${name}-`));
    folders.push(folder);
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text);
    const wanted: Env = { PATH: process.env.PATH, ...usual, LIVEKIT_JWT_BIND: '127.0.0.1:PORT', ...env };
    const all = Object.entries(wanted).flatMap(([key, value]) => (value === undefined ? [] : [[key, value.replace('PORT', String(port))]]));
    const server = new Server(name, program, args, { cwd: folder, env: Object.fromEntries(all), logFile: join(folder, 'log') });
    running.add(server);
    return { server, url: `http://127.0.0.1:${port}` };
  }
  const ready = ({ server, url }: { server: Server; url: string }) =>
    server.ready(READY_MS, async () => (await fetch(`${url}/healthz`)).ok);

  return {
    ...{ home, lost, guest, unknownSfu: `wss://localhost:${unknown.port}` },
    get roomStatus() {
      return sfu.status;
    },
    set roomStatus(status) {
      sfu.status = status;
    },
    async start(subject, settings = { env: {} }) {
      const launched = await launch(subject, settings);
      await ready(launched);
      return {
        name: subject.name,
        async ask(wanted) {
          asked.length = 0;
          const reply = await exchange(launched.url, wanted);
          return { ...(await normalized(reply)), asked: [...asked] };
        },
        stop: () => launched.server.stop(),
      };
    },
    async starts(subject, settings) {
      const launched = await launch(subject, settings);
      const up = await ready(launched).then(
        () => true,
        () => false,
      );
      await launched.server.kill();
      return up;
    },
    async close() {
      await Promise.all([...running].map((server) => server.kill()));
      await Promise.all([openid.close(), elsewhere.close(), clients.close(), sfu.close(), unknown.close()]);
      for (const folder of folders) rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The token says who its user is, or what is wrong with the answer. */
function userInfo(request: IncomingMessage, asked: string[]): { status: number; body: unknown } {
  const url = new URL(request.url ?? '/', 'https://openid');
  if (url.pathname !== '/_matrix/federation/v1/openid/userinfo') return { status: 404, body: {} };
  const token = url.searchParams.get('access_token') ?? '';
  const host = request.headers.host ?? '';
  asked.push(`who is ${token} of ${host}`);
  const [, status, sub, size] = /^(?:status-(\d+).*|sub=(.*)|huge-(\d+))$/s.exec(token) ?? [];
  if (status !== undefined) return { status: Number(status), body: { errcode: 'M_UNKNOWN_TOKEN' } };
  if (token === 'garbage') return { status: 200, body: '<html>' };
  if (token === 'nobody') return { status: 200, body: {} };
  const padding = size === undefined ? {} : { padding: 'x'.repeat(Number(size)) };
  return { status: 200, body: { sub: sub ?? `@${size === undefined ? token : 'alice'}:${host}`, ...padding } };
}

interface Rooms {
  readonly port: number;
  status: number;
  close(): Promise<void>;
}

/** The room API of an SFU with no participants, in both of its encodings. */
async function startRooms(asked: string[]): Promise<Rooms> {
  const verifier = new TokenVerifier(API_KEY, API_SECRET);
  const rooms = { status: 200 };
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const method = request.url?.split('/').at(-1) ?? '';
    const binary = request.headers['content-type'] === 'application/protobuf';
    const claims = await verifier.verify((request.headers.authorization ?? '').replace('Bearer ', '')).catch(() => null);
    if (claims === null) return answer(response, 401);
    if (method === 'GetParticipant') return answer(response, 404, { code: 'not_found', msg: 'no' });
    if (method === 'CreateRoom') {
      const body = Buffer.concat(chunks);
      const wanted = binary ? CreateRoomRequest.fromBinary(body) : CreateRoomRequest.fromJsonString(body.toString());
      asked.push(`make ${wanted.toJsonString()} as ${JSON.stringify(claims.video)}`);
      if (rooms.status !== 200) return answer(response, rooms.status, { code: 'internal', msg: 'no' });
      response.writeHead(200, { 'content-type': binary ? 'application/protobuf' : 'application/json' });
      const room = new Room({ name: wanted.name });
      return response.end(binary ? room.toBinary() : room.toJsonString());
    }
    response.writeHead(200, { 'content-type': binary ? 'application/protobuf' : 'application/json' });
    response.end(binary ? '' : '{}');
  });
  const { port, close } = await listening(server);
  return {
    port,
    close,
    get status() {
      return rooms.status;
    },
    set status(status) {
      rooms.status = status;
    },
  };
}

async function listening(server: HttpServer): Promise<{ port: number; close(): Promise<void> }> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

interface Reply {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
}

/** Not fetch: methods of any name, paths to the letter, and no headers of its own. */
function exchange(url: string, { method, path, headers = {}, body }: Wanted): Promise<Reply> {
  const { hostname, port } = new URL(url);
  const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
  return new Promise((resolve, reject) => {
    const request = httpRequest({ hostname, port, method, path, headers: { ...length, ...headers }, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text: Buffer.concat(chunks).toString() });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

const CORS = ['access-control-allow-origin', 'access-control-allow-methods', 'access-control-allow-headers'];

async function normalized({ status, headers, text }: Reply): Promise<Omit<Answered, 'asked'>> {
  const header = (name: string): string | null => headers[name]?.toString() ?? null;
  return { status, contentType: header('content-type'), cors: CORS.map(header), body: await normalizedBody(text) };
}

async function normalizedBody(text: string): Promise<unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return text;
  }
  if (typeof json !== 'object' || json === null) return json;
  if ('jwt' in json && typeof json.jwt === 'string') return { ...json, jwt: await normalizedToken(json.jwt) };
  return 'error' in json && typeof json.error === 'string' && json.error !== '' ? { ...json, error: 'some words' } : json;
}

async function normalizedToken(jwt: string): Promise<unknown> {
  await new TokenVerifier(API_KEY, API_SECRET).verify(jwt);
  const [header, claims] = jwt
    .split('.')
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()));
  const { exp, nbf, iat, ...rest } = claims;
  return { header, ...rest, validSeconds: exp - nbf, issuedBeforeSeconds: nbf - iat };
}
