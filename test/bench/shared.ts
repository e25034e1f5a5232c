// What the load generator and the world (a thread of its own) both see: plain numbers in shared memory, so that neither waits for
// the other. Member number i has delay id `d-i`, sits in room i modulo rooms, and owns slot i of each array.
import { createHash } from 'node:crypto';

export const COUNTERS = [
  'epoch',
  'ListParticipants',
  'ListRooms',
  'GetParticipant',
  'SendData',
  'UpdateSubscriptions',
  'CreateRoom',
  'openid',
  'versions',
  'sends',
  'sendsAgain',
  'falseSends',
  'restarts',
  'restartsLate',
  'restartsOfFinal',
  'failed',
  'other',
  'webhooks',
  // Set by the generator: how the homeserver misbehaves.
  'slowMs',
  'failPercent',
] as const;
export type Counter = (typeof COUNTERS)[number];

export interface Shared {
  readonly size: number;
  readonly rooms: number;
  readonly delayMs: number;
  /** Unix-like ms of one monotonic clock for all threads. */
  readonly startedAt: Float64Array;
  readonly sentAt: Float64Array;
  readonly restarts: Int32Array;
  readonly present: Uint8Array;
  /** The homeserver's own timer had run out when somebody asked. */
  readonly expired: Uint8Array;
  readonly counters: Int32Array;
}
export interface SharedBuffers {
  readonly size: number;
  readonly rooms: number;
  readonly delayMs: number;
  readonly buffers: readonly SharedArrayBuffer[];
}

export function allocate(size: number, rooms: number, delayMs: number): SharedBuffers {
  const bytes = [size * 8, size * 8, size * 4, size, size, COUNTERS.length * 4];
  return { size, rooms, delayMs, buffers: bytes.map((length) => new SharedArrayBuffer(length)) };
}

export function view({ size, rooms, delayMs, buffers }: SharedBuffers): Shared {
  const [startedAt, sentAt, restarts, present, expired, counters] = buffers as [
    SharedArrayBuffer,
    SharedArrayBuffer,
    SharedArrayBuffer,
    SharedArrayBuffer,
    SharedArrayBuffer,
    SharedArrayBuffer,
  ];
  return {
    size,
    rooms,
    delayMs,
    startedAt: new Float64Array(startedAt),
    sentAt: new Float64Array(sentAt),
    restarts: new Int32Array(restarts),
    present: new Uint8Array(present),
    expired: new Uint8Array(expired),
    counters: new Int32Array(counters),
  };
}

export function counter(shared: Shared, name: Counter): number {
  return Atomics.load(shared.counters, COUNTERS.indexOf(name));
}

export function setCounter(shared: Shared, name: Counter, value: number): void {
  Atomics.store(shared.counters, COUNTERS.indexOf(name), value);
}

export const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;

const hash = (parts: readonly string[]): string => createHash('sha256').update(JSON.stringify(parts)).digest('base64').replace(/=+$/, '');

/** Names as the authorisation service makes them (MSC4195), so that both subjects of a comparison hear the same. */
export const SLOT = 'm.call#ROOM';
export const matrixRoom = (room: number): string => `!room-${room}:bench.test`;
export const sfuRoom = (room: number): string => hash([matrixRoom(room), SLOT]);
export const userOf = (member: number, serverName: string): string => `@u${member}:${serverName}`;
export const deviceOf = (member: number): string => `D${member}`;
export const memberOf = (member: number): string => `m${member}`;
export const identityOf = (member: number, serverName: string): string =>
  hash([userOf(member, serverName), deviceOf(member), memberOf(member)]);
export const sidOf = (member: number): string => `PA_bench${member}`;
export const roomSidOf = (room: number): string => `RM_bench${room}`;
/** The SFU's join times; any will do, as long as they stay. */
export const JOINED_AT_MS = 1_795_420_801_456;
