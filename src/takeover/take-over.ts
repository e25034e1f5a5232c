// Calls in progress survive the switch from lk-jwt-service: its jobs become delegations before the first webhook is heard. Running it
// again does no harm: the same handles are the same delegation. What can't be taken at once (another replica is at it, a homeserver is not
// found yet) is taken as soon as it can be, and nobody waits for it.
import type { Cancel, Clock } from '../clock.ts';
import { type HomeserverUrl, participantOwner, sha256, userInIdentity } from '../delegation/ids.ts';
import type { Handles } from '../delegation/state.ts';
import type { Engine } from '../engine/engine.ts';
import type { Discovery, Resolved } from '../homeserver/discovery.ts';
import type { Served, ServedHomeserver } from '../homeserver/served.ts';
import type { Log } from '../log.ts';
import { type Job, readJob } from './jobs.ts';
import type { JobHash } from './redis.ts';

export interface TakeOverDeps {
  /** Null: lk-jwt-service can have left no jobs there. @throws Error when it is not reachable. */
  readonly open: () => Promise<JobHash | null>;
  readonly engine: Pick<Engine, 'handOver'>;
  readonly served: Served;
  readonly discovery: Discovery;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether the originals go once they are ours. */
  readonly remove: boolean;
  /** False: we are to end, though not all have been looked at yet. */
  readonly isOpen: () => boolean;
}

interface Wanted {
  readonly field: string;
  /** As it was read: what has taken its place since is another job. */
  readonly value: string;
  readonly job: Job;
  readonly homeserver: ServedHomeserver;
  /** Its event was restarted before we read the job, at the latest. */
  readonly runsOutMs: number;
}

/** Those who wait for us to listen wait no longer for homeservers that have to be found. */
const PATIENCE_MS = 1_000;
const LOOK_AGAIN_MS = 1_000;
const RESOLVE_AGAIN_MS = 10_000;
/** Jobs that could not be read, or kept: the longer that takes, the fewer of their events there still are. */
const FAILED_AGAIN_MS = { least: 10_000, most: 300_000 };
const NOT_YET: Resolved = { kind: 'unresolvable', why: 'it is still looked for' };

/** Resolves when everything that can be taken at once has been. Never throws: without the jobs, new calls are served all the same. */
export async function takeOver(deps: TakeOverDeps): Promise<Cancel> {
  const { clock, log, open, remove, isOpen } = deps;
  const timers = new Set<Cancel>();
  let stopped = false;
  let waited = false;
  let failures = 0;

  function later(delayMs: number, work: () => Promise<void>): void {
    if (stopped) return;
    const cancel = clock.after(delayMs, () => {
      timers.delete(cancel);
      void work();
    });
    timers.add(cancel);
  }

  async function begin(): Promise<void> {
    try {
      await using(open, async (hash) => {
        if (await hash.claim()) return readAll(hash).finally(() => hash.release().catch(() => {}));
        if (!waited) log.info({}, 'another replica takes over the jobs of lk-jwt-service: they are looked at when it is done');
        waited = true;
        later(LOOK_AGAIN_MS, begin);
      });
    } catch (err) {
      const againMs = Math.min(FAILED_AGAIN_MS.least * 2 ** failures, FAILED_AGAIN_MS.most);
      log[failures === 0 ? 'error' : 'debug']({ err, againMs }, 'the jobs of lk-jwt-service could not be taken over: it is tried again');
      failures += 1;
      later(againMs, begin);
    }
  }

  async function readAll(hash: JobHash): Promise<void> {
    const wanted: Wanted[] = [];
    let refused = 0;
    for (const [field, value] of await hash.read()) {
      const read = readWanted(field, value, deps);
      if (typeof read !== 'string') wanted.push(read);
      else {
        refused += 1;
        log.error({ job: nameOf(field), why: read }, 'a job of lk-jwt-service could not be taken over');
      }
    }
    const counts = { taken: 0, known: 0, refused, waiting: 0 };
    const done = new Map<string, string>();
    const patience = new Promise<Resolved>((resolve) => clock.after(PATIENCE_MS, () => resolve(NOT_YET)));
    // All at once, so that one who hangs costs nobody else their time.
    const found = wanted.map(({ homeserver }) => deps.discovery.resolve(homeserver));
    for (const [nth, one] of wanted.entries()) {
      const resolved = await Promise.race([found[nth] as Promise<Resolved>, patience]);
      if (stopped || !isOpen()) break;
      if (resolved.kind === 'resolved') {
        counts[await adopt(one.job, resolved.url, deps)] += 1;
        done.set(one.field, one.value);
      } else {
        counts.waiting += 1;
        log.error({ job: nameOf(one.field), why: `its homeserver: ${resolved.why}` }, 'a job of lk-jwt-service can not be taken over yet');
        later(resolved === NOT_YET ? 0 : RESOLVE_AGAIN_MS, () => pursue(one));
      }
    }
    if (remove) await hash.remove(done);
    log.info({ ...counts, removed: remove ? done.size : 0 }, 'took over the jobs of lk-jwt-service');
  }

  /** Again and again, until its event must have run out. */
  async function pursue(one: Wanted): Promise<void> {
    if (clock.nowMs() > one.runsOutMs) return;
    try {
      const resolved = await deps.discovery.resolve(one.homeserver);
      if (stopped) return;
      if (resolved.kind === 'unresolvable') return later(RESOLVE_AGAIN_MS, () => pursue(one));
      await adopt(one.job, resolved.url, deps);
      log.info({ job: nameOf(one.field) }, 'took over a job of lk-jwt-service that had waited for its homeserver');
    } catch (err) {
      log.debug({ job: nameOf(one.field), err }, 'a job of lk-jwt-service can not be kept now');
      return later(RESOLVE_AGAIN_MS, () => pursue(one));
    }
    if (remove)
      await using(open, (hash) => hash.remove(new Map([[one.field, one.value]]))).catch((err) =>
        log.warn({ err }, 'a job of lk-jwt-service stays'),
      );
  }

  await begin();
  return () => {
    stopped = true;
    for (const cancel of timers) cancel();
  };
}

async function using(open: TakeOverDeps['open'], work: (hash: JobHash) => Promise<void>): Promise<void> {
  const hash = await open();
  if (hash !== null) await work(hash).finally(() => hash.close());
}

/** A text is why it can't be taken, ever. */
function readWanted(field: string, value: string, { served, clock }: TakeOverDeps): Wanted | string {
  const read = readJob(field, value);
  if (read.kind === 'unreadable') return read.why;
  const homeserver = served.parse(read.job.serverName);
  if (homeserver.kind === 'malformed' || homeserver.kind === 'not_served') return 'its homeserver is not served';
  return { field, value, job: read.job, homeserver, runsOutMs: clock.nowMs() + read.job.delayMs };
}

/** @throws StoreUnavailable when it can't be kept. */
async function adopt(job: Job, homeserver: HomeserverUrl, { engine }: TakeOverDeps): Promise<'taken' | 'known'> {
  const { room, identity, delayId, delayMs, restartedAtMs } = job;
  const handles: Handles = { kind: 'delay', delayId };
  const handedOver = await engine.handOver(
    {
      ...{ owner: participantOwner(room, identity), room, identities: [identity], homeserver },
      ...{ userId: userInIdentity(identity), handles, handlesHash: sha256(JSON.stringify(handles)), delayMs },
    },
    { restartedAtMs },
  );
  return handedOver.kind === 'created' ? 'taken' : 'known';
}

/** Tells jobs apart in the log without showing any. */
function nameOf(field: string): string {
  return sha256(field).slice(0, 12);
}
