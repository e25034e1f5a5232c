// A room as others in it see it: who is announced as a member of its call, who is announced as gone, in the order of /sync.
import { MatrixClient, type RoomEvent, type RoomWatcher, type Sighting } from '../../stack/matrix.ts';
import type { Credentials } from '../page/contract.ts';

const LEGACY = 'org.matrix.msc3401.call.member';
const STICKY = 'org.matrix.msc4143.rtc.member';

export interface Announcement {
  /** When the observer saw it, which on a busy machine may be long after the homeserver took it. */
  readonly atMs: number;
  /** When the homeserver took it. */
  readonly sentMs: number;
  readonly kind: 'here' | 'gone';
  /** Which membership: the state key, or the sticky key. */
  readonly key: string;
}

export class ObservedRoom {
  readonly id: string;
  readonly watcher: RoomWatcher;
  readonly #observer: MatrixClient;

  private constructor(observer: MatrixClient, id: string, watcher: RoomWatcher) {
    this.#observer = observer;
    this.id = id;
    this.watcher = watcher;
  }

  /** Everyone in it may announce itself. */
  static async create(homeserverUrl: string): Promise<ObservedRoom> {
    const observer = await MatrixClient.register(homeserverUrl, 'observer');
    const events = { [LEGACY]: 0, [STICKY]: 0, 'org.matrix.msc4143.rtc.slot': 0 };
    const id = await observer.createRoom({
      preset: 'public_chat',
      name: 'The weekly call',
      power_level_content_override: { events },
    });
    return new ObservedRoom(observer, id, await observer.watch(id));
  }

  async admit({ baseUrl, accessToken }: Credentials, via: readonly string[] = []): Promise<void> {
    const query = via.map((server) => `server_name=${encodeURIComponent(server)}&via=${encodeURIComponent(server)}`).join('&');
    const response = await fetch(`${baseUrl}/_matrix/client/v3/join/${encodeURIComponent(this.id)}?${query}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${accessToken}` },
      body: '{}',
    });
    if (!response.ok) throw new Error(`joining the room: ${response.status} ${await response.text()}`);
  }

  announcements(userId: string): Announcement[] {
    return this.watcher.sightings.flatMap((sighting) => announcement(sighting, userId) ?? []);
  }

  /** Of a legacy membership, what is in the room's state. */
  state(key: string): Promise<Record<string, unknown>> {
    return this.#observer.state(this.id, LEGACY, key);
  }
}

function announcement({ atMs, event }: Sighting, userId: string): Announcement | undefined {
  const { origin_server_ts: sentMs } = event as RoomEvent & { readonly origin_server_ts: number };
  if (event.type === LEGACY && event.state_key?.includes(userId) === true) {
    return { atMs, sentMs, kind: Object.keys(event.content).length > 0 ? 'here' : 'gone', key: event.state_key };
  }
  if (event.type !== STICKY || event.sender !== userId) return undefined;
  return { atMs, sentMs, kind: event.content.application === undefined ? 'gone' : 'here', key: String(event.content.msc4354_sticky_key) };
}
