// Removes from the SFU who has left the Matrix room, or was banned from it. Each Matrix room with participants on the SFU is checked once
// an interval, by one question to the homeserver for all of its participants.
//
// To remove somebody by mistake is the one harm that can be done here, so it takes certainty: a complete answer of the homeserver, asked
// for after the participant's newest token was given. Whatever else is answered, everybody stays.
import type { Cancel, Clock } from '../clock.ts';
import type { RoomName } from '../delegation/ids.ts';
import type { ApplicationService, Failed, Members } from '../homeserver/application-service.ts';
import type { Log } from '../log.ts';
import type { Evictions } from '../sfu/evictions.ts';
import type { Rooms } from '../sfu/rooms.ts';
import type { Attendance, Tracked } from '../store/attendance.ts';

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
 * A token is valid for an hour, in which a removed participant may come again with it (a connected one gets newer tokens from the SFU). So
 * a participant stays on record until it has been absent for as long.
 */
const TOKEN_MS = 3_600_000;
/** An absence that is older belongs to a participant that is not on record any more, and is forgotten. */
const FORGET_AFTER_MS = 2 * TOKEN_MS;
/** How long an answer of the homeserver may be acted upon: removals take time, and somebody may have joined the room again meanwhile. */
const FRESH_MS = 10_000;
/** Two looks further apart than this don't make one absence: another replica may have seen the participant in between. */
const LONGEST_GAP_MS = 600_000;
/** With several replicas, a room that one of them has checked in this part of the interval is left out by the others. */
const SHARED_TURN = 0.75;
/** After a 429 that does not say for how long. */
const LIMITED_MS = 5_000;
const MOST_LIMITED_MS = 300_000;

/**
 * Who of those on the SFU is to go: all, for our server is not in the room; those who are not in `stillIn`; nobody, for nothing is certain.
 */
type Gone = { readonly kind: 'server' } | { readonly kind: 'users'; readonly stillIn: ReadonlySet<string> } | { readonly kind: 'nobody' };

export function createRoomDepartures(deps: RoomDeparturesDeps): RoomDepartures {
  const { attendance, service, rooms, evictions, clock, intervalMs, log } = deps;
  /** Participants on record that are not on the SFU: since when, and when that was last seen (Unix ms). */
  const absent = new Map<string, { readonly sinceMs: number; readonly seenMs: number }>();
  let stopped = false;
  let cancel: Cancel = () => {};
  let running: Promise<void> = Promise.resolve();
  let endPause = (): void => {};

  /** One room after the other, to be easy on the homeserver. */
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
    /** Whose token is newer than the question, and so was found to be a member after it. Null: the answer is too old by now. */
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

  /** Those on record who are on the SFU. Who has not been there for as long as a token is valid is taken off the record. */
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
    // A list without anybody of our server may be incomplete, and a homeserver that is in no such room forbids to list its members. Then it
    // is asked about itself: only if it says that it is not in the room is that closed. Any other refusal changes nothing.
    if (members.kind === 'members' || members.why === 'forbidden') {
      const server = await service.isJoined(roomId, { serverName: service.home.serverName });
      if (server.kind === 'not_joined') return { kind: 'server' };
    }
    const why = members.kind === 'members' ? 'nobody of our homeserver is listed' : members.why;
    log.warn({ why }, 'the members of a room are not known: nobody is removed');
    return { kind: 'nobody' };
  }

  /** If the homeserver limits us, the whole round waits, once for each room. */
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
