// Every call to a homeserver goes through here: one pool for each origin, caps on connections, bytes and time, addresses checked when
// connecting. It answers with values and never throws: an error's text could carry the URL, and URLs here carry secrets.

import { isIP } from 'node:net';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import type { Clock } from '../clock.ts';
import { type AddressPolicy, AddressRefused, bareHost, guardedLookup, isAllowed } from './address.ts';

const MOST_BYTES = 64 * 1024;
const MOST_CONNECTIONS = 64;
const CONNECT_TIMEOUT_MS = 10_000;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export type FailureKind = 'timeout' | 'refused' | 'address' | 'too_large' | 'garbage' | 'redirects';
export type Reply =
  | {
      readonly kind: 'answered';
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      /** The parsed body; undefined when it is not JSON. */
      readonly json: unknown;
    }
  /** `reached`: the request was being written, so it may have been carried out. */
  | { readonly kind: 'failed'; readonly reached: boolean; readonly why: FailureKind };

export interface Request {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For everything, redirects included. */
  readonly timeoutMs: number;
  /** How many redirects to follow, to https only; 0 unless told. */
  readonly redirects?: number;
}

export interface Outbound {
  request(request: Request): Promise<Reply>;
  /** Ends everything that is under way. */
  close(): Promise<void>;
}

export function createOutbound(deps: { clock: Clock; addresses: AddressPolicy; insecureTls: boolean }): Outbound {
  const { clock } = deps;
  const agent = new Agent({
    connections: MOST_CONNECTIONS,
    pipelining: 1,
    connect: guardedConnector(deps.addresses, deps.insecureTls),
  });

  async function request(wanted: Request): Promise<Reply> {
    const endsAtMs = clock.nowMs() + wanted.timeoutMs;
    let url = URL.parse(wanted.url);
    for (let left = wanted.redirects ?? 0; ; left -= 1) {
      if (url === null) return failed(false, 'garbage');
      const reply = await once(agent, clock, url, { ...wanted, timeoutMs: endsAtMs - clock.nowMs() });
      if (reply.kind === 'failed' || !REDIRECTS.has(reply.status) || wanted.redirects === undefined) return reply;
      if (left === 0) return failed(true, 'redirects');
      url = URL.parse(reply.headers.location ?? '', url);
      if (url?.protocol !== 'https:' || url.username !== '' || url.password !== '') return failed(true, 'redirects');
    }
  }
  return { request, close: () => agent.destroy() };
}

function failed(reached: boolean, why: FailureKind): Reply {
  return { kind: 'failed', reached, why };
}

/** Checks IP literals itself (no look-up happens for them) and names after their look-up. */
function guardedConnector(addresses: AddressPolicy, insecureTls: boolean): buildConnector.connector {
  const connect = buildConnector({
    lookup: guardedLookup(addresses),
    rejectUnauthorized: !insecureTls,
    timeout: CONNECT_TIMEOUT_MS,
  } as buildConnector.BuildOptions);
  return (target, done) => {
    const host = bareHost(target.hostname);
    if (isIP(host) !== 0 && !isAllowed(addresses(host), host)) return queueMicrotask(() => done(new AddressRefused(), null));
    return connect(target, done);
  };
}

function once(agent: Agent, clock: Clock, url: URL, wanted: Request): Promise<Reply> {
  return new Promise((resolve) => {
    if (wanted.timeoutMs <= 0) return resolve(failed(false, 'timeout'));
    const exchange = createExchange((reply) => {
      stopTimer();
      resolve(reply);
    });
    const stopTimer = clock.after(wanted.timeoutMs, () => exchange.end('timeout'));
    const { method, headers = {}, body = null } = wanted;
    const options = {
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method,
      headers: { accept: 'application/json', ...headers },
      body,
    };
    try {
      agent.dispatch(options, exchange.handler);
    } catch {
      exchange.end('refused');
    }
  });
}

/** One request and its answer; settles once, whichever of answer, error and timeout comes first. */
function createExchange(settled: (reply: Reply) => void): { handler: Dispatcher.DispatchHandler; end(why: FailureKind): void } {
  let done = false;
  let controller: Dispatcher.DispatchController | null = null;
  let status = 0;
  let headers: Record<string, string> = {};
  let bytes = 0;
  const chunks: Buffer[] = [];

  const settle = (reply: Reply): void => {
    if (done) return;
    done = true;
    settled(reply);
  };
  const end = (why: FailureKind): void => {
    settle(failed(controller !== null, why));
    controller?.abort(new Error('ended'));
  };
  const handler: Dispatcher.DispatchHandler = {
    onRequestStart(started) {
      // Called when a connection is there, just before the request is written to it.
      if (done) started.abort(new Error('ended'));
      else controller = started;
    },
    onResponseStart(_, code, received) {
      status = code;
      headers = firstValues(received);
    },
    onResponseData(_, chunk) {
      bytes += chunk.length;
      if (bytes > MOST_BYTES) end('too_large');
      else chunks.push(chunk);
    },
    onResponseEnd: () => settle({ kind: 'answered', status, headers, json: parseJson(Buffer.concat(chunks)) }),
    onResponseError: (_, error) => settle(failed(controller !== null, failureOf(error))),
  };
  return { handler, end };
}

function firstValues(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> {
  const first: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const text = Array.isArray(value) ? value[0] : value;
    if (text !== undefined) first[name.toLowerCase()] = text;
  }
  return first;
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

function failureOf(error: Error): FailureKind {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (code === 'ADDRESS_REFUSED') return 'address';
  if (code === 'ETIMEDOUT' || /^UND_ERR_.*TIMEOUT$/.test(code)) return 'timeout';
  return code.startsWith('HPE_') || code === 'UND_ERR_HEADERS_OVERFLOW' ? 'garbage' : 'refused';
}
