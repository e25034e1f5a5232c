// Evidence of who is in a room: all who want to know share one question to the SFU, and its answer as long as it is fresh enough for them.
import { crc32 } from 'node:zlib';
import type { Cancel, Clock } from '../clock.ts';
import type { Identity, RoomName, Sid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import { SOON_ASK_BATCH_MS } from '../delegation/steps/awaiting.ts';
import { LruMap } from '../lru-map.ts';
import type { Look, Rooms } from '../sfu/rooms.ts';
import type { Sightings } from '../store/sightings.ts';
import { type Crowd, compared, type Evidence, isOnList } from './evidence.ts';
import { createTurns, type Reason, type Turn } from './turns.ts';

export interface How {
  /** With the room's SID even if somebody is there. */
  readonly whichRoom?: boolean;
  /** What the answer is wanted for; it decides whose question is put first (turns.ts). */
  readonly reason?: Reason;
  /** Who is asked about. Hardly anything is held back for one who was on the last list: gone by then, it would be as if they had not been there. */
  readonly about?: readonly Identity[];
  /** Sessions that no webhook has told to be gone: that a list lacks one counts only where no node of the SFU has it. Takes a new question. */
  readonly expected?: readonly Seen[];
}

export interface Presence {
  /**
   * Evidence that was asked for at or after `notBeforeMs` (Unix ms). If that takes a new question, it may be held back by about `batchMs`
   * so that more callers share it. Never rejects.
   */
  ask(room: RoomName, notBeforeMs: number, batchMs: number, how?: How): Promise<Evidence>;
  /** The same for a restart of this session: for that, another replica's evidence that it is there is enough. */
  askFor(room: RoomName, session: { readonly identity: Identity; readonly sid: Sid }, notBeforeMs: number): Promise<Evidence>;
  /** A webhook has told that the room has started, perhaps anew: its SFU may have restarted and forgotten who was there. */
  roomStarted(room: RoomName): void;
  /** To be called every second. Asks whether the SFU is there at all, unless somebody has asked it anything in the last `withinMs`. */
  touch(withinMs: number): void;
  /** Whether the SFU answered last; null: it has not been asked yet. */
  readonly reachable: boolean | null;
}

export interface PresenceDeps {
  readonly rooms: Rooms;
  readonly clock: Clock;
  /** The SFU answers again after an outage. */
  readonly onReturn: () => void;
  readonly onAnswer: (result: 'ok' | 'failed') => void;
  /** What other replicas have seen, and where they are told what is seen here. */
  readonly sightings?: Sightings;
}

interface Question extends Turn {
  whichRoom: boolean;
  notBeforeMs: number;
  readonly expected: Seen[];
}

interface Put {
  readonly found: Look;
  readonly askedAtMs: number;
  /** When an earlier question was put that failed at once; null: none did. */
  readonly failedMs: number | null;
}

/** What is known of one room, and asked about it. */
interface Desk extends Crowd {
  last: Evidence | null;
  running: { readonly askedAtMs: number; readonly question: Question; readonly answer: Promise<Evidence> } | null;
  /** When the questions until now would have been put, each SOON_ASK_BATCH_MS after the one before. */
  paidUntilMs: number;
  waiting: { readonly answer: Promise<Evidence>; readonly question: Question; isSoon: boolean; noLaterThan(atMs: number): void } | null;
}

/**
 * The most questions at once. A thousand rooms whose participants have delays of 10 s need some 200 answers a second, and each takes 100 ms
 * or more on a busy machine: with fewer at once, events would run out that wait for an answer.
 */
const MOST_QUESTIONS = 256;
/** Of the questions about one room that would be held back for a moment only, five are put at once. */
const AT_ONCE_MS = 4 * SOON_ASK_BATCH_MS;
/**
 * Of those in all rooms, so many a second and so many at once. In a wave of hand-overs, as after a restart of the SFU, there would be one for
 * each; beyond this they are held back like all others, and those of one room share them.
 */
const SOON_EVERY_MS = 5;
const SOON_AT_ONCE = 100;
const FOR_RESTART: How = { reason: 'restart' };
const MOST_ROOMS = 5_000;
/** The most participants on all remembered lists; each takes 200 bytes. */
const MOST_SEEN = 100_000;
/**
 * While the SFU is away one question a second is put to it, and its failure counts for all who ask; but not for those who need newer
 * evidence, because they act upon it that the SFU can't be asked.
 */
const PROBE_EVERY_MS = 1_000;
/**
 * A question that takes longer may wait on a dead connection, and is put once more each second: by the time that it is given up (5 s) a
 * short delay would have run out, and a leave would be late. Only so many are put again at a time: the SFU may just have much to do.
 */
const HANGS_MS = 1_000;
const MOST_PUT_AGAIN = 32;
/** `onReturn` is called no more often: where only some calls fail, each success after a failure would have all rooms looked at. */
const RETURNS_EVERY_MS = 5_000;
/** If `touch` was not called for so long, this process was stopped, and what the SFU did meanwhile is not known. */
const STOPPED_MS = 2_000;
/** By then every question has been answered or given up (sfu/room-service.ts). */
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
  /** When the questions until now that were held back for a moment only would have been put, each SOON_EVERY_MS after the one before. */
  let soonPaidUntilMs = Number.NEGATIVE_INFINITY;
  let reachable: boolean | null = null;
  /** When the newest answered question was put, Unix ms. */
  let answeredMs = Number.NEGATIVE_INFINITY;
  /** The newest failure, unless an answer came since. */
  let failed: { readonly askedAtMs: number; readonly heardAtMs: number } | null = null;
  let returnedAtMs = Number.NEGATIVE_INFINITY;
  let toldOfReturnMs = Number.NEGATIVE_INFINITY;
  let tellsLater = false;
  /** Since when all questions were answered, Unix ms; null: the last one was not, or there was none. */
  let answersSinceMs: number | null = null;
  /** While the SFU is away: the one question that finds out for all whether it is back. */
  let probe: Promise<void> | null = null;
  let askedLastMs = Number.NEGATIVE_INFINITY;
  let touchedMs = clock.nowMs();

  async function look(room: RoomName, question: Question): Promise<Evidence> {
    const { notBeforeMs } = question;
    while (reachable === false && probe !== null) await probe;
    if (reachable === false && isFresh(failed, notBeforeMs)) return { kind: 'unreachable', askedAtMs: clock.nowMs() };
    const probed = Promise.withResolvers<void>();
    if (reachable === false) probe = probed.promise;
    await turns.wait(question);
    askedLastMs = clock.nowMs();
    noteStop(askedLastMs);
    try {
      const { found, askedAtMs, failedMs } = await put(room, question);
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
   * Puts a question. One that hangs is put again each second, and the first answer counts. If it fails, after hanging or at once, one more
   * is put, which has a second: the SFU may just have come back. While it is known to be away, one that fails at once is not put again.
   */
  function put(room: RoomName, { whichRoom, expected }: Question): Promise<Put> {
    return new Promise((resolve) => {
      let mayAskMore = true;
      let failedMs: number | null = null;
      const ask = async (): Promise<void> => {
        const askedAtMs = clock.nowMs();
        const startedAgoMs = askedAtMs - (startedAtMs.get(room) ?? Number.NEGATIVE_INFINITY);
        const found = await rooms.look(room, { whichRoom, startedAgoMs, expected });
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

  /** Whether a failure still counts: heard lately, since `notBeforeMs`, and not by a process that was stopped while it waited. */
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
    // The failure of a question that was put before the newest answered one is no news.
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
    desk.paidUntilMs = Math.max(desk.paidUntilMs, clock.nowMs()) + SOON_ASK_BATCH_MS;
    return answer;
  }

  function remember(desk: Desk, evidence: Evidence): void {
    desk.last = evidence;
    if (evidence.kind !== 'list' || evidence.present.length === 0) return;
    remembered += evidence.present.length - desk.crowd.length;
    desk.crowd = evidence.present;
    desk.crowdAtMs = evidence.askedAtMs;
  }

  /** A question that waits for its batch time, and for the one under way; a room has one of these at most. */
  function wait(room: RoomName, desk: Desk, batchMs: number, question: Question): Promise<Evidence> {
    const waiting = Promise.withResolvers<void>();
    let beginsAtMs = Number.POSITIVE_INFINITY;
    let cancel: Cancel = () => {};
    const noLaterThan = (atMs: number): void => {
      if (atMs >= beginsAtMs) return;
      beginsAtMs = atMs;
      cancel();
      const pauseMs = atMs - clock.nowMs();
      if (pauseMs > 0) cancel = clock.after(pauseMs, waiting.resolve);
      else waiting.resolve();
    };
    noLaterThan(startOf(room, desk, batchMs));
    const answer = waiting.promise
      .then(() => desk.running?.answer)
      .then(() => {
        desk.waiting = null;
        return run(room, desk, question);
      });
    desk.waiting = { answer, question, isSoon: batchMs <= SOON_ASK_BATCH_MS, noLaterThan };
    return answer;
  }

  function deskOf(room: RoomName): Desk {
    const known = desks.get(room);
    const desk = known ?? { last: null, crowd: [], crowdAtMs: 0, running: null, paidUntilMs: 0, waiting: null };
    desks.delete(room);
    // Before this desk is put back, so that it is not the one that is forgotten.
    while (desks.size >= MOST_ROOMS || remembered > MOST_SEEN) {
      const gone = forgetOldest(desks, (one) => one.running === null && one.waiting === null);
      if (gone === undefined) break;
      remembered -= gone.crowd.length;
    }
    desks.set(room, desk);
    return desk;
  }

  /** An answer that is known or on its way and new enough; null: a new question is needed. */
  function known({ last, running }: Desk, notBeforeMs: number, { whichRoom = false, reason = 'other' }: How): Promise<Evidence> | null {
    if (last?.kind === 'list' && last.askedAtMs >= notBeforeMs && !(whichRoom && last.roomSid === undefined)) return Promise.resolve(last);
    if (running === null || running.askedAtMs < notBeforeMs || (whichRoom && !running.question.whichRoom)) return null;
    turns.join(running.question, reason);
    return running.answer;
  }

  function maySoon(): boolean {
    const nowMs = clock.nowMs();
    if (soonPaidUntilMs > nowMs + SOON_AT_ONCE * SOON_EVERY_MS) return false;
    soonPaidUntilMs = Math.max(soonPaidUntilMs, nowMs) + SOON_EVERY_MS;
    return true;
  }

  function ask(...[room, notBeforeMs, batchMs, how = {}]: Parameters<Presence['ask']>): Promise<Evidence> {
    const desk = deskOf(room);
    const { whichRoom = false, reason = 'other', about = [], expected = [] } = how;
    const found = expected.length === 0 ? known(desk, notBeforeMs, how) : null;
    if (found !== null) return found;
    const isLate = batchMs > SOON_ASK_BATCH_MS;
    const heldBackMs = isLate && isOnList(desk.last, about) && (desk.waiting?.isSoon || maySoon()) ? SOON_ASK_BATCH_MS : batchMs;
    if (desk.running !== null) turns.join(desk.running.question, reason);
    if (desk.waiting === null) return wait(room, desk, heldBackMs, { whichRoom, notBeforeMs, reason, expected: [...expected] });
    const { question } = desk.waiting;
    question.expected.push(...expected);
    question.whichRoom ||= whichRoom;
    question.notBeforeMs = Math.max(question.notBeforeMs, notBeforeMs);
    turns.join(question, reason);
    desk.waiting.isSoon ||= heldBackMs <= SOON_ASK_BATCH_MS;
    desk.waiting.noLaterThan(startOf(room, desk, heldBackMs));
    return desk.waiting.answer;
  }

  /** Of what others have seen, only that the session is there is used; whether it is gone is for a question of our own to tell. */
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
 * When a question may be put that is held back so that others share it: so long after the last one. Where that is not long, a few may follow
 * one another at once, and only a crowd of them has to wait.
 */
function startOf(room: RoomName, { last, paidUntilMs }: Desk, batchMs: number): number {
  if (batchMs > SOON_ASK_BATCH_MS) return (last?.askedAtMs ?? Number.NEGATIVE_INFINITY) + Math.round(batchMs * spreadOf(room));
  return batchMs === 0 ? Number.NEGATIVE_INFINITY : paidUntilMs - AT_ONCE_MS;
}

/** From 0.75 to 1.25, by the room's name: rooms that were asked about in the same moment are not all asked about again in another one. */
function spreadOf(room: RoomName): number {
  return 0.75 + crc32(room) / 2 ** 33;
}

function forgetOldest<K, V>(map: Map<K, V>, may: (value: V) => boolean): V | undefined {
  for (const [key, value] of map) {
    if (!may(value)) continue;
    map.delete(key);
    return value;
  }
  return undefined;
}
