// A model LiveKit behind real HTTP: rooms, participants, the API that lists them and webhooks in the order that was measured on the real
// one. It can crash, forget, lose webhooks, and be slow. The stories, the demo and the bench use it; test/sfu/contract.ts holds it to the
// real thing.
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AccessToken, TokenVerifier, type VideoGrant } from 'livekit-server-sdk';
import { type Cancel, type Clock, systemClock, systemRandom } from '../../src/clock.ts';

export interface FakeSfuOptions {
  readonly port?: number;
  readonly key?: string;
  readonly secret?: string;
  /** Where the SFU lives behind a proxy, such as `/livekit/sfu`. */
  readonly path?: string;
  readonly webhookUrls?: readonly string[];
  readonly clock?: Clock;
  /** When a webhook is tried, counted from the first try. */
  readonly triesMs?: readonly number[];
  /** From the last participant's departure to room_finished. */
  readonly roomClosesAfterMs?: number;
}

export type State = 'JOINING' | 'JOINED' | 'ACTIVE' | 'DISCONNECTED';
export interface FakeParticipant {
  readonly identity: string;
  readonly sid: string;
  readonly joinedAtMs: number;
  state: State;
  tracks: number;
}
interface FakeRoom {
  readonly name: string;
  readonly sid: string;
  readonly createdAtMs: number;
  readonly participants: Map<string, FakeParticipant>;
  closing: Cancel;
}

/** One webhook, and what became of it. */
export interface SentWebhook {
  readonly event: string;
  readonly room: string;
  readonly roomSid: string;
  readonly identity: string;
  readonly sid: string;
  readonly reason: string;
  readonly body: string;
  readonly authorization: string;
  /** When it was sent first. */
  readonly atMs: number;
  /** The answers so far; 0 stands for none. */
  readonly statuses: number[];
}
/** How one webhook is delivered: how many copies, how late, and whether those after it wait for it. */
export interface Delivery {
  readonly copies?: number;
  readonly delayMs?: number;
  /** Out of the queue: what comes later overtakes it. */
  readonly aside?: boolean;
}
/** What goes wrong with one API call. */
export interface ApiFault {
  readonly delayMs?: number;
  readonly status?: number;
  readonly body?: string;
  readonly hang?: boolean;
  readonly reset?: boolean;
}

export interface FakeSfu {
  readonly apiUrl: string;
  /** As LIVEKIT_URL. */
  readonly url: string;
  readonly key: string;
  readonly secret: string;
  /** May change at any time. */
  webhookUrls: readonly string[];
  readonly webhooks: readonly SentWebhook[];
  /** API calls by method. */
  readonly calls: Readonly<Record<string, number>>;
  deliver: ((webhook: SentWebhook) => Delivery | undefined) | null;
  apiFault: ((method: string, body: Readonly<Record<string, unknown>>) => ApiFault | undefined) | null;

  /** Signs in and is ACTIVE at once. Another session of the identity is thrown out first. Returns the SID. */
  join(room: string, identity: string): string;
  /** Signalling only: listed, no webhook. Throws another session of the identity out. */
  knock(room: string, identity: string): string;
  /** Who knocked gives up. */
  abort(room: string, identity: string): void;
  publish(room: string, identity: string): void;
  leave(room: string, identity: string, reason?: string): void;
  /** A process or network dies: nothing is noticed for `afterMs` (really about 20 s). */
  crash(room: string, identity: string, afterMs?: number): void;
  /** The same identity from elsewhere: the old session is thrown out, for a moment nobody is there, then the new one. */
  rejoin(room: string, identity: string): Promise<string>;
  /** What an SDK does when a resume failed: a goodbye that is none. */
  fullReconnect(room: string, identity: string): Promise<string>;
  removeParticipant(room: string, identity: string): boolean;
  deleteRoom(room: string): boolean;
  participants(room: string): readonly FakeParticipant[];
  /** Dies without a word: no webhook, all forgotten. */
  killSfu(): Promise<void>;
  /** On the same port; rooms come anew. */
  start(): Promise<void>;
  /** When every webhook has been delivered or given up. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const TRIES_MS = [0, 1_000, 3_000, 7_000, 15_000];
const TOO_OLD_MS = 30_000;
const CRASH_NOTICED_MS = 20_000;
const ROOM_CLOSES_MS = 20_000;
/** Between two sessions of one identity the SFU lists nobody for so long; then the new one is JOINED, and later ACTIVE. */
const NOBODY_MS = 45;
const UNTIL_ACTIVE_MS = 45;
const ROOM_DELETED_MS = 11;

export async function startFakeSfu(options: FakeSfuOptions = {}): Promise<FakeSfu> {
  const clock = options.clock ?? systemClock();
  const { key = 'fake-key', secret = 'fake-secret-of-at-least-32-characters', path = '' } = options;
  const rooms = new Map<string, FakeRoom>();
  const timers = new Set<Cancel>();
  const later = (delayMs: number, fire: () => void): Cancel => {
    const cancel = clock.after(delayMs, () => {
      timers.delete(cancel);
      fire();
    });
    timers.add(cancel);
    return cancel;
  };
  const post = createPost({ clock, later, key, secret, triesMs: options.triesMs ?? TRIES_MS });
  post.urls = options.webhookUrls ?? [];
  let lastJoinMs = 0;

  function open(name: string): FakeRoom {
    const known = rooms.get(name);
    if (known !== undefined) {
      known.closing();
      return known;
    }
    const room = { name, sid: freshSid('RM_'), createdAtMs: clock.nowMs(), participants: new Map(), closing: () => {} };
    rooms.set(name, room);
    post.send('room_started', room, null);
    return room;
  }

  function enter(name: string, identity: string, state: State): FakeParticipant {
    const room = open(name);
    if (room.participants.has(identity)) gone(name, identity, 'DUPLICATE_IDENTITY');
    lastJoinMs = Math.max(clock.nowMs(), lastJoinMs + 1);
    const participant: FakeParticipant = { identity, sid: freshSid('PA_'), joinedAtMs: lastJoinMs, state: 'JOINED', tracks: 0 };
    room.participants.set(identity, participant);
    room.closing();
    if (state === 'ACTIVE') activate(room, participant);
    return participant;
  }

  function activate(room: FakeRoom, participant: FakeParticipant): void {
    participant.state = 'ACTIVE';
    post.send('participant_joined', room, participant);
  }

  function gone(name: string, identity: string, reason: string, sid?: string): boolean {
    const room = rooms.get(name);
    const participant = room?.participants.get(identity);
    if (room === undefined || participant === undefined || (sid !== undefined && participant.sid !== sid)) return false;
    room.participants.delete(identity);
    for (; participant.tracks > 0; participant.tracks -= 1) post.send('track_unpublished', room, participant);
    const event = participant.state === 'ACTIVE' || reason === 'DUPLICATE_IDENTITY' ? 'participant_left' : 'participant_connection_aborted';
    post.send(event, room, { ...participant, state: 'DISCONNECTED' }, reason);
    if (room.participants.size === 0) room.closing = later(options.roomClosesAfterMs ?? ROOM_CLOSES_MS, () => finish(room));
    return true;
  }

  function finish(room: FakeRoom): void {
    if (rooms.get(room.name) !== room) return;
    rooms.delete(room.name);
    post.send('room_finished', room, null);
  }

  function back(name: string, identity: string, reason: string): Promise<string> {
    gone(name, identity, reason);
    return new Promise((resolve) => {
      later(NOBODY_MS, () => {
        const participant = enter(name, identity, 'JOINED');
        later(UNTIL_ACTIVE_MS, () => {
          const room = rooms.get(name);
          if (room?.participants.get(identity) === participant) activate(room, participant);
          resolve(participant.sid);
        });
      });
    });
  }

  function deleteRoom(name: string): boolean {
    const room = rooms.get(name);
    if (room === undefined) return false;
    for (const identity of [...room.participants.keys()]) gone(name, identity, 'ROOM_DELETED');
    room.closing();
    later(ROOM_DELETED_MS, () => finish(room));
    return true;
  }

  const removeParticipant = (name: string, identity: string): boolean => gone(name, identity, 'PARTICIPANT_REMOVED');
  const api = createApi({ rooms, open, deleteRoom, removeParticipant, key, secret, clock });
  const listener = createListener(options.port ?? 0, path, api.answer);
  await listener.start();

  const fake: FakeSfu = {
    get apiUrl() {
      return `http://127.0.0.1:${listener.port()}${path}`;
    },
    get url() {
      return `ws://127.0.0.1:${listener.port()}${path}`;
    },
    key,
    secret,
    get webhookUrls() {
      return post.urls;
    },
    set webhookUrls(urls) {
      post.urls = urls;
    },
    webhooks: post.sent,
    calls: api.calls,
    get deliver() {
      return post.plan;
    },
    set deliver(plan) {
      post.plan = plan;
    },
    get apiFault() {
      return api.fault();
    },
    set apiFault(fault) {
      api.setFault(fault);
    },
    join: (room, identity) => enter(room, identity, 'ACTIVE').sid,
    knock: (room, identity) => enter(room, identity, 'JOINED').sid,
    abort: (room, identity) => void gone(room, identity, 'SIGNAL_CLOSE'),
    publish(name, identity) {
      const room = rooms.get(name);
      const participant = room?.participants.get(identity);
      if (room === undefined || participant === undefined) throw new Error(`nobody of that name is in ${name}`);
      participant.tracks += 1;
      post.send('track_published', room, participant);
    },
    leave: (room, identity, reason = 'CLIENT_INITIATED') => void gone(room, identity, reason),
    crash(name, identity, afterMs = CRASH_NOTICED_MS) {
      const sid = rooms.get(name)?.participants.get(identity)?.sid ?? '';
      later(afterMs, () => void gone(name, identity, 'CONNECTION_TIMEOUT', sid));
    },
    rejoin: (room, identity) => back(room, identity, 'DUPLICATE_IDENTITY'),
    fullReconnect: (room, identity) => back(room, identity, 'CLIENT_INITIATED'),
    removeParticipant,
    deleteRoom,
    participants: (room) => [...(rooms.get(room)?.participants.values() ?? [])],
    async killSfu() {
      for (const cancel of timers) cancel();
      timers.clear();
      rooms.clear();
      post.forget();
      await listener.stop();
    },
    start: () => listener.start(),
    settled: () => post.settled(),
    close: () => fake.killSfu(),
  };
  return fake;
}

interface Post {
  urls: readonly string[];
  plan: FakeSfu['deliver'];
  readonly sent: SentWebhook[];
  send(event: string, room: FakeRoom, participant: FakeParticipant | null, reason?: string): void;
  /** What has not gone out yet never will. */
  forget(): void;
  settled(): Promise<void>;
}

interface PostDeps {
  readonly clock: Clock;
  readonly later: (delayMs: number, fire: () => void) => Cancel;
  readonly key: string;
  readonly secret: string;
  readonly triesMs: readonly number[];
}

/** One queue for each room and address: a webhook is tried until it is taken or given up, and then the next. */
function createPost({ clock, later, key, secret, triesMs }: PostDeps): Post {
  const queues = new Map<string, Promise<void>>();
  const under = new Set<Promise<void>>();
  let life = 0;

  const pause = (delayMs: number): Promise<void> =>
    delayMs <= 0 ? Promise.resolve() : new Promise<void>((resolve) => void later(delayMs, resolve));

  async function tryOnce(url: string, webhook: SentWebhook): Promise<number> {
    try {
      const headers = { authorization: webhook.authorization, 'content-type': 'application/webhook+json' };
      const response = await fetch(url, { method: 'POST', headers, body: webhook.body });
      await response.arrayBuffer();
      return response.status;
    } catch {
      return 0;
    }
  }

  async function deliver(url: string, webhook: SentWebhook, born: number): Promise<void> {
    const startedMs = clock.nowMs();
    if (startedMs - webhook.atMs > TOO_OLD_MS) return;
    for (const tryMs of triesMs) {
      await pause(startedMs + tryMs - clock.nowMs());
      if (born !== life) return;
      const status = await tryOnce(url, webhook);
      webhook.statuses.push(status);
      if (status !== 0 && status !== 429 && status < 500) return;
    }
  }

  async function carry(url: string, sealed: Promise<SentWebhook>, before: Promise<void>, plan: Delivery, born: number): Promise<void> {
    const webhook = await sealed;
    if (plan.aside !== true) await before;
    await pause(plan.delayMs ?? 0);
    for (let copy = plan.copies ?? 1; copy > 0; copy -= 1) await deliver(url, webhook, born);
  }

  const post: Post = {
    urls: [],
    plan: null,
    sent: [],
    send(event, room, participant, reason = 'UNKNOWN_REASON') {
      const atMs = clock.nowMs();
      const { identity = '', sid = '' } = participant ?? {};
      const body = webhookBody(event, room, participant, reason, atMs);
      const webhook = { event, room: room.name, roomSid: room.sid, identity, sid, reason, body, authorization: '', atMs, statuses: [] };
      post.sent.push(webhook);
      const sealed = sign(body, key, secret).then((authorization) => Object.assign(webhook, { authorization }));
      const plan = post.plan?.(webhook) ?? {};
      for (const url of post.urls) {
        const queue = `${room.name} ${url}`;
        const before = queues.get(queue) ?? Promise.resolve();
        const work = carry(url, sealed, before, plan, life);
        under.add(work);
        void work.finally(() => under.delete(work));
        if (plan.aside !== true) queues.set(queue, work);
      }
    },
    forget() {
      life += 1;
      queues.clear();
      under.clear();
    },
    async settled() {
      while (under.size > 0) await Promise.all(under);
    },
  };
  return post;
}

/** A webhook's Authorization: the token of an API key that names the body's hash. */
export async function sign(body: string, key: string, secret: string, ttlSeconds = 300): Promise<string> {
  const token = new AccessToken(key, secret, { ttl: ttlSeconds });
  token.sha256 = createHash('sha256').update(body).digest('base64');
  return token.toJwt();
}

function webhookBody(event: string, room: FakeRoom, participant: FakeParticipant | null, reason: string, atMs: number): string {
  const about = participant === null ? {} : { participant: { ...describe(participant), disconnectReason: reason } };
  const track = event.startsWith('track_') ? { track: { sid: freshSid('TR_'), type: 'AUDIO', source: 'MICROPHONE' } } : {};
  const createdAt = String(Math.floor(atMs / 1000));
  return JSON.stringify({ event, room: describeRoom(room), ...about, ...track, id: freshSid('EV_'), createdAt });
}

/** 64-bit numbers are strings in protobuf's JSON. */
function describe({ identity, sid, state, joinedAtMs }: FakeParticipant) {
  const joinedAt = String(Math.floor(joinedAtMs / 1000));
  return { sid, identity, state, joinedAt, joinedAtMs: String(joinedAtMs), version: 3, isPublisher: false, kind: 'STANDARD' };
}

function describeRoom({ name, sid, createdAtMs, participants }: FakeRoom) {
  const creationTime = String(Math.floor(createdAtMs / 1000));
  return { sid, name, emptyTimeout: 300, departureTimeout: 20, creationTime, numParticipants: participants.size };
}

interface ApiDeps {
  readonly rooms: ReadonlyMap<string, FakeRoom>;
  readonly open: (name: string) => FakeRoom;
  readonly deleteRoom: (name: string) => boolean;
  readonly removeParticipant: (room: string, identity: string) => boolean;
  readonly key: string;
  readonly secret: string;
  readonly clock: Clock;
}
interface Answer {
  readonly status: number;
  readonly body: unknown;
}
type Request = Readonly<Record<string, unknown>>;

/** The API's methods: the grant that each needs, and what it answers. */
function createApi(deps: ApiDeps) {
  const calls: Record<string, number> = {};
  const verifier = new TokenVerifier(deps.key, deps.secret);
  let fault: FakeSfu['apiFault'] = null;
  const named = (body: Request): string => String(body.room ?? body.name ?? '');
  const absent = refusal(404, 'not_found', 'requested room does not exist');
  const isAdmin = (grant: VideoGrant, body: Request): boolean => grant.roomAdmin === true && grant.room === named(body);

  const methods: Readonly<
    Record<string, { may: (grant: VideoGrant, body: Request) => boolean; answer: (body: Request) => Answer | unknown }>
  > = {
    // A room that does not exist has nobody in it.
    ListParticipants: {
      may: isAdmin,
      answer: (body) => ({ participants: [...(deps.rooms.get(named(body))?.participants.values() ?? [])].map(describe) }),
    },
    ListRooms: {
      may: (grant) => grant.roomList === true,
      answer: ({ names }) => {
        const wanted = Array.isArray(names) && names.length > 0 ? names.map(String) : [...deps.rooms.keys()];
        return { rooms: wanted.flatMap((name) => deps.rooms.get(name) ?? []).map(describeRoom) };
      },
    },
    GetParticipant: {
      may: isAdmin,
      answer: (body) => {
        const participant = deps.rooms.get(named(body))?.participants.get(String(body.identity));
        return participant === undefined ? refusal(404, 'not_found', 'participant does not exist') : describe(participant);
      },
    },
    SendData: {
      may: isAdmin,
      answer: (body) => (deps.rooms.has(named(body)) ? {} : refusal(503, 'unavailable', 'no response from servers')),
    },
    UpdateSubscriptions: {
      may: isAdmin,
      answer: (body) =>
        deps.rooms.get(named(body))?.participants.has(String(body.identity)) === true
          ? {}
          : refusal(503, 'unavailable', 'no response from servers'),
    },
    CreateRoom: { may: (grant) => grant.roomCreate === true, answer: (body) => describeRoom(deps.open(named(body))) },
    DeleteRoom: { may: (grant) => grant.roomCreate === true, answer: (body) => (deps.deleteRoom(named(body)) ? {} : absent) },
    RemoveParticipant: {
      may: isAdmin,
      answer: (body) => (deps.removeParticipant(named(body), String(body.identity)) ? {} : absent),
    },
  };

  async function answer(method: string, authorization: string, body: Request): Promise<Answer | 'hang' | 'reset'> {
    calls[method] = (calls[method] ?? 0) + 1;
    const wrong = fault?.(method, body);
    if (wrong?.delayMs !== undefined) await new Promise<void>((resolve) => void deps.clock.after(wrong.delayMs ?? 0, resolve));
    if (wrong?.hang === true) return 'hang';
    if (wrong?.reset === true) return 'reset';
    if (wrong?.status !== undefined) return { status: wrong.status, body: wrong.body ?? 'unavailable' };
    const known = methods[method];
    if (known === undefined) return refusal(404, 'bad_route', `no handler for ${method}`);
    const claims = await verifier.verify(authorization.replace(/^Bearer /, '')).catch(() => null);
    if (claims === null) return { status: 401, body: 'invalid authorization token' };
    if (claims.video === undefined || !known.may(claims.video, body)) return refusal(403, 'permission_denied', 'permissions denied');
    const result = known.answer(body);
    return isAnswer(result) ? result : { status: 200, body: result };
  }
  const setFault = (next: FakeSfu['apiFault']): void => {
    fault = next;
  };
  return { calls, answer, fault: () => fault, setFault };
}

const refusal = (status: number, code: string, msg: string): Answer => ({ status, body: { code, msg } });

function isAnswer(value: unknown): value is Answer {
  return typeof value === 'object' && value !== null && 'status' in value && 'body' in value;
}

function createListener(wantedPort: number, path: string, answer: ReturnType<typeof createApi>['answer']) {
  let port = wantedPort;
  let server: Server | null = null;
  const prefix = `${path}/twirp/livekit.RoomService/`;

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = request.url ?? '/';
    if (request.method !== 'POST' || !url.startsWith(prefix)) return void response.writeHead(404).end('404 page not found');
    const body = JSON.parse(Buffer.concat(chunks).toString() || '{}') as Request;
    const found = await answer(url.slice(prefix.length), request.headers.authorization ?? '', body);
    if (found === 'hang') return;
    if (found === 'reset') return void request.socket.destroy();
    const isText = typeof found.body === 'string';
    response.writeHead(found.status, { 'content-type': isText ? 'text/plain' : 'application/json' });
    response.end(isText ? found.body : JSON.stringify(found.body));
  }

  return {
    port: () => port,
    async start(): Promise<void> {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      server = createServer((request, response) => void serve(request, response).catch(() => response.destroy()));
      server.once('error', reject).listen(port, '127.0.0.1', resolve);
      await promise;
      port = (server.address() as AddressInfo).port;
    },
    async stop(): Promise<void> {
      const closing = server;
      if (closing === null) return;
      server = null;
      const closed = new Promise<void>((resolve) => void closing.close(() => resolve()));
      closing.closeAllConnections();
      await closed;
    },
  };
}

const ALPHABET = '23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
function freshSid(prefix: string): string {
  return prefix + Array.from(systemRandom().bytes(12), (byte) => ALPHABET[byte % ALPHABET.length]).join('');
}
