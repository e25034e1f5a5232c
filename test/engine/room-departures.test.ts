// Who has left the Matrix room leaves the call: on virtual time, with the real store, beside an SFU and a homeserver that are lists.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Identity, RoomName, Sid, UserId } from '../../src/delegation/ids.ts';
import { createRoomDepartures, type RoomDepartures } from '../../src/engine/room-departures.ts';
import type { HomeserverFailure } from '../../src/homeserver/failures.ts';
import { createLogger } from '../../src/log.ts';
import type { Look } from '../../src/sfu/rooms.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { createOurHomeserver, HOME_NAME } from '../support/our-homeserver.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const GRACE_MS = 9_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const ROOM_ID = '!room:example.org';
const ROOM = 'sfu-room' as RoomName;
const ALICE = `@alice:${HOME_NAME}` as UserId;
const BOB = '@bob:other.example' as UserId;
const CAROL = '@carol:other.example' as UserId;

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

class World {
  readonly clock = createVirtualClock();
  readonly ours = createOurHomeserver();
  readonly lines: string[] = [];
  readonly done: string[] = [];
  readonly looks: RoomName[] = [];
  readonly inRooms = new Map<RoomName, Set<Identity>>();
  sfuUp = true;
  /** Whom the SFU was last told to remove, and what happens before it is done. */
  removing: Identity | null = null;
  onRemoval = async (): Promise<void> => {};
  readonly #path: string;
  store;
  departures: RoomDepartures;

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), 'lastwill-departures-'));
    folders.push(folder);
    this.#path = join(folder, 'store.sqlite');
    this.store = this.#open();
    this.departures = this.#start();
  }

  #open() {
    return openSqliteStore({ path: this.#path, clock: this.clock, seal: null });
  }

  #start(): RoomDepartures {
    const look = async (room: RoomName): Promise<Look> => {
      this.looks.push(room);
      if (!this.sfuUp) return { kind: 'unreachable', why: 'told to be' };
      const present = [...(this.inRooms.get(room) ?? [])];
      return {
        kind: 'list',
        present: present.map((identity) => ({ identity, sid: `PA_${identity}` as Sid, joinedAtMs: 0, active: true })),
        roomSid: undefined,
      };
    };
    const departures = createRoomDepartures({
      ...{ attendance: this.store, service: this.ours, clock: this.clock, intervalMs: MINUTE_MS },
      rooms: { look, answers: async () => this.sfuUp },
      evictions: {
        remove: async (room, identity) => {
          this.removing = identity;
          await this.onRemoval();
          this.done.push(`remove ${identity} from ${room}`);
          return this.inRooms.get(room)?.delete(identity) ?? false;
        },
        close: async (room) => {
          this.done.push(`close ${room}`);
          return this.inRooms.delete(room);
        },
      },
      log: createLogger('info', (line) => void this.lines.push(line)),
    });
    departures.start();
    return departures;
  }

  /** As after a kill. */
  async restart(): Promise<void> {
    const stopped = this.departures.stop(GRACE_MS);
    await this.clock.settle();
    await stopped;
    await this.store.close();
    this.store = this.#open();
    this.departures = this.#start();
  }

  async end(): Promise<void> {
    await this.departures.stop(GRACE_MS);
    await this.store.close();
  }

  /** Given a token, and (unless told) on the SFU and in the Matrix room. */
  async arrives(userId: UserId, { roomId = ROOM_ID, room = ROOM, present = true, member = true } = {}): Promise<Identity> {
    const identity = `identity of ${userId}` as Identity;
    const kept = this.store.track({ roomId, room, identity, userId, grantedAtMs: this.clock.nowMs() });
    await this.clock.settle();
    await kept;
    if (present) this.inRooms.set(room, new Set([...(this.inRooms.get(room) ?? []), identity]));
    const server = userId.endsWith(`:${HOME_NAME}`) ? [HOME_NAME] : [];
    if (member) this.ours.rooms.set(roomId, new Set([...(this.ours.rooms.get(roomId) ?? []), userId, ...server]));
    return identity;
  }

  leavesMatrix(userId: UserId, roomId = ROOM_ID): void {
    const there = this.ours.rooms.get(roomId);
    there?.delete(userId);
    if (![...(there ?? [])].some((one) => one.endsWith(`:${HOME_NAME}`))) there?.delete(HOME_NAME);
  }

  /** Of three who are there two are in the Matrix room no longer. */
  async twoLeave(): Promise<{ readonly bob: Identity; readonly carol: Identity }> {
    await this.arrives(ALICE);
    const [bob, carol] = [await this.arrives(BOB), await this.arrives(CAROL)];
    this.leavesMatrix(BOB);
    this.leavesMatrix(CAROL);
    return { bob, carol };
  }

  /** To the end of the next look. */
  async next(): Promise<void> {
    await this.clock.advance(MINUTE_MS);
  }
}

let at: World;
beforeEach(() => {
  at = new World();
});
afterEach(() => at.end());

describe('who is no longer in the Matrix room', () => {
  test('is removed from the SFU at the next look, and nobody else', async () => {
    await at.arrives(ALICE);
    const bob = await at.arrives(BOB);
    await at.next();
    expect(at.done).toEqual([]);
    at.leavesMatrix(BOB);
    await at.clock.advance(MINUTE_MS - 1);
    expect(at.done).toEqual([]);
    await at.clock.advance(1);
    expect(at.done).toEqual([`remove ${bob} from ${ROOM}`]);
  });

  test('is removed again if the token is used again, for as long as it lasts', async () => {
    await at.arrives(ALICE);
    const bob = await at.arrives(BOB);
    at.leavesMatrix(BOB);
    for (let round = 1; round <= 3; round += 1) {
      at.inRooms.get(ROOM)?.add(bob);
      await at.next();
      expect(at.done).toHaveLength(round);
    }
  });

  test('is removed after a restart as well', async () => {
    await at.arrives(ALICE);
    const bob = await at.arrives(BOB);
    await at.restart();
    at.leavesMatrix(BOB);
    await at.next();
    expect(at.done).toEqual([`remove ${bob} from ${ROOM}`]);
  });

  test('stays when the SFU does not do it, and is tried again', async () => {
    await at.arrives(ALICE);
    const bob = await at.arrives(BOB);
    at.leavesMatrix(BOB);
    at.sfuUp = false;
    await at.next();
    expect(at.done).toEqual([]);
    at.sfuUp = true;
    await at.next();
    expect(at.done).toEqual([`remove ${bob} from ${ROOM}`]);
  });

  test('and is given a token while the homeserver answers: was found a member after the question, and stays', async () => {
    const { bob, carol } = await at.twoLeave();
    const ask = at.ours.joinedMembers.bind(at.ours);
    at.ours.joinedMembers = async (roomId) => {
      const answer = await ask(roomId);
      await at.store.track({ roomId: ROOM_ID, room: ROOM, identity: bob, userId: BOB, grantedAtMs: at.clock.nowMs() });
      return answer;
    };
    await at.next();
    await vi.waitFor(() => expect(at.done).toEqual([`remove ${carol} from ${ROOM}`]));
  });

  test('and is given a token while others are removed, which takes the SFU its time', async () => {
    const { bob, carol } = await at.twoLeave();
    at.onRemoval = async () => {
      at.onRemoval = async () => {};
      const other = at.removing === bob ? carol : bob;
      const userId = other === bob ? BOB : CAROL;
      await new Promise<void>((resolve) => void at.clock.after(4_000, resolve));
      await at.store.track({ roomId: ROOM_ID, room: ROOM, identity: other, userId, grantedAtMs: at.clock.nowMs() - 1_000 });
    };
    const looks = vi.spyOn(at.store, 'trackedIn');
    await at.next();
    await vi.waitFor(() => expect(looks.mock.calls.length).toBe(2));
    await at.clock.advance(5_000);
    await vi.waitFor(() => expect(looks.mock.calls.length).toBe(3));
    await at.clock.advance(1_000);
    expect(at.done).toHaveLength(1);
  });

  test('and comes back while others are removed, without asking for a token: an old answer is not acted upon', async () => {
    await at.twoLeave();
    at.onRemoval = () => new Promise<void>((resolve) => void at.clock.after(11_000, resolve));
    await at.next();
    await vi.waitFor(() => expect(at.removing).not.toBeNull());
    for (const userId of [BOB, CAROL]) at.ours.rooms.get(ROOM_ID)?.add(userId);
    await at.clock.advance(3 * MINUTE_MS);
    await vi.waitFor(() => expect(at.done).toHaveLength(1));
    await at.clock.advance(3 * MINUTE_MS);
    expect(at.done).toHaveLength(1);
  });

  test('or the first of our homeserver to be back is given a token while it answers about itself: the room stays open', async () => {
    const alice = await at.arrives(ALICE);
    await at.arrives(BOB);
    at.leavesMatrix(ALICE);
    const ask = at.ours.isJoined.bind(at.ours);
    at.ours.isJoined = async (...asked) => {
      const answer = await ask(...asked);
      await at.store.track({ roomId: ROOM_ID, room: ROOM, identity: alice, userId: ALICE, grantedAtMs: at.clock.nowMs() });
      return answer;
    };
    const looks = vi.spyOn(at.store, 'trackedIn');
    await at.next();
    await vi.waitFor(() => expect(looks.mock.calls.length).toBe(2));
    await at.clock.advance(1_000);
    expect(at.done).toEqual([]);
  });
});

describe('nobody is removed', () => {
  test.each<HomeserverFailure>(['timeout', 'refused', 'status_5xx', 'garbage', 'unauthorized', 'address', 'dialect'])(
    'when the homeserver fails by %s',
    async (why) => {
      await at.arrives(ALICE);
      await at.arrives(BOB, { member: false });
      at.ours.failed = { kind: 'failed', why, retryAfterMs: null };
      await at.next();
      expect(at.done).toEqual([]);
      expect(at.lines.join()).toContain('nobody is removed');
      at.ours.failed = null;
      await at.next();
      expect(at.done).toHaveLength(1);
    },
  );

  test('when it forbids the list to one who may be wrongly registered, and is in the room', async () => {
    await at.arrives(BOB);
    at.ours.rooms.get(ROOM_ID)?.add(HOME_NAME);
    at.ours.joinedMembers = async () => ({ kind: 'failed', why: 'forbidden', retryAfterMs: null });
    await at.next();
    expect(at.done).toEqual([]);
    expect(at.ours.asked).toEqual([`joined ${ROOM_ID} ${HOME_NAME}`]);
  });

  const LISTS: [string, UserId[]][] = [
    ['nobody', []],
    ['nobody of ours', [BOB]],
  ];
  describe.each(LISTS)('when it lists %s', (_name, listed) => {
    beforeEach(async () => {
      await at.arrives(ALICE);
      await at.arrives(BOB);
      at.ours.joinedMembers = async () => ({ kind: 'members', userIds: new Set(listed) });
    });

    test('but is in the room: the list is not whole', async () => {
      await at.next();
      expect(at.done).toEqual([]);
      expect(at.lines.join()).toContain('nobody is removed');
    });

    test('and does not say whether it is in the room', async () => {
      at.ours.isJoined = async () => ({ kind: 'failed', why: 'timeout', retryAfterMs: null });
      await at.next();
      expect(at.done).toEqual([]);
    });

    test('until it says that it is not in the room', async () => {
      at.leavesMatrix(ALICE);
      await at.next();
      expect(at.done).toEqual([`close ${ROOM}`]);
      expect(at.ours.asked).toEqual([`joined ${ROOM_ID} ${HOME_NAME}`]);
    });
  });

  test('when it forbids everything', async () => {
    await at.arrives(BOB);
    at.ours.failed = { kind: 'failed', why: 'forbidden', retryAfterMs: null };
    await at.next();
    expect(at.done).toEqual([]);
  });
});

describe('our server gone from the room', () => {
  test('closes its room on the SFU: no member is ours', async () => {
    await at.arrives(ALICE);
    await at.arrives(BOB);
    at.leavesMatrix(ALICE);
    await at.next();
    expect(at.done).toEqual([`close ${ROOM}`]);
  });

  test('closes it also where the list is refused because nobody of ours is there', async () => {
    await at.arrives(ALICE, { room: 'slot 1' as RoomName, member: false });
    await at.arrives(BOB, { room: 'slot 2' as RoomName });
    at.ours.joinedMembers = async () => ({ kind: 'failed', why: 'forbidden', retryAfterMs: null });
    await at.next();
    expect(at.done.sort()).toEqual(['close slot 1', 'close slot 2']);
  });

  test('is not taken from a name that only ends alike', async () => {
    await at.arrives(BOB);
    at.ours.rooms.get(ROOM_ID)?.add(`@eve:not-${HOME_NAME}`);
    at.ours.rooms.get(ROOM_ID)?.add(`@eve:${HOME_NAME}:8448`);
    await at.next();
    expect(at.done).toEqual([`close ${ROOM}`]);
  });
});

describe('the homeserver is asked', () => {
  test('once a room and interval, however many are in it', async () => {
    for (let n = 0; n < 50; n += 1) await at.arrives(`@user-${n}:${HOME_NAME}` as UserId);
    await at.arrives(`@user-1:${HOME_NAME}` as UserId, { roomId: '!other:example.org', room: 'other' as RoomName });
    await at.next();
    expect(at.ours.asked.sort()).toEqual(['members !other:example.org', `members ${ROOM_ID}`]);
    expect(at.looks).toHaveLength(2);
  });

  test('not about rooms with nobody on the SFU', async () => {
    await at.arrives(ALICE, { present: false });
    await at.next();
    expect(at.ours.asked).toEqual([]);
  });

  test('not before the look before is finished', async () => {
    await at.arrives(ALICE);
    let answer = (): void => {};
    at.ours.joinedMembers = (roomId) => {
      at.ours.asked.push(`members ${roomId}`);
      return new Promise((resolve) => {
        answer = () => resolve({ kind: 'failed', why: 'timeout', retryAfterMs: null });
      });
    };
    await at.clock.advance(5 * MINUTE_MS);
    expect(at.ours.asked).toHaveLength(1);
    answer();
    await at.clock.advance(MINUTE_MS);
    expect(at.ours.asked).toHaveLength(2);
    answer();
    await at.clock.settle();
  });

  test('again when it said, and once; then the look goes on with the next room', async () => {
    await at.arrives(ALICE);
    await at.arrives(ALICE, { roomId: '!other:example.org', room: 'other' as RoomName });
    at.ours.failed = { kind: 'failed', why: 'limited', retryAfterMs: 7_000 };
    await at.clock.advance(MINUTE_MS);
    expect(at.ours.asked).toHaveLength(1);
    await at.clock.advance(6_999);
    expect(at.ours.asked).toHaveLength(1);
    await at.clock.advance(1);
    expect(at.ours.asked).toHaveLength(3);
    at.ours.failed = null;
    await at.clock.advance(7_000);
    expect(at.ours.asked).toHaveLength(4);
    expect(at.done).toEqual([]);
  });
});

describe('who is not on the SFU', () => {
  test('is remembered for as long as the token lasts, and then forgotten', async () => {
    await at.arrives(ALICE, { present: false });
    await at.clock.advance(HOUR_MS);
    expect(await at.store.trackedRooms()).toEqual([ROOM_ID]);
    await at.clock.advance(2 * MINUTE_MS);
    expect(await at.store.trackedRooms()).toEqual([]);
  });

  test('counts from when the SFU last listed the participant', async () => {
    const alice = await at.arrives(ALICE);
    await at.clock.advance(3 * HOUR_MS);
    at.inRooms.get(ROOM)?.delete(alice);
    await at.clock.advance(HOUR_MS - MINUTE_MS);
    expect(await at.store.trackedRooms()).toEqual([ROOM_ID]);
    await at.clock.advance(3 * MINUTE_MS);
    expect(await at.store.trackedRooms()).toEqual([]);
  });

  test('or may be, since the SFU does not answer, is remembered', async () => {
    await at.arrives(ALICE, { present: false });
    at.sfuUp = false;
    await at.clock.advance(5 * HOUR_MS);
    expect(await at.store.trackedRooms()).toEqual([ROOM_ID]);
  });
});

test('a stop waits for nothing, not even for a limit to end', async () => {
  await at.arrives(ALICE);
  at.ours.failed = { kind: 'failed', why: 'limited', retryAfterMs: 300_000 };
  await at.clock.advance(MINUTE_MS);
  await at.departures.stop(GRACE_MS);
  expect([at.ours.asked.length, at.clock.nextTimerMs()]).toEqual([1, null]);
});

test('and for no SFU that hangs: nobody else is removed, and after the grace time it is over', async () => {
  const clock = createVirtualClock();
  const later = <T>(ms: number, value: T): Promise<T> => new Promise((resolve) => void clock.after(ms, () => resolve(value)));
  const tracked = [1, 2, 3].map((n) => ({ roomId: ROOM_ID, room: ROOM, identity: `i${n}`, userId: `@u${n}:example.org`, grantedAtMs: 0 }));
  const present = tracked.map(({ identity }) => ({ identity, sid: identity, joinedAtMs: 0, active: true }));
  let removed = 0;
  const departures = createRoomDepartures({
    attendance: { trackedRooms: async () => [ROOM_ID], trackedIn: async () => tracked } as never,
    service: {
      home: { serverName: 'example.org', url: null },
      joinedMembers: async () => ({ kind: 'members', userIds: new Set(['@z:example.org']) }),
    } as never,
    rooms: { look: async () => ({ kind: 'list', present, roomSid: undefined }), answers: async () => true } as never,
    evictions: {
      remove: () => {
        removed += 1;
        return later(20_000, false);
      },
    } as never,
    ...{ clock, intervalMs: MINUTE_MS, log: createLogger('info', () => {}) },
  });
  departures.start();
  await clock.advance(MINUTE_MS + 1);
  let stoppedMs = Number.NaN;
  const atMs = clock.nowMs();
  void departures.stop(GRACE_MS).then(() => {
    stoppedMs = clock.nowMs();
  });
  await clock.advance(60_000);
  expect([stoppedMs - atMs, removed]).toEqual([GRACE_MS, 1]);
});

test('who was untracked by another process is not kept in mind', async () => {
  const clock = createVirtualClock();
  let round = 0;
  let asked = 0;
  const departures = createRoomDepartures({
    attendance: {
      trackedRooms: async () => {
        round += 1;
        return [ROOM_ID];
      },
      // Each minute somebody else, who is not on the SFU; at the end the first again, given a token long ago.
      trackedIn: async () => [
        { roomId: ROOM_ID, room: ROOM, identity: round < 200 ? `i${round}` : 'i1', userId: '@a:example.org', grantedAtMs: 0 },
      ],
      untrack: async () => {
        asked += 1;
      },
    } as never,
    service: {} as never,
    rooms: { look: async () => ({ kind: 'list', present: [], roomSid: null }), answers: async () => true } as never,
    evictions: {} as never,
    ...{ clock, intervalMs: MINUTE_MS, log: createLogger('info', () => {}) },
  });
  departures.start();
  await clock.advance(230 * MINUTE_MS);
  expect(asked, 'its absence counts from its return').toBe(0);
  await clock.advance(40 * MINUTE_MS);
  expect(asked).toBeGreaterThan(0);
  await departures.stop(GRACE_MS);
});
