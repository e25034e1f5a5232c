// A homeserver may have another base URL by now than the one that a hand-over led to: its override was changed, or its .well-known. Where nobody
// answers for it at the one address, the call is made at the other, for either may be the right one. Which of them did what it was asked is
// remembered, and asked first from then on.
import { type Clock, within } from '../clock.ts';
import type { HomeserverUrl, UserId } from '../delegation/ids.ts';
import { LruMap } from '../lru-map.ts';
import type { Result } from './dialect.ts';

export interface MovedDeps {
  readonly clock: Clock;
  /** Where a user's homeserver is now, as far as is known. */
  readonly whereIs: (userId: UserId) => HomeserverUrl | null;
  /** Whether anything in the settings leads to this base URL. */
  readonly isLedTo: (homeserver: HomeserverUrl) => boolean;
}

export interface Asked {
  /** As it was handed over. */
  readonly homeserver: HomeserverUrl;
  readonly userId: UserId | null;
  readonly endsAtMs: number;
  /** Asked again before the second call. */
  readonly isWanted: () => Promise<boolean>;
  readonly callAt: (homeserver: HomeserverUrl) => Promise<Result>;
}
export interface Told extends Result {
  /** Who is to be told of. */
  readonly homeserver: HomeserverUrl;
}

/** The first address has so much of the time for itself. It may answer later as well, if the second does not. */
const FIRST_SHARE = 1 / 2;
const MOST_REMEMBERED = 1000;

/** Asks where the homeserver is. Rejects only if `isWanted` or `callAt` does. */
export function createMoved({ clock, whereIs, isLedTo }: MovedDeps): (asked: Asked) => Promise<Told> {
  /** By the address that was handed over: the one of both that last did what it was asked. */
  const foundAt = new LruMap<HomeserverUrl, HomeserverUrl>(MOST_REMEMBERED);
  /** Addresses that said nothing in their share of the time: the next time both are asked at once. */
  const silent = new LruMap<HomeserverUrl, boolean>(MOST_REMEMBERED);

  return async ({ homeserver: old, userId, endsAtMs, isWanted, callAt }) => {
    const call = async (homeserver: HomeserverUrl): Promise<Told> => ({ ...(await callAt(homeserver)), homeserver });
    const now = userId === null ? null : whereIs(userId);
    if (now === null || now === old) return call(old);
    const [one, other] = foundAt.get(old) === now ? [now, old] : [old, now];

    const first = call(one);
    const isDecided = hasItsWord(first, () => silent.set(one, false));
    const early = await within(clock, (endsAtMs - clock.nowMs()) * (silent.get(one) === true ? 0 : FIRST_SHARE), first);
    if (early === null) silent.set(one, true);
    if (isDecided() || endsAtMs <= clock.nowMs() || !(await isWanted()) || isDecided()) return remembered(old, await first);
    const second = call(other);
    const isDone = ({ answer }: Told): boolean => answer.kind === 'ok';
    const told = await Promise.race([
      first.then((result) => (result.isItsWord ? result : second)),
      second.then((result) => (isDone(result) ? result : first)),
    ]);
    if (isDone(told) || (told.homeserver === one && told.isItsWord)) return remembered(old, told);
    // The settings lead to this one and not to the old one, which has not shown that the events are there all the same.
    const isBelieved = other === now && foundAt.get(old) !== old && !isLedTo(old);
    return together(await first, await second, { now, isBelieved });
  };

  function remembered(old: HomeserverUrl, told: Told): Told {
    if (told.answer.kind === 'ok') foundAt.set(old, told.homeserver);
    return told;
  }
}

/**
 * What two addresses say of which neither did what it was asked, and the first has said nothing of its own. That the event is not at the
 * second, or may not be touched there, is no news unless its homeserver is `isBelieved` to be there: whoever handed it over may have named
 * another one than their own.
 */
function together(first: Told, second: Told, { now, isBelieved }: { now: HomeserverUrl; isBelieved: boolean }): Told {
  const { kind } = second.answer;
  if (kind === 'final' && isBelieved) return second;
  if ((kind === 'final' || kind === 'refused') && !isBelieved) return first;
  const told = second.homeserver === now ? second : first;
  // What may have been carried out at one may have been so whatever the other says.
  const isUnsure = [first, second].some(({ answer }) => answer.kind === 'failed' && answer.reached);
  return isUnsure ? { ...told, answer: { kind: 'failed', reached: true } } : told;
}

/** Whether the homeserver has answered by now, and not somebody in its place; `heard`: it does. */
function hasItsWord(called: Promise<Result>, heard: () => void): () => boolean {
  let has = false;
  called.then(
    ({ isItsWord }) => {
      has = isItsWord;
      if (has) heard();
    },
    () => {},
  );
  return () => has;
}
