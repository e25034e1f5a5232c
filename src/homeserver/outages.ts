// Which homeserver does not do what it is asked, and since when. Each call that fails is repeated, so one alone is worth no line of the log;
// but whoever sees a ghost has to find there whose outage it was.
import type { Clock } from '../clock.ts';
import type { HomeserverUrl } from '../delegation/ids.ts';
import { LruMap } from '../lru-map.ts';
import type { HomeserverFailure } from './failures.ts';

export interface Outage {
  readonly homeserver: HomeserverUrl;
  readonly why: HomeserverFailure;
  /** How long it has been so. */
  readonly lastedMs: number;
}

export interface Outages {
  failed(homeserver: HomeserverUrl, why: HomeserverFailure): void;
  /** It did what it was asked, or said why not. */
  answered(homeserver: HomeserverUrl): void;
}

export interface OutagesDeps {
  readonly clock: Pick<Clock, 'nowMs'>;
  /** Which homeservers are asked is for whoever hands over to say. What may not be told now is told at one of its next failures. */
  readonly mayTell: () => boolean;
  /** Told when it has lasted a while, and again now and then. */
  readonly onOutage: (outage: Outage) => void;
  /** Told of those that were told of. */
  readonly onEnd: (outage: Outage) => void;
}

interface Known {
  readonly sinceMs: number;
  readonly why: HomeserverFailure;
  readonly failedAtMs: number;
  readonly saidAtMs: number | null;
}

/** What passes by itself. All else is told with advice (engine/alarms.ts). */
const PASSING: ReadonlySet<HomeserverFailure> = new Set<HomeserverFailure>(['timeout', 'refused', 'status_5xx', 'garbage']);
/** So long it may fail without a word: a restart of a homeserver's proxy. */
const BRIEF_MS = 5_000;
const AGAIN_MS = 600_000;
/** Not called for so long, it is not known what it did meanwhile: a leave is tried once a minute at least. */
const UNKNOWN_MS = 300_000;
const MOST_REMEMBERED = 1_000;

export function createOutages({ clock, mayTell, onOutage, onEnd }: OutagesDeps): Outages {
  const known = new LruMap<HomeserverUrl, Known>(MOST_REMEMBERED);
  return {
    failed: (homeserver, why) => {
      if (!PASSING.has(why)) return;
      const nowMs = clock.nowMs();
      const before = known.get(homeserver);
      const isSame = before !== undefined && nowMs - before.failedAtMs < UNKNOWN_MS;
      const { sinceMs, saidAtMs } = isSame ? before : { sinceMs: nowMs, saidAtMs: null };
      const isTold = nowMs - sinceMs >= BRIEF_MS && (saidAtMs === null || nowMs - saidAtMs >= AGAIN_MS) && mayTell();
      known.set(homeserver, { sinceMs, why, failedAtMs: nowMs, saidAtMs: isTold ? nowMs : saidAtMs });
      if (isTold) onOutage({ homeserver, why, lastedMs: nowMs - sinceMs });
    },
    answered: (homeserver) => {
      if (known.size === 0) return;
      const before = known.get(homeserver);
      if (before === undefined) return;
      known.delete(homeserver);
      if (before.saidAtMs !== null) onEnd({ homeserver, why: before.why, lastedMs: clock.nowMs() - before.sinceMs });
    },
  };
}
