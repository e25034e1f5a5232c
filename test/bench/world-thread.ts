// The world as a thread: an SFU's list API and a homeserver's delayed events (dialect C), as light as they can be. What they are told is
// kept in shared memory; nothing has a timer, an event that ran out is noticed when somebody asks.
import { parentPort, workerData } from 'node:worker_threads';
import {
  CreateRoomRequest,
  ListParticipantsRequest,
  ListParticipantsResponse,
  ListRoomsRequest,
  ListRoomsResponse,
  ParticipantInfo,
  Room,
  RoomParticipantIdentity,
} from '@livekit/protocol';
import {
  COUNTERS,
  type Counter,
  identityOf,
  JOINED_AT_MS,
  nowMs,
  roomSidOf,
  type SharedBuffers,
  sfuRoom,
  sidOf,
  userOf,
  view,
} from './shared.ts';
import { type Answer, serveWire } from './wire.ts';

const {
  shared: buffers,
  tls,
  serverName,
} = workerData as {
  shared: SharedBuffers;
  tls: { key: string; cert: string } | null;
  serverName: string | null;
};
const shared = view(buffers);
const indexOf = Object.fromEntries(COUNTERS.map((name, index) => [name, index])) as Record<Counter, number>;
const count = (name: Counter): void => void Atomics.add(shared.counters, indexOf[name], 1);
const setting = (name: Counter): number => Atomics.load(shared.counters, indexOf[name]);
let serverNameInUse = serverName ?? 'bench.test';

const roomIndex = new Map(Array.from({ length: shared.rooms }, (_, room) => [sfuRoom(room), room]));
const participants = new Map<number, string>();
const lists = new Map<number, string>();
let listsEpoch = -1;

/** One participant as a real SFU would describe it: most of it is of no interest to anybody. */
function participant(member: number): string {
  const known = participants.get(member);
  if (known !== undefined) return known;
  const track = {
    sid: `TR_bench${member}`,
    type: 'AUDIO',
    source: 'MICROPHONE',
    mimeType: 'audio/red',
    mid: '1',
    stream: 'camera',
    version: {},
  };
  const permission = { canSubscribe: true, canPublish: true, canPublishData: true, canUpdateMetadata: true };
  const text = JSON.stringify({
    ...{ sid: sidOf(member), identity: identityOf(member, serverNameInUse), state: 'ACTIVE', name: '', metadata: '', tracks: [track] },
    ...{ joinedAt: String(Math.floor(JOINED_AT_MS / 1000)), joinedAtMs: String(JOINED_AT_MS + member), version: 3, permission },
    ...{ isPublisher: true, kind: 'STANDARD', attributes: {}, disconnectReason: 'UNKNOWN_REASON' },
  });
  participants.set(member, text);
  return text;
}

function list(room: number): string {
  const epoch = setting('epoch');
  if (epoch !== listsEpoch) {
    lists.clear();
    listsEpoch = epoch;
  }
  const known = lists.get(room);
  if (known !== undefined) return known;
  const present: string[] = [];
  for (let member = room; member < shared.size; member += shared.rooms) if (shared.present[member] === 1) present.push(participant(member));
  const text = `{"participants":[${present.join(',')}]}`;
  lists.set(room, text);
  return text;
}

interface Question {
  readonly room?: string;
  readonly identity?: string;
  readonly name?: string;
  readonly names?: readonly string[];
}
/** Go's SDK speaks protobuf, the one for Node JSON. */
const MESSAGES = {
  ListParticipants: [ListParticipantsRequest, ListParticipantsResponse],
  ListRooms: [ListRoomsRequest, ListRoomsResponse],
  GetParticipant: [RoomParticipantIdentity, ParticipantInfo],
  CreateRoom: [CreateRoomRequest, Room],
} as const;

function sfu(method: string, body: Buffer, isBinary: boolean): Answer {
  const messages = MESSAGES[method as keyof typeof MESSAGES];
  if (!isBinary || messages === undefined) return answerOf(method, JSON.parse(body.toString()) as Question);
  const [status, text] = answerOf(method, messages[0].fromBinary(body) as Question);
  return status === 200 ? [status, messages[1].fromJsonString(text).toBinary()] : [status, text];
}

function answerOf(method: string, question: Question): readonly [number, string] {
  const room = roomIndex.get(question.room || question.name || question.names?.[0] || '');
  switch (method) {
    case 'ListParticipants':
      count('ListParticipants');
      return [200, room === undefined ? '{"participants":[]}' : list(room)];
    case 'ListRooms':
      count('ListRooms');
      return [200, room === undefined ? '{"rooms":[]}' : `{"rooms":[{"sid":"${roomSidOf(room)}","name":"${sfuRoom(room)}"}]}`];
    case 'GetParticipant': {
      count('GetParticipant');
      const found = room === undefined ? -1 : memberIn(room, question.identity ?? '');
      return found < 0 ? [404, '{"code":"not_found","msg":"participant does not exist"}'] : [200, participant(found)];
    }
    case 'SendData':
      count('SendData');
      return room === undefined ? NOWHERE : [200, '{}'];
    case 'UpdateSubscriptions':
      count('UpdateSubscriptions');
      return room === undefined || memberIn(room, question.identity ?? '') < 0 ? NOWHERE : [200, '{}'];
    case 'CreateRoom':
      count('CreateRoom');
      return [200, `{"sid":"${roomSidOf(room ?? 0)}","name":${JSON.stringify(question.name ?? '')}}`];
    default:
      count('other');
      return [404, '{"code":"bad_route","msg":"no such method"}'];
  }
}

function memberIn(room: number, identity: string): number {
  for (let member = room; member < shared.size; member += shared.rooms) {
    if (shared.present[member] === 1 && identityOf(member, serverNameInUse) === identity) return member;
  }
  return -1;
}

/** No node has it. */
const NOWHERE: readonly [number, string] = [503, '{"code":"unavailable","msg":"no response from servers"}'];
const GONE: readonly [number, string] = [404, '{"errcode":"M_NOT_FOUND","error":"Unable to find delayed event"}'];
const DONE: readonly [number, string] = [200, '{}'];

function delayedEvent(member: number, action: string): readonly [number, string] {
  const atMs = nowMs();
  const elapsedMs = atMs - (shared.startedAt[member] ?? 0);
  if (shared.sentAt[member] === 0 && elapsedMs > shared.delayMs) shared.expired[member] = 1;
  const isFinal = shared.sentAt[member] !== 0 || shared.expired[member] === 1;
  switch (action) {
    case 'restart':
      if (isFinal) {
        count('restartsOfFinal');
        return GONE;
      }
      count('restarts');
      if (elapsedMs > 0.9 * shared.delayMs) count('restartsLate');
      shared.restarts[member] = (shared.restarts[member] ?? 0) + 1;
      shared.startedAt[member] = atMs;
      return DONE;
    case 'send':
      if (isFinal) {
        count('sendsAgain');
        return GONE;
      }
      count('sends');
      if (shared.present[member] === 1) count('falseSends');
      shared.sentAt[member] = atMs;
      return DONE;
    default:
      count('other');
      return isFinal ? GONE : DONE;
  }
}

function homeserver(path: string, body: string): readonly [number, string] {
  const match = /\/delayed_events\/d-(\d+)(?:\/(\w+))?/.exec(path);
  if (match !== null) return delayedEvent(Number(match[1]), match[2] ?? (JSON.parse(body) as { action: string }).action);
  if (path === '/_matrix/client/versions') {
    count('versions');
    return [200, '{"versions":["v1.11"],"unstable_features":{"org.matrix.msc4140":true}}'];
  }
  const token = /\/openid\/userinfo\?access_token=t(\d+)/.exec(path)?.[1];
  if (token !== undefined) {
    count('openid');
    return [200, JSON.stringify({ sub: userOf(Number(token), serverNameInUse) })];
  }
  count('other');
  return [404, '{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}'];
}

function handle(method: string, path: string, body: Buffer, isBinary: boolean): Answer | Promise<Answer> {
  if (path.startsWith('/twirp/')) return sfu(path.slice('/twirp/livekit.RoomService/'.length), body, isBinary);
  if (path === '/nothing') {
    count('webhooks');
    return DONE;
  }
  const slowMs = setting('slowMs');
  if (slowMs === 0 || method !== 'POST') return homeserver(path, body.toString());
  return new Promise((resolve) =>
    setTimeout(() => {
      if (Math.random() * 100 < setting('failPercent')) {
        count('failed');
        resolve([502, '<html>Bad Gateway</html>']);
      } else resolve(homeserver(path, body.toString()));
    }, slowMs),
  );
}

const plain = await serveWire(handle, null);
const sealed = tls === null ? null : await serveWire(handle, tls);
// An address with a port is its own federation host: no discovery needed.
if (serverName === null && sealed !== null) serverNameInUse = `127.0.0.1:${sealed.port}`;
parentPort?.postMessage({ port: plain.port, tlsPort: sealed?.port ?? null, serverName: serverNameInUse });
