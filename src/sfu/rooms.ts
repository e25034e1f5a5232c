// What we ask of the SFU: who is in a room. Three answers are possible, and unknown is never absent.
import { ParticipantInfo_State } from '@livekit/protocol';
import { parseIdentity, parseRoomSid, parseSid, type RoomName, type RoomSid } from '../delegation/ids.ts';
import type { Seen } from '../delegation/state.ts';
import type { ApiKey } from './keys.ts';
import { createRoomService } from './room-service.ts';
import { joinedAtMsOf } from './webhook.ts';

export type Look =
  | {
      readonly kind: 'list';
      readonly present: readonly Seen[];
      /** Learnt where nobody is there: null if the room does not exist, which after a departure may mean a forgetful SFU. */
      readonly roomSid: RoomSid | null | undefined;
    }
  | { readonly kind: 'unreachable'; readonly why: string };

export interface Rooms {
  /** Never throws; answers within its own time limit. */
  look(room: RoomName): Promise<Look>;
  /** Whether the SFU answers at all. Never throws. */
  answers(): Promise<boolean>;
}

export function createRooms(apiUrl: string, key: ApiKey): Rooms {
  const client = createRoomService(apiUrl, key);
  return {
    look: async (room) => {
      try {
        const participants = await client.listParticipants(room);
        const present = participants
          .filter(({ state }) => state !== ParticipantInfo_State.DISCONNECTED)
          .flatMap((participant): Seen[] => {
            const identity = parseIdentity(participant.identity);
            const sid = parseSid(participant.sid);
            if (identity === null || sid === null) return [];
            return [{ identity, sid, joinedAtMs: joinedAtMsOf(participant), active: participant.state === ParticipantInfo_State.ACTIVE }];
          });
        if (present.length > 0) return { kind: 'list', present, roomSid: undefined };
        const [found] = await client.listRooms([room]);
        return { kind: 'list', present, roomSid: found === undefined ? null : parseRoomSid(found.sid) };
      } catch (error) {
        if (isNotFound(error)) return { kind: 'list', present: [], roomSid: null };
        return { kind: 'unreachable', why: error instanceof Error ? error.name : 'unknown' };
      }
    },
    // A name that no room has: the answer is empty, and cheap however many rooms there are.
    answers: () =>
      client.listRooms(['-']).then(
        () => true,
        () => false,
      ),
  };
}

/** A room that does not exist has nobody in it. */
function isNotFound(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'not_found';
}
