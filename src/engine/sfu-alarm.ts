// An SFU that does not do what it is asked: why, and what an operator can do, one line a minute. Nothing else would tell a wrong key from a
// wrong URL, and without the SFU's word nobody's departure is known for sure.
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { onceAMinute } from '../once-a-minute.ts';

/** `why` is what the call came to, as sfu/room-service.ts says it: "status 401", or what kept it from being answered. */
export function createSfuAlarm({ clock, log }: { readonly clock: Clock; readonly log: Log }): (why: string) => void {
  const mayTell = onceAMinute(clock);
  return (why) => {
    if (mayTell()) log.error({ why, advice: adviceFor(why) }, 'the SFU does not do what it is asked');
  };
}

function adviceFor(why: string): string {
  if (/^status 40[13]\b/.test(why)) return 'LIVEKIT_KEY and LIVEKIT_SECRET are not a pair of the SFU, or the clocks of the two differ';
  if (why.startsWith('status')) return 'what answers at LIVEKIT_URL may not be the SFU, or it fails';
  return (
    'lastwill itself calls the SFU at LIVEKIT_URL, not only clients do: it must be reachable from here, and a wss URL needs a ' +
    'certificate that is trusted here (NODE_EXTRA_CA_CERTS names an authority of your own)'
  );
}
