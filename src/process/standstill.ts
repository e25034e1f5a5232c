// A process that stood still (stopped, its machine suspended, without processor or memory) could keep nobody's event alive meanwhile. What
// ran out is counted as a false leave once it is found; this says why.
import type { Cancel, Clock } from '../clock.ts';
import type { Log } from '../log.ts';

const TICK_MS = 1_000;
/** Of an event of 10 s so much is left when its restart is due. */
const HARMLESS_MS = 2_000;

export function watchStandstill({ clock, log }: { readonly clock: Clock; readonly log: Pick<Log, 'warn'> }): Cancel {
  let tickedMs = clock.nowMs();
  return clock.everySecond(() => {
    const nowMs = clock.nowMs();
    const stoodStillMs = nowMs - tickedMs - TICK_MS;
    tickedMs = nowMs;
    if (stoodStillMs < HARMLESS_MS) return;
    log.warn(
      { stoodStillMs },
      'this process stood still, and events may have run out: it, its container or its machine was stopped or suspended, or had too little processor or memory',
    );
  });
}
