// A disk that takes long to write down what was committed keeps whoever was promised something waiting; and each time that SQLite's log is
// copied, restarts wait for some of its syncs, too, and short events may run out meanwhile. This says why.
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { onceAMinute } from '../once-a-minute.ts';

/** A copy takes three syncs, and of an event of 10 s there are 2 s left when its restart is due. */
const SLOW_MS = 500;

/** To be told of each sync, and how long it took. */
export function watchDisk({ clock, log }: { readonly clock: Pick<Clock, 'nowMs'>; readonly log: Pick<Log, 'warn'> }) {
  const mayTell = onceAMinute(clock);
  return (syncedMs: number): void => {
    if (syncedMs < SLOW_MS || !mayTell()) return;
    log.warn(
      { syncedMs },
      'the disk under LASTWILL_DATA_DIR is slow: hand-overs and webhooks wait for it, and events of seconds may run out',
    );
  };
}
