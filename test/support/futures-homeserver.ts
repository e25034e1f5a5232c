// A model homeserver of dialect A: futures as in MSC4140 of June 2024, to the letter. Where the text leaves something open:
// - a send that the sender may not do now answers 403 and keeps the future; a timeout that may not be sent fails it;
// - only state events that clients send invalidate futures of the same key, not futures that were sent;
// - a group without a timeout future can't expire, so it goes with its last one.
import type { Clock } from '../../src/clock.ts';
import { createDeadlines, createRooms, createTransactions, type Draft, type RoomEvent, type Rooms, serveRooms } from './matrix-rooms.ts';
import {
  createMatrixServer,
  freshId,
  type Handle,
  type Incoming,
  MatrixError,
  type MatrixServer,
  type Outgoing,
  objectBody,
} from './matrix-server.ts';

export interface FuturesOptions {
  readonly port?: number;
  readonly clock?: Clock;
  /** Which paths are served; both unless told. */
  readonly paths?: 'stable' | 'unstable' | 'both';
  /** The longest timeout of a future; a week unless told. */
  readonly maxTimeoutMs?: number;
  /** Unknown tokens in a row until an address is blocked, and for how long; 5 and 10 s as recommended. */
  readonly guesses?: { readonly most: number; readonly blockMs: number };
}

export interface FutureTokens {
  readonly send_token: string;
  readonly cancel_token: string;
  readonly future_group_id: string;
  readonly refresh_token?: string;
}

export interface FuturesHomeserver {
  readonly url: string;
  readonly server: MatrixServer;
  readonly rooms: Rooms;
  readonly calls: MatrixServer['calls'];
  login(userId: string): string;
  timeline(room: string): readonly RoomEvent[];
  /** An outage and its end: same port, everything kept. */
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

interface Future {
  readonly draft: Draft;
  /** Null: an action future. */
  readonly timeoutMs: number | null;
  readonly group: string;
  readonly tokens: FutureTokens;
  readonly url: string;
}

const WEEK_MS = 7 * 24 * 3600_000;
const PREFIXES = { stable: '/_matrix/client/v1', unstable: '/_matrix/client/unstable/org.matrix.msc4140' };

export async function startFuturesHomeserver(options: FuturesOptions = {}): Promise<FuturesHomeserver> {
  const server = createMatrixServer(options);
  const rooms = createRooms(server.clock);
  const deadlines = createDeadlines(server.clock);
  const futures = createFutures(server, rooms, deadlines, options.maxTimeoutMs ?? WEEK_MS);
  const guard = createGuessGuard(server.clock, options.guesses ?? { most: 5, blockMs: 10_000 });
  const paths = options.paths ?? 'both';

  serveRooms(server, rooms, { onState: futures.invalidate });
  const features = paths === 'stable' ? {} : { 'org.matrix.msc4140': true };
  server.route('GET', '/_matrix/client/versions', () => ({ status: 200, body: { versions: ['v1.11'], unstable_features: features } }));
  if (paths !== 'unstable') serveFutures(server, PREFIXES.stable, futures, guard);
  if (paths !== 'stable') serveFutures(server, PREFIXES.unstable, futures, guard);
  await server.start();

  const stop = (): Promise<void> => {
    deadlines.pause();
    return server.stop();
  };
  return {
    url: server.url(),
    server,
    rooms,
    calls: server.calls,
    login: server.login,
    timeline: rooms.timeline,
    stop,
    start: () => server.start().then(deadlines.resume),
    close: stop,
  };
}

interface Futures {
  schedule(request: Incoming, draft: Omit<Draft, 'sender' | 'content'>): Outgoing;
  /** False: nobody knows this token (any more). */
  use(token: string): boolean;
  list(owner: string): unknown;
  invalidate(newer: RoomEvent): void;
}

function createFutures(server: MatrixServer, rooms: Rooms, deadlines: ReturnType<typeof createDeadlines>, maxTimeoutMs: number): Futures {
  const alive = new Set<Future>();
  const tokens = new Map<string, { readonly future: Future; readonly does: 'send' | 'refresh' | 'cancel' }>();
  const members = (group: string): Future[] => [...alive].filter((future) => future.group === group);
  const hasTimeout = (group: string): boolean => members(group).some(({ timeoutMs }) => timeoutMs !== null);

  const remove = (future: Future): void => {
    alive.delete(future);
    deadlines.clear(future.tokens.send_token);
    for (const token of [future.tokens.send_token, future.tokens.cancel_token, future.tokens.refresh_token]) tokens.delete(token ?? '');
  };
  const removeGroup = (group: string): void => members(group).forEach(remove);
  const discard = (future: Future): void => {
    remove(future);
    if (!hasTimeout(future.group)) removeGroup(future.group);
  };
  const startTimer = (future: Future): void => {
    if (future.timeoutMs === null) return;
    deadlines.set(future.tokens.send_token, server.clock.nowMs() + future.timeoutMs, () => {
      removeGroup(future.group);
      try {
        rooms.send(future.draft);
      } catch {
        // It may not be sent at the time it resolves: the future fails.
      }
    });
  };

  return {
    schedule(request, { room, type, stateKey }) {
      const sender = server.userOf(request);
      const { timeoutMs, group } = readQuery(request, maxTimeoutMs);
      const owner = members(group)[0]?.draft.sender ?? sender;
      if (owner !== sender) throw new MatrixError(405, 'M_FORBIDDEN', 'This future group belongs to another user');
      if (timeoutMs === null && !hasTimeout(group)) throw new MatrixError(409, 'M_UNKNOWN', 'The group has no timeout future');
      const issued: FutureTokens = {
        send_token: freshId(),
        cancel_token: freshId(),
        future_group_id: group,
        ...(timeoutMs !== null && { refresh_token: freshId() }),
      };
      const url = `${request.path}?${request.query}`;
      const future: Future = {
        draft: { room, type, stateKey, sender, content: objectBody(request) },
        timeoutMs,
        group,
        tokens: issued,
        url,
      };
      alive.add(future);
      tokens.set(issued.send_token, { future, does: 'send' });
      tokens.set(issued.cancel_token, { future, does: 'cancel' });
      if (issued.refresh_token !== undefined) tokens.set(issued.refresh_token, { future, does: 'refresh' });
      startTimer(future);
      return { status: 200, body: issued };
    },
    use(token) {
      const found = tokens.get(token);
      if (found === undefined) return false;
      const { future, does } = found;
      if (does === 'refresh') startTimer(future);
      if (does === 'cancel') discard(future);
      if (does === 'send') {
        rooms.send(future.draft);
        removeGroup(future.group);
      }
      return true;
    },
    list: (owner) =>
      [...alive]
        .filter(({ draft }) => draft.sender === owner)
        .map((future) => ({ url: future.url, body: future.draft.content, response: future.tokens })),
    invalidate(newer) {
      for (const future of alive) {
        const { room, type, stateKey } = future.draft;
        if (room === newer.room && type === newer.type && stateKey === newer.stateKey) discard(future);
      }
    },
  };
}

/** A timeout or a group has to be given; a timeout alone gets a group of its own. */
function readQuery({ query }: Incoming, maxTimeoutMs: number): { timeoutMs: number | null; group: string } {
  const timeout = query.get('future_timeout');
  const group = query.get('future_group_id');
  if (timeout === null && group === null)
    throw new MatrixError(400, 'M_MISSING_PARAM', 'Either future_timeout or future_group_id is needed');
  if (timeout !== null && !/^\d{1,15}$/.test(timeout))
    throw new MatrixError(400, 'M_INVALID_PARAM', 'future_timeout is no number of milliseconds');
  const timeoutMs = timeout === null ? null : Number(timeout);
  if (timeoutMs !== null && timeoutMs > maxTimeoutMs) {
    throw new MatrixError(400, 'M_INVALID_PARAM', `The longest future_timeout is ${maxTimeoutMs}`);
  }
  return { timeoutMs, group: group ?? freshId() };
}

interface GuessGuard {
  /** 429 while the address is blocked. */
  check(ip: string): void;
  count(ip: string, known: boolean): void;
}

function createGuessGuard(clock: Clock, { most, blockMs }: { readonly most: number; readonly blockMs: number }): GuessGuard {
  const inARow = new Map<string, number>();
  const blockedUntil = new Map<string, number>();
  return {
    check(ip) {
      const leftMs = (blockedUntil.get(ip) ?? 0) - clock.nowMs();
      if (leftMs <= 0) return;
      const headers = { 'retry-after': String(Math.ceil(leftMs / 1000)) };
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many unknown tokens', { retry_after_ms: leftMs }, headers);
    },
    count(ip, known) {
      const count = known ? 0 : (inARow.get(ip) ?? 0) + 1;
      inARow.set(ip, count % most);
      if (count >= most) blockedUntil.set(ip, clock.nowMs() + blockMs);
    },
  };
}

function serveFutures(server: MatrixServer, prefix: string, futures: Futures, guard: GuessGuard): void {
  const transactions = createTransactions();
  const schedule =
    (isState: boolean): Handle =>
    (request, { room = '', type = '', key = '' }) => {
      const make = (): Outgoing => futures.schedule(request, { room, type, stateKey: isState ? key : undefined });
      return isState ? make() : transactions(request, make);
    };
  server.route('PUT', `${prefix}/rooms/:room/send_future/:type/:txn`, schedule(false));
  server.route('PUT', `${prefix}/rooms/:room/state_future/:type`, schedule(true));
  server.route('PUT', `${prefix}/rooms/:room/state_future/:type/:key`, schedule(true));
  server.route('GET', `${prefix}/future`, (request) => ({ status: 200, body: futures.list(server.userOf(request)) }));
  server.route('POST', `${prefix}/future/:token`, (request, { token = '' }) => {
    guard.check(request.ip);
    const known = futures.use(token);
    guard.count(request.ip, known);
    if (!known) throw new MatrixError(410, 'M_UNKNOWN', 'Unknown token');
    return { status: 200, body: {} };
  });
}
