// One lane for each homeserver: how many calls it gets at once, in which order, and when it gets none. A slow or dead homeserver
// fills only its own lane. Leaves go before restarts, restarts by earliest expiry, so that a limited budget saves the most.
import type { Clock } from '../clock.ts';
import type { HomeserverUrl } from '../delegation/ids.ts';
import type { Answer } from '../delegation/state.ts';

export interface Errand {
  /** A leave or a cancellation, as opposed to a restart. */
  readonly owed: boolean;
  /** When the homeserver's own timer runs out. */
  readonly expiryMs: number;
  /** Not begun by then: not at all, its evidence is stale. */
  readonly beginByMs: number;
  readonly work: () => Promise<Answer>;
}

export interface Lanes {
  /** Null: deferred, nothing was called; the row stays due and is claimed again when the lane takes more. */
  run(homeserver: HomeserverUrl, errand: Errand): Promise<Answer | null>;
  /** Homeservers that take no more of a kind now. */
  excluded(): { readonly restarts: ReadonlySet<HomeserverUrl>; readonly leaves: ReadonlySet<HomeserverUrl> };
}

interface Waiting extends Errand {
  readonly resolve: (answer: Answer | null) => void;
}

interface Lane {
  running: number;
  /** Grows by one with each success, halves with each failure, is one after a 429: found out, not configured. */
  cap: number;
  queue: Waiting[];
  blockedUntilMs: number;
  /** Somebody was turned away and waits to be called again. */
  owesCall: boolean;
}

/** As many connections as the pool behind it has. */
const MOST_AT_ONCE = 64;
const FIRST_AT_ONCE = 32;
const FEWEST_AT_ONCE = 2;
/** Waiting errands for each that may run: a burst fits, and a homeserver that fails, whose lane is narrow, keeps few. */
const QUEUE_FACTOR = 64;
const PAUSE_WITHOUT_HINT_MS = 1_000;
const LONGEST_PAUSE_MS = 300_000;
const MOST_LANES = 10_000;

export function createLanes(deps: { readonly clock: Clock; readonly onFree: () => void }): Lanes {
  const { clock, onFree } = deps;
  const lanes = new Map<HomeserverUrl, Lane>();

  function laneOf(homeserver: HomeserverUrl): Lane {
    const known = lanes.get(homeserver);
    if (known !== undefined) return known;
    if (lanes.size >= MOST_LANES) {
      for (const [key, lane] of lanes) if (isIdle(lane, clock.nowMs())) lanes.delete(key);
    }
    const lane: Lane = { running: 0, cap: FIRST_AT_ONCE, queue: [], blockedUntilMs: 0, owesCall: false };
    lanes.set(homeserver, lane);
    return lane;
  }

  const isFull = (lane: Lane, owed: boolean): boolean => lane.queue.length >= lane.cap * QUEUE_FACTOR * (owed ? 2 : 1);
  const isBlocked = (lane: Lane): boolean => clock.nowMs() < lane.blockedUntilMs;

  function pump(lane: Lane): void {
    while (lane.queue.length > 0 && !isBlocked(lane)) {
      const next = lane.queue[0] as Waiting;
      // Restarts leave a quarter of the lane free for leaves.
      if (lane.running >= (next.owed ? lane.cap : Math.ceil(lane.cap * 0.75))) break;
      lane.queue.shift();
      if (clock.nowMs() > next.beginByMs) next.resolve(null);
      else void begin(lane, next);
    }
    if (lane.owesCall && !isBlocked(lane) && lane.queue.length <= (lane.cap * QUEUE_FACTOR) / 2) {
      lane.owesCall = false;
      onFree();
    }
  }

  async function begin(lane: Lane, errand: Waiting): Promise<void> {
    lane.running += 1;
    const answer = await errand.work();
    lane.running -= 1;
    learn(lane, answer);
    errand.resolve(answer);
    pump(lane);
  }

  function learn(lane: Lane, answer: Answer): void {
    switch (answer.kind) {
      case 'limited':
        block(lane, Math.min(answer.retryAfterMs ?? PAUSE_WITHOUT_HINT_MS, LONGEST_PAUSE_MS));
        return;
      case 'failed':
        lane.cap = Math.max(Math.floor(lane.cap / 2), FEWEST_AT_ONCE);
        return;
      case 'ok':
      case 'final':
      case 'refused':
        lane.cap = Math.min(lane.cap + 1, MOST_AT_ONCE);
        return;
      default:
        answer satisfies never;
    }
  }

  /** Nobody is called before the homeserver wants it; who waits is turned away, to be called again in order of urgency. */
  function block(lane: Lane, pauseMs: number): void {
    lane.cap = 1;
    lane.blockedUntilMs = Math.max(lane.blockedUntilMs, clock.nowMs() + pauseMs);
    const turnedAway = lane.queue;
    lane.queue = [];
    lane.owesCall = true;
    for (const waiting of turnedAway) waiting.resolve(null);
    reopen(lane);
  }

  function reopen(lane: Lane): void {
    const restMs = lane.blockedUntilMs - clock.nowMs();
    // A timer may fire a moment early.
    if (restMs > 0) clock.after(restMs, () => reopen(lane));
    else pump(lane);
  }

  return {
    run: (homeserver, errand) => {
      const lane = laneOf(homeserver);
      if (isBlocked(lane) || isFull(lane, errand.owed)) {
        lane.owesCall = true;
        return Promise.resolve(null);
      }
      return new Promise((resolve) => {
        insert(lane.queue, { ...errand, resolve });
        pump(lane);
      });
    },
    excluded: () => {
      const restarts = new Set<HomeserverUrl>();
      const leaves = new Set<HomeserverUrl>();
      for (const [homeserver, lane] of lanes) {
        const blocked = isBlocked(lane);
        if (blocked || isFull(lane, false)) restarts.add(homeserver);
        if (blocked || isFull(lane, true)) leaves.add(homeserver);
        if (restarts.has(homeserver)) lane.owesCall = true;
      }
      return { restarts, leaves };
    },
  };
}

/** Keeps the queue in order of urgency; it is short, and most arrivals go to its end. */
function insert(queue: Waiting[], errand: Waiting): void {
  let at = queue.length;
  while (at > 0 && isMoreUrgent(errand, queue[at - 1] as Waiting)) at -= 1;
  queue.splice(at, 0, errand);
}

function isMoreUrgent(a: Errand, b: Errand): boolean {
  return a.owed === b.owed ? a.expiryMs < b.expiryMs : a.owed;
}

function isIdle(lane: Lane, nowMs: number): boolean {
  return lane.running === 0 && lane.queue.length === 0 && nowMs >= lane.blockedUntilMs;
}
