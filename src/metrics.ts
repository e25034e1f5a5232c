// What an operator sees: all metrics in one place.
// Labels are bounded here, not by the callers: a stranger who invents homeservers or webhooks can't grow the registry.
import type { Registry } from 'prom-client';
import type { Config } from './config/config.ts';
import type { Answer, Cause, Effect, Outcome, State } from './delegation/state.ts';
import type { HomeserverFailure } from './homeserver/failures.ts';
import { Counter, defaultMetrics, Gauge, Histogram } from './library-parts.ts';
import { VERSION } from './version.ts';

export interface MetricDescription {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
  readonly buckets?: readonly number[];
}

const FAST = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1];
const NORMAL = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60];
const SIZES = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000];

/** Every metric of our own; beside them are prom-client's about the process (`process_…`, `nodejs_…`). */
export const METRICS = {
  ghosts: counter('lastwill_ghosts_total', ['cause'], 'Participants who were gone while their leave was later than promised.'),
  falseLeaves: counter('lastwill_false_leaves_total', [], 'Leaves that reached the room while the participant was on the SFU.'),
  ghostsAvoided: counter('lastwill_ghosts_avoided_total', ['cause'], "Leaves accepted before the homeserver's own timer ran out."),
  leaves: counter('lastwill_leaves_total', ['cause', 'outcome'], 'Leaves that were owed, by how it ended.'),
  overdueLeaveFailures: counter(
    'lastwill_overdue_leave_failures_total',
    [],
    'Failed tries to send a leave that is later than promised, and still owed.',
  ),
  restarts: counter(
    'lastwill_restarts_total',
    ['result'],
    'Restarts of delayed events, by what the homeserver answered; `limited`: or put off by us.',
  ),
  lateRestarts: counter('lastwill_late_restarts_total', [], 'Restarts made after more than 90 % of the delay.'),
  restartsGivenUp: counter('lastwill_restarts_given_up_total', [], 'Restarts put off because their event ran out before their turn came.'),
  departureToLeave: histogram(
    'lastwill_departure_to_leave_seconds',
    ['cause'],
    'From the news of a departure to the accepted leave.',
    NORMAL,
  ),
  homeserverRequest: histogram(
    'lastwill_homeserver_request_seconds',
    ['action'],
    "Duration of calls to homeservers' delayed events.",
    NORMAL,
  ),
  delegations: gauge('lastwill_delegations', ['state'], 'Delegations in the store, by state.'),
  delegationRequests: counter('lastwill_delegations_total', ['result'], 'Delegations that clients handed over or took back.'),
  webhooks: counter('lastwill_webhooks_total', ['event', 'verdict'], 'Webhooks of the SFU, by what became of them.'),
  homeserverFailures: counter(
    'lastwill_homeserver_failures_total',
    ['homeserver', 'why'],
    'Failed calls to homeservers; those that the settings do not name count as `other`. `limited`: on Synapse raise rc_delayed_event_mgmt.',
  ),
  sfuRequests: counter('lastwill_sfu_requests_total', ['result'], "Calls to the SFU's API."),
  sfuUp: gauge('lastwill_sfu_up', [], '1 when the SFU answered the latest call, 0 when not, NaN before the first.'),
  storeUp: gauge('lastwill_store_up', [], '1 while the store can make promises durable, 0 while it is away or can not be written.'),
  storeCommits: counter('lastwill_store_commits_total', ['result'], 'Transactions of the store.'),
  storeCommit: histogram('lastwill_store_commit_seconds', [], 'Duration of a transaction.', FAST),
  storeSyncs: counter(
    'lastwill_store_syncs_total',
    ['result'],
    'Times that the disk was to write down what was committed (embedded store).',
  ),
  storeSync: histogram('lastwill_store_sync_seconds', [], 'How long the disk took for it.', FAST),
  storeBatch: histogram('lastwill_store_batch_size', [], 'Changes that shared a transaction.', SIZES),
  dueLag: histogram('lastwill_due_lag_seconds', [], 'How late due work was taken up.', NORMAL),
  lostLines: counter('lastwill_log_lines_lost_total', [], 'Lines of the log that could not be written (a full disk).'),
  buildInfo: gauge('lastwill_build_info', ['version'], '1, by the version that runs.'),
} as const;

function counter(name: string, labels: readonly string[], help: string): MetricDescription {
  return { name, type: 'counter', labels, help };
}

function gauge(name: string, labels: readonly string[], help: string): MetricDescription {
  return { name, type: 'gauge', labels, help };
}

function histogram(name: string, labels: readonly string[], help: string, buckets: readonly number[]): MetricDescription {
  return { name, type: 'histogram', labels, help, buckets };
}

/** The table of the README, made of METRICS. */
export function metricsTable(): string {
  const rows = Object.values(METRICS).map(({ name, type, labels, help }) => {
    return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ') || '–'} | ${help} |`;
  });
  return ['| Metric | Type | Labels | Meaning |', '|---|---|---|---|', ...rows].join('\n');
}

export type WebhookVerdict = 'applied' | 'duplicate' | 'irrelevant' | 'ignored' | 'rejected' | 'failed';
export type DelegationResult = 'created' | 'repeated' | 'superseded' | 'handed_back' | 'rejected';
export type DelegationCounts = Readonly<Partial<Record<State['kind'], number>>>;

/** All durations in ms; the metrics have seconds, as Prometheus wants it. */
export interface Metrics {
  ghost(cause: Cause): void;
  falseLeave(): void;
  ghostAvoided(cause: Cause): void;
  leave(cause: Cause, outcome: Outcome): void;
  overdueLeaveFailed(): void;
  departureToLeave(cause: Cause, tookMs: number): void;
  restart(result: Answer['kind']): void;
  lateRestart(): void;
  restartsGivenUp(count: number): void;
  homeserverRequest(action: Exclude<Effect['kind'], 'check'>, tookMs: number): void;
  /** `homeserver` is a server name or a base URL. */
  homeserverFailure(homeserver: string, why: HomeserverFailure): void;
  delegation(result: DelegationResult): void;
  webhook(event: string, verdict: WebhookVerdict): void;
  /** Sets `lastwill_sfu_up` as well. */
  sfuRequest(result: 'ok' | 'failed'): void;
  storeUp(isUp: boolean): void;
  storeCommit(result: 'ok' | 'failed', tookMs: number, changes: number): void;
  storeSync(result: 'ok' | 'failed', tookMs: number): void;
  dueLag(lateMs: number): void;
  lostLines(count: number): void;
  /** Sets who counts the delegations when Prometheus scrapes. */
  countDelegationsWith(count: () => DelegationCounts | Promise<DelegationCounts>): void;
  /** Adds prom-client's metrics of the process; called at the first scrape, so that the start does not wait for them. */
  watchProcess(): void;
}

/** Records rather than lists, so that a new cause or state does not compile until it is here. */
const CAUSES: Record<Cause, true> = {
  left: true,
  lost: true,
  removed: true,
  room_deleted: true,
  replaced: true,
  sfu_down: true,
  missing: true,
  aborted: true,
  never_connected: true,
};
const STATES: Record<State['kind'], true> = {
  awaiting: true,
  connected: true,
  settling: true,
  leaving: true,
  cancelling: true,
  ended: true,
};
const WEBHOOK_EVENTS: ReadonlySet<string> = new Set([
  ...['room_started', 'room_finished', 'participant_joined', 'participant_left', 'participant_connection_aborted'],
  ...['track_published', 'track_unpublished', 'egress_started', 'egress_updated', 'egress_ended', 'ingress_started', 'ingress_ended'],
]);

/** Those that alerts watch: all but what a homeserver may forbid a user. */
const WATCHED_FAILURES: Record<Exclude<HomeserverFailure, 'forbidden'>, true> = {
  timeout: true,
  refused: true,
  status_5xx: true,
  garbage: true,
  redirect: true,
  limited: true,
  unauthorized: true,
  address: true,
  certificate: true,
  dialect: true,
};

export interface MetricsOptions {
  /** The homeservers that the settings name: their failures are told apart, all others are `other`. */
  readonly homeservers?: Pick<Config['homeservers'], 'fullAccess' | 'overrides'> &
    Partial<Pick<Config['homeservers'], 'applicationService'>>;
  /** False leaves out prom-client's metrics of the process: they watch the event loop, once for each registry. */
  readonly process?: boolean;
}

export function createMetrics(registry: Registry, options: MetricsOptions = {}): Metrics {
  const registers = [registry];
  const counts = (of: MetricDescription) => new Counter({ name: of.name, help: of.help, labelNames: [...of.labels], registers });
  const observes = (of: MetricDescription) => {
    return new Histogram({ name: of.name, help: of.help, labelNames: [...of.labels], buckets: [...(of.buckets ?? [])], registers });
  };
  let watchesProcess = options.process === false;
  const names = namesIn(options.homeservers);
  const homeserverLabel = createHomeserverLabel(names, options.homeservers?.overrides ?? new Map());
  const [ghosts, falseLeaves, ghostsAvoided] = [counts(METRICS.ghosts), counts(METRICS.falseLeaves), counts(METRICS.ghostsAvoided)];
  // The series that alerts watch begin at 0: an increase is not seen in a series that begins with its first event.
  for (const cause of Object.keys(CAUSES)) for (const metric of [ghosts, ghostsAvoided]) metric.inc({ cause }, 0);
  const [leaves, restarts, lateRestarts] = [counts(METRICS.leaves), counts(METRICS.restarts), counts(METRICS.lateRestarts)];
  const [overdueLeaves, givenUp] = [counts(METRICS.overdueLeaveFailures), counts(METRICS.restartsGivenUp)];
  for (const cause of Object.keys(CAUSES)) for (const outcome of ['sent', 'already-sent']) leaves.inc({ cause, outcome }, 0);
  const [delegations, webhooks, failures] = [
    counts(METRICS.delegationRequests),
    counts(METRICS.webhooks),
    counts(METRICS.homeserverFailures),
  ];
  webhooks.inc({ event: 'other', verdict: 'rejected' }, 0);
  for (const homeserver of [...names, 'other']) for (const why of Object.keys(WATCHED_FAILURES)) failures.inc({ homeserver, why }, 0);
  const [sfuRequests, storeCommits, lostLines] = [counts(METRICS.sfuRequests), counts(METRICS.storeCommits), counts(METRICS.lostLines)];
  const [departures, requests, lag] = [observes(METRICS.departureToLeave), observes(METRICS.homeserverRequest), observes(METRICS.dueLag)];
  const [commitSeconds, batch] = [observes(METRICS.storeCommit), observes(METRICS.storeBatch)];
  const [storeSyncs, syncSeconds] = [counts(METRICS.storeSyncs), observes(METRICS.storeSync)];
  for (const metric of [storeCommits, storeSyncs]) for (const result of ['ok', 'failed']) metric.inc({ result }, 0);
  const sfuUp = new Gauge({ name: METRICS.sfuUp.name, help: METRICS.sfuUp.help, registers });
  sfuUp.set(Number.NaN);
  const storeUp = new Gauge({ name: METRICS.storeUp.name, help: METRICS.storeUp.help, registers });
  storeUp.set(1);
  const { name, help, labels } = METRICS.buildInfo;
  new Gauge({ name, help, labelNames: [...labels], registers }).set({ version: VERSION }, 1);
  return {
    ghost: (cause) => ghosts.inc({ cause }),
    falseLeave: () => falseLeaves.inc(),
    ghostAvoided: (cause) => ghostsAvoided.inc({ cause }),
    leave: (cause, outcome) => leaves.inc({ cause, outcome }),
    overdueLeaveFailed: () => overdueLeaves.inc(),
    departureToLeave: (cause, tookMs) => departures.observe({ cause }, tookMs / 1000),
    restart: (result) => restarts.inc({ result }),
    lateRestart: () => lateRestarts.inc(),
    restartsGivenUp: (count) => givenUp.inc(count),
    homeserverRequest: (action, tookMs) => requests.observe({ action }, tookMs / 1000),
    homeserverFailure: (homeserver, why) => failures.inc({ homeserver: homeserverLabel(homeserver), why }),
    delegation: (result) => delegations.inc({ result }),
    webhook: (event, verdict) => webhooks.inc({ event: WEBHOOK_EVENTS.has(event) ? event : 'other', verdict }),
    sfuRequest: (result) => {
      sfuRequests.inc({ result });
      sfuUp.set(result === 'failed' ? 0 : 1);
    },
    storeUp: (isUp) => storeUp.set(isUp ? 1 : 0),
    storeCommit: (result, tookMs, changes) => {
      storeCommits.inc({ result });
      commitSeconds.observe(tookMs / 1000);
      batch.observe(changes);
    },
    storeSync: (result, tookMs) => {
      storeSyncs.inc({ result });
      syncSeconds.observe(tookMs / 1000);
    },
    dueLag: (lateMs) => lag.observe(lateMs / 1000),
    lostLines: (count) => lostLines.inc(count),
    countDelegationsWith: delegationGauge(registry),
    watchProcess: () => {
      if (watchesProcess) return;
      watchesProcess = true;
      defaultMetrics()({ register: registry });
    },
  };
}

function delegationGauge(registry: Registry): Metrics['countDelegationsWith'] {
  let count: () => DelegationCounts | Promise<DelegationCounts> = () => ({});
  new Gauge({
    name: METRICS.delegations.name,
    help: METRICS.delegations.help,
    labelNames: [...METRICS.delegations.labels],
    registers: [registry],
    async collect() {
      this.reset();
      try {
        const counts = await count();
        for (const state of Object.keys(STATES) as State['kind'][]) this.set({ state }, counts[state] ?? 0);
      } catch {
        // No series is the honest answer of a store that can't count; the other metrics must still come through.
      }
    },
  });
  return (counter) => {
    count = counter;
  };
}

function namesIn(homeservers: MetricsOptions['homeservers']): ReadonlySet<string> {
  const { fullAccess, overrides, applicationService } = homeservers ?? {};
  const home = applicationService?.serverName;
  return new Set([...(fullAccess?.names ?? []), ...(overrides?.keys() ?? []), ...(home === undefined ? [] : [home])]);
}

/** The name by which the settings know a homeserver; a host below a named domain (matrix.example.org of example.org) is that one. */
function createHomeserverLabel(names: ReadonlySet<string>, overridden: Config['homeservers']['overrides']): (homeserver: string) => string {
  const overrides = [...overridden];
  return (homeserver) => {
    const override = overrides.find(([, url]) => url === homeserver)?.[0];
    if (override !== undefined) return override;
    const [withPort, host] = hostOf(homeserver);
    for (const name of [withPort, host]) if (names.has(name)) return name;
    return [...names].find((name) => host.endsWith(`.${name}`)) ?? 'other';
  };
}

function hostOf(homeserver: string): readonly [withPort: string, host: string] {
  const url = URL.parse(homeserver.includes('://') ? homeserver : `https://${homeserver}`);
  return url === null ? [homeserver, homeserver] : [url.host, url.hostname];
}
