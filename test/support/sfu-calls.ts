// Calls to an SFU as the service makes them, each test's over connections of its own.
import { type Clock, systemClock } from '../../src/clock.ts';
import { systemResolve } from '../../src/dns/resolve.ts';
import type { ApiKey } from '../../src/sfu/keys.ts';
import { createSfuPool, type RoomServiceDeps, type SfuPool, type SfuPoolOptions } from '../../src/sfu/room-service.ts';
import { createRooms, type RoomsTold } from '../../src/sfu/rooms.ts';

/** As many as are under way at once: 256 questions, and 32 of them a second time. */
const CONNECTIONS = 288;

export function poolTo(apiUrl: string, how: Partial<SfuPoolOptions> = {}): SfuPool {
  return createSfuPool(apiUrl, { clock: systemClock(), resolve: systemResolve, connections: CONNECTIONS, insecureTls: false, ...how });
}

export function callsTo(apiUrl: string, how: Partial<RoomServiceDeps> = {}): RoomServiceDeps {
  return { clock: systemClock(), pool: poolTo(apiUrl), onFailed: () => {}, ...how };
}

/** Nothing is known of who was there before. */
export function roomsAt(apiUrl: string, key: ApiKey, clock: Clock = systemClock()): RoomsTold {
  return createRooms(apiUrl, key, callsTo(apiUrl, { clock }), async () => []);
}
