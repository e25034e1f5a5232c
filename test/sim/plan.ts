// What a simulated run is made of, as plain data drawn by fast-check: who is there, what is done when, and which faults there are. Faults
// are drawn anew for each run (a run without webhook losses finds other things than one with many), and a failing plan shrinks.
import fc from 'fast-check';
import type { Policy } from '../../src/delegation/state.ts';

export type Dialect = 'A' | 'B' | 'C' | 'D';

export interface HomeserverPlan {
  readonly dialect: Dialect;
  /** Calls without the as_token: so many a second, and at once. Null: any number. */
  readonly limit: { readonly perSecond: number; readonly burst: number } | null;
  readonly latencyMs: number;
  readonly asToken: boolean;
}

export interface MemberPlan {
  readonly room: number;
  readonly homeserver: number;
  readonly delayMs: number;
  /** Another ending for a lost connection; tokens (dialect A) only. */
  readonly lost: boolean;
  /** When it joins first; null: its steps say. */
  readonly joinsAtMs: number | null;
  /** Two names on the SFU, of which it uses the second. */
  readonly compatible: boolean;
  /** Hands each leave over as its second name as well, by an API of its own. */
  readonly twice: boolean;
  /** Restarts its event by itself as well, while it can. */
  readonly restarts: boolean;
  /** Says goodbye in the room by itself when it hangs up, as Element Call does. */
  readonly ownLeave: boolean;
  /** Sends more messages than its homeserver takes of one user. */
  readonly sendsTooMuch: boolean;
}

/** What a member does, or what happens to it. */
export const DEEDS = [
  'join',
  'hang-up',
  'crash',
  'cut',
  'full-reconnect',
  'takeover',
  'reload',
  'knock',
  'takeover-and-go',
  'redelegate',
  'hand-back',
  'never-connect',
  'removed',
  'room-deleted',
  'migrated',
  'reset',
] as const;
export type Deed = (typeof DEEDS)[number];

export interface StepPlan {
  /** After the step before. */
  readonly afterMs: number;
  readonly member: number;
  readonly deed: Deed;
  /** How long a cut lasts, how long a reload takes, when a delegation follows a join: whatever the deed needs, in ms. */
  readonly forMs: number;
  /** What goes wrong with it: faults that come when something happens find more than those that come at any time. */
  readonly trouble: { readonly kind: OutageKind; readonly afterMs: number; readonly forMs: number } | null;
}

export const OUTAGES = [
  'kill',
  'pause',
  'sfu-crash',
  'sfu-stop',
  'sfu-api-away',
  'sfu-api-stalled',
  'webhooks-away',
  'store-away',
  'homeserver-down',
  'homeserver-stalled',
  'homeserver-5xx',
  'homeserver-garbage',
  'homeserver-loses-answers',
  'homeserver-refuses',
  'homeserver-limits',
  'clock-set',
] as const;
/** Only a store that is shared fails over to a replica of its own, which has not heard of its newest writes. */
const SHARED_OUTAGES = [...OUTAGES, 'store-forgets'] as const;
/** Only an SFU with a Redis has several nodes, and lists that are not what its nodes know. */
const NODE_OUTAGES = ['node-killed', 'node-frozen', 'lists-lost'] as const;
export type OutageKind = (typeof SHARED_OUTAGES)[number] | (typeof NODE_OUTAGES)[number];

/** The SFU of such a plan has a Redis. */
export function hasNodes({ steps, outages }: Pick<Plan, 'steps' | 'outages'>): boolean {
  return [...outages, ...steps.map(({ trouble }) => trouble)].some((one) => NODE_OUTAGES.some((kind) => kind === one?.kind));
}

export interface OutagePlan {
  readonly kind: OutageKind;
  readonly atMs: number;
  readonly forMs: number;
  /** Which homeserver or replica. */
  readonly which: number;
}

/** How often single things go wrong, each a probability. */
export interface Rates {
  readonly webhookLost: number;
  readonly webhookDoubled: number;
  readonly webhookLate: number;
  /** At each call of the outside world: before it takes effect, or after it and before its answer. */
  readonly killed: number;
  readonly homeserverFails: number;
  readonly storeFails: number;
  readonly sfuSlow: number;
  /** A homeserver takes seconds to say whose OpenID token it is that a hand-over came with. */
  readonly lookUpSlow: number;
}

export interface Plan {
  readonly seed: number;
  readonly replicas: number;
  readonly skewMs: number;
  readonly policy: Policy;
  readonly homeservers: readonly HomeserverPlan[];
  readonly members: readonly MemberPlan[];
  readonly steps: readonly StepPlan[];
  readonly outages: readonly OutagePlan[];
  readonly rates: Rates;
}

const DELAYS_MS = [1_500, 3_000, 8_000, 10_000, 18_000, 60_000, 300_000, 3_600_000] as const;
/** The time in which deeds are done and things go wrong; after it everything is well, and everything owed has to arrive. */
export const FAULTY_MS = 120_000;

const homeserver: fc.Arbitrary<HomeserverPlan> = fc.record({
  dialect: fc.constantFrom<Dialect>('A', 'A', 'B', 'C', 'C', 'D'),
  limit: fc.option(fc.record({ perSecond: fc.constantFrom(1, 5), burst: fc.constantFrom(5, 10) }), { freq: 7 }),
  latencyMs: fc.constantFrom(1, 5, 40, 150),
  asToken: fc.boolean(),
});

const member: fc.Arbitrary<MemberPlan> = fc.record({
  room: fc.nat(1),
  homeserver: fc.nat(1),
  delayMs: fc.constantFrom(...DELAYS_MS),
  lost: fc.boolean(),
  joinsAtMs: fc.option(fc.nat(30_000), { freq: 4 }),
  compatible: fc.boolean(),
  twice: fc.boolean(),
  restarts: fc.boolean(),
  ownLeave: fc.boolean(),
  sendsTooMuch: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
});

const DEED_WEIGHTS: Record<Deed, number> = {
  join: 8,
  'hang-up': 3,
  crash: 2,
  cut: 3,
  'full-reconnect': 2,
  takeover: 2,
  reload: 2,
  knock: 1,
  'takeover-and-go': 1,
  redelegate: 2,
  'hand-back': 1,
  'never-connect': 1,
  removed: 1,
  'room-deleted': 1,
  migrated: 1,
  reset: 1,
};

const troubleOf = (kinds: readonly OutageKind[]) =>
  fc.record({
    kind: fc.constantFrom(...kinds),
    afterMs: fc.nat(2_500),
    forMs: fc.oneof(fc.integer({ min: 50, max: 3_000 }), fc.integer({ min: 50, max: 15_000 })),
  });

const stepOf = (kinds: readonly OutageKind[], dense: boolean): fc.Arbitrary<StepPlan> =>
  fc.record({
    afterMs: fc.oneof(fc.nat(300), fc.nat(3_000), fc.nat(25_000)),
    member: fc.nat(5),
    deed: fc.oneof(...DEEDS.map((deed) => ({ weight: DEED_WEIGHTS[deed], arbitrary: fc.constant(deed) }))),
    forMs: fc.oneof(fc.nat(1_500), fc.nat(8_000), fc.nat(40_000)),
    trouble: fc.option(troubleOf(kinds), { freq: dense ? 3 : 1 }),
  });

const outageOf = (kinds: readonly OutageKind[], longestMs: number): fc.Arbitrary<OutagePlan> =>
  fc.record({
    kind: fc.constantFrom(...kinds),
    atMs: fc.nat(FAULTY_MS - 1),
    forMs: fc.oneof(fc.integer({ min: 50, max: 2_000 }), fc.integer({ min: 50, max: 10_000 }), fc.integer({ min: 50, max: longestMs })),
    which: fc.nat(4),
  });

/** As swarm testing has it: a fault is left out of most runs, so that it can't drown the others. */
const rate = (most: number): fc.Arbitrary<number> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(most / 10, most / 3, most) });

const wait = (usualMs: number, ...others: number[]): fc.Arbitrary<number> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(usualMs) }, { weight: 1, arbitrary: fc.constantFrom(...others) });

/** Without a wait the webhook alone decides, and what guards it against words of older sessions has nobody behind it: that is drawn often. */
const hastyWait = fc.oneof({ weight: 2, arbitrary: wait(1_000, 300, 5_000) }, { weight: 1, arbitrary: fc.constant(0) });

const policy: fc.Arbitrary<Policy> = fc.record({
  waitMs: fc.record({
    left: hastyWait,
    lost: hastyWait,
    replaced: wait(1_000, 500, 3_000),
    sfuDown: wait(15_000, 8_000, 30_000),
    aborted: wait(30_000, 5_000),
    missing: wait(4_000, 1_000, 10_000),
  }),
  connectTimeoutMs: fc.constantFrom(10_000, 10_000, 30_000, 60_000, 60_000, 300_000),
  presenceIntervalMs: fc.constantFrom(5_000, 30_000, 30_000),
});

const rates: fc.Arbitrary<Rates> = fc.record({
  webhookLost: rate(0.3),
  webhookDoubled: rate(0.3),
  webhookLate: rate(0.3),
  killed: rate(0.02),
  homeserverFails: rate(0.7),
  storeFails: rate(0.1),
  sfuSlow: rate(0.3),
  lookUpSlow: rate(0.5),
});

/**
 * A plan for so many replicas; a dense one has twice the deeds and more faults, shorter ones, of which several meet. In one world of four the SFU
 * has a Redis.
 */
export function anyPlan(replicas: number, dense: boolean): fc.Arbitrary<Plan> {
  const kinds = replicas > 1 ? SHARED_OUTAGES : OUTAGES;
  const [alone, withNodes] = [planWith(kinds, replicas, dense), planWith([...kinds, ...NODE_OUTAGES, ...NODE_OUTAGES], replicas, dense)];
  return fc.noBias(fc.oneof({ weight: 3, arbitrary: alone }, { weight: 1, arbitrary: withNodes }));
}

function planWith(kinds: readonly OutageKind[], replicas: number, dense: boolean): fc.Arbitrary<Plan> {
  const few = fc.array(outageOf(kinds, 60_000), { maxLength: 5 });
  const fewOrNone = fc.oneof({ weight: 1, arbitrary: fc.constant([]) }, { weight: 3, arbitrary: few });
  const many = fc.array(outageOf(kinds, 20_000), { minLength: 2, maxLength: 12 });
  return fc.record({
    seed: fc.nat(),
    replicas: fc.constant(replicas),
    // The shared store keeps the clocks of its replicas together (src/store/redis/pulse.ts).
    skewMs: replicas > 1 ? fc.constantFrom(0, 20) : fc.constant(0),
    policy,
    homeservers: fc.tuple(homeserver, homeserver),
    members: fc.array(member, { minLength: 1, maxLength: 5 }),
    steps: fc.array(stepOf(kinds, dense), dense ? { minLength: 5, maxLength: 40 } : { minLength: 1, maxLength: 20 }),
    outages: dense ? many : fewOrNone,
    rates,
  });
}

export function planOf(seed: number, replicas: number, dense = false): Plan {
  return fc.sample(anyPlan(replicas, dense), { seed, numRuns: 1 })[0] as Plan;
}
