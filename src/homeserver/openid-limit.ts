// How many of the strangers' homeservers may be asked about OpenID tokens at once. Anyone may name any host as their homeserver, and one that
// does not answer holds sockets, and the connection of whoever named it, for seconds: made-up names could hold all that there are. Those that
// the operator named are asked by another way (service.ts), and always.
import type { Clock } from '../clock.ts';
import type { ServerName } from '../delegation/ids.ts';
import { LruMap } from '../lru-map.ts';

const MOST_AT_ONCE = 256;
/** How many homeservers are remembered as real. */
const MOST_PROVEN = 1_000;
/** Once half of all tokens that may be asked about at once are, each homeserver may have this part of all. */
const SHARE_AMONG_MANY = 1 / 32;
/**
 * One that has named a user of its own so lately is at work, however many of its tokens there are: a crowd whose SFU has restarted comes back at
 * once. It may have as many as all together.
 */
const AT_WORK_MS = 2_000;

/** To be called once the homeserver has been asked. `isReal`: it has named a user of its own, and counts as known from now on. */
export type Leave = (isReal: boolean) => void;

export interface OpenIdLimit {
  /** Takes a place for a token of this homeserver. Null: there is none left, and it must not be asked. */
  enter(name: ServerName): Leave | null;
}

/** `mostTokens`: at once, of all of them together. */
export function createOpenIdLimit(mostTokens: number, clock: Pick<Clock, 'nowMs'>): OpenIdLimit {
  /** When each has last named a user of its own, Unix ms. */
  const proven = new LruMap<ServerName, number>(MOST_PROVEN);
  const asked = new Map<ServerName, number>();
  let tokens = 0;

  function mayAsk(name: ServerName, others: number): boolean {
    const provenMs = proven.get(name) ?? Number.NEGATIVE_INFINITY;
    const isKnown = others > 0 || provenMs > Number.NEGATIVE_INFINITY;
    if ((!isKnown && asked.size >= MOST_AT_ONCE) || tokens >= mostTokens) return false;
    const isAtWork = clock.nowMs() - provenMs < AT_WORK_MS;
    return isAtWork || tokens < mostTokens / 2 || others < Math.max(mostTokens * SHARE_AMONG_MANY, 1);
  }

  return {
    enter: (name) => {
      const others = asked.get(name) ?? 0;
      if (!mayAsk(name, others)) return null;
      asked.set(name, others + 1);
      tokens += 1;
      return (isReal) => {
        const left = (asked.get(name) ?? 1) - 1;
        if (left === 0) asked.delete(name);
        else asked.set(name, left);
        tokens -= 1;
        if (isReal) proven.set(name, clock.nowMs());
      };
    },
  };
}
