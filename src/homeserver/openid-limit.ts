// How many unknown homeservers may be asked about OpenID tokens at once. Anyone may name any host as their homeserver, and one that does
// not answer holds sockets for seconds: made-up names could hold every socket that this process may open, and each restart needs one.
// The limit is on homeservers, not on tokens, and those that the operator named or that have named a user of their own are exempt.
import type { ServerName } from '../delegation/ids.ts';
import { LruMap } from '../lru-map.ts';

const MOST_AT_ONCE = 256;
/** How many homeservers are remembered as real. */
const MOST_PROVEN = 1_000;

/** To be called once the homeserver has been asked. `isReal`: it has named a user of its own, and is exempt from now on. */
export type Leave = (isReal: boolean) => void;

export interface OpenIdLimit {
  /** Takes a place for this homeserver, or shares the one that it has. Null: there is none left, and it must not be asked. */
  enter(name: ServerName): Leave | null;
}

export function createOpenIdLimit(isListed: (name: ServerName) => boolean): OpenIdLimit {
  const proven = new LruMap<ServerName, true>(MOST_PROVEN);
  const asked = new Map<ServerName, number>();

  return {
    enter: (name) => {
      const others = asked.get(name) ?? 0;
      const isKnown = others > 0 || isListed(name) || proven.get(name) === true;
      if (!isKnown && asked.size >= MOST_AT_ONCE) return null;
      asked.set(name, others + 1);
      return (isReal) => {
        const left = (asked.get(name) ?? 1) - 1;
        if (left === 0) asked.delete(name);
        else asked.set(name, left);
        if (isReal) proven.set(name, true);
      };
    },
  };
}
