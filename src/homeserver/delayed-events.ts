// The MSC4140 client: sends, restarts or cancels a delayed event in whichever dialect (dialect.ts) its homeserver speaks.
//
// Which dialect that is, is learnt from the first call: `/versions` says which to try first where that matters, a homeserver that does not
// recognise one gets the next, and what worked is remembered until it stops working. Calls that come meanwhile wait for what the first one
// learns, for a bounded time.
import { type Clock, within } from '../clock.ts';
import type { HomeserverUrl, UserId } from '../delegation/ids.ts';
import type { Answer } from '../delegation/state.ts';
import { LruMap } from '../lru-map.ts';
import {
  asUser,
  type Call,
  type Dialect,
  dependsOnHints,
  type Heard,
  type Hints,
  hear,
  isBareFinal,
  limitOf,
  needsNoOwner,
  orderOf,
  type Result,
  readHints,
  refusalOf,
  tellsVersions,
  VERSIONS_PATH,
  write,
} from './dialect.ts';
import type { HomeserverFailure } from './failures.ts';
import { type Asked, createMoved } from './moved.ts';
import type { Outbound, Reply } from './outbound.ts';

export type { Call } from './dialect.ts';

export interface ActOptions {
  /** For everything, trying dialects included; ten seconds at most count. */
  readonly timeoutMs: number;
  /** The owner of the event, if it is known: our own homeserver is called in this user's name. */
  readonly userId: UserId | null;
  /** Whether the call is still wanted: asked again while the dialect is being found out, before each call. Always, unless told. */
  readonly isWanted?: () => Promise<boolean>;
}

export interface DelayedEvents {
  /** Answers within `timeoutMs`. Rejects only if `isWanted` does. */
  act(homeserver: HomeserverUrl, call: Call, options: ActOptions): Promise<Answer>;
  close(): Promise<void>;
}

export interface DelayedEventsDeps {
  readonly clock: Clock;
  /** Used for nothing else, for no other question to a homeserver may stand in a leave's way; closed by `close`. */
  readonly outbound: Outbound;
  /** Null: we are none. `homeserver` is read at each call, and null as long as its address is unknown. */
  readonly applicationService: { readonly homeserver: HomeserverUrl | null; readonly asToken: string } | null;
  /** Where a user's homeserver is now, as far as is known: it may have moved since its event was handed over. */
  readonly whereIs?: (userId: UserId) => HomeserverUrl | null;
  /** Whether anything in the settings leads to this base URL; yes, unless told. */
  readonly isLedTo?: (homeserver: HomeserverUrl) => boolean;
  /** A homeserver turned out to speak this dialect. */
  readonly onDialect?: (homeserver: HomeserverUrl, dialect: string) => void;
  /** A call did not do what it was for. */
  readonly onFailure?: (homeserver: HomeserverUrl, why: HomeserverFailure) => void;
  /** It did what it was asked, or said why not. */
  readonly onAnswer?: (homeserver: HomeserverUrl) => void;
}

const LONGEST_CALL_MS = 10_000;
const LONGEST_VERSIONS_MS = 2_000;
/** The part of a call's time that may go to asking for versions, or to waiting for what another call learns. */
const VERSIONS_SHARE = 1 / 4;
const WAIT_SHARE = 1 / 2;
/**
 * Trying three dialects takes no longer, even with a homeserver that is far away. A call that takes longer hangs: others don't wait for it.
 */
const LONGEST_LEARNING_MS = 1_000;
/** What `/versions` said is asked again after this time, if no dialect works. */
const HINTS_MS = 60_000;
const MOST_HOMESERVERS = 1000;

/** What is known of one homeserver for one kind of call: tokens, delay ids, or delay ids in their owner's name. */
interface Knowledge {
  /** The dialect that is spoken; `proven` once a call in it has succeeded. */
  settled: { readonly dialect: Dialect; readonly proven: boolean } | null;
  /** The call that is finding out the dialect, and what it is to do. */
  learning: { readonly action: string; readonly result: Promise<Result>; readonly sinceMs: number } | null;
  /**
   * Dialects in which an action (`actionOf`) was not understood since the last success: a call goes on where the one before it ran out of time.
   * By action, for one may be known where another is not: a worker of Synapse restarts events, and can't send them.
   */
  readonly foreign: Map<string, Map<Dialect, Foreign>>;
}
type Foreign = Exclude<Heard['kind'], 'answer'>;

/** One call on its way, with the time it has left. */
interface Errand {
  readonly homeserver: HomeserverUrl;
  readonly call: Call;
  readonly owner: { readonly userId: UserId; readonly asToken: string } | null;
  readonly endsAtMs: number;
  readonly isWanted: () => Promise<boolean>;
}

const noWord = (reached: boolean, why: HomeserverFailure | null): Result => ({
  answer: { kind: 'failed', reached },
  why,
  isItsWord: false,
});
/** That it is over was a proxy's word and not the homeserver's: it says nothing about the event, nor about the dialect. */
const NOT_ITS_WORD = noWord(true, 'garbage');
/** `isWanted` said no: nothing was called, and nobody waits for the answer. */
const NOT_WANTED = noWord(false, null);
const actionOf = (call: Call): string => (call.kind === 'token' ? call.kind : call.action);
const always = async (): Promise<boolean> => true;

function foreignTo({ call }: Errand, { foreign }: Knowledge): Map<Dialect, Foreign> {
  const known = foreign.get(actionOf(call)) ?? new Map<Dialect, Foreign>();
  foreign.set(actionOf(call), known);
  return known;
}

export function createDelayedEvents(deps: DelayedEventsDeps): DelayedEvents {
  const { clock, outbound } = deps;
  const memory = new LruMap<string, Knowledge>(MOST_HOMESERVERS);
  const hints = new LruMap<HomeserverUrl, { readonly found: Hints; readonly atMs: number }>(MOST_HOMESERVERS);
  /** Whether a homeserver has ever answered `/versions`: from one that never does, no answer to it means nothing. */
  const tells = new LruMap<HomeserverUrl, boolean>(MOST_HOMESERVERS);
  const { whereIs = () => null, isLedTo = () => true } = deps;
  const askWhereItIs = createMoved({ clock, whereIs, isLedTo });

  async function act(homeserver: HomeserverUrl, call: Call, { timeoutMs, userId, isWanted = always }: ActOptions): Promise<Answer> {
    const asked = { userId, endsAtMs: clock.nowMs() + Math.min(timeoutMs, LONGEST_CALL_MS), isWanted };
    const callAt = (url: HomeserverUrl): Promise<Result> => {
      const errand = errandAt(url, call, asked);
      return run(errand, knowledgeOf(errand));
    };
    const told = await askWhereItIs({ ...asked, homeserver, callAt });
    if (told.why !== null) deps.onFailure?.(told.homeserver, told.why);
    if (told.answer.kind !== 'failed') deps.onAnswer?.(told.homeserver);
    return told.answer;
  }

  function errandAt(homeserver: HomeserverUrl, call: Call, { userId, endsAtMs, isWanted }: Omit<Asked, 'homeserver' | 'callAt'>): Errand {
    const service = deps.applicationService;
    const isOwners = call.kind !== 'token' && userId !== null && service?.homeserver === homeserver;
    return { homeserver, call, owner: isOwners ? { userId, asToken: service.asToken } : null, endsAtMs, isWanted };
  }

  async function run(errand: Errand, known: Knowledge): Promise<Result> {
    if (known.settled === null && known.learning !== null) {
      const { action, result, sinceMs } = known.learning;
      const restMs = (errand.endsAtMs - clock.nowMs()) * WAIT_SHARE;
      const learnt = await within(clock, Math.min(restMs, sinceMs + LONGEST_LEARNING_MS - clock.nowMs()), result);
      if (learnt?.why === 'dialect' && action === actionOf(errand.call)) return learnt;
      if (!(await errand.isWanted())) return NOT_WANTED;
    }
    if (known.settled !== null) {
      const { dialect, proven } = known.settled;
      const reply = await ask(errand, dialect);
      const heard = hear(reply, { proven, nowMs: clock.nowMs() });
      if (heard.kind === 'answer' && isBareFinal(reply) && !(await isThere(errand))) return NOT_ITS_WORD;
      if (heard.kind === 'answer') return orAsAnybody(errand, dialect, conclude(errand, known, dialect, heard));
      // It worked and does so no more: the homeserver was replaced or upgraded. Another call may have noticed first.
      if (known.settled?.dialect === dialect) known.settled = null;
      foreignTo(errand, known).set(dialect, heard.kind);
    }
    return learn(errand, known);
  }

  /** Tries the dialects in order. The first call to come here learns for those that wait. */
  async function learn(errand: Errand, known: Knowledge): Promise<Result> {
    const walk = tryDialects(errand, known);
    if (known.learning !== null) return walk;
    known.learning = { action: actionOf(errand.call), result: walk, sinceMs: clock.nowMs() };
    try {
      return await walk;
    } finally {
      known.learning = null;
    }
  }

  async function tryDialects(errand: Errand, known: Knowledge): Promise<Result> {
    const { kind } = errand.call;
    const asOwner = errand.owner !== null;
    const foreign = foreignTo(errand, known);
    const order = orderOf(kind, dependsOnHints(kind, asOwner) ? await hintsOf(errand) : null, asOwner);
    for (const dialect of order) {
      if (foreign.has(dialect)) continue;
      if (errand.endsAtMs <= clock.nowMs()) return noWord(false, 'timeout');
      if (!(await errand.isWanted())) return NOT_WANTED;
      const heard = hear(await ask(errand, dialect), { proven: false, nowMs: clock.nowMs() });
      if (heard.kind === 'answer') return orAsAnybody(errand, dialect, conclude(errand, known, dialect, heard));
      foreign.set(dialect, heard.kind);
    }
    const unauthenticated = [...foreign.values()].includes('unauthenticated');
    foreign.clear();
    if (unauthenticated) return { answer: { kind: 'refused' }, why: 'unauthorized', isItsWord: true };
    return noWord(false, 'dialect');
  }

  function conclude(errand: Errand, known: Knowledge, dialect: Dialect, heard: Result & { readonly settles: boolean }): Result {
    if (heard.settles) {
      const before = known.settled;
      const proven = heard.answer.kind === 'ok' || (before?.dialect === dialect && before.proven);
      // Asked once, in the background: a later 404 is believed to be the homeserver's own only if `/versions` is still answered then.
      if (proven && tells.get(errand.homeserver) === undefined) void versionsOf(errand.homeserver, LONGEST_VERSIONS_MS);
      known.settled = { dialect, proven };
      known.foreign.clear();
      if (before?.dialect !== dialect) deps.onDialect?.(errand.homeserver, dialect);
    }
    return { answer: heard.answer, why: heard.why, isItsWord: heard.isItsWord };
  }

  /**
   * The result, or where D refused us as the event's owner, that of a dialect in which whoever knows the id may act: a homeserver may have
   * one of those beside D. If that is refused as well, the first refusal stands.
   */
  async function orAsAnybody(errand: Errand, dialect: Dialect, result: Result): Promise<Result> {
    if (errand.owner === null || result.answer.kind !== 'refused' || needsNoOwner(dialect) || !(await errand.isWanted())) return result;
    const anybodys: Errand = { ...errand, owner: null };
    const known = knowledgeOf(anybodys);
    foreignTo(anybodys, known).set(dialect, 'unauthenticated');
    const without = await run(anybodys, known);
    if (without.answer.kind === 'refused' || (without.answer.kind === 'failed' && !without.answer.reached)) return result;
    if (result.why !== null) deps.onFailure?.(errand.homeserver, result.why);
    return without;
  }

  /**
   * One call, in the owner's name if we have it. Where whoever knows the id may act and that name is refused, it is made again without:
   * an application service that the homeserver has not loaded, or not for this user, must not stop what anybody may do. Nor must a user
   * whose calls are counted together with those of their own client (Synapse, unless the application service is exempt): all would have to
   * wait for whoever uses up that count.
   */
  async function ask(errand: Errand, dialect: Dialect): Promise<Reply> {
    const reply = await post(errand, dialect);
    const { homeserver, owner, isWanted } = errand;
    const refused = refusalOf(reply) ?? limitOf(reply);
    if (owner === null || refused === null || !needsNoOwner(dialect) || !(await isWanted())) return reply;
    const without = await post({ ...errand, owner: null }, dialect);
    if (refusalOf(without) !== null) return reply;
    // Its word is told of by itself.
    if (limitOf(without) !== refused) deps.onFailure?.(homeserver, refused);
    return without;
  }

  function post({ homeserver, call, owner, endsAtMs }: Errand, dialect: Dialect): Promise<Reply> {
    const { path, body } = write(dialect, call);
    const headers = { 'content-type': 'application/json', ...(owner && { authorization: `Bearer ${owner.asToken}` }) };
    const url = `${homeserver}${path}${owner ? asUser(owner.userId) : ''}`;
    return outbound.request({ method: 'POST', url, headers, body, timeoutMs: endsAtMs - clock.nowMs() });
  }

  async function hintsOf({ homeserver, endsAtMs }: Errand): Promise<Hints> {
    const before = hints.get(homeserver);
    if (before && clock.nowMs() - before.atMs < HINTS_MS) return before.found;
    const found = readHints(await versionsOf(homeserver, (endsAtMs - clock.nowMs()) * VERSIONS_SHARE));
    hints.set(homeserver, { found, atMs: clock.nowMs() });
    return found;
  }

  async function isThere({ homeserver, endsAtMs }: Errand): Promise<boolean> {
    return tellsVersions(await versionsOf(homeserver, endsAtMs - clock.nowMs())) || tells.get(homeserver) !== true;
  }

  async function versionsOf(homeserver: HomeserverUrl, leftMs: number): Promise<Reply> {
    const timeoutMs = Math.min(LONGEST_VERSIONS_MS, leftMs);
    tells.set(homeserver, tells.get(homeserver) ?? false);
    const reply = await outbound.request({ method: 'GET', url: `${homeserver}${VERSIONS_PATH}`, timeoutMs });
    if (tellsVersions(reply)) tells.set(homeserver, true);
    return reply;
  }

  function knowledgeOf({ homeserver, call, owner }: Errand): Knowledge {
    const key = `${call.kind}${owner ? ' as owner' : ''} ${homeserver}`;
    const known = memory.get(key) ?? { settled: null, learning: null, foreign: new Map() };
    memory.set(key, known);
    return known;
  }

  return { act, close: () => outbound.close() };
}
