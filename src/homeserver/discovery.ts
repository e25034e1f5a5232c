// From a server name to the base URL of its client-server API: the operator's override, else `.well-known/matrix/client`.
// Answers are remembered for as long as the server says, within bounds; one look-up at a time for each name.
import type { Cancel, Clock } from '../clock.ts';
import type { HomeserverUrl, ServerName } from '../delegation/ids.ts';
import { z } from '../library-parts.ts';
import { createLookUps, type Found } from './look-ups.ts';
import { splitServerName } from './names.ts';
import type { Outbound, Reply } from './outbound.ts';
import type { Served, ServedHomeserver } from './served.ts';
import { fetchWellKnown, isAway, validityMs } from './well-known.ts';

const TIMEOUT_MS = 10_000;
const MOST_NAMES = 1000;
const MINUTE_MS = 60_000;
const SUCCESS = { leastMs: MINUTE_MS, usualMs: 60 * MINUTE_MS, mostMs: 24 * 60 * MINUTE_MS };
/** Short, for a client whose hand-over is refused because its homeserver can't be resolved does without delegation from then on. */
const FAILURE_MS = 5_000;
/** While the web server is away, what it said before holds on: asked for again after so long, and not with each hand-over. */
const KEPT_MS = 30_000;

const WellKnown = z.object({ 'm.homeserver': z.object({ base_url: z.string() }) });

export type Resolved =
  | { readonly kind: 'resolved'; readonly url: HomeserverUrl }
  /** `why` is for the operator's log: it names no URL. */
  | { readonly kind: 'unresolvable'; readonly why: string };

export interface Discovery {
  /** Never rejects; answers within ten seconds. */
  resolve(homeserver: ServedHomeserver): Promise<Resolved>;
  /**
   * Resolves every listed name again and again, every few seconds until each is known. What a listed name leads to may be called at a
   * private address: after a restart of ours the base URLs in the store have to be known as such before anybody hands over again. And one
   * that leads elsewhere by now has to be noticed for the sake of those who handed over before.
   */
  warm(): Cancel;
}

export function createDiscovery(deps: { clock: Clock; served: Served; outbound: Outbound }): Discovery {
  const { clock, served, outbound } = deps;
  const known = createLookUps({ clock, most: MOST_NAMES, look: lookUp });

  async function resolve(homeserver: ServedHomeserver): Promise<Resolved> {
    if (homeserver.kind === 'url') return { kind: 'resolved', url: homeserver.url };
    const override = served.override(homeserver.name);
    if (override !== null) return { kind: 'resolved', url: override };
    return known(homeserver.name);
  }

  async function lookUp(name: ServerName, before: Resolved | null): Promise<Found<Resolved>> {
    const endsAtMs = clock.nowMs() + TIMEOUT_MS;
    let first: Resolved | null = null;
    let allAway = true;
    for (const host of wellKnownHosts(name)) {
      const reply = await fetchWellKnown(outbound, { of: 'client', host, timeoutMs: endsAtMs - clock.nowMs() });
      const value = read(name, reply);
      first ??= value;
      allAway &&= isAway(reply);
      if (value.kind === 'resolved' && reply.kind === 'answered') {
        return { value, validMs: validityMs(reply.headers, clock.nowMs(), SUCCESS) };
      }
    }
    if (allAway && before?.kind === 'resolved') return { value: before, validMs: KEPT_MS };
    return { value: first ?? { kind: 'unresolvable', why: 'not a server name' }, validMs: FAILURE_MS };
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
      if (stopped) return;
      // What was found is remembered for so long as it holds, so that most rounds cost nothing.
      const areKnown = answers.every(({ kind }) => kind === 'resolved');
      cancel = clock.after(areKnown ? SUCCESS.leastMs : FAILURE_MS, () => void round());
    };
    void round();
    return () => {
      stopped = true;
      cancel();
    };
  }
  return { resolve, warm };
}

/** The specification asks the host without the port. With it, servers are found that have nothing on 443. */
function wellKnownHosts(name: ServerName): readonly string[] {
  const split = splitServerName(name);
  return split === null || split.port === null ? [name] : [name, split.host];
}
