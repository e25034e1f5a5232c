// Who has left the Matrix room, or was banned from it, does not stay in its call: each Matrix room with participants on the SFU is looked
// at once an interval, by one question to the homeserver for all of them.
//
// Removing somebody is the one thing here that can do harm, so it takes certainty: an answer of the homeserver that was asked for after
// the newest token was given, and that is whole. Whatever else comes back, everybody stays.
import type { Cancel, Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import type { ApplicationService, Failed, Members } from '../homeserver/application-service.ts';
import type { Evictions } from '../sfu/evictions.ts';
import type { Rooms } from '../sfu/rooms.ts';
import type { Attendance, Tracked } from '../store/attendance.ts';
import type { Log } from '../telemetry.ts';

export interface RoomDepartures {
  start(): void;
  /** Resolves when the call that is under way has been answered, within `graceMs` at most. */
  stop(graceMs: number): Promise<void>;
}

export interface RoomDeparturesDeps {
  readonly attendance: Attendance;
  readonly service: Pick<ApplicationService, 'home' | 'joinedMembers' | 'isJoined'>;
  readonly rooms: Rooms;
  readonly evictions: Evictions;
  readonly clock: Clock;
  readonly intervalMs: number;
  readonly log: Log;
}

/**
 * A token is good for an hour, and a removed participant may come again with it; a connected one gets newer tokens from the SFU. So who is
 * gone is kept in mind for as long as a token can be used.
 */
const TOKEN_MS = 3_600_000;
/** Who is not looked at any more has been untracked, here or by another process. */
const FORGET_AFTER_MS = 2 * TOKEN_MS;
/** An answer of the homeserver is acted upon for so long: removals take their time, and who has come back meanwhile stays. */
const FRESH_MS = 10_000;
/** Absent at two looks further apart, somebody may have been there in between, seen by another process. */
const LONGEST_GAP_MS = 600_000;
/** Where several processes share the store, one of them looks in so long a part of the interval. */
const SHARED_TURN = 0.75;
/** After a 429 that does not say for how long. */
const LIMITED_MS = 5_000;
const MOST_LIMITED_MS = 300_000;

type Gone = { readonly kind: 'server' } | { readonly kind: 'users'; readonly stillIn: ReadonlySet<string> } | { readonly kind: 'nobody' };

export function createRoomDepartures(deps: RoomDeparturesDeps): RoomDepartures {
  const { attendance, service, rooms, evictions, clock, intervalMs, log } = deps;
  /** Since when somebody tracked is not on the SFU, and when that was last seen. */
  const absent = new Map<string, { readonly sinceMs: number; readonly seenMs: number }>();
  let stopped = false;
  let cancel: Cancel = () => {};
  let running: Promise<void> = Promise.resolve();
  let endPause = (): void => {};

  /** One room after the other: a homeserver is not to be hurried by us. */
  async function round(): Promise<void> {
    for (const [key, { sinceMs }] of absent) if (clock.nowMs() - sinceMs > FORGET_AFTER_MS) absent.delete(key);
    for (const roomId of await attendance.trackedRooms(intervalMs * SHARED_TURN)) {
      if (stopped) return;
      await check(roomId);
    }
  }

  async function check(roomId: string): Promise<void> {
    const present = await presentIn(await attendance.trackedIn(roomId));
    if (present.length === 0 || stopped) return;
    const askedAtMs = clock.nowMs();
    const gone = await goneFrom(roomId);
    if (gone.kind === 'nobody') return;
    /** Who was given a token since then was found to be a member after the question. Null: the answer is too old. */
    const lately = async (): Promise<ReadonlySet<string> | null> => {
      const given = (await attendance.trackedIn(roomId)).filter(({ grantedAtMs }) => grantedAtMs >= askedAtMs).map(keyOf);
      return stopped || clock.nowMs() - askedAtMs > FRESH_MS ? null : new Set(given);
    };
    if (gone.kind === 'server') return closeRooms(new Set(present.map(({ room }) => room)), async () => (await lately())?.size === 0);
    for (const one of present) {
      if (gone.stillIn.has(one.userId)) continue;
      const given = await lately();
      if (given === null) return;
      if (!given.has(keyOf(one))) await remove(one);
    }
  }

  /** Those on the SFU. Who has not been there for as long as a token lasts is forgotten. */
  async function presentIn(tracked: readonly Tracked[]): Promise<readonly Tracked[]> {
    const present: Tracked[] = [];
    for (const [room, ones] of Map.groupBy(tracked, ({ room }) => room)) {
      if (stopped) return [];
      const look = await rooms.look(room);
      if (look.kind === 'unreachable') continue;
      const identities = new Set(look.present.map(({ identity }) => identity));
      for (const one of ones) {
        if (identities.has(one.identity)) {
          absent.delete(keyOf(one));
          present.push(one);
        } else await missing(one);
      }
    }
    return present;
  }

  async function missing(one: Tracked): Promise<void> {
    const nowMs = clock.nowMs();
    const before = absent.get(keyOf(one));
    const sinceMs = before !== undefined && nowMs - before.seenMs <= Math.max(LONGEST_GAP_MS, 2 * intervalMs) ? before.sinceMs : nowMs;
    absent.set(keyOf(one), { sinceMs, seenMs: nowMs });
    if (nowMs - Math.max(sinceMs, one.grantedAtMs) < TOKEN_MS) return;
    absent.delete(keyOf(one));
    await attendance.untrack(one);
  }

  async function goneFrom(roomId: string): Promise<Gone> {
    const members = await ask(roomId);
    const isListed = members.kind === 'members' && [...members.userIds].some((userId) => userId.endsWith(`:${service.home.serverName}`));
    if (members.kind === 'members' && isListed) return { kind: 'users', stillIn: members.userIds };
    // A list without anybody of ours may be none, and who is in no room may not list its members. Then the homeserver is asked about itself:
    // only its word closes a room. Other reasons to refuse change nothing.
    if (members.kind === 'members' || members.why === 'forbidden') {
      const server = await service.isJoined(roomId, { serverName: service.home.serverName });
      if (server.kind === 'not_joined') return { kind: 'server' };
    }
    const why = members.kind === 'members' ? 'nobody of our homeserver is listed' : members.why;
    log.warn({ why }, 'the members of a room are not known: nobody is removed');
    return { kind: 'nobody' };
  }

  /** A limit of the homeserver holds the whole round up, once for each room. */
  async function ask(roomId: string): Promise<Members> {
    const first = await service.joinedMembers(roomId);
    if (first.kind !== 'failed' || first.why !== 'limited') return first;
    await pause(first);
    return stopped ? first : service.joinedMembers(roomId);
  }

  function pause({ retryAfterMs }: Failed): Promise<void> {
    return new Promise((resolve) => {
      const stopTimer = clock.after(Math.min(retryAfterMs ?? LIMITED_MS, MOST_LIMITED_MS), resolve);
      endPause = () => {
        stopTimer();
        resolve();
      };
    });
  }

  async function remove({ room, identity }: Tracked): Promise<void> {
    const done = await evictions.remove(room, identity);
    log.info({ room, identity, done }, 'a participant who is no longer in the Matrix room was removed from the SFU');
  }

  async function closeRooms(names: ReadonlySet<RoomName>, isStillSo: () => Promise<boolean>): Promise<void> {
    for (const room of names) {
      if (!(await isStillSo())) return;
      const done = await evictions.close(room);
      log.info({ room, done }, 'our homeserver is no longer in the Matrix room: its room on the SFU was closed');
    }
  }

  function schedule(): void {
    cancel = clock.after(intervalMs, () => {
      running = round()
        .catch((err: unknown) => log.warn({ err }, 'a look at who is still in the Matrix rooms could not be finished'))
        .then(() => {
          if (!stopped) schedule();
        });
    });
  }

  return {
    start: schedule,
    stop: async (graceMs) => {
      stopped = true;
      cancel();
      endPause();
      await new Promise<void>((resolve) => {
        const giveUp = clock.after(graceMs, resolve);
        void running.then(() => {
          giveUp();
          resolve();
        });
      });
    },
  };
}

function keyOf({ roomId, room, identity }: Tracked): string {
  return JSON.stringify([roomId, room, identity]);
}
