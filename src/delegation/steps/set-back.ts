// A wall clock that was set back while nobody ran. Time is steady as long as a process runs, and rows keep it in Unix ms; so a row whose past
// lies ahead was written by a clock that went wrong, and whatever it waits for would come later by as much: a leave that is owed, the end of a
// wait, the word of a list that somebody is not there any more.
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
  return {
    ...row,
    createdAtMs: back(createdAtMs),
    expiry: { ...expiry, earliestMs: back(expiry.earliestMs), latestMs: back(expiry.latestMs) },
    history: history.map((step) => ({ ...step, atMs: back(step.atMs) })),
    state: setBack(state, back, nowMs),
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

function setBack(state: LiveState, back: (ms: number) => number, nowMs: number): LiveState {
  const due = (ms: number): number => Math.min(back(ms), nowMs);
  switch (state.kind) {
    case 'awaiting':
      return {
        ...state,
        connectByMs: back(state.connectByMs),
        nextAskMs: due(state.nextAskMs),
        departed: departedBefore(state.departed, back),
      };
    case 'connected': {
      const first = state.handedOverMs === undefined ? {} : { handedOverMs: back(state.handedOverMs) };
      return { ...state, seenAtMs: back(state.seenAtMs), restartDueMs: due(state.restartDueMs), ...first };
    }
    case 'settling':
      return { ...state, departure: departedBefore(state.departure, back), untilMs: back(state.untilMs), nextAskMs: due(state.nextAskMs) };
    case 'leaving': {
      const times = { onTimeUntilMs: back(state.onTimeUntilMs), confirmedAtMs: back(state.confirmedAtMs), nextTryMs: due(state.nextTryMs) };
      return { ...state, departure: departedBefore(state.departure, back), ...times };
    }
    case 'cancelling':
      return { ...state, sinceMs: back(state.sinceMs), nextTryMs: due(state.nextTryMs) };
    default:
      return never(state);
  }
}

function departedBefore<D extends { readonly atMs: number } | null>(departure: D, back: (ms: number) => number): D {
  return departure === null ? departure : { ...departure, atMs: back(departure.atMs) };
}
