// What a homeserver with delayed events has to do for us, whichever it is: run on the model ones by contract.test.ts, and on a real one
// by the end-to-end suite. Time passes for real here, so all waits are multiples of one unit, to be chosen by the homeserver's pace.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type DelayId, type HomeserverUrl, parseDelayId, parseUserId } from '../../src/delegation/ids.ts';
import type { Answer } from '../../src/delegation/state.ts';
import { type Call, createDelayedEvents, type DelayedEvents } from '../../src/homeserver/delayed-events.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';

/** One scheduled state event, and the calls that act on it. */
export interface Target {
  readonly send: Call;
  readonly restart: Call;
  readonly cancel: Call;
}
export interface ContractHomeserver {
  readonly url: string;
  schedule(delayMs: number, stateKey: string): Promise<Target>;
  arrived(stateKey: string): Promise<boolean>;
  stop(): Promise<void>;
  /** Calls on a target that never was. */
  readonly unknown?: Target;
  /** Where acting needs to be done in the owner's name. */
  readonly asOwner?: { readonly asToken: string; readonly userId: string };
}
export interface ContractOptions {
  /** 200 ms unless told. */
  readonly unitMs?: number;
  /** False: repeating what was done answers 200 there. */
  readonly forgetsFinal?: boolean;
}

const GONE: Answer = { kind: 'final', how: 'gone' };
const clock = systemClock();

/** The calls for a delay id. */
export function delayTarget(id: string): Target {
  const delayId = parseDelayId(id) as DelayId;
  const call = (action: 'send' | 'restart' | 'cancel'): Call => ({ kind: 'delay', delayId, action });
  return { send: call('send'), restart: call('restart'), cancel: call('cancel') };
}

export function homeserverContract(name: string, begin: () => Promise<ContractHomeserver>, options: ContractOptions = {}): void {
  const unitMs = options.unitMs ?? 200;
  const patience = { timeout: 60 * unitMs + 10_000 };
  describe(`contract: ${name}`, () => {
    let homeserver: ContractHomeserver;
    let client: DelayedEvents;
    let keys = 0;
    const act = (call: Call): Promise<Answer> => {
      const userId = homeserver.asOwner ? parseUserId(homeserver.asOwner.userId) : null;
      return client.act(homeserver.url as HomeserverUrl, call, { timeoutMs: 5000, userId });
    };
    const scheduled = async (units: number): Promise<{ target: Target; key: string }> => {
      keys += 1;
      const key = `key-${keys}`;
      return { target: await homeserver.schedule(units * unitMs, key), key };
    };

    beforeAll(async () => {
      homeserver = await begin();
      const asToken = homeserver.asOwner?.asToken;
      const applicationService = asToken === undefined ? null : { homeserver: homeserver.url as HomeserverUrl, asToken };
      client = createDelayedEvents({
        clock,
        outbound: createOutbound({ clock, addresses: () => 'any', insecureTls: true }),
        applicationService,
      });
    }, 60_000);
    afterAll(async () => {
      await client.close();
      await homeserver.stop();
    });

    test('left alone, the event arrives after its delay and not before', patience, async () => {
      const { key } = await scheduled(4);
      expect(await homeserver.arrived(key)).toBe(false);
      await until(() => homeserver.arrived(key), 20 * unitMs);
    });

    test('a send delivers at once, and then the event is final', patience, async () => {
      const { target, key } = await scheduled(1000);
      expect(await act(target.send)).toEqual({ kind: 'ok' });
      await until(() => homeserver.arrived(key), 5 * unitMs);
      expect(await act(target.send)).toEqual(options.forgetsFinal === false ? { kind: 'ok' } : GONE);
      expect((await act(target.restart)).kind).toBe('final');
      expect((await act(target.cancel)).kind).toBe('final');
    });

    test('a restart starts the whole delay anew', patience, async () => {
      const { target, key } = await scheduled(6);
      const startMs = clock.nowMs();
      await passed(3 * unitMs);
      expect(await act(target.restart)).toEqual({ kind: 'ok' });
      await until(() => homeserver.arrived(key), 30 * unitMs);
      expect(clock.nowMs() - startMs).toBeGreaterThanOrEqual(9 * unitMs - 5);
    });

    test('a cancelled event never arrives', patience, async () => {
      const { target, key } = await scheduled(3);
      expect(await act(target.cancel)).toEqual({ kind: 'ok' });
      await passed(5 * unitMs);
      expect(await homeserver.arrived(key)).toBe(false);
      expect((await act(target.restart)).kind).toBe('final');
      expect((await act(target.send)).kind).toBe('final');
    });

    test('an event that expired by itself is final', patience, async () => {
      const { target, key } = await scheduled(1);
      await until(() => homeserver.arrived(key), 20 * unitMs);
      expect((await act(target.restart)).kind).toBe('final');
    });

    test('an event that never was is gone', patience, async () => {
      const unknown = homeserver.unknown ?? delayTarget('syd_neverwas');
      for (const call of [unknown.restart, unknown.send, unknown.cancel]) expect(await act(call)).toEqual(GONE);
    });
  });
}

/** Lets time pass; for what must not happen in it. */
export function passed(ms: number): Promise<void> {
  return new Promise((resolve) => void clock.after(ms, resolve));
}

export async function until(holds: () => Promise<boolean>, withinMs: number): Promise<void> {
  const endsAtMs = clock.nowMs() + withinMs;
  while (!(await holds())) {
    if (clock.nowMs() > endsAtMs) throw new Error(`did not happen within ${withinMs} ms`);
    await passed(10);
  }
}
