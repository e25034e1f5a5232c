// Connections that are made anew now and then. One that is never idle would go on to the address that its name had at first: who has moved, and
// has left something behind that still answers (a proxy whose backend is gone), would be called there until the end.
import type { Dispatcher } from 'undici';
import type { Clock } from '../clock.ts';

/** For about so long what a name service says is used anyway. To make them anew takes a moment for each that is in use. */
const KEPT_MS = 60_000;

export interface Renewing {
  readonly dispatch: Dispatcher['dispatch'];
  /** Ends what is under way, save what was begun before the last renewal. */
  destroy(): Promise<void>;
}

/** `make` makes a dispatcher without connections. What is under way by the one before is finished there, and holds no other connection. */
export function renewing(clock: Pick<Clock, 'nowMs'>, make: () => Dispatcher): Renewing {
  let newest = make();
  let madeMs = clock.nowMs();

  function renewed(): Dispatcher {
    if (clock.nowMs() - madeMs < KEPT_MS) return newest;
    const before = newest;
    [newest, madeMs] = [make(), clock.nowMs()];
    before.close().catch(() => {});
    return newest;
  }

  return { dispatch: (options, handler) => renewed().dispatch(options, handler), destroy: () => newest.destroy() };
}
