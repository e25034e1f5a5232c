// Faults of homeservers that only an operator can mend: logged as errors with advice, at most once a minute for each homeserver and fault.
import type { Clock } from '../clock.ts';
import type { HomeserverUrl } from '../delegation/ids.ts';
import { type HomeserverFailure, ADVICE as UNCALLABLE } from '../homeserver/failures.ts';
import type { Log } from '../log.ts';

export interface Alarms {
  /** A call to this homeserver came to nothing; `overrun`: restarts ran out before their turn. */
  failed(homeserver: HomeserverUrl, why: HomeserverFailure | 'overrun'): void;
}

/** For 429, in the log and at /readyz. */
export const LIMITED_ADVICE =
  'the homeserver limits how often its delayed events may be managed: restarts may come too late (Synapse: raise rc_delayed_event_mgmt, or, from 1.156 on, configure LIVEKIT_AS_TOKEN of an application service with rate_limited: false; a leave is refused to users as well who have used up rc_message)';

/** Faults that stay until somebody does something. All others pass by themselves, and are only counted. */
const ADVICE: Readonly<Partial<Record<HomeserverFailure | 'overrun', string>>> = {
  limited: LIMITED_ADVICE,
  unauthorized:
    'the homeserver wants authentication for its delayed events, and has not got one that it knows: configure LIVEKIT_AS_TOKEN and LIVEKIT_HS_SERVER_NAME of an application service that it has loaded (Synapse wants none from 1.143 on)',
  forbidden:
    'the homeserver forbids the action on a delayed event: its sender may not send it now, it is too large, or the application service does not cover the user',
  dialect:
    'the homeserver does not know how delayed events are managed (MSC4140): Synapse does from 1.116 on, but only its main process: a reverse proxy must let such requests through, and not to a worker',
  overrun:
    'more restarts of delayed events come due than get through, and some run out: the homeserver is slow (lastwill_homeserver_request_seconds), or lastwill gets too little processor; or clients delegate short delays',
  ...UNCALLABLE,
};
const QUIET_MS = 60_000;
const MOST_REMEMBERED = 1_000;

export function createAlarms({ clock, log }: { readonly clock: Clock; readonly log: Log }): Alarms {
  const saidAtMs = new Map<string, number>();
  return {
    failed: (homeserver, why) => {
      const advice = ADVICE[why];
      const key = `${why} ${homeserver}`;
      const nowMs = clock.nowMs();
      if (advice === undefined || nowMs - (saidAtMs.get(key) ?? Number.NEGATIVE_INFINITY) < QUIET_MS) return;
      if (saidAtMs.size >= MOST_REMEMBERED) saidAtMs.clear();
      saidAtMs.set(key, nowMs);
      log.error({ homeserver, why, advice }, 'a homeserver needs an operator');
    },
  };
}
