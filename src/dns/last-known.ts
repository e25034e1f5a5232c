// The last known addresses of a name, for when the name service is slow or away: an outage of DNS must not take anybody's homeserver away.
// Apart from that a name is resolved anew for each connection, so that a new address is used as soon as it is published.
import type { LookupAddress } from 'node:dns';
import type { Clock } from '../clock.ts';
import { LruMap } from '../lru-map.ts';
import { type Resolve, saysNoAddress } from './resolve.ts';

/** A healthy name service has answered by then, and whoever waits for it may be a restart with a deadline. */
const PATIENCE_MS = 500;
/** In time an address is given to somebody else. RFC 8767 (serving stale data) suggests one to three days. */
const KEPT_MS = 24 * 3_600_000;
const MOST_NAMES = 1_000;

interface Known {
  /** Empty: the answer was that there are none. */
  readonly addresses: readonly LookupAddress[];
  readonly foundMs: number;
}

interface Asked {
  readonly atMs: number;
  readonly answer: ReturnType<Resolve>;
}

/** `resolve`, with a memory. One question at a time for each name: whoever asks meanwhile gets the same answer. */
export function lastKnown({ clock, resolve }: { readonly clock: Clock; readonly resolve: Resolve }): Resolve {
  const known = new LruMap<string, Known>(MOST_NAMES);
  const underWay = new Map<string, Asked>();

  function ask(host: string): Asked {
    const asked = { atMs: clock.nowMs(), answer: resolve(host) };
    underWay.set(host, asked);
    const learn = (addresses: readonly LookupAddress[] | null): void => {
      underWay.delete(host);
      if (addresses !== null) known.set(host, { addresses, foundMs: clock.nowMs() });
    };
    asked.answer.then(learn, (error: unknown) => learn(saysNoAddress(error) ? [] : null));
    return asked;
  }

  /** The answer, or what was known before where it is late or none. */
  function inTime({ atMs, answer }: Asked, { addresses }: Known): ReturnType<Resolve> {
    return new Promise((done, failed) => {
      const stop = clock.after(atMs + PATIENCE_MS - clock.nowMs(), () => done(addresses));
      answer.then(done, (error: unknown) => (saysNoAddress(error) ? failed(error) : done(addresses))).finally(stop);
    });
  }

  return (host) => {
    const before = known.get(host);
    const asked = underWay.get(host) ?? ask(host);
    const isUsable = before !== undefined && before.addresses.length > 0 && clock.nowMs() < before.foundMs + KEPT_MS;
    return isUsable ? inTime(asked, before) : asked.answer;
  };
}
