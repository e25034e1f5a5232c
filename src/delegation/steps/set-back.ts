// A wall clock that was set back while nobody ran. Time is steady as long as a process runs, and rows keep it in Unix ms; so a row whose past
// lies ahead was written by a clock that went wrong, and whatever it waits for would come later by as much: a leave that is owed, the end of a
// wait, the word of a list that somebody is not there any more. So it is with rows that are copied to where another clock is gone by.
import type { LiveDelegation, LiveState, Policy } from '../state.ts';
import { CLOCKS_MS } from './clocks.ts';
import { never } from './moves.ts';

/** Nobody who is owed a call waits longer for another try (retry.ts), and no SFU that is away for another question, nor a member to connect. */
const LONGEST_PAUSE_MS = 300_000;

/**
 * The row as if the last that is known of it had been a moment ago, and with something to do now: for how long nobody ran can't be told. The
 * same object: no clock was set back.
 */
export function inTimeOf(row: LiveDelegation, nowMs: number, { waitMs }: Pick<Policy, 'waitMs'>): LiveDelegation {
  const { createdAtMs, expiry, history, state, delayMs } = row;
  const longestWaitMs = Math.max(...Object.values(waitMs));
  const aheadMs = Math.max(history.at(-1)?.atMs ?? createdAtMs, expiry.earliestMs - delayMs, pastOf(state, delayMs, longestWaitMs)) - nowMs;
  if (aheadMs <= CLOCKS_MS) return row;
  const back = (ms: number): number => ms - aheadMs - CLOCKS_MS;
  return moved(row, back, (ms) => Math.min(back(ms), nowMs));
}

/** The same row where another clock is gone by, which is ahead by so much. */
export function byAnotherClock(row: LiveDelegation, aheadMs: number): LiveDelegation {
  const ahead = (ms: number): number => ms + aheadMs;
  return moved(row, ahead, ahead);
}

type Move = (ms: number) => number;

function moved(row: LiveDelegation, to: Move, due: Move): LiveDelegation {
  const { createdAtMs, expiry, history, state } = row;
  return {
    ...row,
    createdAtMs: to(createdAtMs),
    expiry: { ...expiry, earliestMs: to(expiry.earliestMs), latestMs: to(expiry.latestMs) },
    history: history.map((step) => ({ ...step, atMs: to(step.atMs) })),
    state: stateMoved(state, to, due),
  };
}

/**
 * A moment that was over when the row was written, the latest that the state tells of. What it waits for counts as well: a clock that was ahead
 * for one run may have put off nothing but that.
 */
function pastOf(state: LiveState, delayMs: number, longestWaitMs: number): number {
  switch (state.kind) {
    case 'awaiting': {
      const connectMs = state.connectByMs - Math.max(LONGEST_PAUSE_MS, longestWaitMs);
      return Math.max(state.departed?.atMs ?? Number.NEGATIVE_INFINITY, connectMs, state.nextAskMs - LONGEST_PAUSE_MS);
    }
    case 'connected':
      return Math.max(state.seenAtMs, state.restartDueMs - Math.max(LONGEST_PAUSE_MS, delayMs));
    case 'settling':
      return Math.max(state.departure.atMs, state.untilMs - longestWaitMs, state.nextAskMs - Math.max(LONGEST_PAUSE_MS, longestWaitMs));
    case 'leaving':
      return Math.max(state.departure.atMs, state.confirmedAtMs, state.nextTryMs - LONGEST_PAUSE_MS);
    case 'cancelling':
      return Math.max(state.sinceMs, state.nextTryMs - LONGEST_PAUSE_MS);
    default:
      return never(state);
  }
}

function stateMoved(state: LiveState, to: Move, due: Move): LiveState {
  switch (state.kind) {
    case 'awaiting':
      return {
        ...state,
        connectByMs: to(state.connectByMs),
        nextAskMs: due(state.nextAskMs),
        departed: departureMoved(state.departed, to),
      };
    case 'connected': {
      const first = state.handedOverMs === undefined ? {} : { handedOverMs: to(state.handedOverMs) };
      return { ...state, seenAtMs: to(state.seenAtMs), restartDueMs: due(state.restartDueMs), ...first };
    }
    case 'settling':
      return { ...state, departure: departureMoved(state.departure, to), untilMs: to(state.untilMs), nextAskMs: due(state.nextAskMs) };
    case 'leaving': {
      const times = { onTimeUntilMs: to(state.onTimeUntilMs), confirmedAtMs: to(state.confirmedAtMs), nextTryMs: due(state.nextTryMs) };
      return { ...state, departure: departureMoved(state.departure, to), ...times };
    }
    case 'cancelling':
      return { ...state, sinceMs: to(state.sinceMs), nextTryMs: due(state.nextTryMs) };
    default:
      return never(state);
  }
}

function departureMoved<D extends { readonly atMs: number } | null>(departure: D, to: Move): D {
  return departure === null ? departure : { ...departure, atMs: to(departure.atMs) };
}
