// Tells the operator of a transition after its commit: a log line, and the metrics of leaves, ghosts and false leaves.
import { dueAtMs } from '../delegation/decide.ts';
import type { Delegation, Ended, Event, LiveDelegation } from '../delegation/state.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { WebhookWatch } from './webhook-watch.ts';

/** A row before and after a committed event. */
export interface Transition {
  readonly before: Delegation;
  readonly after: Delegation;
  readonly event: Event['kind'];
}

export interface Observer {
  committed(transition: Transition, nowMs: number): void;
}

export function createObserver(log: Log, metrics: Metrics, watch: WebhookWatch): Observer {
  return {
    committed: ({ before, after, event }, nowMs) => {
      if (before.state.kind !== after.state.kind) {
        const { state } = after;
        const fields = {
          delegation: after.id,
          room: after.room,
          identity: after.identities[0],
          homeserver: after.homeserver,
          event,
          from: before.state.kind,
          to: state.kind,
        };
        const detail = {
          sid: sidOf(after),
          due_at: dueAtMs(state),
          ...(state.kind === 'ended' ? { outcome: state.outcome, cause: state.cause, sin: state.sin } : {}),
        };
        // Where only warnings are logged, what lastwill is there to prevent has to be among them.
        const isSin = state.kind === 'ended' && state.sin !== null;
        log[isSin ? 'warn' : 'info']({ ...fields, ...detail }, 'delegation moved');
      }
      if (before.handles !== null && after.state.kind === 'ended') count(before, after.state, nowMs);
    },
  };

  function count(before: LiveDelegation, ended: Ended, nowMs: number): void {
    if (ended.sin === 'false-leave') metrics.falseLeave();
    if (ended.sin === 'ghost') metrics.ghost(ended.cause ?? 'missing');
    if (before.state.kind !== 'leaving' || ended.cause === null) return;
    metrics.leave(ended.cause, ended.outcome);
    if (ended.outcome !== 'sent') return;
    if (ended.cause === 'missing') watch.missed();
    if (ended.tookMs !== null) metrics.departureToLeave(ended.cause, ended.tookMs);
    if (nowMs < before.expiry.earliestMs) metrics.ghostAvoided(ended.cause);
  }
}

function sidOf(row: Delegation): string | null {
  switch (row.state.kind) {
    case 'connected':
    case 'settling':
      return row.state.session.sid;
    case 'leaving':
      return row.state.session?.sid ?? null;
    case 'awaiting':
    case 'cancelling':
    case 'ended':
      return null;
    default:
      return row.state satisfies never;
  }
}
