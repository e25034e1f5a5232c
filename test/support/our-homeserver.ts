// The homeserver that lastwill is an application service of, as a few lists: who is in which room, and what is scheduled.
import type { DelayId, HomeserverUrl, ServerName, UserId } from '../../src/delegation/ids.ts';
import type { ApplicationService, Failed, FederationCall, Relayed } from '../../src/homeserver/application-service.ts';
import type { Home } from '../../src/homeserver/home.ts';

export const HOME_NAME = 'home.example.org' as ServerName;
export const HOME_URL = 'https://matrix.home.example.org' as HomeserverUrl;

export interface OurHomeserver extends ApplicationService {
  readonly home: Home & { url: HomeserverUrl | null };
  /** Rooms, with user ids and server names. */
  readonly rooms: Map<string, Set<string>>;
  readonly events: Map<DelayId, { readonly roomId: string; readonly userId: UserId; readonly delayMs: number }>;
  /** Whatever it is asked, it does not answer. */
  failed: Failed | null;
  /** What the other homeserver answers. */
  relayed: Relayed;
  readonly relays: FederationCall[];
  /** `joined !room @user`, and so on. */
  readonly asked: string[];
}

export function createOurHomeserver(): OurHomeserver {
  const asked: string[] = [];
  const relays: FederationCall[] = [];
  return {
    home: { serverName: HOME_NAME, url: HOME_URL, resolve: async () => HOME_URL, watch: () => () => {} },
    rooms: new Map(),
    events: new Map(),
    failed: null,
    relayed: { kind: 'relayed', status: 200, content: { jwt: 'secret-of-another-server', url: 'wss://other.example' } },
    relays,
    asked,
    async isJoined(roomId, subject) {
      const who = 'userId' in subject ? subject.userId : subject.serverName;
      asked.push(`joined ${roomId} ${who}`);
      if (this.failed !== null) return this.failed;
      return { kind: this.rooms.get(roomId)?.has(who) ? 'joined' : 'not_joined' };
    },
    async joinedMembers(roomId) {
      asked.push(`members ${roomId}`);
      if (this.failed !== null) return this.failed;
      return { kind: 'members', userIds: new Set([...(this.rooms.get(roomId) ?? [])].filter((one) => one.startsWith('@'))) };
    },
    async scheduled(delayId, userId) {
      asked.push(`scheduled ${delayId} ${userId}`);
      if (this.failed !== null) return this.failed;
      const event = this.events.get(delayId);
      return event?.userId === userId ? { kind: 'scheduled', roomId: event.roomId, delayMs: event.delayMs } : { kind: 'none' };
    },
    async relay(call) {
      relays.push(call);
      return this.failed ?? this.relayed;
    },
  };
}
