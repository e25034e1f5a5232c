// Where our own homeserver is: the one whose application service we are. Its address may be unknown for a while (its .well-known is down
// when we start); then it is looked for until it is found, for without it the as_token is not used, and restarts are refused or limited.
import type { Cancel, Clock } from '../clock.ts';
import type { HomeserverUrl, ServerName } from '../delegation/ids.ts';
import type { Discovery } from './discovery.ts';

export interface Home {
  readonly serverName: ServerName;
  /** As it was last found; null: never yet. */
  readonly url: HomeserverUrl | null;
  /** Resolves the name again, as discovery does; what was found before if that fails now. Never rejects. */
  resolve(): Promise<HomeserverUrl | null>;
  /** Resolves it again and again until cancelled. */
  watch(): Cancel;
}

export interface HomeDeps {
  readonly clock: Clock;
  readonly discovery: Discovery;
  readonly serverName: ServerName;
  /** Told of each try that found nothing. */
  readonly onUnresolved: (why: string) => void;
}

const AGAIN_MS = 60_000;
/** Sooner while it is unknown: until then calls about its users' events go without the token, and are refused where it is required. */
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
      // Discovery remembers what it found, so that most of these cost nothing.
      const round = (): void => void resolve().then(next);
      next();
      return () => {
        stopped = true;
        cancel();
      };
    },
  };
}
