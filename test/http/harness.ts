// The whole service behind createApp, with a clock that tests own, a store in memory, and an SFU and homeservers that do as they are told.

import { createHash, createHmac } from 'node:crypto';
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import type { Hono } from 'hono';
import { AccessToken } from 'livekit-server-sdk';
import { Registry } from 'prom-client';
import { systemClock } from '../../src/clock.ts';
import type { HomeserverUrl, RoomName, RoomSid, ServerName, UserId } from '../../src/delegation/ids.ts';
import type { Answer, Seen } from '../../src/delegation/state.ts';
import { createEngine, type Engine } from '../../src/engine/engine.ts';
import { MOST_AT_ONCE } from '../../src/engine/width.ts';
import type { Call, DelayedEvents } from '../../src/homeserver/delayed-events.ts';
import type { Discovery } from '../../src/homeserver/discovery.ts';
import type { OpenId, OpenIdToken } from '../../src/homeserver/openid.ts';
import { createServed, type ServedConfig } from '../../src/homeserver/served.ts';
import { createApp } from '../../src/http/app.ts';
import type { Grants } from '../../src/http/matrixrtc.ts';
import { createWebServer } from '../../src/http/server.ts';
import { createLogger } from '../../src/log.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createKeys } from '../../src/sfu/keys.ts';
import type { RoomCreation } from '../../src/sfu/room-creation.ts';
import type { Rooms, RoomsTold } from '../../src/sfu/rooms.ts';
import { createTokens } from '../../src/sfu/tokens.ts';
import type { AboutParticipant } from '../../src/sfu/webhook.ts';
import type { Attendance } from '../../src/store/attendance.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { type Store, StoreUnavailable } from '../../src/store/store.ts';
import { identity, policy, room, sid } from '../support/fixtures.ts';
import { createOurHomeserver, type OurHomeserver } from '../support/our-homeserver.ts';
import { createSeededRandom, createVirtualClock, START_MS, type VirtualClock } from '../support/virtual-clock.ts';

export const API_KEY = { key: 'key-of-the-sfu', secret: 'secret-of-the-sfu-at-least-32-characters' };
export const FOREIGN_KEY = { key: 'key-of-another', secret: 'secret-of-another-at-least-32-characters' };

export interface Sfu extends Rooms, Pick<RoomsTold, 'isSought' | 'doubted'> {
  reachable: boolean;
  /** Who is where; a room that is not in it does not exist. */
  readonly inRooms: Map<RoomName, Seen[]>;
}

export interface Homeservers extends DelayedEvents {
  answer: Answer;
  /** `restart delay-secret-1`, and so on. */
  readonly calls: string[];
}

/** Takes `secret-alice` for the OpenID token of @alice of the server that is named. */
export interface OpenIds extends OpenId {
  readonly looks: OpenIdToken[];
}

export interface NewRooms extends RoomCreation {
  fail: boolean;
  readonly made: RoomName[];
}

export interface Harness {
  readonly app: Hono;
  /** What node's own server is given. */
  readonly listener: RequestListener;
  readonly engine: Engine;
  readonly store: Store;
  readonly clock: VirtualClock;
  readonly sfu: Sfu;
  readonly homeservers: Homeservers;
  readonly openIds: OpenIds;
  readonly newRooms: NewRooms;
  /** Passes requests on to us; only with `behind`. */
  readonly ours: OurHomeserver;
  readonly attendance: Attendance;
  readonly registry: Registry;
  readonly log: string[];
  /** What webhooks have said of participants. */
  readonly told: { readonly where: RoomName; readonly about: AboutParticipant }[];
  /** While true no commit can be made. */
  storeAway: boolean;
  draining: boolean;
  /** A request, and its answer read to the end. */
  ask(method: string, path: string, init?: Init): Promise<Reply>;
  /** POST /v1/delegations by the n-th participant. */
  post(body: unknown, init?: Init & { readonly n?: number }): Promise<Reply>;
  /** The same answer; one that is not there in a moment has the time that it takes. */
  patient(asked: Promise<Reply>): Promise<Reply>;
  /** A signed webhook. */
  hook(event: object, init?: Init): Promise<Reply>;
  /** One sample of /metrics, 0 if there is none. */
  metric(sample: string): Promise<number>;
  stored(): Promise<number>;
  close(): Promise<void>;
}

export interface Init {
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array | ReadableStream;
}

/** A part of an answer, of whichever shape: what it has to be is what a test says. */
export interface Field {
  readonly [name: string]: Field;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Field;
}

const SERVED: ServedConfig = {
  fullAccess: { all: false, names: ['example.org', 'matrix.example.org', 'broken.example.org'] as ServerName[] },
  overrides: new Map(),
  strangers: 'public',
};

export const SFU_URL = 'wss://sfu.example.org/livekit';
const GRANTS: Grants = {
  url: SFU_URL,
  hasFullAccess: (name) => SERVED.fullAccess.names.includes(name),
  restrictedCanPublish: true,
  canUpdateOwnMetadata: true,
};

export interface HarnessOptions {
  readonly served?: Partial<ServedConfig>;
  /** The store's file; in memory unless one is named. */
  readonly file?: string;
  readonly grants?: Partial<Grants>;
  /** As an application service of `ours`. */
  readonly behind?: boolean;
}

export const HS_TOKEN = 'hs-secret-token';

export function createHarness(over: HarnessOptions = {}): Harness {
  const clock = createVirtualClock();
  const lines: string[] = [];
  const log = createLogger('debug', (line) => void lines.push(line));
  const registry = new Registry();
  const metrics = createMetrics(registry, { process: false });
  const sqlite = openSqliteStore({ path: over.file ?? ':memory:', clock, seal: null });
  const [sfu, homeservers, openIds, newRooms] = [createSfu(), createHomeservers(), createOpenIds(), createNewRooms()];
  const keys = createKeys([API_KEY]);
  const ours = createOurHomeserver();
  const store = refusing(sqlite, () => harness.storeAway);
  const matrixRtc = { grants: { ...GRANTS, ...over.grants }, openId: openIds, tokens: createTokens(API_KEY), roomCreation: newRooms };
  const { canUpdateOwnMetadata } = matrixRtc.grants;
  const track: Attendance['track'] = async (one) => {
    if (harness.storeAway) throw new StoreUnavailable(new Error('told to be'));
    return sqlite.track(one);
  };
  const give: Attendance['give'] = async (...args) => {
    if (harness.storeAway) throw new StoreUnavailable(new Error('told to be'));
    return sqlite.give(...args);
  };
  const { tokens } = matrixRtc;
  const proxied = {
    service: ours,
    hsToken: HS_TOKEN,
    url: SFU_URL,
    canUpdateOwnMetadata,
    attendance: { track },
    identities: { give, givenTo: (...args: Parameters<Attendance['givenTo']>) => sqlite.givenTo(...args) },
    tokens,
    roomCreation: newRooms,
  };
  const engine = createEngine({
    ...{ store, clock, metrics, log, policy: policy(), random: createSeededRandom(1) },
    ...{ rooms: sfu, delayedEvents: homeservers, mostAtOnce: MOST_AT_ONCE },
  });
  const { hono: app, listener } = createApp({
    ...{ engine, keys, clock, metrics, registry, log, discovery, isOpen: () => !harness.draining },
    served: createServed({ ...SERVED, ...over.served }),
    matrixRtc,
    told: (where, about) => void harness.told.push({ where, about }),
    ...(over.behind ? { proxied } : {}),
  });
  const ask = async (method: string, path: string, init: Init = {}): Promise<Reply> => {
    const { headers = {} } = init;
    const response = await app.request(path, { method, headers }, { incoming: incomingOf(init) });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, json: parsed(text) as Field };
  };
  const harness: Harness = {
    ...{
      app,
      listener,
      engine,
      store,
      clock,
      sfu,
      homeservers,
      openIds,
      newRooms,
      ours,
      attendance: sqlite,
      registry,
      log: lines,
      told: [],
      storeAway: false,
      draining: false,
      ask,
    },
    post: async (body, { n = 1, headers = {}, ...init } = {}) => {
      const authorization = `Bearer ${await participantToken(n)}`;
      const text = typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body);
      return ask('POST', '/v1/delegations', { body: text, ...init, headers: { authorization, ...headers } });
    },
    hook: async (event, { headers = {}, ...init } = {}) => {
      const body = JSON.stringify(event);
      return ask('POST', '/sfu_webhook', { body, ...init, headers: { authorization: await webhookToken(body), ...headers } });
    },
    patient: async (asked) => {
      let isOver = false;
      const over = asked.finally(() => {
        isOver = true;
      });
      await Promise.race([over, setTimeout(20)]);
      while (!isOver) await clock.advance(100);
      return over;
    },
    metric: async (sample) => {
      const line = (await registry.metrics()).split('\n').find((one) => one.startsWith(`${sample} `));
      return line === undefined ? 0 : Number(line.slice(sample.length + 1));
    },
    stored: async () => Object.values(await sqlite.count()).reduce((sum, count) => sum + count, 0),
    close: async () => {
      await engine.drain(0);
      await sqlite.close();
    },
  };
  return harness;
}

/** As node's own server hands it over. */
function incomingOf({ headers = {}, body = '' }: Init): IncomingMessage {
  const pieces = body instanceof ReadableStream ? body : body.length === 0 ? [] : [Buffer.from(body)];
  const lowerCase = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  return Object.assign(Readable.from(pieces), { headers: lowerCase }) as unknown as IncomingMessage;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function createSfu(): Sfu {
  const inRooms = new Map<RoomName, Seen[]>();
  return {
    reachable: true,
    inRooms,
    async look(name) {
      if (!this.reachable) return { kind: 'unreachable', why: 'told to be' };
      const present = inRooms.get(name);
      if (present === undefined) return { kind: 'list', present: [], roomSid: null };
      return { kind: 'list', present, roomSid: present.length > 0 ? undefined : (`RM_${name}` as RoomSid) };
    },
    async answers() {
      return this.reachable;
    },
    isSought: () => true,
    doubted: () => [],
  };
}

function createHomeservers(): Homeservers {
  const calls: string[] = [];
  return {
    answer: { kind: 'ok' },
    calls,
    async act(_homeserver, call: Call) {
      calls.push(call.kind === 'delay' ? `${call.action} ${call.delayId}` : call.token);
      return this.answer;
    },
    close: async () => {},
  };
}

function createOpenIds(): OpenIds {
  const looks: OpenIdToken[] = [];
  return {
    looks,
    async check(token) {
      looks.push(token);
      const localpart = /^secret-(.*)$/s.exec(token.accessToken)?.[1];
      if (localpart === undefined || !localpart.isWellFormed()) return { kind: 'refused', why: 'told to be' };
      return { kind: 'user', userId: `@${localpart}:${token.serverName}` as UserId };
    },
  };
}

function createNewRooms(): NewRooms {
  const made: RoomName[] = [];
  return {
    fail: false,
    made,
    async create(name) {
      if (!this.fail) made.push(name);
      return !this.fail;
    },
  };
}

const discovery: Discovery = {
  resolve: async (homeserver) => {
    if (homeserver.kind === 'url') return { kind: 'resolved', url: homeserver.url };
    if (homeserver.name.startsWith('broken')) return { kind: 'unresolvable', why: 'told to be' };
    return { kind: 'resolved', url: `https://matrix.${homeserver.name}` as HomeserverUrl };
  },
  warm: () => () => {},
};

function refusing(store: Store, isAway: () => boolean): Store {
  const check = (): void => {
    if (isAway()) throw new StoreUnavailable(new Error('told to be'));
  };
  return {
    update: async (where, once, step) => {
      check();
      return store.update(where, once, step);
    },
    ping: async () => {
      check();
      return store.ping();
    },
    durable: () => store.durable(),
    claimDue: (...args) => store.claimDue(...args),
    holds: (claim) => store.holds(claim),
    release: (claim) => store.release(claim),
    nextDueMs: (afterMs) => store.nextDueMs(afterMs),
    rooms: (from, to) => store.rooms(from, to),
    pause: (...args) => store.pause(...args),
    reserve: (...args) => store.reserve(...args),
    reservations: () => store.reservations(),
    count: () => store.count(),
    purge: (...args) => store.purge(...args),
    close: () => store.close(),
  };
}

/** The body of a hand-over; `over` replaces fields, undefined takes them out. */
export function handOverBody(n = 1, over: Record<string, unknown> = {}): Record<string, unknown> {
  return { homeserver: 'https://matrix.example.org', leave: { delay_id: `delay-secret-${n}` }, timeout_ms: 10_000, ...over };
}

export interface TokenOptions {
  readonly key?: typeof API_KEY;
  readonly ttlSeconds?: number;
  readonly grant?: object;
  readonly identity?: string;
}

const tokens = new Map<string, Promise<string>>();

/** The n-th participant's own token, in the n-th room. */
export function participantToken(n = 1, options: TokenOptions = {}): Promise<string> {
  const name = JSON.stringify([n, options]);
  const made = tokens.get(name) ?? makeToken(n, options);
  tokens.set(name, made);
  return made;
}

function makeToken(n: number, options: TokenOptions): Promise<string> {
  const { key = API_KEY, ttlSeconds = 3_600, grant = { roomJoin: true, room: room(n) } } = options;
  const token = new AccessToken(key.key, key.secret, { identity: options.identity ?? identity(n), ttl: ttlSeconds });
  token.addGrant(grant);
  return token.toJwt();
}

/** Signed as it should be, whatever it says. */
export function signed(claims: object, header: object = { alg: 'HS256', typ: 'JWT' }): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part(header)}.${part({ iss: API_KEY.key, exp: FAR_SECONDS, sub: identity(1), ...claims })}`;
  return `${text}.${createHmac('sha256', API_KEY.secret).update(text).digest('base64url')}`;
}

const FAR_SECONDS = 4_102_444_800;

export function webhookToken(body: string | Uint8Array, key = API_KEY, ttlSeconds = 300): Promise<string> {
  const token = new AccessToken(key.key, key.secret, { ttl: ttlSeconds });
  token.sha256 = createHash('sha256').update(body).digest('base64');
  return token.toJwt();
}

let events = 0;

/** A webhook about the n-th participant, as LiveKit writes it. */
export function participantEvent(
  event: string,
  n = 1,
  more: { readonly id?: string; readonly reason?: string; readonly joinedAtMs?: number } = {},
): object {
  events += 1;
  const participant = { sid: sid(n), identity: identity(n), state: 'ACTIVE', joinedAtMs: String(more.joinedAtMs ?? START_MS - 1_000) };
  return {
    event,
    id: more.id ?? `EV_${events}`,
    createdAt: String(Math.floor(START_MS / 1_000)),
    room: { sid: `RM_${n}`, name: room(n) },
    participant: more.reason === undefined ? participant : { ...participant, state: 'DISCONNECTED', disconnectReason: more.reason },
  };
}

export function seen(n = 1): Seen {
  return { identity: identity(n), sid: sid(n), joinedAtMs: START_MS - 1_000, active: true };
}

/** Whatever must not be shown to anyone: handles, tokens, keys. */
export const SECRETS = /-?secret-|eyJ[\w-]+\.|at-least-32/;

/** The harness behind node's own server, as it is in the service. */
export async function serve({ listener }: Pick<Harness, 'listener'>): Promise<{ readonly port: number; close(): Promise<void> }> {
  const server = createWebServer(listener, systemClock());
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      (server as Server).closeAllConnections();
      await new Promise((done) => void server.close(done));
    },
  };
}
