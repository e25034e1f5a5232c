// One run: everybody comes, for a while everything goes wrong at random, then nothing does any more, everybody goes, and the judge is
// given what the witnesses saw.
import { defaultWaits } from '../e2e/stack/defaults.ts';
import { now, sleep } from '../e2e/stack/processes.ts';
import { Chance } from './chance.ts';
import type { Deed, Evidence, HandOver, Waits } from './evidence.ts';
import { judge, type Verdict } from './judge.ts';
import { Person } from './person.ts';
import { announcementsIn, attendanceIn, Standstills } from './witness.ts';
import { PRESENCE_INTERVAL_MS, World } from './world.ts';

export interface RunOptions {
  readonly seed: number;
  /** How long things go wrong, ms. */
  readonly wrongForMs: number;
  readonly people: number;
  /** The command line of another service to be put through the same. */
  readonly peer: string | undefined;
  readonly say: (line: string) => void;
}

export interface Run {
  readonly seed: number;
  readonly evidence: Evidence;
  readonly verdict: Verdict;
  readonly webhooks: World['webhooks'];
  readonly serviceLog: string;
}

/** lastwill's defaults, by which every service is judged. */
export const WAITS: Waits = { ...defaultWaits(), presenceInterval: PRESENCE_INTERVAL_MS };
/** How long things go wrong in a run of `--short`. */
export const SHORT_MS = 35_000;
const ROOM_SIZE = 5;
const DELAYS_MS = [60_000, 120_000, 3_600_000];
/** So many come at once: a participant costs a second of a core to start. */
const COME_AT_ONCE = 4;
/** SDKs try again for so long at the most. */
const PATIENCE_MS = 20_000;
const MAY_OUTLAST_MS = 4_000;
/** Between two who hang up; chosen so that nobody announces itself in the moment of another's leave. */
const CALM_GAP_MS = 700;
const CALM_STAY_MS = 3_500;
const CALM_AWAY_MS = 3_500;
/** LiveKit's 21.6 s to miss somebody, and the longest bound of the judge. */
const LAST_WORD_MS = 24_000 + WAITS.presenceInterval + WAITS.missing + 3_000;

export const run = (options: RunOptions): Promise<Run> => inWorld(options, (chaos) => chaos.play());

/** The same without anything going wrong: everybody hangs up so many times. */
export const runCalm = (options: Omit<RunOptions, 'wrongForMs'>, times: number): Promise<Run> =>
  inWorld({ ...options, wrongForMs: 0 }, (chaos) => chaos.playCalm(times));

async function inWorld(options: RunOptions, play: (chaos: Chaos) => Promise<Run>): Promise<Run> {
  const world = await World.start(options.peer);
  const standstills = new Standstills();
  try {
    return await play(new Chaos(options, world, standstills));
  } finally {
    standstills.stop();
    await world.end();
  }
}

class Chaos {
  readonly #options: RunOptions;
  readonly #world: World;
  readonly #standstills: Standstills;
  readonly #beganMs = now();
  readonly #people: Person[] = [];
  readonly #deeds: Deed[] = [];
  readonly #handOvers: HandOver[] = [];
  #over = false;

  constructor(options: RunOptions, world: World, standstills: Standstills) {
    this.#options = options;
    this.#world = world;
    this.#standstills = standstills;
  }

  /** Nothing goes wrong: everybody comes and hangs up, again and again. */
  async playCalm(times: number): Promise<Run> {
    await this.#invite(this.#options.people);
    await inTurns(COME_AT_ONCE, this.#people, (person) => person.enter(false));
    await Promise.all(
      this.#people.map(async (person, place) => {
        await sleep(place * CALM_GAP_MS);
        for (let time = 0; time < times; time += 1) {
          await sleep(CALM_STAY_MS);
          await person.callAgainAfter(CALM_AWAY_MS);
        }
      }),
    );
    this.#over = true;
    return this.#judged();
  }

  async play(): Promise<Run> {
    const { seed, people, wrongForMs } = this.#options;
    await this.#invite(people);
    const chances = this.#people.map((_, index) => new Chance(seed, index));
    await inTurns(COME_AT_ONCE, this.#people, (person, index) => person.enter(chanceOf(chances, index).roll() < 0.3));
    this.#say(`${people} participants are in; things go wrong for ${wrongForMs / 1000} s`);
    const watching = this.#people.map((person) => person.watchItself());
    this.#world.meddle(new Chance(seed, 10_001));
    const servers = this.#servers(new Chance(seed, 10_000), now() + wrongForMs);
    const lives = this.#people.map((person, index) => this.#live(person, chanceOf(chances, index), now() + wrongForMs));
    await servers;
    await Promise.all(lives);
    this.#world.meddleNoMore();
    this.#say('nothing goes wrong any more: half of them hang up, half are killed');
    this.#over = true;
    await Promise.all(watching);
    await Promise.all(this.#people.map((person, index) => (index % 2 === 0 ? person.hangUp() : person.die())));
    await this.#lastWord();
    return this.#judged();
  }

  /** Nothing can go wrong any more once everybody has been declared gone. */
  async #lastWord(): Promise<void> {
    const untilMs = now() + LAST_WORD_MS;
    const isGone = ({ identity }: Person): boolean => this.#announcements().findLast((one) => one.identity === identity)?.kind === 'gone';
    while (now() < untilMs && !this.#people.every(isGone)) await sleep(200);
  }

  async #invite(people: number): Promise<void> {
    const chance = new Chance(this.#options.seed, 10_002);
    let room = '';
    for (let number = 0; number < people; number += 1) {
      if (number % ROOM_SIZE === 0) room = await this.#world.room();
      const name = `p${String(number).padStart(2, '0')}`;
      const account = await this.#world.account(name, room);
      const place = {
        room,
        cable: await this.#world.network.cable(),
        delayMs: chance.one(DELAYS_MS),
        publishes: number % ROOM_SIZE === 0,
        around: this.#around(),
      };
      this.#people.push(new Person(name, account, place));
    }
  }
  #around(): ConstructorParameters<typeof Person>[2]['around'] {
    return {
      serviceUrl: this.#world.serviceUrl,
      serverName: this.#world.homeserver.serverName,
      announced: (identity) => this.#announcements().findLast((one) => one.identity === identity)?.kind,
      deed: (deed) => {
        this.#deeds.push(deed);
        this.#say(`${this.#people.find(({ identity }) => identity === deed.identity)?.name}: ${deed.what}`);
      },
      handOver: (handOver) => this.#handOvers.push(handOver),
      goesOn: () => !this.#over,
    };
  }

  /** Stays a while, goes in some way, and comes again; begins nothing that would take long after all is to be well. */
  async #live(person: Person, chance: Chance, untilMs: number): Promise<void> {
    await sleep(chance.between(0, 12_000));
    while (now() < untilMs) {
      await this.#befall(person, chance, untilMs - now() + MAY_OUTLAST_MS);
      await sleep(chance.between(3_000, 20_000));
    }
    await this.#here(person, chance);
  }

  async #befall(person: Person, chance: Chance, longestMs: number): Promise<void> {
    const fate = chance.roll();
    const [soonMs, lateMs] = [chance.between(1_000, 12_000), chance.between(24_000, 28_000)];
    if (fate < 0.2) {
      await person.hangUp();
      await sleep(soonMs);
      await person.enter(chance.roll() < 0.3);
    } else if (fate < 0.4) {
      await person.die();
      // Some are back before LiveKit has missed them.
      await sleep(chance.roll() < 0.4 || lateMs > longestMs ? soonMs : lateMs);
      await person.enter(chance.roll() < 0.3);
    } else if (fate < 0.75) {
      const cuts = [1_000, 3_000, 6_000, 12_000, 15_000, 26_000, 30_000].filter((ms) => ms < longestMs);
      await person.cutFor(chance.one(cuts), chance.one(['unplugged', 'silent']));
      await this.#here(person, chance);
    } else if (fate < 0.88) await person.reload();
    else {
      await person.reconnect();
      await this.#here(person, chance);
    }
  }

  /** A person whose SDK has given up comes again. */
  async #here(person: Person, chance: Chance): Promise<void> {
    const patienceMs = now() + PATIENCE_MS;
    while (!person.connected && !person.lost && now() < patienceMs) await sleep(100);
    if (person.connected) return;
    await person.die('gave up');
    await person.enter(chance.roll() < 0.3);
  }

  /** Each kind of fault comes before one comes twice. */
  async #servers(chance: Chance, untilMs: number): Promise<void> {
    for (;;) {
      for (const fault of chance.shuffled(['service', 'service', 'SFU', 'homeserver'] as const)) {
        await sleep(Math.max(0, Math.min(chance.between(6_000, 14_000), untilMs - now())));
        if (now() >= untilMs) return;
        await this.#strike(fault, chance);
      }
    }
  }

  async #strike(fault: 'service' | 'SFU' | 'homeserver', chance: Chance): Promise<void> {
    const forMs = chance.between(300, fault === 'SFU' ? 2_500 : 6_000);
    this.#say(`the ${fault} is ${fault === 'homeserver' ? 'stopped' : 'killed'} for ${(forMs / 1000).toFixed(1)} s`);
    if (fault === 'service') await this.#world.killService(forMs);
    else if (fault === 'SFU') await this.#world.killSfu(forMs);
    else await this.#world.freezeHomeserver(forMs);
  }

  #announcements(): Evidence['announcements'] {
    const identities = new Map(this.#people.map(({ stateKey, identity }) => [stateKey, identity]));
    return announcementsIn(this.#world.watchers, (stateKey) => identities.get(stateKey) || undefined);
  }

  #judged(): Run {
    const evidence: Evidence = {
      ...attendanceIn(this.#world.sfuLog, this.#world.sfuKillsMs, this.#world.told),
      announcements: this.#announcements(),
      handOvers: this.#handOvers,
      acts: this.#world.proxy.acts,
      outages: [...this.#world.outages, ...this.#standstills.found],
      deeds: this.#deeds,
      endedMs: now(),
    };
    const { seed } = this.#options;
    return { seed, evidence, verdict: judge(evidence, WAITS), webhooks: this.#world.webhooks, serviceLog: this.#world.service.logFile };
  }

  #say(line: string): void {
    this.#options.say(`${((now() - this.#beganMs) / 1000).toFixed(1).padStart(6)} s  ${line}`);
  }
}

function chanceOf(chances: readonly Chance[], index: number): Chance {
  const chance = chances[index];
  if (chance === undefined) throw new Error('everybody has their own chance');
  return chance;
}

async function inTurns<T>(width: number, all: readonly T[], work: (one: T, index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const turns = Array.from({ length: width }, async () => {
    for (let index = next++; index < all.length; index = next++) await work(all[index] as T, index);
  });
  await Promise.all(turns);
}
