// What the README promises, of the pure heart, in a small world with one participant: whatever is lost, doubled, late or out of
// order, and whatever the homeserver answers. The world knows the truth; the heart hears only what is delivered.
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decide, delegate, dueAtMs } from '../../src/delegation/decide.ts';
import type { Identity, RoomSid, Sid } from '../../src/delegation/ids.ts';
import type { Action, Answer, Cause, Delegation, Effect, Event, Seen } from '../../src/delegation/state.ts';
import { leaseMs } from '../../src/delegation/steps/moves.ts';
import { GROUP, ME, NOW, POLICY, ROWS, rowIn } from './cases.ts';

type Move =
  | { kind: 'connect' }
  | { kind: 'leave'; cause: Cause }
  | { kind: 'takeover' }
  | { kind: 'deliver'; which: number; again: boolean }
  | { kind: 'lose'; which: number }
  | { kind: 'name'; which: number }
  | { kind: 'pass'; ms: number }
  | { kind: 'sfu'; up: boolean }
  | { kind: 'homeserver'; mood: 'well' | 'failing' | 'limiting' | 'refusing' };

const move = fc.oneof<fc.Arbitrary<Move>[]>(
  fc.constant({ kind: 'connect' }),
  fc.constantFrom<Cause>('left', 'lost', 'removed').map((cause) => ({ kind: 'leave', cause })),
  fc.constant({ kind: 'takeover' }),
  fc.record({ kind: fc.constant('deliver' as const), which: fc.nat(5), again: fc.boolean() }),
  fc.record({ kind: fc.constant('lose' as const), which: fc.nat(5) }),
  fc.record({ kind: fc.constant('name' as const), which: fc.nat(2) }),
  fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 20_000 }) }),
  fc.record({ kind: fc.constant('sfu' as const), up: fc.boolean() }),
  fc.record({ kind: fc.constant('homeserver' as const), mood: fc.constantFrom('well', 'failing', 'limiting', 'refusing') }),
);

const ROOM_SID = 'RM' as RoomSid;

class World {
  nowMs = NOW;
  row: Delegation;
  present: Seen | null = null;
  /** When the participant was last on the SFU. */
  presentUntilMs = 0;
  hooks: Event[] = [];
  sfuUp = true;
  mood: 'well' | 'failing' | 'limiting' | 'refusing' = 'well';
  readonly attempted = new Set<Action>();
  evidenceMs = Number.NEGATIVE_INFINITY;
  falseLeaves = 0;
  /** The homeserver's truth: the leave is in the room, or will be at this time. */
  delivered = false;
  expiresMs: number;
  readonly #departures = new Set<number>();
  #sessions = 0;
  readonly #roll: () => number;

  constructor(delayMs: number, roll: () => number) {
    this.#roll = roll;
    this.expiresMs = NOW + delayMs;
    const { next, effects } = delegate({ ...rowIn(ROWS['connected, just seen'], GROUP), delayMs }, NOW, roll(), POLICY);
    this.row = Object.freeze(next);
    this.#perform(effects);
  }

  apply(event: Event): void {
    if (event.kind === 'joined') this.evidenceMs = this.nowMs;
    const before = this.row;
    const at = { nowMs: this.nowMs, roll: this.#roll() };
    const decision = decide(before, event, at, POLICY);
    // The same arguments give the same decision.
    if (!isDeepStrictEqual(decide(structuredClone(before), event, at, POLICY), decision)) expect.fail('decided otherwise the second time');
    // No forgotten promise: whatever lives is due sometime; whatever ended stays as it is and does nothing.
    if (decision.next.state.kind === 'ended') expect(decision.effects.filter(({ kind }) => kind !== 'check')).toEqual([]);
    else expect(Number.isSafeInteger(dueAtMs(decision.next.state))).toBe(true);
    if (before.state.kind === 'ended') expect(decision).toEqual({ next: before, effects: [] });
    // Nobody is let go while its leave is still to come.
    if (decision.next.state.kind === 'ended') expect(this.delivered || this.nowMs >= this.expiresMs).toBe(true);
    this.row = decision.next;
    this.#perform(decision.effects);
  }

  #perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'check':
          this.apply(this.#look(effect.whichRoom));
          break;
        case 'restart':
          this.#mayRestart();
          this.#restart();
          break;
        case 'send': {
          this.attempted.add(effect.action);
          const answer = this.#answer();
          if (answer.kind === 'ok' && this.present !== null) this.falseLeaves += 1;
          if (answer.kind === 'ok') this.delivered = true;
          this.apply({ kind: 'send_answered', action: effect.action, answer });
          break;
        }
        case 'cancel':
          throw new Error('nobody supersedes here');
        default:
          effect satisfies never;
      }
    }
  }

  /** Only on fresh evidence of presence; or once when somebody has gone, for the wait for a return. */
  #mayRestart(): void {
    const { state } = this.row;
    if (state.kind === 'settling') {
      expect(this.#departures).not.toContain(state.departure.atMs);
      this.#departures.add(state.departure.atMs);
      return;
    }
    expect(this.nowMs - this.evidenceMs).toBeLessThanOrEqual(leaseMs(this.row as Parameters<typeof leaseMs>[0], POLICY));
  }

  #restart(): void {
    const answer = this.#answer();
    if (answer.kind === 'ok') this.expiresMs = this.nowMs + this.row.delayMs;
    this.apply({ kind: 'restart_answered', askedAtMs: this.nowMs, answer });
  }

  /** As the SFU is asked: which room it is, is learnt if it was asked for, or nobody is there. */
  #look(whichRoom = false): Event {
    if (!this.sfuUp) return { kind: 'sfu_unreachable', askedAtMs: this.nowMs };
    if (this.present !== null) this.evidenceMs = this.nowMs;
    const present = this.present === null ? [] : [this.present];
    return {
      kind: 'snapshot',
      askedAtMs: this.nowMs,
      present,
      roomSid: whichRoom || this.present === null ? ROOM_SID : undefined,
      afterRestart: false,
      answersSinceMs: 0,
      lastSeenMs: null,
      lookedFor: true,
    };
  }

  #answer(): Answer {
    if (this.delivered || this.nowMs >= this.expiresMs) return { kind: 'final', how: 'gone' };
    switch (this.mood) {
      case 'well':
        return { kind: 'ok' };
      case 'failing':
        return { kind: 'failed', reached: false };
      case 'limiting':
        return { kind: 'limited', retryAfterMs: 1_000 };
      case 'refusing':
        return { kind: 'refused' };
      default:
        return this.mood satisfies never;
    }
  }

  connect(): void {
    if (this.present !== null) return;
    this.#sessions += 1;
    this.present = { identity: ME, sid: `PA_${this.#sessions}` as Sid, joinedAtMs: this.nowMs + this.#sessions, active: true };
    const { identity, sid, joinedAtMs } = this.present;
    this.hooks.push({ kind: 'joined', identity, sid, joinedAtMs, roomSid: ROOM_SID });
  }

  leave(cause: Cause): void {
    if (this.present === null) return;
    const { identity, sid, joinedAtMs } = this.present;
    this.present = null;
    this.presentUntilMs = this.nowMs;
    this.hooks.push({ kind: 'left', identity, sid, joinedAtMs, roomSid: ROOM_SID, cause });
  }

  /** Real time: due work is done when it is due, one at a time. */
  pass(ms: number): void {
    const untilMs = this.nowMs + ms;
    for (let steps = 0; steps < 10_000; steps += 1) {
      const dueMs = dueAtMs(this.row.state);
      if (dueMs === null || dueMs > untilMs) break;
      this.nowMs = Math.max(this.nowMs, dueMs);
      this.apply({ kind: 'due' });
      // A decision that leaves a row due at the same moment would spin.
      if (dueAtMs(this.row.state) === dueMs) this.nowMs += 1;
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  do(one: Move): void {
    switch (one.kind) {
      case 'connect':
        this.connect();
        return;
      case 'leave':
        this.leave(one.cause);
        return;
      case 'takeover':
        if (this.present === null) return;
        this.leave('replaced');
        this.connect();
        return;
      case 'deliver': {
        const hook = this.hooks[one.which];
        if (hook === undefined) return;
        if (!one.again) this.hooks.splice(one.which, 1);
        this.apply(hook);
        return;
      }
      case 'lose':
        this.hooks.splice(one.which, 1);
        return;
      case 'name':
        this.apply({ kind: 'known_as', identities: [ME, `name ${one.which}` as Identity] });
        return;
      case 'pass':
        this.pass(one.ms);
        return;
      case 'sfu':
        this.sfuUp = one.up;
        return;
      case 'homeserver':
        this.mood = one.mood;
        return;
      default:
        one satisfies never;
    }
  }

  /** The routine look at the room, which needs no webhook. */
  sweep(): void {
    if (this.sfuUp) this.apply(this.#look());
  }
}

const worlds = fc.record({
  delayMs: fc.constantFrom(1_500, 10_000, 60_000, 3_600_000),
  moves: fc.array(move, { maxLength: 60 }),
  rolls: fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })),
});
const RUNS = { numRuns: 3_000 };

it('never a false leave while the SFU can be asked, never two endings, no restart without evidence, no promise forgotten', () => {
  fc.assert(
    fc.property(worlds, ({ delayMs, moves, rolls }) => {
      const world = new World(delayMs, () => rolls.next().value as number);
      for (const one of moves) {
        // While the SFU is away a webhook's word stands, and late webhooks can be wrong then: that is its own property.
        if (one.kind !== 'sfu') world.do(one);
      }
      expect(world.falseLeaves).toBe(0);
      expect(world.attempted.size).toBeLessThanOrEqual(1);
    }),
    RUNS,
  );
});

it('holds the other promises with the SFU away as well', () => {
  fc.assert(
    fc.property(worlds, ({ delayMs, moves, rolls }) => {
      const world = new World(delayMs, () => rolls.next().value as number);
      for (const one of moves) world.do(one);
      expect(world.attempted.size).toBeLessThanOrEqual(1);
    }),
    RUNS,
  );
});

it('never a ghost: once faults stop, whoever is gone is reported within its bound, and whoever is there is kept', () => {
  fc.assert(
    fc.property(worlds, ({ delayMs, moves, rolls }) => {
      const world = new World(delayMs, () => rolls.next().value as number);
      for (const one of moves) world.do(one);
      world.sfuUp = true;
      world.mood = 'well';
      const stays = world.present !== null;
      const wasLive = world.row.state.kind !== 'ended';
      // With the SFU away, or a homeserver that refuses, the event may have run out: then it can't be kept any more.
      const calm = moves.every(({ kind }) => kind !== 'sfu' && kind !== 'homeserver');
      // Time enough for a routine look to find whom no webhook told of.
      const inTime = !world.delivered && world.expiresMs - world.nowMs > POLICY.presenceIntervalMs + 5_000;
      // A sweep finds what webhooks missed, its confirmation follows, and a backoff may have to end first.
      for (let sweeps = 0; sweeps < 3; sweeps += 1) {
        world.pass(POLICY.presenceIntervalMs);
        world.sweep();
      }
      world.pass(Math.min(delayMs, POLICY.connectTimeoutMs) + 20_000);
      if (!stays) expect(world.row.state.kind).toBe('ended');
      else if (wasLive && calm && inTime) expect(world.row.state.kind).toBe('connected');
    }),
    RUNS,
  );
});
