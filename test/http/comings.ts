// One participant who comes and goes, as the SFU lists and tells it.
import { expect } from 'vitest';
import type { Identity, RoomName, Sid } from '../../src/delegation/ids.ts';
import { START_MS } from '../support/virtual-clock.ts';
import type { Harness } from './harness.ts';

async function hook(at: Harness, room: RoomName, event: string, identity: Identity, more: object = {}): Promise<void> {
  const participant = { sid: 'PA_1', identity, state: 'ACTIVE', joinedAtMs: String(START_MS), ...more };
  const told = { event, id: `EV_${event}_${identity}`, createdAt: '1', room: { sid: 'RM_1', name: room }, participant };
  expect((await at.hook(told)).status).toBe(200);
}

export async function joins(at: Harness, room: RoomName, identity: Identity): Promise<void> {
  at.sfu.inRooms.set(room, [{ identity, sid: 'PA_1' as Sid, joinedAtMs: START_MS, active: true }]);
  await hook(at, room, 'participant_joined', identity);
  await at.clock.advance(100);
}

/** For good: after the wait for a return. */
export async function parts(at: Harness, room: RoomName, identity: Identity): Promise<void> {
  at.sfu.inRooms.set(room, []);
  await hook(at, room, 'participant_left', identity, { disconnectReason: 'CLIENT_INITIATED' });
  await at.clock.advance(2_000);
}
