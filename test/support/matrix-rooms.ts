// What the model homeservers have in common: rooms with state, timeline and redactions, and deadlines that survive an outage.
// Anyone with a token may send anywhere, unless `maySend` says no; there is no membership to keep.
import type { Cancel, Clock } from '../../src/clock.ts';
import { freshId, type Incoming, MatrixError, type MatrixServer, type Outgoing, objectBody } from './matrix-server.ts';

export interface Draft {
  readonly room: string;
  readonly sender: string;
  readonly type: string;
  /** Undefined: not a state event. */
  readonly stateKey: string | undefined;
  readonly content: Readonly<Record<string, unknown>>;
}
export interface RoomEvent extends Draft {
  readonly eventId: string;
  readonly atMs: number;
  content: Readonly<Record<string, unknown>>;
  redactedBy: string | null;
}

export interface Rooms {
  /** Asked when an event is about to enter a room, as power levels are. */
  maySend: (draft: Draft) => boolean;
  /** Into the room, now; 403 if the sender may not. */
  send(draft: Draft): RoomEvent;
  timeline(room: string): readonly RoomEvent[];
  state(room: string, type: string, stateKey: string): RoomEvent | null;
}

export function createRooms(clock: Clock): Rooms {
  const timelines = new Map<string, RoomEvent[]>();
  const rooms: Rooms = {
    maySend: () => true,
    send(draft) {
      if (!rooms.maySend(draft)) throw new MatrixError(403, 'M_FORBIDDEN', 'You do not have permission to send this event');
      const event: RoomEvent = { ...draft, eventId: `$${freshId()}`, atMs: clock.nowMs(), redactedBy: null };
      const events = timelines.get(draft.room) ?? [];
      timelines.set(draft.room, [...events, event]);
      const target = events.find(({ eventId }) => event.type === 'm.room.redaction' && eventId === event.content.redacts);
      if (target) Object.assign(target, { content: {}, redactedBy: event.eventId });
      return event;
    },
    timeline: (room) => timelines.get(room) ?? [],
    state: (room, type, stateKey) => rooms.timeline(room).findLast((event) => event.type === type && event.stateKey === stateKey) ?? null,
  };
  return rooms;
}

export interface RoomRoutes {
  /** Called for an event on its way in; what it returns is answered instead of sending the event. */
  readonly instead?: (request: Incoming, draft: Draft) => Outgoing | null;
  /** Called for each state event that a client sent. */
  readonly onState?: (event: RoomEvent) => void;
}

/** The routes every homeserver has: send, state, redact, and the two that show what is there. */
export function serveRooms(server: MatrixServer, rooms: Rooms, hooks: RoomRoutes = {}): void {
  const transactions = createTransactions();
  const take = (request: Incoming, draft: Omit<Draft, 'sender' | 'content'>, content = objectBody(request)): Outgoing => {
    const full: Draft = { ...draft, sender: server.userOf(request), content };
    const instead = hooks.instead?.(request, full);
    if (instead) return instead;
    const event = rooms.send(full);
    if (event.stateKey !== undefined) hooks.onState?.(event);
    return { status: 200, body: { event_id: event.eventId } };
  };
  const base = '/_matrix/client/v3';
  server.route('POST', `${base}/createRoom`, (request) => {
    server.userOf(request);
    return { status: 200, body: { room_id: `!${freshId()}:homeserver.test` } };
  });
  server.route('PUT', `${base}/rooms/:room/send/:type/:txn`, (request, { room = '', type = '' }) =>
    transactions(request, () => take(request, { room, type, stateKey: undefined })),
  );
  server.route('PUT', `${base}/rooms/:room/redact/:event/:txn`, (request, { room = '', event }) =>
    transactions(request, () =>
      take(request, { room, type: 'm.room.redaction', stateKey: undefined }, { ...objectBody(request), redacts: event }),
    ),
  );
  server.route('PUT', `${base}/rooms/:room/state/:type`, (request, { room = '', type = '' }) =>
    take(request, { room, type, stateKey: '' }),
  );
  server.route('PUT', `${base}/rooms/:room/state/:type/:key`, (request, { room = '', type = '', key = '' }) =>
    take(request, { room, type, stateKey: key }),
  );
  serveReading(server, rooms);
}

function serveReading(server: MatrixServer, rooms: Rooms): void {
  const base = '/_matrix/client/v3/rooms/:room';
  const content = (room: string, type: string, key: string): Outgoing => {
    const event = rooms.state(room, type, key);
    if (event === null) throw new MatrixError(404, 'M_NOT_FOUND', 'Event not found.');
    return { status: 200, body: event.content };
  };
  server.route('GET', `${base}/state`, (request, { room = '' }) => {
    server.userOf(request);
    const events = rooms.timeline(room);
    const current = events.filter((event) => event.stateKey !== undefined && rooms.state(room, event.type, event.stateKey) === event);
    return { status: 200, body: current.map(clientEvent) };
  });
  server.route('GET', `${base}/state/:type`, (request, { room = '', type = '' }) => {
    server.userOf(request);
    return content(room, type, '');
  });
  server.route('GET', `${base}/state/:type/:key`, (request, { room = '', type = '', key = '' }) => {
    server.userOf(request);
    return content(room, type, key);
  });
  server.route('GET', `${base}/messages`, (request, { room = '' }) => {
    server.userOf(request);
    const events = rooms.timeline(room).map(clientEvent);
    return { status: 200, body: { start: 's', chunk: request.query.get('dir') === 'f' ? events : events.toReversed() } };
  });
}

export function clientEvent(event: RoomEvent): Record<string, unknown> {
  const { eventId, room, type, sender, content, atMs, stateKey, redactedBy } = event;
  return {
    event_id: eventId,
    room_id: room,
    type,
    sender,
    content,
    origin_server_ts: atMs,
    ...(stateKey !== undefined && { state_key: stateKey }),
    ...(redactedBy !== null && { unsigned: { redacted_because: redactedBy } }),
  };
}

/** The same transaction of the same token again is answered with the first answer. */
export function createTransactions(): (request: Incoming, handle: () => Outgoing) => Outgoing {
  const answers = new Map<string, Outgoing>();
  return (request, handle) => {
    const key = `${request.token} ${request.path}`;
    const answer = answers.get(key) ?? handle();
    answers.set(key, answer);
    return answer;
  };
}

/** Deadlines that pause with an outage: what fell due meanwhile fires on resumption, in order of time. */
export interface Deadlines {
  set(id: string, atMs: number, fire: () => void): void;
  clear(id: string): void;
  pause(): void;
  resume(): void;
}

export function createDeadlines(clock: Clock): Deadlines {
  const pending = new Map<string, { readonly atMs: number; readonly fire: () => void; cancel: Cancel }>();
  let paused = false;
  const arm = (id: string): void => {
    const entry = pending.get(id);
    if (entry === undefined || paused) return;
    entry.cancel = clock.after(entry.atMs - clock.nowMs(), () => {
      if (clock.nowMs() < entry.atMs) return arm(id);
      pending.delete(id);
      entry.fire();
    });
  };
  const deadlines: Deadlines = {
    set(id, atMs, fire) {
      deadlines.clear(id);
      pending.set(id, { atMs, fire, cancel: () => {} });
      arm(id);
    },
    clear(id) {
      pending.get(id)?.cancel();
      pending.delete(id);
    },
    pause() {
      paused = true;
      for (const { cancel } of pending.values()) cancel();
    },
    resume() {
      paused = false;
      for (const [id] of [...pending].toSorted(([, a], [, b]) => a.atMs - b.atMs)) arm(id);
    },
  };
  return deadlines;
}
