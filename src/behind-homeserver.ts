// Wires the parts that are there only for lastwill as an application service of its homeserver (MSC4195 and MSC4512: requests passed on by
// it), as the settings say: nothing, the as_token alone, or all of it.
import type { Clock } from './clock.ts';
import type { Config } from './config/config.ts';
import { createRoomDepartures, type RoomDepartures } from './engine/room-departures.ts';
import { createApplicationService } from './homeserver/application-service.ts';
import type { Discovery } from './homeserver/discovery.ts';
import type { HomeserverFailure } from './homeserver/failures.ts';
import { createHome, type Home } from './homeserver/home.ts';
import type { Outbound } from './homeserver/outbound.ts';
import type { MatrixRtc } from './http/matrixrtc.ts';
import type { Proxied } from './http/proxied.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import { onceAMinute } from './once-a-minute.ts';
import { createEvictions } from './sfu/evictions.ts';
import type { ApiKey } from './sfu/keys.ts';
import type { RoomServiceDeps } from './sfu/room-service.ts';
import type { Rooms } from './sfu/rooms.ts';
import type { Attendance } from './store/attendance.ts';

/**
 * The homeserver whose application service we are; null: the settings name none. What is wrong with its address is logged once a minute.
 */
export function createHomeOf(config: Config, deps: { clock: Clock; discovery: Discovery; log: Log }): Home | null {
  const { applicationService } = config.homeservers;
  if (applicationService === null) return null;
  const { log, ...parts } = deps;
  const mayTell = onceAMinute(deps.clock);
  const onUnresolved = (why: string): void => {
    if (mayTell()) log.error({ why }, 'the homeserver of LIVEKIT_HS_SERVER_NAME can not be resolved; it is tried again');
  };
  return createHome({ ...parts, serverName: applicationService.serverName, onUnresolved });
}

export interface BehindHomeserver {
  readonly proxied: Proxied;
  /** Null: LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS is 0. */
  readonly departures: RoomDepartures | null;
}

export interface BehindHomeserverDeps {
  readonly home: Home | null;
  readonly attendance: Attendance;
  readonly outbound: Outbound;
  readonly matrixRtc: MatrixRtc;
  readonly signingKey: ApiKey;
  readonly sfu: RoomServiceDeps;
  readonly rooms: Rooms;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
}

/** Null: there is no hs_token by which the homeserver could prove itself to us, so it passes nothing on. */
export function createBehindHomeserver(config: Config, deps: BehindHomeserverDeps): BehindHomeserver | null {
  const { home, attendance, matrixRtc, clock, log } = deps;
  const settings = config.homeservers.applicationService;
  if (home === null || settings === null || settings.hsToken === null) return null;
  const { outbound, metrics } = deps;
  const onFailure = (_: unknown, why: HomeserverFailure) => metrics.homeserverFailure(home.serverName, why);
  const service = createApplicationService({ clock, home, outbound, asToken: settings.asToken, onFailure });
  const { apiUrl } = config.livekit;
  const intervalMs = settings.membershipCheckMs;
  const { signingKey, sfu } = deps;
  const parts = { rooms: deps.rooms, evictions: createEvictions(apiUrl, signingKey, sfu) };
  return {
    proxied: {
      ...{ service, hsToken: settings.hsToken, attendance: intervalMs === 0 ? null : attendance, identities: attendance },
      ...{ url: config.livekit.url, canUpdateOwnMetadata: config.grants.canUpdateOwnMetadata },
      ...{ tokens: matrixRtc.tokens, roomCreation: matrixRtc.roomCreation },
    },
    departures: intervalMs === 0 ? null : createRoomDepartures({ ...parts, attendance, service, clock, intervalMs, log }),
  };
}
