// How many homeservers are asked about tokens at once. Anyone may name any, and one that does not answer holds sockets for seconds: the
// names of a stranger who makes them up would in time hold all that this process may open, and each restart needs one of them. So there is
// an end, for those who have not shown yet that they are homeservers.
import type { ServerName } from '../delegation/ids.ts';
import { Remembered } from '../remembered.ts';

const MOST_AT_ONCE = 256;
const MOST_PROVEN = 1_000;

/** Called once it has been asked; `isReal`: it has named a user of its own. */
export type Leave = (isReal: boolean) => void;

export interface Strangers {
  /** Null: too many others are being asked. What is asked already may be asked for another token as well. */
  enter(name: ServerName): Leave | null;
}

export function createStrangers(isListed: (name: ServerName) => boolean): Strangers {
  const proven = new Remembered<ServerName, true>(MOST_PROVEN);
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
