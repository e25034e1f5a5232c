// From a server name to the base URL of its client-server API: the operator's override, else `.well-known/matrix/client`.
// Answers are remembered for as long as the server says, within bounds; one look-up at a time for each name.
import { z } from 'zod';
import type { Cancel, Clock } from '../clock.ts';
import type { HomeserverUrl, ServerName } from '../delegation/ids.ts';
import { splitServerName } from './names.ts';
import type { Outbound, Reply } from './outbound.ts';
import { Remembered } from './remembered.ts';
import type { Served, ServedHomeserver } from './served.ts';

const TIMEOUT_MS = 10_000;
const REDIRECTS = 5;
const MOST_NAMES = 1000;
const MINUTE_MS = 60_000;
const SUCCESS_MS = { least: MINUTE_MS, usual: 60 * MINUTE_MS, most: 24 * 60 * MINUTE_MS };
const FAILURE_MS = MINUTE_MS;

const WellKnown = z.object({ 'm.homeserver': z.object({ base_url: z.string() }) });

export type Resolved =
  | { readonly kind: 'resolved'; readonly url: HomeserverUrl }
  /** `why` is for the operator: it names no URL. */
  | { readonly kind: 'unresolvable'; readonly why: string };

export interface Discovery {
  /** Never throws, and answers within ten seconds. */
  resolve(homeserver: ServedHomeserver): Promise<Resolved>;
  /**
   * Resolves every listed name, again each minute until it is known. What a listed name leads to may be called at a private address,
   * and after a restart the stored base URLs have to be known as such before anyone resolves the name again.
   */
  warm(): Cancel;
}

interface Known {
  readonly answer: Promise<Resolved>;
  /** Null while the look-up runs. */
  untilMs: number | null;
}

export function createDiscovery(deps: { clock: Clock; served: Served; outbound: Outbound }): Discovery {
  const { clock, served, outbound } = deps;
  const known = new Remembered<ServerName, Known>(MOST_NAMES);

  async function resolve(homeserver: ServedHomeserver): Promise<Resolved> {
    if (homeserver.kind === 'url') return { kind: 'resolved', url: homeserver.url };
    const override = served.override(homeserver.name);
    if (override !== null) return { kind: 'resolved', url: override };
    const before = known.get(homeserver.name);
    if (before && (before.untilMs === null || before.untilMs > clock.nowMs())) return before.answer;
    const looking = lookUp(homeserver.name);
    const entry: Known = { answer: looking.then((found) => found.resolved), untilMs: null };
    known.set(homeserver.name, entry);
    const { validMs } = await looking;
    entry.untilMs = clock.nowMs() + validMs;
    return entry.answer;
  }

  async function lookUp(name: ServerName): Promise<{ resolved: Resolved; validMs: number }> {
    const endsAtMs = clock.nowMs() + TIMEOUT_MS;
    let first: Resolved | null = null;
    for (const host of wellKnownHosts(name)) {
      const url = `https://${host}/.well-known/matrix/client`;
      const reply = await outbound.request({ method: 'GET', url, timeoutMs: endsAtMs - clock.nowMs(), redirects: REDIRECTS });
      const resolved = read(name, reply);
      first ??= resolved;
      if (resolved.kind === 'resolved' && reply.kind === 'answered') return { resolved, validMs: validity(reply.headers['cache-control']) };
    }
    return { resolved: first ?? { kind: 'unresolvable', why: 'not a server name' }, validMs: FAILURE_MS };
  }

  function read(name: ServerName, reply: Reply): Resolved {
    const no = (why: string): Resolved => ({ kind: 'unresolvable', why });
    if (reply.kind === 'failed') return no(`the well-known could not be fetched: ${reply.why}`);
    if (reply.status !== 200) return no(`the well-known was answered with status ${reply.status}`);
    const parsed = WellKnown.safeParse(reply.json);
    if (!parsed.success) return no('the well-known holds no m.homeserver.base_url');
    const url = served.discovered(name, parsed.data['m.homeserver'].base_url);
    return url === null ? no('the well-known names a base URL that may not be called') : { kind: 'resolved', url };
  }

  function warm(): Cancel {
    let cancel: Cancel = () => {};
    let stopped = false;
    const round = async (): Promise<void> => {
      const answers = await Promise.all(served.listed.map((name) => resolve({ kind: 'name', name })));
      if (stopped || answers.every(({ kind }) => kind === 'resolved')) return;
      cancel = clock.after(FAILURE_MS, () => void round());
    };
    void round();
    return () => {
      stopped = true;
      cancel();
    };
  }
  return { resolve, warm };
}

/** The specification asks at the host without the port; servers that live on one port only are found with it. */
function wellKnownHosts(name: ServerName): readonly string[] {
  const split = splitServerName(name);
  return split === null || split.port === null ? [name] : [name, split.host];
}

/** How long an answer holds, by its Cache-Control header. */
function validity(cacheControl: string | undefined): number {
  if (cacheControl !== undefined && /\bno-(store|cache)\b/i.test(cacheControl)) return SUCCESS_MS.least;
  const seconds = /\bmax-age\s*=\s*"?(\d{1,10})/i.exec(cacheControl ?? '')?.[1];
  if (seconds === undefined) return SUCCESS_MS.usual;
  return Math.min(Math.max(Number(seconds) * 1000, SUCCESS_MS.least), SUCCESS_MS.most);
}
