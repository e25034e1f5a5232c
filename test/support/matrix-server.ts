// The HTTP side of a model homeserver: routes, Matrix errors, bearer tokens, a log of calls, faults, and outages on the same port.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Clock, systemClock, systemRandom } from '../../src/clock.ts';

export interface Incoming {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: unknown;
  /** The bearer token, null without one. */
  readonly token: string | null;
  readonly ip: string;
  readonly atMs: number;
}
export interface Outgoing {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}
/** What goes wrong with one request. Without `after` the request is not carried out, except for a mere delay. */
export interface Fault {
  readonly delayMs?: number;
  readonly status?: number;
  /** A string goes out as it is, anything else as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Never answers. */
  readonly hang?: boolean;
  /** Cuts the connection. */
  readonly reset?: boolean;
  /** The request is carried out, and then its answer is spoilt. */
  readonly after?: boolean;
}
export interface LoggedCall extends Incoming {
  /** Null until answered. */
  status: number | null;
}
export type Handle = (request: Incoming, params: Readonly<Record<string, string>>) => Outgoing;

export class MatrixError extends Error {
  readonly answer: Outgoing;
  constructor(
    status: number,
    errcode: string,
    error: string,
    more: Readonly<Record<string, unknown>> = {},
    headers: Record<string, string> = {},
  ) {
    super(error);
    this.answer = { status, body: { errcode, error, ...more }, headers };
  }
}

export interface MatrixServer {
  readonly clock: Clock;
  readonly calls: LoggedCall[];
  /** Asked before each request. */
  fault: ((request: Incoming) => Fault | undefined) | null;
  url(): string;
  route(method: string, pattern: string, handle: Handle): void;
  /** A new access token of a user. */
  login(userId: string): string;
  /** The user of a request, or 401. */
  userOf(request: Incoming): string;
  start(): Promise<void>;
  stop(): Promise<void>;
}

interface Route {
  readonly method: string;
  readonly pattern: readonly string[];
  readonly handle: Handle;
}

export function createMatrixServer(options: { readonly port?: number; readonly clock?: Clock }): MatrixServer {
  const clock = options.clock ?? systemClock();
  const routes: Route[] = [];
  const users = new Map<string, string>();
  const held = new Set<ServerResponse>();
  let port = options.port ?? 0;
  let listening: Server | null = null;

  const server: MatrixServer = {
    clock,
    calls: [],
    fault: null,
    url: () => `http://127.0.0.1:${port}`,
    route: (method, pattern, handle) => void routes.push({ method, pattern: pattern.split('/'), handle }),
    login(userId) {
      const token = `syt_${freshId()}`;
      users.set(token, userId);
      return token;
    },
    userOf({ token }) {
      if (token === null) throw new MatrixError(401, 'M_MISSING_TOKEN', 'Missing access token');
      const user = users.get(token);
      if (user === undefined) throw new MatrixError(401, 'M_UNKNOWN_TOKEN', 'Unknown access token');
      return user;
    },
    async start() {
      listening = createServer((request, response) => void serve(request, response));
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      listening.once('error', reject).listen(port, '127.0.0.1', resolve);
      await promise;
      port = (listening.address() as AddressInfo).port;
    },
    async stop() {
      if (listening === null) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      listening.close(() => resolve());
      listening.closeAllConnections();
      listening = null;
      for (const response of held) response.destroy();
      held.clear();
      await promise;
    },
  };

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const call: LoggedCall = { ...read(request, Buffer.concat(chunks).toString()), status: null };
    server.calls.push(call);
    const fault = server.fault?.(call);
    if (fault?.delayMs !== undefined) await new Promise<void>((resolve) => void clock.after(fault.delayMs ?? 0, resolve));
    const spoils = fault !== undefined && (fault.hang || fault.reset || fault.status !== undefined || fault.body !== undefined);
    const answer = spoils && !fault.after ? { status: 500 } : dispatch(call);
    if (fault?.hang) return void held.add(response);
    if (fault?.reset) return void request.socket.resetAndDestroy();
    write(response, spoils ? { status: fault.status ?? answer.status, body: fault.body, headers: fault.headers ?? {} } : answer, call);
  }

  function read(request: IncomingMessage, text: string): Incoming {
    const url = new URL(request.url ?? '/', 'http://homeserver');
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? null;
    const ip = request.socket.remoteAddress ?? '';
    return { method: request.method ?? '', path: url.pathname, query: url.searchParams, body: parse(text), token, ip, atMs: clock.nowMs() };
  }

  function dispatch(request: Incoming): Outgoing {
    let known = false;
    for (const { method, pattern, handle } of routes) {
      const params = match(pattern, request.path.split('/'));
      if (params === null) continue;
      known = true;
      if (method === request.method) return attempt(() => handle(request, params));
    }
    return attempt(() => {
      throw new MatrixError(known ? 405 : 404, 'M_UNRECOGNIZED', 'Unrecognized request');
    });
  }
  return server;
}

/** An object, or 400. */
export function objectBody(request: Incoming): Record<string, unknown> {
  const { body } = request;
  if (body === undefined) throw new MatrixError(400, 'M_NOT_JSON', 'Content not JSON.');
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new MatrixError(400, 'M_BAD_JSON', 'Content must be an object.');
  return body as Record<string, unknown>;
}

/** An opaque identifier that nobody can guess. */
export function freshId(): string {
  return Buffer.from(systemRandom().bytes(18)).toString('base64url');
}

function attempt(handle: () => Outgoing): Outgoing {
  try {
    return handle();
  } catch (error) {
    if (error instanceof MatrixError) return error.answer;
    return { status: 500, body: { errcode: 'M_UNKNOWN', error: String(error) } };
  }
}

/** `:name` is one segment, decoded; a pattern ends at its last segment. */
function match(pattern: readonly string[], segments: readonly string[]): Record<string, string> | null {
  if (pattern.length !== segments.length) return null;
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] ?? '';
    if (part.startsWith(':')) params[part.slice(1)] = decodeURIComponent(segment);
    else if (part !== segment) return null;
  }
  return params;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function write(response: ServerResponse, { status, body, headers = {} }: Outgoing, call: LoggedCall): void {
  call.status = status;
  const isText = typeof body === 'string';
  response.writeHead(status, { 'content-type': isText ? 'text/html' : 'application/json', ...headers });
  response.end(isText ? body : body === undefined ? '' : JSON.stringify(body));
}
