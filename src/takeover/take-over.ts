// Calls in progress survive the switch from lk-jwt-service: its jobs become delegations before the first webhook is heard. Running it
// again does no harm: the same handles are the same delegation.
import { participantOwner, sha256, userInIdentity } from '../delegation/ids.ts';
import type { Handles } from '../delegation/state.ts';
import type { Engine } from '../engine/engine.ts';
import type { Discovery } from '../homeserver/discovery.ts';
import type { Served } from '../homeserver/served.ts';
import type { Log } from '../telemetry.ts';
import { type Job, readJob } from './jobs.ts';
import type { JobHash } from './redis.ts';

export interface TakeOverDeps {
  readonly hash: JobHash;
  readonly engine: Engine;
  readonly served: Served;
  readonly discovery: Discovery;
  readonly log: Log;
  /** Whether the originals go once they are ours. */
  readonly remove: boolean;
}

export interface TakenOver {
  readonly taken: number;
  readonly known: number;
  readonly refused: number;
}

/** @throws Error when Redis can't be read; StoreUnavailable when the jobs can't be kept. Until then nothing is removed. */
export async function takeOver(deps: TakeOverDeps): Promise<TakenOver> {
  const { hash, log } = deps;
  if (!(await hash.claim())) {
    log.info({}, 'another replica takes over the jobs of lk-jwt-service');
    return { taken: 0, known: 0, refused: 0 };
  }
  try {
    return await takeAll(deps);
  } catch (error) {
    await hash.giveUp().catch(() => {});
    throw error;
  }
}

async function takeAll(deps: TakeOverDeps): Promise<TakenOver> {
  const { hash, log } = deps;
  const counts = { taken: 0, known: 0, refused: 0 };
  const done: string[] = [];
  for (const [field, value] of await hash.read()) {
    const read = readJob(field, value);
    const outcome = read.kind === 'job' ? await adopt(read.job, deps) : { kind: 'refused' as const, why: read.why };
    if (outcome.kind === 'refused') {
      counts.refused += 1;
      log.error({ job: sha256(field).slice(0, 12), why: outcome.why }, 'a job of lk-jwt-service could not be taken over');
      continue;
    }
    counts[outcome.kind] += 1;
    done.push(field);
  }
  if (deps.remove) await hash.remove(done);
  log.info({ ...counts, removed: deps.remove ? done.length : 0 }, 'took over the jobs of lk-jwt-service');
  return counts;
}

async function adopt(
  job: Job,
  { engine, served, discovery }: TakeOverDeps,
): Promise<{ kind: 'taken' | 'known' } | { kind: 'refused'; why: string }> {
  const homeserver = served.parse(job.serverName);
  if (homeserver.kind === 'malformed' || homeserver.kind === 'not_served') return { kind: 'refused', why: 'its homeserver is not served' };
  const resolved = await discovery.resolve(homeserver);
  if (resolved.kind === 'unresolvable') return { kind: 'refused', why: `its homeserver: ${resolved.why}` };
  const { room, identity, delayId, delayMs, restartedAtMs } = job;
  const handles: Handles = { kind: 'delay', delayId };
  const handedOver = await engine.handOver(
    {
      ...{ owner: participantOwner(room, identity), room, identities: [identity], homeserver: resolved.url },
      ...{ userId: userInIdentity(identity), handles, handlesHash: sha256(JSON.stringify(handles)), delayMs },
    },
    { restartedAtMs },
  );
  return { kind: handedOver.kind === 'created' ? 'taken' : 'known' };
}
