// One member of a call: matrix-js-sdk announces it and schedules its leave, livekit-client speaks to the SFU, and the authorization
// service is told of each leave that is scheduled. It joins when loaded, so a reload is a user who comes straight back.
import { Room as SfuRoom, RoomEvent as SfuRoomEvent } from 'livekit-client';
import { ClientEvent, createClient, type MatrixClient, type Room, SyncState } from 'matrix-js-sdk';
import { MatrixRTCSession, MembershipManagerEvent } from 'matrix-js-sdk/lib/matrixrtc/index.js';
import { type Authorization, ByHomeserver, ByService, claims, type Membership } from './authorization.ts';
import type { MemberOrder, Report } from './contract.ts';

declare global {
  interface Window {
    report: Report;
    /** Goodbye to the SFU and to the room, as a client does it. */
    hangUp: () => Promise<void>;
    /** Goodbye to the SFU alone: the leave is the service's to send. */
    leaveSfu: () => Promise<void>;
  }
}

const HOUR_MS = 3_600_000;
const RESTART_MS = 300_000;
const SHORT_MS = 18_000;

const order = JSON.parse(decodeURIComponent(location.hash.slice(1))) as MemberOrder;
const report: Report = {
  steps: [],
  failures: [],
  identity: '',
  sfuRoom: '',
  memberId: '',
  grant: {},
  delays: [],
  connected: false,
};
window.report = report;
const failed = (what: string) => (error: unknown) => void report.failures.push(`${what}: ${String(error)}`);
addEventListener('unhandledrejection', ({ reason }) => failed('unhandled')(reason));

async function synced(client: MatrixClient): Promise<void> {
  const ready = new Promise<void>((done) => {
    client.on(ClientEvent.Sync, (state) => {
      if (state === SyncState.Prepared || state === SyncState.Syncing) done();
    });
  });
  await client.startClient({ initialSyncLimit: 20 });
  await ready;
}

async function theRoom(client: MatrixClient): Promise<Room> {
  for (;;) {
    const room = client.getRoom(order.room);
    if (room?.getMyMembership() === 'join') return room;
    await new Promise((done) => client.once(ClientEvent.Sync, done));
  }
}

/** livekit-client with a microphone (a generated one), its ups and downs in the report. */
async function connect(url: string, jwt: string): Promise<SfuRoom> {
  const sfu = new SfuRoom();
  const now = (connected: boolean, step: string) => () => {
    report.connected = connected;
    report.steps.push(`sfu ${step}`);
  };
  sfu.on(SfuRoomEvent.Connected, now(true, 'connected'));
  sfu.on(SfuRoomEvent.SignalReconnecting, now(false, 'signal reconnecting'));
  sfu.on(SfuRoomEvent.Reconnecting, now(false, 'reconnecting'));
  sfu.on(SfuRoomEvent.Reconnected, now(true, 'reconnected'));
  sfu.on(SfuRoomEvent.Disconnected, now(false, 'disconnected'));
  await sfu.connect(url, jwt);
  await sfu.localParticipant.setMicrophoneEnabled(true);
  return sfu;
}

function follow(session: MatrixRTCSession, authorization: Authorization, membership: Membership, delayMs: number): void {
  session.on(MembershipManagerEvent.DelayIdChanged, (delayId) => {
    if (delayId === undefined) return;
    report.delays.push({ delayId, delayMs });
    if (!order.delegate) return;
    authorization
      .delegate(membership, { delayId, delayMs })
      .then(() => report.steps.push(`delegated ${report.delays.length}`))
      .catch(failed('delegation'));
  });
}

async function join(): Promise<void> {
  const { userId, deviceId } = order.credentials;
  const client = createClient({ ...order.credentials, useAuthorizationHeader: true });
  await synced(client);
  const room = await theRoom(client);
  const authorization =
    order.by === 'homeserver' ? new ByHomeserver(client, order.sfuUrl) : new ByService(order.serviceUrl, client, order.mode);
  const memberId = order.mode === 'legacy' ? `${userId}:${deviceId}` : crypto.randomUUID();
  const membership: Membership = { room: order.room, memberId, userId, deviceId };
  report.memberId = memberId;

  const taken = await authorization.takesDelegations();
  report.steps.push(taken ? 'delegations are taken' : 'delegations are not taken');
  const delayMs = taken && order.delegate ? HOUR_MS : SHORT_MS;

  const { url, jwt } = await authorization.token(membership);
  const { identity, video } = claims(jwt);
  report.identity = identity;
  report.sfuRoom = String(video.room);
  report.grant = video;
  const sfu = await connect(url, jwt);

  const session = MatrixRTCSession.sessionForSlot(client, room, { application: 'm.call', id: 'ROOM' });
  follow(session, authorization, membership, delayMs);
  const transport = { type: 'livekit', livekit_service_url: order.serviceUrl };
  session.joinRTCSession({ userId, deviceId, memberId }, [transport], order.mode === 'legacy' ? undefined : transport, {
    delayedLeaveEventDelayMs: delayMs,
    delayedLeaveEventRestartMs: taken && order.delegate ? RESTART_MS : SHORT_MS / 3,
    unstableSendStickyEvents: order.mode === 'matrix2',
  });
  session.on(MembershipManagerEvent.ProbablyLeft, (left) => void report.steps.push(left ? 'probably left' : 'surely here'));

  window.leaveSfu = () => sfu.disconnect();
  window.hangUp = async () => {
    await sfu.disconnect();
    await session.leaveRoomSession(5_000);
  };
  report.steps.push('joined');
}

join().catch(failed('joining'));
