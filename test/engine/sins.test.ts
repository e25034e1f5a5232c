// What is counted as a false leave or a ghost, beside what a homeserver with timers of its own has done.
import { describe, expect, it } from 'vitest';
import type { DelayId } from '../../src/delegation/ids.ts';
import type { Answer } from '../../src/delegation/state.ts';
import { handOver, identity, room, sid } from '../support/fixtures.ts';
import { EngineWorld } from './world.ts';

const DELAY_MS = 10_000;

interface Scheduled {
  expiresMs: number;
  over: boolean;
}

/** One member, whose homeserver answers `away` while there is one. */
class Story {
  readonly world = new EngineWorld();
  away: Answer | null = null;
  /** Events about which it fails to answer. */
  readonly deaf = new Set<string>();
  readonly #events = new Map<string, Scheduled>();

  serve(): void {
    this.world.answer = (_, call) => {
      if (this.away !== null) return this.away;
      const event = call.kind === 'delay' ? this.#events.get(call.delayId) : undefined;
      if (event === undefined || call.kind !== 'delay') throw new Error('called about an event that nobody has scheduled');
      if (this.deaf.has(call.delayId)) return { kind: 'failed', reached: false };
      event.over ||= event.expiresMs <= this.world.clock.nowMs();
      if (event.over) return { kind: 'final', how: 'gone' };
      if (call.action === 'restart') event.expiresMs = this.world.clock.nowMs() + DELAY_MS;
      else event.over = true;
      return { kind: 'ok' };
    };
  }

  async begin(): Promise<void> {
    this.serve();
    this.schedule('d-1');
    await this.world.enter(1, room(1), DELAY_MS, 'd-1' as DelayId);
    await this.world.clock.advance(5_000);
  }

  schedule(delayId: string): void {
    this.#events.set(delayId, { expiresMs: this.world.clock.nowMs() + DELAY_MS, over: false });
  }

  /** By its client. */
  end(delayId: string): void {
    this.#events.set(delayId, { expiresMs: this.world.clock.nowMs(), over: true });
  }

  async handsOver(delayId: string): Promise<void> {
    this.schedule(delayId);
    const { id: _, ...rest } = handOver(1, { delayMs: DELAY_MS, handles: { kind: 'delay', delayId: delayId as DelayId } });
    await this.world.engine.handOver({ ...rest, handlesHash: delayId });
  }

  pass(ms: number): Promise<void> {
    return this.world.clock.advance(ms);
  }

  async leaves(n = 1, leftAtMs?: number): Promise<void> {
    this.world.leave(room(1), identity(1));
    await this.world.webhook(room(1), identity(1), sid(n), 'left', undefined, undefined, leftAtMs);
  }

  async comes(n: number): Promise<void> {
    this.world.join(room(1), identity(1), sid(n));
    await this.world.webhook(room(1), identity(1), sid(n), 'joined');
  }

  async counted(): Promise<{ readonly falseLeaves: number; readonly ghosts: number }> {
    const [falseLeaves, ghosts] = await Promise.all(
      ['lastwill_false_leaves_total', 'lastwill_ghosts_total'].map((name) => this.world.metric(name)),
    );
    return { falseLeaves: falseLeaves ?? 0, ghosts: ghosts ?? 0 };
  }
}

const AWAY: readonly (readonly [string, Answer])[] = [
  ['limits calls', { kind: 'limited', retryAfterMs: 500 }],
  ['can not be reached', { kind: 'failed', reached: false }],
  ['refuses', { kind: 'refused' }],
];

describe.each(AWAY)('an event that runs out at a homeserver that %s', (_, answer) => {
  async function away(): Promise<Story> {
    const story = new Story();
    await story.begin();
    story.away = answer;
    return story;
  }

  it('under a member who is there is a false leave, of which a warning tells', async () => {
    const story = await away();
    await story.pass(20_000);
    story.away = null;
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 1, ghosts: 0 });
    const lines = story.world.lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'delegation moved');
    expect(lines.filter(({ level }) => level === 'warn')).toMatchObject([{ sin: 'false-leave', homeserver: handOver(1).homeserver }]);
    expect(lines.filter(({ sin, level }) => level !== 'warn' && sin)).toEqual([]);
  });

  it('is one as well if the member leaves before the homeserver tells', async () => {
    const story = await away();
    await story.pass(10_000);
    await story.leaves();
    await story.pass(5_000);
    story.away = null;
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 1, ghosts: 0 });
  });

  it('and if the member is there by another session by then', async () => {
    const story = await away();
    await story.pass(10_000);
    await story.leaves();
    await story.pass(500);
    await story.comes(2);
    await story.pass(5_000);
    story.away = null;
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 1, ghosts: 0 });
  });

  it('but not if the member had left before, and only the word of it came late', async () => {
    const story = await away();
    const leftAtMs = story.world.clock.nowMs();
    story.world.leave(room(1), identity(1));
    story.world.sfuUp = false;
    await story.pass(10_000);
    await story.leaves(1, leftAtMs);
    await story.pass(5_000);
    [story.away, story.world.sfuUp] = [null, true];
    await story.pass(30_000);
    expect((await story.counted()).falseLeaves).toBe(0);
  });
});

const WITHOUT_A_CALL = AWAY.filter(([, { kind }]) => kind !== 'refused');

describe.each(WITHOUT_A_CALL)('a leave that is owed while the homeserver %s', (_, answer) => {
  it('and that it sends only by its own timer, later than promised, is a ghost', async () => {
    const story = new Story();
    await story.begin();
    story.away = answer;
    await story.leaves();
    await story.pass(20_000);
    expect(await story.counted()).toEqual({ falseLeaves: 0, ghosts: 0 });
    story.away = null;
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 0, ghosts: 1 });
  });

  it('is none if the timer came in time', async () => {
    const story = new Story();
    await story.begin();
    story.away = answer;
    await story.pass(4_000);
    await story.leaves();
    await story.pass(20_000);
    story.away = null;
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 0, ghosts: 0 });
  });

  it('is none if its client has sent it by itself meanwhile', async () => {
    const story = new Story();
    await story.begin();
    story.away = answer;
    await story.leaves();
    story.end('d-1');
    await story.pass(2_500);
    story.away = null;
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 0, ghosts: 0 });
  });
});

describe('an event that runs out by itself as soon as its leave is owed', () => {
  it('is no ghost, though the homeserver says so only after a try without an answer', async () => {
    const story = new Story();
    await story.handsOver('d-1');
    story.serve();
    await story.pass(9_000);
    story.away = { kind: 'failed', reached: true };
    await story.pass(5_000);
    story.away = null;
    await story.pass(30_000);
    expect(story.world.actions('send').length).toBeGreaterThan(1);
    expect(await story.counted()).toEqual({ falseLeaves: 0, ghosts: 0 });
  });
});

describe('a delegation that is superseded, and can not be cancelled in time', () => {
  async function superseded(): Promise<Story> {
    const story = new Story();
    await story.begin();
    story.deaf.add('d-1');
    await story.handsOver('d-2');
    return story;
  }

  it('takes out who is there: a false leave', async () => {
    const story = await superseded();
    await story.pass(20_000);
    story.deaf.clear();
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 1, ghosts: 0 });
  });

  it('is one as well if it had run out before its client handed the next one over', async () => {
    const story = new Story();
    await story.begin();
    story.deaf.add('d-1');
    await story.pass(10_000);
    await story.handsOver('d-2');
    story.deaf.clear();
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 1, ghosts: 0 });
  });

  it('harms nobody who has left by then', async () => {
    const story = await superseded();
    await story.leaves();
    await story.pass(20_000);
    story.deaf.clear();
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 0, ghosts: 0 });
  });

  it('nor if nobody has told of their departure', async () => {
    const story = await superseded();
    story.world.leave(room(1), identity(1));
    await story.pass(20_000);
    story.deaf.clear();
    await story.pass(30_000);
    expect((await story.counted()).falseLeaves).toBe(0);
  });

  it('nor those whose leave was sent before they came back, and the answer lost', async () => {
    const story = new Story();
    await story.begin();
    await story.leaves();
    await story.pass(500);
    story.away = { kind: 'failed', reached: true };
    await story.pass(1_000);
    story.end('d-1');
    await story.comes(2);
    await story.handsOver('d-2');
    await story.pass(20_000);
    story.away = null;
    await story.pass(30_000);
    expect(story.world.lines.filter((line) => line.includes('"superseded"') && line.includes('false-leave'))).toEqual([]);
  });

  it('harms nobody if its client has ended it', async () => {
    const story = await superseded();
    story.end('d-1');
    await story.pass(1_000);
    story.deaf.clear();
    await story.pass(30_000);
    expect(await story.counted()).toEqual({ falseLeaves: 0, ghosts: 0 });
  });
});
