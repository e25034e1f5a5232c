// A homeserver that keeps its own timers: what it is told too late has run out, whatever we count.
import type { EngineWorld } from './world.ts';

interface Scheduled {
  readonly delayMs: number;
  expiresMs: number;
  lost: boolean;
}

export interface OwnTimers {
  readonly events: Map<string, Scheduled>;
  add(id: string, delayMs: number): void;
  /** How many have run out. */
  lost(): number;
}

/** It answers every call of `world` after `tookMs`, and does what it is asked in the middle of that time. */
export function keepTimers(world: EngineWorld, tookMs = 20): OwnTimers {
  const events = new Map<string, Scheduled>();
  world.takesMs = () => tookMs;
  world.answer = (_, call) => {
    const event = call.kind === 'delay' ? events.get(call.delayId) : undefined;
    if (event === undefined) throw new Error('called about an event that nobody has scheduled');
    const atMs = world.clock.nowMs() + tookMs / 2;
    event.lost ||= event.expiresMs <= atMs;
    if (event.lost) return { kind: 'final', how: 'gone' };
    event.expiresMs = atMs + event.delayMs;
    return { kind: 'ok' };
  };
  return {
    events,
    add: (id, delayMs) => void events.set(id, { delayMs, expiresMs: world.clock.nowMs() + delayMs, lost: false }),
    lost: () => [...events.values()].filter(({ lost, expiresMs }) => lost || expiresMs <= world.clock.nowMs()).length,
  };
}
