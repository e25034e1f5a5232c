// Where several processes share a store, the restarts with a homeserver that limits calls are one process's: several who each count only
// their own calls would spend more than it lets through.
import type { Clock } from '../clock.ts';
import type { HomeserverUrl } from '../delegation/ids.ts';
import { type Limit, RESERVED_MS } from '../store/store.ts';
import type { Lane } from './lane.ts';

export interface Reservations {
  /** Whether the restarts with it are ours now. */
  reserve(homeserver: HomeserverUrl, limit: Limit): Promise<boolean>;
  /** The homeservers whose restarts are others', and what these know of the limit. */
  theirs(): Promise<ReadonlyMap<HomeserverUrl, Limit>>;
}

export interface Agreement {
  /** From now on it is agreed upon, again and again, whose restarts are whose. */
  keep(): void;
  /** Makes the restarts of a lane ours, if its homeserver limits calls and they are nobody's. Rejects as the store does. */
  reserve(lane: Lane): Promise<void>;
}

export interface AgreementDeps {
  readonly clock: Clock;
  readonly reservations: Reservations;
  readonly lanes: () => Iterable<Lane>;
  readonly assign: (lane: Lane, ours: boolean) => void;
}

/** So that they stay ours, or become ours soon when the process that had them has died. */
const AGREE_EVERY_MS = RESERVED_MS / 3;

export function createAgreement({ clock, reservations, lanes, assign }: AgreementDeps): Agreement {
  let keeping = false;

  /** What others called before they knew is not in our count, so the limit is measured anew when all of them know. */
  async function reserve(lane: Lane): Promise<void> {
    const { limit } = lane.budget;
    if (!lane.ours) return;
    if (limit === null) {
      lane.aloneFromMs = null;
      lane.isAlone = false;
      return;
    }
    assign(lane, await reservations.reserve(lane.homeserver, limit));
    if (!lane.ours) return;
    const nowMs = clock.nowMs();
    lane.aloneFromMs ??= nowMs + 2 * AGREE_EVERY_MS;
    if (lane.isAlone || lane.aloneFromMs > nowMs) return;
    lane.isAlone = true;
    lane.budget.measureAnew();
  }

  async function agree(): Promise<void> {
    const theirs = await reservations.theirs();
    const all = [...lanes()];
    for (const lane of all) {
      const limit = theirs.get(lane.homeserver);
      if (limit !== undefined) lane.budget.adopt(limit);
      assign(lane, limit === undefined);
    }
    await Promise.all(all.map(reserve));
  }

  /** A store that is away changes nothing: who has made the restarts goes on with what is remembered. */
  function keep(): void {
    if (keeping) return;
    keeping = true;
    void agree()
      .catch(() => {})
      .then(() => {
        clock.after(AGREE_EVERY_MS, () => {
          keeping = false;
          keep();
        });
      });
  }
  return { keep, reserve };
}
