// Sessions that the SFU should list and does not, though one of its nodes has them. With a Redis, livekit-server lists what is written there,
// and that gets lost: when the Redis is started anew without its data, or when a node that was frozen or cut off wakes up, and takes back by
// name whoever has come to another node meanwhile. Their calls go on. So where somebody is missing of whose departure no webhook has told,
// the session's own node is asked before the list is believed.
import { type Clock, within } from '../clock.ts';
import type { Identity, RoomName, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { isFromBeforeSetBack, isTakenOver } from '../delegation/steps/clocks.ts';
import { LruMap } from '../lru-map.ts';
import { askOwnNode } from './own-node.ts';
import type { Called, RoomService } from './room-service.ts';
import type { AboutParticipant } from './webhook.ts';

export interface Unlisted {
  /** A webhook has told that a session came, or is gone. */
  told(room: RoomName, about: AboutParticipant): void;
  /**
   * Those who were on the list before or have joined since, are not on this one, or only by an older session, and on a node all the same.
   * `expected`: others of whom that is to be found out, for another process may have heard that they joined. Never rejects.
   */
  among(room: RoomName, listed: readonly Seen[], expected?: readonly Seen[]): Promise<readonly Seen[]>;
  /** Whether nothing more would come of it to expect a session: it is looked for anyway where a list lacks it, or was found nowhere lately. */
  isSought(room: RoomName, session: Seen): boolean;
}

/** Null: not known now. */
export type Stored = (room: RoomName) => Promise<readonly Seen[] | null>;

/** It was not on the newest list. */
interface Missing {
  readonly seen: Seen;
  /** When a node last answered for it, Unix ms. */
  hostedMs: number;
  /** How much speaks against it since then. */
  doubts: number;
}

/** The sessions of a room, by identity: the SFU lists one for each. Nobody is in both. */
interface Crowd {
  readonly listed: Map<Identity, Seen>;
  readonly missing: Map<Identity, Missing>;
}

const NEVER = Number.NEGATIVE_INFINITY;
/** As many as quiet-rooms.ts remembers. To read the rows of a room for each of its lists would be most of the work. */
const MOST_ROOMS = 50_000;
/** In all rooms; presence.ts keeps the lists of as many, which are the same objects. */
const MOST_SESSIONS = 100_000;
/**
 * Who was on no node twice is forgotten. A failure says less; but a proxy before the SFU may let no such call through, and then the list is
 * all there is.
 */
const MOST_DOUBTS = 4;
/** Its node may only have been frozen: by then, whoever still expects it has heard of it from another process since. */
const GIVEN_UP_FOR_MS = 30_000;
const DOUBTS = { nowhere: 2, not_found: 2, failed: 1 } as const;
/** Few at once, for each takes the SFU three seconds where no node has the session: usually it has left, and the webhook was lost. */
const MOST_AT_ONCE = 32;
/**
 * No more wait for their turn while no node answers: an SFU that was started anew has forgotten all, and has none that could. Else all do, for
 * where the list of a large room got lost each of its sessions has to be found in time.
 */
const MOST_WAITING_IN_VAIN = 256;
/** The SFU takes so long to find out that no node has a session, and meanwhile others are answered for. */
const NOWHERE_MS = 3_000;
/** A node answers at once for who is there, so a list waits no longer than this. What is answered later counts for the next list. */
const QUICK_MS = 200;
/** For so long it does: an absence that no webhook has told of is confirmed by a second list after 4 s, or 20 s. */
const HOSTED_FOR_MS = 25_000;
/** The same as QUICK_MS once the list was found to be wrong of somebody; a look that takes a second counts as one that hangs. */
const WRONG_LIST_MS = 800;

/** `stored`: who was in a room before we started, as far as is known. */
export function createUnlisted(service: RoomService, clock: Clock, stored: Stored): Unlisted {
  /** Rooms whose list was held against what is stored. */
  const recalled = new LruMap<RoomName, true>(MOST_ROOMS);
  const recalling = new Map<RoomName, Promise<void>>();
  const crowds = createCrowds();
  /** Sessions that were asked for often enough, and are not again for a while by whoever expects them; and since when, Unix ms. */
  const givenUp = new LruMap<Sid, number>(MOST_ROOMS);
  const underWay = new Map<Missing, Promise<boolean>>();
  /** To be told whether they may be asked for after all. */
  const waiting: ((mayAsk: boolean) => void)[] = [];
  let atWork = 0;
  /** When a node has answered last, and when none has, Unix ms. */
  let answeredMs = NEVER;
  let inVainMs = NEVER;

  const isGivenUp = (sid: Sid): boolean => clock.nowMs() - (givenUp.get(sid) ?? NEVER) < GIVEN_UP_FOR_MS;
  const isStillMissing = (room: RoomName, one: Missing): boolean => crowds.of(room).missing.get(one.seen.identity) === one;

  function forget(room: RoomName, identity: Identity): void {
    const { listed, missing } = crowds.take(room);
    listed.delete(identity);
    missing.delete(identity);
    crowds.put(room, { listed, missing });
  }

  async function ask(room: RoomName, one: Missing): Promise<boolean> {
    if (!(await hasTurn())) return false;
    try {
      // It was listed again, or has left, while it waited for its turn.
      if (!isStillMissing(room, one)) return false;
      const called = await askOwnNode(service, room, one.seen.identity);
      if (called.kind === 'answered') answeredMs = clock.nowMs();
      else inVainMs = clock.nowMs();
      return heard(room, one, called.kind);
    } finally {
      passOn();
    }
  }

  const mostWaiting = (): number => (inVainMs - answeredMs > NOWHERE_MS ? MOST_WAITING_IN_VAIN : Number.POSITIVE_INFINITY);

  async function hasTurn(): Promise<boolean> {
    if (waiting.length >= mostWaiting()) return false;
    if (atWork >= MOST_AT_ONCE) return new Promise<boolean>((resolve) => void waiting.push(resolve));
    atWork += 1;
    return true;
  }

  function passOn(): void {
    for (const mayAsk of waiting.splice(mostWaiting())) mayAsk(false);
    const next = waiting.shift();
    if (next === undefined) atWork -= 1;
    else next(true);
    // Of those who are missing next, nothing is known.
    if (atWork === 0) inVainMs = NEVER;
  }

  function heard(room: RoomName, one: Missing, kind: Called['kind']): boolean {
    if (!isStillMissing(room, one)) return false;
    switch (kind) {
      case 'answered':
        one.doubts = 0;
        one.hostedMs = clock.nowMs();
        return true;
      case 'failed':
      case 'not_found':
      case 'nowhere':
        one.doubts += DOUBTS[kind];
        if (kind !== 'failed') one.hostedMs = NEVER;
        if (one.doubts >= MOST_DOUBTS) {
          forget(room, one.seen.identity);
          givenUp.set(one.seen.sid, clock.nowMs());
        }
        return false;
      default:
        return kind satisfies never;
    }
  }

  function askOnce(room: RoomName, one: Missing): Promise<boolean> {
    const running = underWay.get(one);
    if (running !== undefined) return running;
    const asked = ask(room, one).finally(() => underWay.delete(one));
    underWay.set(one, asked);
    return asked;
  }

  /** Remembers who is listed; the missing ones stay. @returns those. */
  function missingFrom(room: RoomName, list: readonly Seen[]): readonly Missing[] {
    const before = crowds.take(room);
    const isNoNews = before.missing.size === 0 && before.listed.size === list.length;
    if (isNoNews && list.every((seen) => isSame(before.listed.get(seen.identity), seen))) {
      crowds.put(room, before);
      return [];
    }
    const listed = new Map<Identity, Seen>();
    const at = timesOf(clock);
    for (const seen of list) {
      const known = sessionIn(before, seen.identity);
      if (known !== undefined && seen.sid !== known.sid && isTakenOver(seen, known, at)) continue;
      // The object that is there already: whoever keeps lists keeps these (engine/evidence.ts).
      listed.set(seen.identity, known !== undefined && isSame(known, seen) ? known : seen);
    }
    const still = [...before.missing.values()].filter(({ seen }) => !listed.has(seen.identity));
    const since = [...before.listed.values()].filter(({ identity }) => !listed.has(identity)).map(newly);
    const missing = [...still, ...since];
    crowds.put(room, { listed, missing: byIdentity(missing) });
    return missing;
  }

  async function recall(room: RoomName): Promise<void> {
    const seen = await stored(room);
    if (seen === null) return;
    recalled.set(room, true);
    expect(room, seen);
  }

  /** Of whom nothing is known, or only an older session, are missing, unless the list shows them. @returns whether there are any. */
  function expect(room: RoomName, those: readonly Seen[]): boolean {
    const crowd = crowds.take(room);
    const at = timesOf(clock);
    const news = those.filter((one) => {
      const known = sessionIn(crowd, one.identity);
      const isNews = known === undefined || (known.sid !== one.sid && isTakenOver(known, one, at));
      return isNews && !isGivenUp(one.sid);
    });
    for (const one of news) {
      crowd.listed.delete(one.identity);
      crowd.missing.set(one.identity, newly(one));
    }
    crowds.put(room, crowd);
    return news.length > 0;
  }

  /**
   * The first list of a room that is new to us is held against what is stored, whoever has come since: the SFU may have lost it while we were
   * not running, and lists those again who come after that, or mute a track. A store that takes its time is heard with the next list.
   */
  async function recallOnce(room: RoomName): Promise<void> {
    if (recalled.get(room) === true) return;
    // Whatever keeps the store from telling, the next list asks again.
    const running =
      recalling.get(room) ??
      recall(room)
        .catch(() => {})
        .finally(() => recalling.delete(room));
    recalling.set(room, running);
    await within(clock, QUICK_MS, running);
  }

  return {
    told: (room, about) => {
      const { kind, identity, sid } = about;
      const known = sessionIn(crowds.of(room), identity);
      if (kind !== 'joined') {
        if (known !== undefined && (sid === null || known.sid === sid)) forget(room, identity);
        return;
      }
      const { joinedAtMs } = about;
      const isAfter =
        known !== undefined && (known.joinedAtMs ?? 0) > (joinedAtMs ?? 0) && !isFromBeforeSetBack(known.joinedAtMs ?? 0, timesOf(clock));
      const isOld = known?.sid === sid || isAfter;
      if (sid === null || isOld) return;
      const crowd = crowds.take(room);
      crowd.missing.delete(identity);
      crowd.listed.set(identity, { identity, sid, joinedAtMs, active: true });
      crowds.put(room, crowd);
    },
    among: async (room, listed, expected = []) => {
      await recallOnce(room);
      const isNews = expect(room, expected);
      const missing = missingFrom(room, listed);
      if (missing.length === 0) return [];
      const sinceMs = clock.nowMs() - HOSTED_FOR_MS;
      const present = missing.filter(({ hostedMs }) => hostedMs >= sinceMs).map(({ seen }) => seen);
      const all = Promise.all(
        missing.map(async (one) => {
          const isFound = one.hostedMs >= sinceMs;
          if ((await askOnce(room, one)) && !isFound) present.push(one.seen);
        }),
      );
      // They are asked for again beside it.
      if (present.length === missing.length) return present;
      // Of who is expected, and was not known, no earlier list has begun to ask.
      const isWorthWaiting = () => isNews || present.length > 0;
      if ((await within(clock, QUICK_MS, all)) === null && isWorthWaiting()) await within(clock, WRONG_LIST_MS - QUICK_MS, all);
      return [...present];
    },
    isSought: (room, { identity, sid }) => sessionIn(crowds.of(room), identity)?.sid === sid || isGivenUp(sid),
  };
}

/** The crowds of the rooms that were looked at last. What is changed is taken before and put back after. */
function createCrowds() {
  const crowds = new Map<RoomName, Crowd>();
  let sessions = 0;
  const of = (room: RoomName): Crowd => crowds.get(room) ?? nobody();
  const take = (room: RoomName): Crowd => {
    const crowd = of(room);
    if (crowds.delete(room)) sessions -= sizeOf(crowd);
    return crowd;
  };
  const put = (room: RoomName, crowd: Crowd): void => {
    if (sizeOf(crowd) === 0) return;
    crowds.set(room, crowd);
    sessions += sizeOf(crowd);
    for (const oldest of crowds.keys()) {
      if (sessions <= MOST_SESSIONS || oldest === room) break;
      take(oldest);
    }
  };
  return { of, take, put };
}

const nobody = (): Crowd => ({ listed: new Map(), missing: new Map() });
const sizeOf = ({ listed, missing }: Crowd): number => listed.size + missing.size;
const newly = (seen: Seen): Missing => ({ seen, hostedMs: NEVER, doubts: 0 });
const byIdentity = (missing: readonly Missing[]) => new Map(missing.map((one) => [one.seen.identity, one]));
const sessionIn = ({ listed, missing }: Crowd, identity: Identity): Seen | undefined => listed.get(identity) ?? missing.get(identity)?.seen;

/** Whether that is no news of a session. */
function isSame(known: Seen | undefined, { sid, active }: Seen): boolean {
  return known !== undefined && known.sid === sid && known.active === active;
}

const timesOf = (clock: Clock) => ({ nowMs: clock.nowMs(), wallMs: clock.wallMs() });
