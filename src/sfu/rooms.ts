// Asks the SFU who is in a room. There are three answers for each participant: present, absent, and unknown, which must never be taken for
// absent.
import type { Clock } from '../clock.ts';
import type { RoomName, RoomSid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { createHosting } from './hosting.ts';
import type { ApiKey } from './keys.ts';
import { createListing } from './listing.ts';
import { partsOf, seenOf } from './protojson.ts';
import { type Called, createRoomService, type RoomService, type RoomServiceDeps } from './room-service.ts';
import { createSessions, type OfNodes } from './sessions.ts';
import { createUnlisted, type Stored, type Unlisted } from './unlisted.ts';
import { createWhichRoom } from './which-room.ts';

export type Look =
  | {
      readonly kind: 'list';
      readonly present: readonly Seen[];
      /**
       * Learnt if it was asked for, or nobody is there: null if the room does not exist, which after a departure may mean a forgetful SFU.
       */
      readonly roomSid: RoomSid | null | undefined;
      /** It was found only now that the SFU has lost some whom it lists: others may be on their way back to it. */
      readonly justLost?: boolean;
    }
  | { readonly kind: 'unreachable'; readonly why: string };

export interface LookHow {
  /** With the room's SID, which may cost another call where somebody is there. */
  readonly whichRoom?: boolean;
  /** When the room last started, as far as is known. */
  readonly startedAgoMs?: number;
  /** Who is looked for on the nodes, listed or not. */
  readonly expected?: readonly Seen[];
}

export interface Rooms {
  /** Never throws; answers within its own time limit. */
  look(room: RoomName, how?: LookHow): Promise<Look>;
  /** Whether the SFU answers at all. Never rejects. */
  answers(): Promise<boolean>;
}

export interface RoomsTold extends Rooms, Pick<Unlisted, 'told' | 'isSought'> {
  /** Rooms that list somebody whom no node has, as was found lately: up to so many, each once. */
  doubted(most: number): readonly RoomName[];
}

export function createRooms(apiUrl: string, key: ApiKey, deps: RoomServiceDeps, stored: Stored): RoomsTold {
  return roomsOf(createRoomService(apiUrl, key, deps), deps.clock, stored);
}

export function roomsOf(service: RoomService, clock: Clock, stored: Stored): RoomsTold {
  const doubted = new Set<RoomName>();
  const onDoubt = (room: RoomName) => void doubted.add(room);
  const hosting = createHosting(service, clock, onDoubt);
  const sessions = createSessions(service, clock, hosting.failed, onDoubt);
  const listing = createListing(service, clock);
  const unlisted = createUnlisted(service, clock, stored);
  const list = async (names: readonly string[]) => noted(await service.call('ListRooms', { roomList: true }, { names }));
  const which = createWhichRoom(list, clock);

  function noted(called: Called): Called {
    if (called.kind === 'failed') hosting.failed();
    return called;
  }

  /** Who of those listed is really there; null: no node has the room. */
  async function ofNodes(room: RoomName, listed: readonly Seen[], startedMs: number, missed: readonly Seen[]): Promise<OfNodes | null> {
    if (listed.length === 0) return { present: listed, justLost: false };
    const asking = hosting.isHosted(room, () => sessions.askOldest(room, listed));
    const [isHosted] = await Promise.all([asking, sessions.askAgain(room, listed)]);
    if (isHosted) return sessions.ofNodes(room, listed, Math.max(hosting.doubtMs, startedMs), missed);
    sessions.lost(room, listed);
    return null;
  }

  async function look(room: RoomName, how: LookHow): Promise<Look> {
    const { whichRoom = false, startedAgoMs = Number.POSITIVE_INFINITY, expected = [] } = how;
    const startedMs = clock.nowMs() - startedAgoMs;
    const called = noted(await listing.list(room));
    if (called.kind === 'failed') return { kind: 'unreachable', why: called.why };
    const listed = called.kind === 'answered' ? partsOf(called.message, 'participants').flatMap((one) => seenOf(one) ?? []) : [];
    const [found, more] = await Promise.all([ofNodes(room, listed, startedMs, expected), unlisted.among(room, listed, expected)]);
    const { present: hosted = [], justLost = false } = found ?? {};
    const present = joined(hosted, more);
    if (present.length === 0 && (found === null || called.kind !== 'answered')) return { kind: 'list', present, roomSid: null };
    const answer = { kind: 'list', present, ...(justLost && { justLost }) } as const;
    if (present.length > 0 && !whichRoom) return { ...answer, roomSid: undefined };
    const named = await which.ask(room, hosted, Math.max(hosting.doubtMs, startedMs));
    return named.kind === 'failed' ? { kind: 'unreachable', why: named.why } : { ...answer, roomSid: named.roomSid };
  }

  return {
    look: (room, how = {}) => look(room, how).catch((): Look => ({ kind: 'unreachable', why: 'what the SFU answered is no list' })),
    // By a name that no room has: the answer is empty, and cheap however many rooms there are.
    answers: async () => (await list(['-'])).kind === 'answered',
    told: unlisted.told,
    isSought: unlisted.isSought,
    doubted: (most) => {
      const first = [...doubted.values().take(most)];
      for (const room of first) doubted.delete(room);
      return first;
    },
  };
}

/** Who is listed, and more, whose word goes before that of the list. */
function joined(listed: readonly Seen[], more: readonly Seen[]): readonly Seen[] {
  if (more.length === 0) return listed;
  const identities = new Set(more.map(({ identity }) => identity));
  return [...listed.filter(({ identity }) => !identities.has(identity)), ...more];
}
