// Several replicas on one Redis, beside a model homeserver that counts everything, and an SFU: a real livekit-server with real participants,
// or a model whose webhooks are repeated as LiveKit repeats them. Webhooks go round among the replicas.
import { counter, nowMs, sfuRoom } from '../bench/shared.ts';
import { Subject } from '../bench/subject.ts';
import { once } from '../bench/wire.ts';
import { startWorld, type World } from '../bench/world.ts';
import { API_KEY, API_SECRET } from '../e2e/stack/livekit.ts';
import { Crowd } from './crowd.ts';

export interface FleetOptions {
  readonly replicas: number;
  readonly members: number;
  readonly rooms: number;
  readonly delayMs: number;
  readonly redisUrl: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A real livekit-server. */
  readonly livekit?: boolean;
}

/** LiveKit's attempts, ms after the first (measured). */
const ATTEMPTS_MS = [0, 1_000, 3_000, 7_000, 15_000];
const ANSWERED = [200];
/** A hand-over whose answer was lost is repeated, and found again. */
const TAKEN = [201, 200];

export const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));

export async function until(withinMs: number, done: () => boolean): Promise<boolean> {
  const endMs = nowMs() + withinMs;
  while (!done()) {
    if (nowMs() > endMs) return false;
    await pause(20);
  }
  return true;
}

export class Fleet {
  readonly world: World;
  readonly replicas: readonly Subject[];
  /** When each member's departure was told; 0: it has not left. */
  readonly leftAtMs: Float64Array;
  readonly lostWebhooks: string[] = [];
  /** Null: the SFU is a model. */
  crowd: Crowd | null = null;
  #next = 0;

  private constructor(world: World, replicas: readonly Subject[], members: number) {
    this.world = world;
    this.replicas = replicas;
    this.leftAtMs = new Float64Array(members);
  }

  static async start({ replicas, members, rooms, delayMs, redisUrl, env = {}, livekit = false }: FleetOptions): Promise<Fleet> {
    const world = await startWorld(members, rooms, delayMs, { tls: false });
    const crowd = livekit ? await Crowd.start(members, () => fleet.#inTurn().map(({ port }) => port)) : null;
    const real: Record<string, string> =
      crowd === null ? {} : { LIVEKIT_URL: crowd.sfuUrl, LIVEKIT_KEY: API_KEY, LIVEKIT_SECRET: API_SECRET };
    const key = crowd === null ? {} : { key: { name: API_KEY, secret: API_SECRET } };
    const all = Array.from(
      { length: replicas },
      () => new Subject({ kind: 'lastwill', world, command: null, ...key, env: { LIVEKIT_REDIS_URL: redisUrl, ...real, ...env } }),
    );
    const fleet = new Fleet(world, all, members);
    fleet.crowd = crowd;
    try {
      await Promise.all(all.map((one) => one.start()));
    } catch (error) {
      await fleet.end();
      throw error;
    }
    return fleet;
  }

  async end(): Promise<void> {
    await this.crowd?.end();
    await Promise.all(this.replicas.map((one) => one.end()));
    await this.world.close();
  }

  replica(nth: number): Subject {
    return this.replicas[nth % this.replicas.length] as Subject;
  }

  /** All of them, each time another one first. */
  #inTurn(): Subject[] {
    this.#next += 1;
    return this.replicas.map((_, nth) => this.replica(this.#next + nth));
  }

  /** To the next replica, and on failure to the one after it, as long as a balancer and LiveKit would; false: lost. */
  async #deliver(text: () => string, accepts: readonly number[]): Promise<boolean> {
    const startedMs = nowMs();
    const body = text();
    for (const atMs of ATTEMPTS_MS) {
      await pause(Math.max(startedMs + atMs - nowMs(), 0));
      const status = await this.#balanced(body);
      if (accepts.includes(status)) return true;
    }
    return false;
  }

  /** To the next replica; one that takes no connection is passed over, as balancers do. */
  async #balanced(body: string): Promise<number> {
    for (const { port } of this.#inTurn()) {
      const { status } = await answeredWithin(10_000, once(port, body));
      if (status !== 0) return status;
    }
    return 0;
  }

  /** Joins the SFU and hands its leave over, each by another replica; until that is answered it looks after its event itself, as clients do. */
  async enter(member: number): Promise<void> {
    this.world.enter(member, member + 1);
    if (this.crowd !== null) this.world.gone(member, member + 1);
    const { startedAt, delayMs } = this.world.shared;
    const ownRestarts = setInterval(() => {
      startedAt[member] = nowMs();
    }, delayMs / 4);
    const taken = this.#deliver(() => this.replica(0).delegation(member), TAKEN).finally(() => clearInterval(ownRestarts));
    const told =
      this.crowd?.join(member, sfuRoom(member % this.world.shared.rooms), this.replica(0).identity(member)).then(
        () => {
          this.world.shared.present[member] = 1;
          return true;
        },
        () => false,
      ) ?? this.#deliver(() => this.replica(0).webhook('participant_joined', member), ANSWERED);
    for (const [what, done] of [
      ['delegation', await taken],
      ['join', await told],
    ] as const) {
      if (!done) this.lostWebhooks.push(`${what} of ${member}`);
    }
  }

  async leave(member: number): Promise<void> {
    this.world.gone(member, member + 1);
    this.leftAtMs[member] = nowMs();
    if (this.crowd !== null) return this.crowd.leave(member);
    const told = await this.#deliver(() => this.replica(0).webhook('participant_left', member, 'CLIENT_INITIATED'), ANSWERED);
    if (!told) this.lostWebhooks.push(`departure of ${member}`);
  }

  async enterAll(from: number, to: number, perSecond = 100): Promise<void> {
    const entering: Promise<void>[] = [];
    for (let member = from; member < to; member += 1) {
      entering.push(this.enter(member));
      await pause(1_000 / perSecond);
    }
    await Promise.all(entering);
  }

  /** Everybody of [from, to), spread over the time. */
  async leaveAll(from: number, to: number, withinMs: number): Promise<void> {
    const leaving: Promise<void>[] = [];
    for (let member = from; member < to; member += 1) {
      leaving.push(this.leave(member));
      await pause(withinMs / (to - from));
    }
    await Promise.all(leaving);
  }

  /** When a member's leave reached the room, by us or by the homeserver's own timer; 0: not yet. */
  #reachedAtMs(member: number): number {
    const { sentAt, startedAt, delayMs } = this.world.shared;
    const ownMs = (startedAt[member] ?? 0) + delayMs;
    return sentAt[member] || (ownMs < nowMs() ? ownMs : 0);
  }

  /** Those who left and whose leave has not reached the room. */
  owed(): number[] {
    return [...this.leftAtMs.keys()].filter((member) => this.leftAtMs[member] !== 0 && this.#reachedAtMs(member) === 0);
  }

  /** What the replicas logged of those whose leave is owed, to be shown when a story fails. */
  explain(): string {
    const identities = [...this.owed().slice(0, 2), ...this.ranOut().slice(0, 2)].map((member) => this.replica(0).identity(member));
    const logs = this.replicas.flatMap((one, nth) =>
      one
        .log()
        .split('\n')
        .map((line) => `${nth} ${line}`),
    );
    const faults = logs.filter((line) => /"level":"(warn|error)"/.test(line)).slice(-5);
    return [
      `owed: ${this.owed()}; ran out: ${this.ranOut()}`,
      ...logs.filter((line) => identities.some((one) => line.includes(one))),
      ...faults,
    ].join('\n');
  }

  waitedMs(member: number): number {
    return nowMs() - (this.leftAtMs[member] ?? 0);
  }

  /** How long each leave took, ms. */
  tookMs(): number[] {
    return [...this.leftAtMs.keys()]
      .filter((member) => this.leftAtMs[member] !== 0)
      .map((member) => (this.#reachedAtMs(member) || nowMs()) - (this.leftAtMs[member] ?? 0));
  }

  /** Those who are there, and whose event ran out all the same. */
  ranOut(): number[] {
    const { size, present, startedAt, expired, delayMs } = this.world.shared;
    const isOver = (member: number) => expired[member] === 1 || nowMs() - (startedAt[member] ?? 0) > delayMs;
    return Array.from({ length: size }, (_, member) => member).filter(
      (member) => present[member] === 1 && startedAt[member] !== 0 && isOver(member),
    );
  }

  /** How many are gone, and their event ran out. */
  #ranOutGone(): number {
    const { expired, present } = this.world.shared;
    return expired.filter((one, member) => one === 1 && present[member] === 0).length;
  }

  /** The two sins, and what was done twice. */
  sins(): { ghosts: number; falseLeaves: number; ranOut: number; sentAgain: number; lost: readonly string[] } {
    const { shared } = this.world;
    return {
      ghosts: this.owed().length,
      falseLeaves: counter(shared, 'falseSends'),
      ranOut: this.ranOut().length,
      // A send after the homeserver's own timer ran out is none that was made twice; not each that ran out is sent.
      sentAgain: Math.max(counter(shared, 'sendsAgain') - this.#ranOutGone(), 0),
      lost: this.lostWebhooks,
    };
  }
}

/** A stopped process keeps its connections open and says nothing; a balancer gives it up. */
async function answeredWithin<T extends { readonly status: number }>(ms: number, answer: Promise<T>): Promise<{ readonly status: number }> {
  return Promise.race([answer, pause(ms).then(() => ({ status: 0 }))]);
}
