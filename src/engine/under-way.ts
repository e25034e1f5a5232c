// The calls that a homeserver has got and not answered. One that hangs while later ones like it are answered has been lost, or waits for
// something of its own: that is no sign of a homeserver with too much to do, its place is another's, and nobody need wait for it.

export interface Begun {
  readonly beganMs: number;
  readonly isRestart: boolean;
  /** So many were under way already. */
  readonly beside: number;
  /** When the homeserver was called, Unix ms: before that it is looked whether that is wanted still. */
  readonly calledMs: number;
  /** Later ones have been answered. */
  readonly overtaken: boolean;
}

export interface UnderWay {
  /** Those that take a place. */
  readonly places: number;
  /** Restarts among them. */
  readonly restarts: number;
  readonly all: number;
  /** When the newest of them began, Unix ms. */
  readonly beganMs: number;
  /** `onOvertaken`: an answer to it is hardly to be expected any more. */
  begin(nowMs: number, isRestart: boolean, onOvertaken: () => void): Begun;
  called(call: Begun, nowMs: number): void;
  /** Who answers a call that was made so much later has answered the ones before, if ever. `limits`: or is about to refuse them. */
  answered(call: Begun, nowMs: number, limits: boolean): void;
  end(call: Begun): void;
}

/** A call that was made so much earlier than one that is answered has been overtaken, or so many times earlier as that one took if that is longer. */
const OVERTAKEN_MS = 200;
/** Synapse takes half a second to refuse a call: of what is taken for lost nobody would learn that it was refused. */
const REFUSED_MS = 1_000;
const OVERTAKEN_TIMES = 3;
/** More of them take places like all others. */
const MOST_OVERTAKEN = 128;

type Call = { -readonly [K in keyof Begun]: Begun[K] } & { readonly onOvertaken: () => void };

export function createUnderWay(): UnderWay {
  /** In the order in which they were called. Restarts are quicker than leaves, and are compared with restarts alone. */
  const [restarts, others] = [new Set<Call>(), new Set<Call>()];
  const inPlace = { restarts: 0, others: 0 };
  let overtaken = 0;
  let beganMs = 0;
  const alike = ({ isRestart }: Begun): Set<Call> => (isRestart ? restarts : others);
  const leavePlace = ({ isRestart }: Begun): void => {
    inPlace[isRestart ? 'restarts' : 'others'] -= 1;
  };

  return {
    get places() {
      return inPlace.restarts + inPlace.others + Math.max(overtaken - MOST_OVERTAKEN, 0);
    },
    get restarts() {
      return inPlace.restarts;
    },
    get all() {
      return inPlace.restarts + inPlace.others + overtaken;
    },
    get beganMs() {
      return beganMs;
    },
    begin: (nowMs, isRestart, onOvertaken) => {
      const beside = inPlace.restarts + inPlace.others + overtaken;
      inPlace[isRestart ? 'restarts' : 'others'] += 1;
      beganMs = nowMs;
      return { beganMs: nowMs, isRestart, beside, calledMs: nowMs, overtaken: false, onOvertaken } satisfies Call;
    },
    called: (begun, nowMs) => {
      const call = begun as Call;
      if (call.overtaken) return;
      call.calledMs = nowMs;
      alike(call).delete(call);
      alike(call).add(call);
    },
    answered: (call, nowMs, limits) => {
      const beforeMs = call.calledMs - Math.max(limits ? REFUSED_MS : OVERTAKEN_MS, (nowMs - call.calledMs) * OVERTAKEN_TIMES);
      for (const late of alike(call)) {
        if (late.calledMs > beforeMs) return;
        alike(call).delete(late);
        leavePlace(late);
        late.overtaken = true;
        overtaken += 1;
        late.onOvertaken();
      }
    },
    end: (call) => {
      if (call.overtaken) overtaken -= 1;
      else leavePlace(call);
      alike(call).delete(call as Call);
    },
  };
}
