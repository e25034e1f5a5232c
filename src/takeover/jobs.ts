// The jobs that lk-jwt-service keeps in Redis, as delegations. Pure: text in, parsed values or a reason out.
import { type DelayId, type Identity, parseDelayId, parseIdentity, parseRoomName, type RoomName } from '../delegation/ids.ts';
import { z } from '../library-parts.ts';

export interface Job {
  /** The names on the SFU. */
  readonly room: RoomName;
  readonly identity: Identity;
  readonly delayId: DelayId;
  readonly delayMs: number;
  /** A server name, not yet judged. */
  readonly serverName: string;
  /** When the event was restarted last (Unix ms); null where that can't be read. */
  readonly restartedAtMs: number | null;
}

export type JobResult = { readonly kind: 'job'; readonly job: Job } | { readonly kind: 'unreadable'; readonly why: string };

const Field = z.tuple([z.string(), z.string()]);
const Value = z.object({
  Params: z.object({
    DelayId: z.string(),
    DelayTimeout: z.number(),
    ServerName: z.string(),
    LiveKitRoom: z.string(),
    LiveKitIdentity: z.string(),
  }),
  RestartedAt: z.string().optional().catch(undefined),
});
const NS_PER_MS = 1_000_000;
/** As of the API that its clients use with us: more nanoseconds are in no 64 bits. */
const LONGEST_DELAY_MS = 9_223_372_036_854;

/** Reads one field of the hash. What can't be read is said without showing it: it holds a delay_id. */
export function readJob(field: string, value: string): JobResult {
  const no = (why: string): JobResult => ({ kind: 'unreadable', why });
  const names = Field.safeParse(parse(field));
  const found = Value.safeParse(parse(value));
  if (!names.success) return no('its field is not ["room","identity"]');
  if (!found.success) return no(`its value has no usable ${found.error.issues[0]?.path.join('.') || 'JSON'}`);
  const { Params: params, RestartedAt: restartedAt } = found.data;
  const room = parseRoomName(params.LiveKitRoom);
  const identity = parseIdentity(params.LiveKitIdentity);
  if (room === null || identity === null || room !== names.data[0] || identity !== names.data[1])
    return no('its field and value name different participants');
  const delayId = parseDelayId(params.DelayId);
  if (delayId === null) return no('its DelayId is not an opaque identifier');
  const delayMs = Math.round(params.DelayTimeout / NS_PER_MS);
  if (delayMs < 1 || delayMs > LONGEST_DELAY_MS) return no('its DelayTimeout is out of range');
  const restartedAtMs = restartedAt === undefined ? Number.NaN : Date.parse(restartedAt);
  return {
    kind: 'job',
    job: {
      room,
      identity,
      delayId,
      delayMs,
      serverName: params.ServerName,
      restartedAtMs: Number.isNaN(restartedAtMs) ? null : restartedAtMs,
    },
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
