// The calls that a homeserver has got and not answered. One that hangs while later ones are answered has been lost, or waits for something of
// its own: that is no sign of a homeserver with too much to do, and its place is another's.

export interface Begun {
  readonly beganMs: number;
  readonly isRestart: boolean;
  /** So many were under way already. */
  readonly beside: number;
  /** Later ones have been answered. */
  overtaken: boolean;
}

export interface UnderWay {
  /** Those that take a place. */
  readonly places: number;
  /** Restarts among them. */
  readonly restarts: number;
  readonly all: number;
  /** When the newest of them began. */
  readonly beganMs: number;
  begin(beganMs: number, isRestart: boolean): Begun;
  /** Who answers a call that was sent so much later answers the ones before, if ever. */
  answered(call: Begun, nowMs: number): void;
  end(call: Begun): void;
}

/** A call that began so much earlier than one that is answered has been overtaken, or so much earlier as that one took if that is longer. */
const OVERTAKEN_MS = 200;
/** More of them take places like all others. */
const MOST_OVERTAKEN = 128;

export function createUnderWay(): UnderWay {
  /** In the order in which they began. */
  const inPlace = new Set<Begun>();
  let restarts = 0;
  let overtaken = 0;
  let beganMs = 0;

  function leavePlace(call: Begun): void {
    if (inPlace.delete(call) && call.isRestart) restarts -= 1;
  }

  return {
    get places() {
      return inPlace.size + Math.max(overtaken - MOST_OVERTAKEN, 0);
    },
    get restarts() {
      return restarts;
    },
    get all() {
      return inPlace.size + overtaken;
    },
    get beganMs() {
      return beganMs;
    },
    begin: (atMs, isRestart) => {
      const call = { beganMs: atMs, isRestart, beside: inPlace.size + overtaken, overtaken: false };
      inPlace.add(call);
      if (isRestart) restarts += 1;
      beganMs = atMs;
      return call;
    },
    answered: (call, nowMs) => {
      const beforeMs = call.beganMs - Math.max(OVERTAKEN_MS, nowMs - call.beganMs);
      for (const other of inPlace) {
        if (other.beganMs > beforeMs) return;
        leavePlace(other);
        other.overtaken = true;
        overtaken += 1;
      }
    },
    end: (call) => {
      if (call.overtaken) overtaken -= 1;
      else leavePlace(call);
    },
  };
}
