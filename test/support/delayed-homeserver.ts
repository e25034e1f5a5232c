// A model homeserver with delayed events by delay id, in dialect B, C or D (src/homeserver/dialect.ts). B and C behave as Synapse does: anyone
// who knows the id may act, calls are limited by address, and a final event is forgotten at once. D follows the newest text: only the
// owner (or an application service in its name) may act, and final events are remembered.
import type { Clock } from '../../src/clock.ts';
import { createDeadlines, createRooms, type Draft, type RoomEvent, type Rooms, serveRooms } from './matrix-rooms.ts';
import { createMatrixServer, freshId, type Incoming, MatrixError, type MatrixServer, type Outgoing, objectBody } from './matrix-server.ts';

export type DelayedDialect = 'B' | 'C' | 'D';

export interface DelayedOptions {
  readonly port?: number;
  readonly clock?: Clock;
  /** C unless told. */
  readonly dialect?: DelayedDialect;
  /** 24 h unless told. */
  readonly maxDelayMs?: number;
  /** As Synapse's rc_delayed_event_mgmt: calls without an application service's token, by address. None unless told. */
  readonly rateLimit?: { readonly perSecond: number; readonly burst: number };
  /** An application service that may act as any user and is not limited. */
  readonly asToken?: string;
}

export interface DelayedHomeserver {
  readonly url: string;
  readonly server: MatrixServer;
  readonly rooms: Rooms;
  readonly calls: MatrixServer['calls'];
  login(userId: string): string;
  timeline(room: string): readonly RoomEvent[];
  /** As if the homeserver were upgraded: the same events, another way to speak of them. */
  setDialect(dialect: DelayedDialect): void;
  /** An outage and its end: same port, everything kept; what fell due is sent at the start. */
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

type Final = 'sent' | 'cancelled';
interface Delayed {
  readonly id: string;
  readonly draft: Draft;
  readonly delayMs: number;
  scheduledAtMs: number;
  final: Final | null;
}

const DAY_MS = 24 * 3600_000;
const UNSTABLE = '/_matrix/client/unstable/org.matrix.msc4140';
const STABLE = '/_matrix/client/v1';
const DELAY = 'org.matrix.msc4140.delay';

export async function startDelayedHomeserver(options: DelayedOptions = {}): Promise<DelayedHomeserver> {
  const server = createMatrixServer(options);
  const rooms = createRooms(server.clock);
  const deadlines = createDeadlines(server.clock);
  const events = createDelayed(server.clock, rooms, deadlines, options.maxDelayMs ?? DAY_MS);
  const limit = createRateLimit(server.clock, options.rateLimit ?? null);
  let dialect: DelayedDialect = options.dialect ?? 'C';

  serveScheduling(server, rooms, events);
  serveManagement(server, events, { dialect: () => dialect, asToken: options.asToken ?? null, limit });
  server.route('GET', '/_matrix/client/versions', () => {
    const features = { 'org.matrix.msc4140': dialect !== 'D', 'org.matrix.msc4140.stable': dialect === 'D' };
    return { status: 200, body: { versions: ['v1.11'], unstable_features: features } };
  });
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
    setDialect: (next) => {
      dialect = next;
    },
    stop,
    start: () => server.start().then(deadlines.resume),
    close: stop,
  };
}

interface DelayedEventsStore {
  readonly all: ReadonlyMap<string, Delayed>;
  schedule(draft: Draft, delayMs: number): Outgoing;
  act(event: Delayed, action: string): void;
}

function createDelayed(clock: Clock, rooms: Rooms, deadlines: ReturnType<typeof createDeadlines>, maxDelayMs: number): DelayedEventsStore {
  const all = new Map<string, Delayed>();
  const end = (event: Delayed, how: Final): void => {
    deadlines.clear(event.id);
    event.final = how;
  };
  const startTimer = (event: Delayed): void => {
    event.scheduledAtMs = clock.nowMs();
    deadlines.set(event.id, event.scheduledAtMs + event.delayMs, () => {
      try {
        rooms.send(event.draft);
        event.final = 'sent';
      } catch {
        event.final = 'cancelled';
      }
    });
  };
  return {
    all,
    schedule(draft, delayMs) {
      if (!Number.isSafeInteger(delayMs) || delayMs < 1) throw new MatrixError(400, 'M_INVALID_PARAM', 'The delay is no positive number');
      if (delayMs > maxDelayMs) throw new MatrixError(400, 'M_UNKNOWN', 'The requested delay exceeds the allowed maximum');
      const event: Delayed = { id: `syd_${freshId()}`, draft, delayMs, scheduledAtMs: clock.nowMs(), final: null };
      all.set(event.id, event);
      startTimer(event);
      return { status: 200, body: { delay_id: event.id } };
    },
    act(event, action) {
      if (action === 'restart') startTimer(event);
      if (action === 'cancel') end(event, 'cancelled');
      if (action === 'send') {
        // Refused: it stays scheduled, and may be tried again until its time.
        rooms.send(event.draft);
        end(event, 'sent');
      }
    },
  };
}

/** Scheduling as Synapse does it today (a query parameter of send and state), and as the newest text has it. */
function serveScheduling(server: MatrixServer, rooms: Rooms, events: DelayedEventsStore): void {
  serveRooms(server, rooms, {
    instead: (request, draft) => {
      const delay = request.query.get(DELAY);
      return delay === null ? null : events.schedule(draft, Number(delay));
    },
  });
  for (const base of ['/_matrix/client/v3', UNSTABLE]) {
    server.route('PUT', `${base}/rooms/:room/delayed_event/:type/:txn`, (request, { room = '', type = '' }) => {
      const sender = server.userOf(request);
      const { delay_ms, state_key, content } = objectBody(request);
      if (typeof content !== 'object' || content === null) throw new MatrixError(400, 'M_BAD_JSON', 'content is needed');
      const stateKey = typeof state_key === 'string' ? state_key : undefined;
      return events.schedule({ room, type, sender, stateKey, content: { ...content } }, Number(delay_ms));
    });
  }
}

interface Management {
  readonly dialect: () => DelayedDialect;
  readonly asToken: string | null;
  readonly limit: (ip: string) => void;
}

function serveManagement(server: MatrixServer, events: DelayedEventsStore, how: Management): void {
  const only = (...dialects: DelayedDialect[]): void => {
    if (!dialects.includes(how.dialect())) throw new MatrixError(404, 'M_UNRECOGNIZED', 'Unrecognized request');
  };
  const isService = ({ token }: Incoming): boolean => token !== null && token === how.asToken;
  /** The owner in whose name a request comes; null without authentication. */
  const actor = (request: Incoming): string | null => {
    if (isService(request)) return request.query.get('user_id') ?? '@service:homeserver.test';
    return request.token === null ? null : server.userOf(request);
  };
  const known = (id: string, owner: string | null): Delayed => {
    const event = events.all.get(id);
    const forgotten =
      event === undefined || (owner !== null && event.draft.sender !== owner) || (how.dialect() !== 'D' && event.final !== null);
    if (forgotten) throw new MatrixError(404, 'M_NOT_FOUND', 'Unable to find delayed event');
    return event;
  };
  const act = (request: Incoming, id: string, action: unknown): Outgoing => {
    const owner = how.dialect() === 'D' ? (actor(request) ?? server.userOf(request)) : actor(request);
    if (!isService(request)) how.limit(request.ip);
    if (action !== 'send' && action !== 'restart' && action !== 'cancel') throw new MatrixError(400, 'M_INVALID_PARAM', 'Unknown action');
    const event = known(id, owner);
    if (event.final === null) events.act(event, action);
    else if ((action === 'send') !== (event.final === 'sent') || action === 'restart')
      throw new MatrixError(409, 'M_UNKNOWN', 'Already final');
    return { status: 200, body: {} };
  };

  server.route('POST', `${UNSTABLE}/delayed_events/:id`, (request, { id = '' }) => {
    only('B');
    return act(request, id, objectBody(request).action);
  });
  server.route('POST', `${UNSTABLE}/delayed_events/:id/:action`, (request, { id = '', action }) => {
    only('C');
    return act(request, id, action);
  });
  server.route('POST', `${STABLE}/delayed_events/:id/:action`, (request, { id = '', action }) => {
    only('D');
    return act(request, id, action);
  });
  for (const base of [UNSTABLE, STABLE]) {
    const look = (request: Incoming): string => actor(request) ?? server.userOf(request);
    server.route('GET', `${base}/delayed_events`, (request) => {
      const owner = look(request);
      const mine = [...events.all.values()].filter(({ draft, final }) => draft.sender === owner && final === null);
      return { status: 200, body: { delayed_events: mine.map(describe) } };
    });
    server.route('GET', `${base}/delayed_events/:id`, (request, { id = '' }) => ({
      status: 200,
      body: describe(known(id, look(request))),
    }));
  }
}

function describe({ id, draft, delayMs, scheduledAtMs }: Delayed): Record<string, unknown> {
  const { room, type, stateKey, content } = draft;
  const times = { delay_ms: delayMs, scheduled_at: scheduledAtMs, delay: delayMs, running_since: scheduledAtMs };
  return { delay_id: id, room_id: room, type, ...(stateKey !== undefined && { state_key: stateKey }), ...times, content };
}

/** A bucket for each address: `burst` calls at once, refilled at `perSecond`. */
function createRateLimit(clock: Clock, limit: DelayedOptions['rateLimit'] | null): (ip: string) => void {
  const buckets = new Map<string, { tokens: number; atMs: number }>();
  return (ip) => {
    if (limit === null || limit === undefined) return;
    const nowMs = clock.nowMs();
    const before = buckets.get(ip) ?? { tokens: limit.burst, atMs: nowMs };
    const tokens = Math.min(limit.burst, before.tokens + ((nowMs - before.atMs) / 1000) * limit.perSecond);
    buckets.set(ip, { tokens: tokens >= 1 ? tokens - 1 : tokens, atMs: nowMs });
    if (tokens >= 1) return;
    const waitMs = Math.ceil(((1 - tokens) / limit.perSecond) * 1000);
    const headers = { 'retry-after': String(Math.ceil(waitMs / 1000)) };
    throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too Many Requests', { retry_after_ms: waitMs }, headers);
  };
}
