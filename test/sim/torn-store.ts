// The store as one process sees it: commits that die before they are made, or after and before anybody hears of it; a disk that is full
// for a while. A kill loses exactly what was not committed. Steps may run more than once, as the contract allows.
import type { Claim, Claimed, Store, Urgency } from '../../src/store/store.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import type { Chance } from './chance.ts';
import type { Process } from './timeline.ts';

export interface TornStoreDeps {
  readonly base: Store;
  readonly process: Process;
  readonly chance: Chance;
  readonly isAway: () => boolean;
  /** Behind a network: it can't be read either while it is away. */
  readonly remote: boolean;
  readonly failRate: number;
  readonly onFault: () => void;
  readonly wait: (ms: number) => Promise<void>;
  readonly mayDie: (process: Process, where: string) => void;
}

const SOON_MS = 5;

export function createTornStore(deps: TornStoreDeps): Store {
  const { base, process, chance, isAway, mayDie } = deps;
  const never = <T>(): Promise<T> => new Promise(() => {});
  const away = (): boolean => isAway() || chance.happens('store fails', deps.failRate);

  async function write<T>(commit: () => Promise<T>, urgency: Urgency = 'now'): Promise<T> {
    // What nobody waits for is committed in company, a moment later.
    if (urgency === 'soon') await process.hears(deps.wait(SOON_MS));
    mayDie(process, 'before a commit');
    if (!process.alive) return never();
    if (away()) {
      deps.onFault();
      return unavailable();
    }
    const done = commit();
    // What is thrown in here is the caller's business; a death in between must not be heard as a rejection.
    done.catch(() => {});
    const result = await process.hears(done);
    mayDie(process, 'after a commit');
    return process.alive ? result : never();
  }
  const unavailable = <T>(): Promise<T> => process.hears(Promise.reject(new StoreUnavailable('the store of the simulation is away')));
  const read = <T>(look: () => Promise<T>): Promise<T> => {
    if (!process.alive) return never();
    return deps.remote && isAway() ? unavailable() : process.hears(look());
  };

  return {
    update: (where, once, step, urgency) =>
      write(
        () =>
          base.update(where, once, (rows) => {
            if (chance.happens('a step runs again', 0.05)) step(rows);
            return step(rows);
          }),
        urgency,
      ),
    durable: () => write(() => base.durable()),
    claimDue: (...asked: Parameters<Store['claimDue']>): Promise<readonly Claimed[]> => read(() => base.claimDue(...asked)),
    holds: (...args) => read(() => base.holds(...args)),
    release: (claim: Claim) => read(() => base.release(claim)),
    nextDueMs: (afterMs) => read(() => base.nextDueMs(afterMs)),
    rooms: (...slots) => read(() => base.rooms(...slots)),
    pause: (...told) => base.pause(...told),
    reserve: (...asked) => read(() => base.reserve(...asked)),
    reservations: () => read(() => base.reservations()),
    count: () => read(() => base.count()),
    purge: (old) => write(() => base.purge(old)),
    ping: () => write(() => base.ping()),
    close: () => base.close(),
  };
}
