// Evidence of who is in a room: one question to the SFU for all who want to know, remembered only as long as it is fresh.
import { crc32 } from 'node:zlib';
import type { Cancel, Clock } from '../clock.ts';
import type { Identity, RoomName, RoomSid, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { LruMap } from '../lru-map.ts';
import type { Look, Rooms } from '../sfu/rooms.ts';
import type { Sightings } from '../store/sightings.ts';
import { createTurns, type Reason, type Turn } from './turns.ts';

export interface List {
  readonly kind: 'list';
  readonly askedAtMs: number;
  readonly present: readonly Seen[];
  readonly roomSid: RoomSid | null | undefined;
  readonly afterRestart: boolean;
  readonly answersSinceMs: number;
  /** Who was on an earlier list, the newest that anybody was on, and is not on this one; null: nobody. */
  readonly gone: { readonly sids: ReadonlyMap<Sid, Seen>; readonly seenAtMs: number } | null;
}
export type Evidence = List | { readonly kind: 'unreachable'; readonly askedAtMs: number };

export interface How {
  /** With the room's SID even if somebody is there. */
  readonly whichRoom?: boolean;
  /** What the answer is wanted for. */
  readonly reason?: Reason;
}

export interface Presence {
  /**
   * Evidence asked for at or after `notBeforeMs`; a question that must be put may be held back by about `batchMs` to serve more.
   * Never throws.
   */
  ask(room: RoomName, notBeforeMs: number, batchMs: number, how?: How): Promise<Evidence>;
  /** The same for a restart, for which it is enough to know that this session is there: another process may have seen it. */
  askFor(room: RoomName, session: { readonly identity: Identity; readonly sid: Sid }, notBeforeMs: number): Promise<Evidence>;
  /** A room that starts anew under us is a sign of an SFU that forgot. */
  roomStarted(room: RoomName): void;
  /** To be called every second. Asks whether the SFU is there at all, unless somebody has asked it anything in the last `withinMs`. */
  touch(withinMs: number): void;
  /** Null: not asked yet. */
  readonly reachable: boolean | null;
}

export interface PresenceDeps {
  readonly rooms: Rooms;
  readonly clock: Clock;
  /** The SFU answers again after an outage. */
  readonly onReturn: () => void;
  readonly onAnswer: (result: 'ok' | 'failed') => void;
  /** Of other processes. */
  readonly sightings?: Sightings;
}

interface Question extends Turn {
  whichRoom: boolean;
  notBeforeMs: number;
}

interface Put {
  readonly found: Look;
  readonly askedAtMs: number;
  /** When the question was put that failed at once, before this one; null: none did. */
  readonly failedMs: number | null;
}

interface Desk {
  last: Evidence | null;
  /** The newest list that anybody was on. */
  crowd: readonly Seen[];
  crowdAtMs: number;
  running: { readonly askedAtMs: number; readonly question: Question; readonly answer: Promise<Evidence> } | null;
  waiting: { readonly answer: Promise<Evidence>; readonly question: Question; begin(): void } | null;
}

/**
 * So many at once. A thousand rooms whose participants have delays of 10 s need some 200 answers a second, and each takes 100 ms and more
 * where a processor is busy, ours or the SFU's: with too few, those who wait for one run out.
 */
const MOST_QUESTIONS = 256;
const FOR_RESTART: How = { reason: 'restart' };
const MOST_ROOMS = 5_000;
/** Those on remembered lists take 200 bytes each. */
const MOST_SEEN = 100_000;
/**
 * While the SFU is away it is asked so often, on behalf of everybody who wants to know no more of it than that; not of those who act upon
 * it that it can't be asked now.
 */
const PROBE_EVERY_MS = 1_000;
/**
 * A question that takes longer may have lost its answer on a connection that is gone: until it is given up a short delay would have run
 * out, and a leave would be late. But an SFU that is slow because there is too much to do is not asked for more.
 */
const HANGS_MS = 1_000;
const MOST_PUT_AGAIN = 32;
/** Of an SFU of which some calls fail, each return would have all rooms looked at; what it has forgotten it has forgotten for longer. */
const RETURNS_EVERY_MS = 5_000;
/** Not touched for so long, we were stopped: what the SFU did meanwhile is not known. */
const STOPPED_MS = 2_000;
/** A question to the SFU has been given up by then (sfu/room-service.ts). */
const LONGEST_QUESTION_MS = 6_000;
/** Clients are back up to 18 s after their SFU has restarted (deploy/reasons.md); until then it does not count who is not on its lists. */
const FORGETFUL_MS = 20_000;

export function createPresence(deps: PresenceDeps): Presence {
  const { rooms, clock } = deps;
  const desks = new Map<RoomName, Desk>();
  const startedAtMs = new LruMap<RoomName, number>(MOST_ROOMS);
  const turns = createTurns(MOST_QUESTIONS);
  /** How many are on the lists of all desks. */
  let remembered = 0;
  let putAgain = 0;
  let reachable: boolean | null = null;
  /** When the newest of the answered questions was put. */
  let answeredMs = Number.NEGATIVE_INFINITY;
  /** The newest failure counts for everybody; null: none that still says anything. */
  let failed: { readonly askedAtMs: number; readonly heardAtMs: number } | null = null;
  let returnedAtMs = Number.NEGATIVE_INFINITY;
  let toldOfReturnMs = Number.NEGATIVE_INFINITY;
  let tellsLater = false;
  /** Null: the last question was not answered, or there was none. */
  let answersSinceMs: number | null = null;
  /** While the SFU is away one question at a time finds out for all. */
  let probe: Promise<void> | null = null;
  let askedLastMs = Number.NEGATIVE_INFINITY;
  let touchedMs = clock.nowMs();

  async function look(room: RoomName, question: Question): Promise<Evidence> {
    const { whichRoom, notBeforeMs } = question;
    while (reachable === false && probe !== null) await probe;
    if (reachable === false && isFresh(failed, notBeforeMs)) return { kind: 'unreachable', askedAtMs: clock.nowMs() };
    const probed = Promise.withResolvers<void>();
    if (reachable === false) probe = probed.promise;
    await turns.wait(question);
    askedLastMs = clock.nowMs();
    noteStop(askedLastMs);
    try {
      const { found, askedAtMs, failedMs } = await put(room, whichRoom);
      if (failedMs !== null) answered(false, failedMs);
      answered(found.kind === 'list', askedAtMs);
      if (found.kind === 'unreachable') return { kind: 'unreachable', askedAtMs };
      const { kind, present, roomSid, justLost = false } = found;
      const afterRestart = justLost || forgetful(room, askedAtMs);
      return { kind, present, roomSid, askedAtMs, afterRestart, answersSinceMs: answersSinceMs ?? askedAtMs, gone: null };
    } finally {
      if (probe === probed.promise) probe = null;
      probed.resolve();
      turns.done();
    }
  }

  /**
   * A question that hangs is put again each second, and the first answer counts. That it has failed says nothing of the next one: one more
   * has a second, or who is back on an SFU that is back would be taken to be gone. While the SFU is away, those that fail at once are not.
   */
  function put(room: RoomName, whichRoom: boolean): Promise<Put> {
    return new Promise((resolve) => {
      let mayAskMore = true;
      let failedMs: number | null = null;
      const ask = async (): Promise<void> => {
        const askedAtMs = clock.nowMs();
        const found = await rooms.look(room, whichRoom, askedAtMs - (startedAtMs.get(room) ?? Number.NEGATIVE_INFINITY));
        if (found.kind === 'unreachable') {
          const hung = clock.nowMs() - askedAtMs > HANGS_MS;
          if (hung) return askOnceMore(found);
          if (mayAskMore && reachable !== false) {
            failedMs = askedAtMs;
            return askOnceMore(found);
          }
        }
        mayAskMore = false;
        cancel();
        resolve({ found, askedAtMs, failedMs });
      };
      const askOnceMore = (found: Look): void => {
        if (!mayAskMore) return;
        mayAskMore = false;
        cancel();
        const askedAtMs = clock.nowMs();
        cancel = clock.after(HANGS_MS, () => resolve({ found, askedAtMs, failedMs }));
        void ask();
      };
      const askAgain = (): void => {
        cancel = clock.after(HANGS_MS, askAgain);
        if (putAgain >= MOST_PUT_AGAIN) return;
        putAgain += 1;
        void ask().then(() => (putAgain -= 1));
      };
      let cancel = clock.after(HANGS_MS, askAgain);
      void ask();
    });
  }

  /** A failure is as old as its question, too: a process that was stopped meanwhile has to ask again. */
  function isFresh(failure: typeof failed, notBeforeMs: number): boolean {
    if (failure === null || failure.heardAtMs - failure.askedAtMs > LONGEST_QUESTION_MS) return false;
    if (failure.heardAtMs < notBeforeMs) return false;
    return clock.nowMs() - failure.heardAtMs < PROBE_EVERY_MS;
  }

  function noteStop(nowMs: number): void {
    if (nowMs - touchedMs > STOPPED_MS) answersSinceMs = null;
  }

  function answered(ok: boolean, askedAtMs: number): void {
    deps.onAnswer(ok ? 'ok' : 'failed');
    // A question that hung while the SFU was away says nothing of one that has answered a later question.
    if (!ok && askedAtMs < answeredMs) return;
    if (ok) answeredMs = Math.max(answeredMs, askedAtMs);
    const wasAway = reachable === false;
    reachable = ok;
    answersSinceMs = ok ? (answersSinceMs ?? askedAtMs) : null;
    failed = ok ? null : { askedAtMs, heardAtMs: clock.nowMs() };
    if (!ok || !wasAway) return;
    returnedAtMs = clock.nowMs();
    tellOfReturn();
  }

  function tellOfReturn(): void {
    if (tellsLater) return;
    const waitMs = toldOfReturnMs + RETURNS_EVERY_MS - clock.nowMs();
    const tell = (): void => {
      tellsLater = false;
      toldOfReturnMs = clock.nowMs();
      deps.onReturn();
    };
    tellsLater = waitMs > 0;
    if (tellsLater) clock.after(waitMs, tell);
    else tell();
  }

  function forgetful(room: RoomName, nowMs: number): boolean {
    return nowMs - returnedAtMs < FORGETFUL_MS || nowMs - (startedAtMs.get(room) ?? Number.NEGATIVE_INFINITY) < FORGETFUL_MS;
  }

  function run(room: RoomName, desk: Desk, question: Question): Promise<Evidence> {
    const answer = look(room, question).then((looked) => {
      const evidence = looked.kind === 'list' ? compared(desk, looked) : looked;
      remember(desk, evidence);
      desk.running = null;
      if (evidence.kind === 'list') void deps.sightings?.tell(room, evidence).catch(() => {});
      return evidence;
    });
    desk.running = { askedAtMs: clock.nowMs(), question, answer };
    return answer;
  }

  function remember(desk: Desk, evidence: Evidence): void {
    desk.last = evidence;
    if (evidence.kind !== 'list' || evidence.present.length === 0) return;
    remembered += evidence.present.length - desk.crowd.length;
    desk.crowd = evidence.present;
    desk.crowdAtMs = evidence.askedAtMs;
  }

  /** One question waits for a room at most: for its batch time, and for the one that is under way. */
  function wait(room: RoomName, desk: Desk, batchMs: number, question: Question): Promise<Evidence> {
    const waiting = Promise.withResolvers<void>();
    const lastMs = desk.last?.askedAtMs ?? Number.NEGATIVE_INFINITY;
    const pauseMs = lastMs + Math.round(batchMs * spreadOf(room)) - clock.nowMs();
    let cancel: Cancel = () => {};
    if (pauseMs > 0) cancel = clock.after(pauseMs, waiting.resolve);
    else waiting.resolve();
    const answer = waiting.promise
      .then(() => desk.running?.answer)
      .then(() => {
        desk.waiting = null;
        return run(room, desk, question);
      });
    desk.waiting = {
      answer,
      question,
      begin: () => {
        cancel();
        waiting.resolve();
      },
    };
    return answer;
  }

  function deskOf(room: RoomName): Desk {
    const known = desks.get(room);
    const desk = known ?? { last: null, crowd: [], crowdAtMs: 0, running: null, waiting: null };
    desks.delete(room);
    // Before this one is among them: it is about to be used, and what it remembers is to be counted.
    while (desks.size >= MOST_ROOMS || remembered > MOST_SEEN) {
      const gone = forgetOldest(desks, (one) => one.running === null && one.waiting === null);
      if (gone === undefined) break;
      remembered -= gone.crowd.length;
    }
    desks.set(room, desk);
    return desk;
  }

  /** What is known here already, or is being asked; null: it would have to be asked. */
  function known({ last, running }: Desk, notBeforeMs: number, { whichRoom = false, reason = 'other' }: How): Promise<Evidence> | null {
    if (last?.kind === 'list' && last.askedAtMs >= notBeforeMs && !(whichRoom && last.roomSid === undefined)) return Promise.resolve(last);
    if (running === null || running.askedAtMs < notBeforeMs || (whichRoom && !running.question.whichRoom)) return null;
    turns.join(running.question, reason);
    return running.answer;
  }

  function ask(...[room, notBeforeMs, batchMs, how = {}]: Parameters<Presence['ask']>): Promise<Evidence> {
    const desk = deskOf(room);
    const found = known(desk, notBeforeMs, how);
    if (found !== null) return found;
    const { whichRoom = false, reason = 'other' } = how;
    if (desk.running !== null) turns.join(desk.running.question, reason);
    if (desk.waiting === null) return wait(room, desk, batchMs, { whichRoom, notBeforeMs, reason });
    const { question } = desk.waiting;
    question.whichRoom ||= whichRoom;
    question.notBeforeMs = Math.max(question.notBeforeMs, notBeforeMs);
    turns.join(question, reason);
    if (batchMs === 0) desk.waiting.begin();
    return desk.waiting.answer;
  }

  /** Only who was seen is believed to be there: that somebody is not, and what it may mean, is for one's own look to tell. */
  async function askFor(...[room, session, notBeforeMs]: Parameters<Presence['askFor']>): Promise<Evidence> {
    if (deps.sightings === undefined || known(deskOf(room), notBeforeMs, FOR_RESTART) !== null)
      return ask(room, notBeforeMs, 0, FOR_RESTART);
    const seen = await deps.sightings.last(room).catch(() => null);
    const isThere = seen?.present.some(({ identity, sid }) => identity === session.identity && sid === session.sid);
    if (seen === null || !isThere || seen.askedAtMs < notBeforeMs) return ask(room, notBeforeMs, 0, FOR_RESTART);
    return { kind: 'list', ...seen, roomSid: undefined, afterRestart: false, answersSinceMs: answersSinceMs ?? seen.askedAtMs, gone: null };
  }

  return {
    ask,
    askFor,
    roomStarted: (room) => startedAtMs.set(room, clock.nowMs()),
    touch: (withinMs) => {
      noteStop(clock.nowMs());
      touchedMs = clock.nowMs();
      if (clock.nowMs() - askedLastMs < withinMs) return;
      const askedAtMs = clock.nowMs();
      askedLastMs = askedAtMs;
      void rooms.answers().then((ok) => answered(ok, askedAtMs));
    },
    get reachable() {
      return reachable;
    },
  };
}

/**
 * What a list says beside the newest one that anybody was on. An SFU that was away between two looks, and of whose new room no webhook
 * told: of all who were there nobody is, and some are there anew. One alone may as well have gone before the other came.
 */
function compared({ crowd, crowdAtMs }: Desk, list: List): Evidence {
  const gone = new Map(crowd.map((one) => [one.sid, one]));
  const before = gone.size;
  let isSameCrowd = true;
  // Who is on it as before stays the same in memory as well, and so does the list: lists come often, in any order, and nearly always say
  // the same.
  const present = list.present.map((one) => {
    const known = gone.get(one.sid);
    gone.delete(one.sid);
    if (known !== undefined && isSame(known, one)) return known;
    isSameCrowd = false;
    return one;
  });
  const isAnotherCrowd = before > 1 && present.length > 0 && gone.size === before;
  return {
    ...list,
    present: isSameCrowd && gone.size === 0 ? crowd : present,
    afterRestart: list.afterRestart || isAnotherCrowd,
    gone: gone.size > 0 ? { sids: gone, seenAtMs: crowdAtMs } : null,
  };
}

/**
 * Rooms that were asked about in one moment are not all asked about again in another: their batches last from 3/4 to 5/4 of what is said.
 */
function spreadOf(room: RoomName): number {
  return 0.75 + crc32(room) / 2 ** 33;
}

function isSame(one: Seen, other: Seen): boolean {
  return one.identity === other.identity && one.joinedAtMs === other.joinedAtMs && one.active === other.active;
}

function forgetOldest<K, V>(map: Map<K, V>, may: (value: V) => boolean): V | undefined {
  for (const [key, value] of map) {
    if (!may(value)) continue;
    map.delete(key);
    return value;
  }
  return undefined;
}
