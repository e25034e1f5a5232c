// Where our own homeserver is: the one whose application service we are. Its address may be unknown for a while (a well-known that is
// down when we start), and then it is looked for until it is found: a token that is not used would cost restarts, and so memberships.
import type { Cancel, Clock } from '../clock.ts';
import type { HomeserverUrl, ServerName } from '../delegation/ids.ts';
import type { Discovery } from './discovery.ts';

export interface Home {
  readonly serverName: ServerName;
  /** As it was last found, null before. */
  readonly url: HomeserverUrl | null;
  /** Looks again if it is time to; falls back on what was found before. Never throws. */
  resolve(): Promise<HomeserverUrl | null>;
  /** Keeps looking, and tells of each look that finds nothing. */
  watch(): Cancel;
}

export interface HomeDeps {
  readonly clock: Clock;
  readonly discovery: Discovery;
  readonly serverName: ServerName;
  readonly onUnresolved: (why: string) => void;
}

const AGAIN_MS = 60_000;
/** While it is unknown, calls about its users' events go without the token, and are refused where it is required. */
const UNKNOWN_AGAIN_MS = 5_000;

export function createHome({ clock, discovery, serverName, onUnresolved }: HomeDeps): Home {
  let url: HomeserverUrl | null = null;

  async function resolve(): Promise<HomeserverUrl | null> {
    const resolved = await discovery.resolve({ kind: 'name', name: serverName });
    if (resolved.kind === 'resolved') url = resolved.url;
    else onUnresolved(resolved.why);
    return url;
  }

  return {
    serverName,
    get url() {
      return url;
    },
    resolve,
    watch: () => {
      let stopped = false;
      let cancel: Cancel = () => {};
      const next = (): void => {
        if (!stopped) cancel = clock.after(url === null ? UNKNOWN_AGAIN_MS : AGAIN_MS, round);
      };
      // What holds is remembered by the discovery, so that most of these cost nothing.
      const round = (): void => void resolve().then(next);
      next();
      return () => {
        stopped = true;
        cancel();
      };
    },
  };
}
