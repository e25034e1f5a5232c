// A thin Matrix client: what a call needs, and a watcher that sees every event of a room in the order a client would.
import { randomBytes } from 'node:crypto';
import { now, sleep } from './processes.ts';

export type Json = Record<string, unknown>;
export interface RoomEvent {
  readonly event_id: string;
  readonly type: string;
  readonly state_key?: string;
  readonly sender: string;
  readonly content: Json;
  readonly unsigned?: Json;
}
export interface Sighting {
  readonly atMs: number;
  readonly event: RoomEvent;
}

export class MatrixError extends Error {
  readonly status: number;
  readonly body: Json;
  constructor(status: number, body: Json) {
    super(`${status} ${JSON.stringify(body)}`);
    this.status = status;
    this.body = body;
  }
}

const DELAY = 'org.matrix.msc4140.delay';
const STICKY = 'org.matrix.msc4354.sticky_duration_ms';
const segment = encodeURIComponent;

export class MatrixClient {
  readonly url: string;
  readonly userId: string;
  readonly #token: string;

  private constructor(url: string, userId: string, token: string) {
    this.url = url;
    this.userId = userId;
    this.#token = token;
  }

  static async register(url: string, name: string): Promise<MatrixClient> {
    const username = `${name}-${randomBytes(4).toString('hex')}`;
    const answer = await send(url, 'POST', '/_matrix/client/v3/register', undefined, {
      username,
      password: randomBytes(16).toString('hex'),
      auth: { type: 'm.login.dummy' },
    });
    return new MatrixClient(url, String(answer.user_id), String(answer.access_token));
  }

  call(method: string, path: string, body?: Json): Promise<Json> {
    return send(this.url, method, path, this.#token, body);
  }

  /** The answer as it came, whatever its status. */
  raw(method: string, path: string, body: Json): Promise<Response> {
    return fetch(`${this.url}${path}`, { method, headers: { authorization: `Bearer ${this.#token}` }, body: JSON.stringify(body) });
  }

  async createRoom(options: Json = {}): Promise<string> {
    return String((await this.call('POST', '/_matrix/client/v3/createRoom', { preset: 'private_chat', ...options })).room_id);
  }

  async sendState(room: string, type: string, key: string, content: Json): Promise<string> {
    return String((await this.call('PUT', statePath(room, type, key), content)).event_id);
  }

  async sendMessage(room: string, type: string, content: Json, options: { stickyMs?: number } = {}): Promise<string> {
    return String((await this.call('PUT', messagePath(room, type, options), content)).event_id);
  }

  /** Each schedules an event and returns its delay_id. */
  async scheduleState(room: string, type: string, key: string, content: Json, delayMs: number): Promise<string> {
    return String((await this.call('PUT', `${statePath(room, type, key)}?${DELAY}=${delayMs}`, content)).delay_id);
  }

  async scheduleMessage(room: string, type: string, content: Json, delayMs: number, options: { stickyMs?: number } = {}): Promise<string> {
    const path = messagePath(room, type, options);
    return String((await this.call('PUT', `${path}${path.includes('?') ? '&' : '?'}${DELAY}=${delayMs}`, content)).delay_id);
  }

  state(room: string, type: string, key: string): Promise<Json> {
    return this.call('GET', statePath(room, type, key));
  }

  event(room: string, eventId: string): Promise<Json> {
    return this.call('GET', `/_matrix/client/v3/rooms/${segment(room)}/event/${segment(eventId)}`);
  }

  /** The user's own delayed events that are still scheduled. */
  async scheduled(): Promise<string[]> {
    const answer = await this.call('GET', '/_matrix/client/unstable/org.matrix.msc4140/delayed_events');
    const events = (answer.scheduled ?? answer.delayed_events ?? []) as Json[];
    return events.map((event) => String(event.delay_id));
  }

  async watch(room: string): Promise<RoomWatcher> {
    const watcher = new RoomWatcher(this, room);
    await watcher.begin();
    return watcher;
  }
}

/** Long-polls /sync for one room; survives a homeserver that is away. */
export class RoomWatcher {
  readonly sightings: Sighting[] = [];
  readonly #client: MatrixClient;
  readonly #room: string;
  #since = '';
  #stopped = false;

  constructor(client: MatrixClient, room: string) {
    this.#client = client;
    this.#room = room;
  }

  async begin(): Promise<void> {
    await this.#sync(0);
    void this.#follow();
  }

  stop(): void {
    this.#stopped = true;
  }

  async #follow(): Promise<void> {
    while (!this.#stopped) await this.#sync(20_000).catch(() => sleep(50));
  }

  async #sync(timeoutMs: number): Promise<void> {
    const filter = {
      presence: { types: [] },
      account_data: { types: [] },
      room: { rooms: [this.#room], ephemeral: { types: [] }, account_data: { types: [] }, timeline: { limit: 200 } },
    };
    const since = this.#since === '' ? '' : `&since=${segment(this.#since)}`;
    const answer = await this.#client.call(
      'GET',
      `/_matrix/client/v3/sync?timeout=${timeoutMs}&filter=${segment(JSON.stringify(filter))}${since}`,
    );
    const atMs = now();
    this.#since = String(answer.next_batch);
    const joined = (answer.rooms as { join?: Record<string, { timeline: { events: RoomEvent[] } }> } | undefined)?.join;
    for (const event of joined?.[this.#room]?.timeline.events ?? []) this.sightings.push({ atMs, event });
  }
}

function statePath(room: string, type: string, key: string): string {
  return `/_matrix/client/v3/rooms/${segment(room)}/state/${segment(type)}/${segment(key)}`;
}

function messagePath(room: string, type: string, options: { stickyMs?: number }): string {
  const path = `/_matrix/client/v3/rooms/${segment(room)}/send/${segment(type)}/${randomBytes(8).toString('hex')}`;
  return options.stickyMs === undefined ? path : `${path}?${STICKY}=${options.stickyMs}`;
}

async function send(url: string, method: string, path: string, token: string | undefined, body?: Json): Promise<Json> {
  const response = await fetch(`${url}${path}`, {
    method,
    headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = (await response.json()) as Json;
  if (!response.ok) throw new MatrixError(response.status, answer);
  return answer;
}
