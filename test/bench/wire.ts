// HTTP/1.1 reduced to what a load generator and its fakes need: whole requests and answers over kept-alive sockets. A client or server
// of the platform would cost as much as what is being measured.
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { nowMs } from './shared.ts';

export interface Reply {
  /** 0: the connection broke. */
  readonly status: number;
  readonly body: string;
}

/** A request ready to be written. */
export function written(method: string, path: string, headers: Readonly<Record<string, string>>, body: string): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const length = method === 'GET' ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nHost: bench\r\n${lines.join('')}${length}\r\n${body}`;
}

const HEAD_END = Buffer.from('\r\n\r\n');

/** The bytes of one message after its head; -1: not all there yet. */
function bodyEnd(buffer: Buffer, head: string, from: number): number {
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  if (length !== undefined) return from + Number(length) <= buffer.length ? from + Number(length) : -1;
  if (!/\r\ntransfer-encoding: *chunked/i.test(head)) return from;
  const last = buffer.indexOf('0\r\n\r\n', from);
  return last < 0 ? -1 : last + 5;
}

class Connection {
  readonly #port: number;
  #socket: Socket | null = null;
  #buffer: Buffer = Buffer.alloc(0);
  #answer: ((reply: Reply) => void) | null = null;
  /** To be written once more: a server may close a connection that was idle just as it is used again. */
  #again: string | null = null;

  constructor(port: number) {
    this.#port = port;
  }

  request(text: string): Promise<Reply> {
    return new Promise((resolve) => {
      this.#answer = resolve;
      this.#again = this.#socket === null ? null : text;
      this.#open().write(text);
    });
  }

  close(): void {
    this.#socket?.destroy();
  }

  #open(): Socket {
    if (this.#socket !== null) return this.#socket;
    const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true });
    this.#socket = socket;
    this.#buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('error', () => {});
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      const again = this.#again;
      this.#again = null;
      if (again !== null && this.#answer !== null && this.#buffer.length === 0) this.#open().write(again);
      else this.#settle({ status: 0, body: '' });
    });
    return socket;
  }

  #read(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    const headEnd = this.#buffer.indexOf(HEAD_END);
    if (headEnd < 0) return;
    const head = this.#buffer.toString('latin1', 0, headEnd);
    const end = bodyEnd(this.#buffer, head, headEnd + 4);
    if (end < 0) return;
    const reply = { status: Number(head.slice(9, 12)), body: this.#buffer.toString('utf8', headEnd + 4, end) };
    this.#buffer = this.#buffer.subarray(end);
    if (/\r\nconnection: *close/i.test(head)) {
      this.#socket?.destroy();
      this.#socket = null;
    }
    this.#settle(reply);
  }

  #settle(reply: Reply): void {
    const answer = this.#answer;
    this.#answer = null;
    answer?.(reply);
  }
}

export interface Load {
  readonly tookMs: number;
  /** Milliseconds of each request, in order of the requests. */
  readonly latencies: Float64Array;
  /** How many were answered with what. */
  readonly statuses: ReadonlyMap<number, number>;
}

/** `concurrency` connections, each with one request at a time, until all have been made or the time is over. */
export async function closedLoop(
  port: number,
  concurrency: number,
  count: number,
  make: (nth: number) => string,
  withinMs = Number.POSITIVE_INFINITY,
): Promise<Load> {
  const latencies = new Float64Array(count);
  const statuses = new Map<number, number>();
  const startedMs = nowMs();
  let next = 0;
  const work = async (): Promise<void> => {
    const connection = new Connection(port);
    while (next < count && nowMs() - startedMs < withinMs) {
      const nth = next;
      next += 1;
      const text = make(nth);
      const askedMs = nowMs();
      const { status } = await connection.request(text);
      latencies[nth] = nowMs() - askedMs;
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  return { tookMs: nowMs() - startedMs, latencies: latencies.subarray(0, next), statuses };
}

/** One request each `1000 / perSecond` ms, whether the earlier ones were answered or not. */
export async function openLoop(port: number, perSecond: number, count: number, make: (nth: number) => string): Promise<Load> {
  const latencies = new Float64Array(count);
  const statuses = new Map<number, number>();
  const idle: Connection[] = [];
  const all: Connection[] = [];
  const startedMs = nowMs();
  const pending: Promise<void>[] = [];
  for (let nth = 0; nth < count; nth += 1) {
    const dueMs = startedMs + (nth * 1000) / perSecond;
    while (nowMs() < dueMs) await new Promise((resolve) => setTimeout(resolve, Math.max(dueMs - nowMs(), 0)));
    const connection = idle.pop() ?? new Connection(port);
    all.push(connection);
    const askedMs = nowMs();
    pending.push(
      connection.request(make(nth)).then(({ status }) => {
        latencies[nth] = nowMs() - askedMs;
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        idle.push(connection);
      }),
    );
  }
  await Promise.all(pending);
  for (const connection of all) connection.close();
  return { tookMs: nowMs() - startedMs, latencies, statuses };
}

export async function once(port: number, text: string): Promise<Reply> {
  const connection = new Connection(port);
  const reply = await connection.request(text);
  connection.close();
  return reply;
}

/** An answer: its status, and JSON text or the bytes of a protobuf message; a promise where it comes late. */
export type Answer = readonly [status: number, body: string | Uint8Array];
export type Handle = (method: string, path: string, body: Buffer, isBinary: boolean) => Answer | Promise<Answer>;

export async function serveWire(handle: Handle, tls: { key: string; cert: string } | null): Promise<{ port: number; server: Server }> {
  const listener = (socket: Socket): void => {
    let buffer: Buffer = Buffer.alloc(0);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    const answer = ([status, body]: Answer): void => {
      const isText = typeof body === 'string';
      const length = isText ? Buffer.byteLength(body) : body.length;
      const type = isText ? 'application/json' : 'application/protobuf';
      const head = `HTTP/1.1 ${status} ${status === 200 ? 'OK' : 'Not'}\r\nContent-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n`;
      if (isText) return void socket.write(head + body);
      socket.write(head);
      socket.write(body);
    };
    socket.on('data', (chunk: Buffer) => {
      buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk]);
      for (;;) {
        const headEnd = buffer.indexOf(HEAD_END);
        if (headEnd < 0) return;
        const head = buffer.toString('latin1', 0, headEnd);
        const end = bodyEnd(buffer, head, headEnd + 4);
        if (end < 0) return;
        const body = buffer.subarray(headEnd + 4, end);
        buffer = buffer.subarray(end);
        const [method = '', path = ''] = head.slice(0, head.indexOf('\r\n')).split(' ');
        const found = handle(method, path, body, /\r\ncontent-type: *application\/protobuf/i.test(head));
        if (found instanceof Promise) void found.then(answer);
        else answer(found);
      }
    });
  };
  const server: Server = tls === null ? createServer(listener) : createTlsServer(tls, listener);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, server };
}
