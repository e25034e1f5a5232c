// An event that is handed over once more, by another owner of it or with another ending beside it: the newer delegation goes on from what the
// older one knew, for an SFU that is away just then can't tell it again.
import { haveOneEvent } from '../handles.ts';
import type { Awaiting, Common, Handles, LiveDelegation, LiveState } from '../state.ts';
import { attemptedIn } from './attempted.ts';
import { isProven } from './timeouts.ts';

type Known = Pick<LiveDelegation, 'state' | 'expiry'>;
type Fresh = Pick<LiveDelegation, 'expiry'> & { readonly state: Awaiting };
type HandedOver = Pick<Common, 'homeserver' | 'delayMs' | 'identities'> & { readonly handles: Handles };

/** What is known of the event of a hand-over that takes the place of `older`; `fresh`: of one that nothing was known of. */
export function knownOf(older: LiveDelegation | undefined, handOver: HandedOver, fresh: Fresh, nowMs: number): Known {
  if (older === undefined || older.homeserver !== handOver.homeserver || older.delayMs !== handOver.delayMs) return fresh;
  if (!haveOneEvent(older.handles, handOver.handles)) return fresh;
  const state = goesOn(older.state, handOver) ? carried(older) : anew(older.state, fresh.state);
  return { state, expiry: expiryBeside(older, fresh.expiry, nowMs) };
}

function anew(older: LiveState, fresh: Awaiting): Awaiting {
  const attempted = attemptedIn(older);
  return attempted === null ? fresh : { ...fresh, attempted };
}

/** Not where its session is not watched any more; and who has not come yet has the time for it anew. */
function goesOn(state: LiveState, { identities }: HandedOver): boolean {
  if (state.kind === 'awaiting' || state.kind === 'cancelling') return false;
  // An ending that was tried may have been carried out.
  if (state.kind === 'leaving' && state.attempts > 0) return true;
  return state.session !== null && identities.includes(state.session.identity);
}

function carried({ state, createdAtMs }: LiveDelegation): LiveState {
  return state.kind === 'connected' ? { ...state, handedOverMs: state.handedOverMs ?? createdAtMs } : state;
}

/**
 * An event that was restarted for another of its owners may run out when that says, and not as late as one that was scheduled a moment ago;
 * unless that is over, and its client must have restarted it since.
 */
function expiryBeside(older: LiveDelegation, fresh: LiveDelegation['expiry'], nowMs: number): LiveDelegation['expiry'] {
  const { earliestMs, latestMs, ranOutUnder } = older.expiry;
  if (isProven(older) && earliestMs > nowMs) return { earliestMs, latestMs: Math.max(latestMs, fresh.latestMs) };
  return ranOutUnder === undefined ? fresh : { ...fresh, ranOutUnder };
}
