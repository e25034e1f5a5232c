// The ending of a group that has been tried, or whose call is on its way: no other one may be sent.
import type { Action, LiveState } from '../state.ts';
import { never } from './moves.ts';

export function attemptedIn(state: LiveState): Action | null {
  switch (state.kind) {
    case 'awaiting':
      return state.attempted ?? null;
    case 'connected':
    case 'settling':
      return state.attempted;
    case 'leaving':
      return state.action;
    case 'cancelling':
      return null;
    default:
      return never(state);
  }
}
