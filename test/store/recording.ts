// What an engine leaves behind in its file when it is killed with somebody in each state.
import path from 'node:path';
import type { Answer, Cause } from '../../src/delegation/state.ts';
import { EngineWorld } from '../engine/world.ts';
import { delayHandles, futureHandles, handOver, identity, room, sid } from '../support/fixtures.ts';

export const RECORDED = path.join(import.meta.dirname, 'recorded');
export const recordedAs = (schema: number): string => `schema-${schema}.sql`;
/** Of every delayed event there. */
export const DELAY_MS = 60_000;
export const KILLED_AFTER_MS = 4_550;

/** 1 has not come, 2 is there, 3 went with the SFU, 4 is owed a leave, 5 has handed over another event, 6 is gone, 7 is there with futures. */
export async function live(file: string): Promise<void> {
  const world = new EngineWorld({}, { path: file });
  const { clock, engine } = world;
  const withTime = async (done: Promise<unknown>): Promise<void> => {
    await clock.advance(50);
    await done;
  };
  const hand = (n: number, handles = delayHandles(n)) => {
    const { id: _, ...rest } = handOver(n, { delayMs: DELAY_MS, handles });
    return withTime(engine.handOver(rest));
  };
  const come = async (n: number, handles = delayHandles(n)) => {
    world.join(room(n), identity(n), sid(n));
    await hand(n, handles);
    await withTime(world.webhook(room(n), identity(n), sid(n), 'joined'));
  };
  const go = async (n: number, cause: Cause) => {
    world.leave(room(n), identity(n));
    await withTime(world.webhook(room(n), identity(n), sid(n), cause));
  };
  const isAway = ['send delay-secret-4', 'cancel delay-secret-5'];
  world.answer = (_homeserver, call): Answer =>
    call.kind === 'delay' && isAway.includes(`${call.action} ${call.delayId}`) ? { kind: 'failed', reached: false } : { kind: 'ok' };
  await clock.advance(1_000);
  for (const n of [2, 3, 4, 5, 6]) await come(n);
  await come(7, futureHandles(7));
  await go(6, 'left');
  await go(4, 'left');
  await clock.advance(2_500);
  await hand(5, delayHandles(15));
  await go(3, 'sfu_down');
  await hand(1);
  await clock.advance(200);
  await world.store.close();
}
