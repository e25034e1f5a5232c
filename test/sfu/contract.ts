// What lastwill relies on an SFU for, whichever it is: the order of webhooks and what its lists say meanwhile. Run on the model SFU by
// contract.test.ts, and on a real livekit-server with real participants by the end-to-end suite.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Identity, RoomName } from '../../src/delegation/ids.ts';
import { createEvictions } from '../../src/sfu/evictions.ts';
import { createKeys } from '../../src/sfu/keys.ts';
import type { Look, Rooms } from '../../src/sfu/rooms.ts';
import { callsTo, roomsAt } from '../support/sfu-calls.ts';
import { readSigned } from './signed.ts';

/** A webhook as it came in: the body byte for byte, and its Authorization header. */
export interface Received {
  readonly body: string;
  readonly authorization: string;
}
/** What a test needs of an SFU. Rooms and identities are names that were never used before; all calls resolve when they are done. */
export interface ContractSfu {
  /** http(s). */
  readonly apiUrl: string;
  readonly key: string;
  readonly secret: string;
  /** Everything that came in so far, in order; the array may be the same one each time. */
  webhooks(): readonly Received[];
  /** Connects a participant until it is ACTIVE. Another one with the same identity may be connected: the SFU decides between them. */
  join(room: string, identity: string): Promise<void>;
  /** The newest participant of that identity says goodbye. */
  leave(room: string, identity: string): Promise<void>;
  stop(): Promise<void>;
}

interface Told {
  readonly event: string;
  readonly room: string;
  readonly roomSid: string;
  readonly identity: string;
  readonly sid: string;
  readonly joinedAtMs: number;
  readonly reason: string;
  readonly received: Received;
}

const RELEVANT = /^(room_started|room_finished|participant_(joined|left|connection_aborted))$/;

/** `withinMs`: how long the SFU may take for a webhook that is due at once. */
export function sfuContract(name: string, start: () => Promise<ContractSfu>, options: { readonly withinMs?: number } = {}): void {
  const withinMs = options.withinMs ?? 5_000;
  const patience = { timeout: 6 * withinMs };
  describe(`contract: ${name}`, () => {
    let sfu: ContractSfu;
    let evictions: ReturnType<typeof createEvictions>;
    let looker: Rooms;
    let rooms = 0;
    const freshRoom = (): string => `contract-${process.pid}-${performance.now().toString(36).replace('.', '')}-${++rooms}`;
    const told = (room: string): Told[] =>
      sfu
        .webhooks()
        .map(read)
        .filter((webhook) => webhook.room === room && RELEVANT.test(webhook.event));
    const names = (room: string): string[] => told(room).map(({ event, reason }) => (reason === '' ? event : `${event} ${reason}`));
    const until = async (room: string, count: number): Promise<Told[]> => {
      await expect.poll(() => told(room).length, { timeout: withinMs, interval: 5 }).toBeGreaterThanOrEqual(count);
      return told(room);
    };
    const present = async (room: string): Promise<readonly { identity: string; sid: string; active: boolean }[]> => {
      const look: Look = await looker.look(room as Parameters<typeof looker.look>[0]);
      if (look.kind !== 'list') throw new Error(`the SFU does not answer: ${look.why}`);
      return look.present;
    };

    beforeAll(async () => {
      sfu = await start();
      evictions = createEvictions(sfu.apiUrl, { key: sfu.key, secret: sfu.secret }, callsTo(sfu.apiUrl));
      looker = roomsAt(sfu.apiUrl, { key: sfu.key, secret: sfu.secret });
    }, 60_000);
    afterAll(() => sfu.stop());

    test('a room that never was has nobody in it, and is not unreachable', patience, async () => {
      const look = await looker.look(freshRoom() as Parameters<typeof looker.look>[0]);
      expect(look).toEqual({ kind: 'list', present: [], roomSid: null });
    });

    test('a join: the room starts, then the participant joins; its SID and join time are those of the list', patience, async () => {
      const room = freshRoom();
      await sfu.join(room, 'alice');
      const [started, joined] = await until(room, 2);
      expect(names(room)).toEqual(['room_started', 'participant_joined']);
      expect(joined?.roomSid).toBe(started?.roomSid);
      expect(joined?.joinedAtMs).toBeGreaterThan(0);
      const look = await looker.look(room as Parameters<typeof looker.look>[0]);
      expect(look).toMatchObject({ present: [{ identity: 'alice', sid: joined?.sid, joinedAtMs: joined?.joinedAtMs, active: true }] });
      // Which room it is takes another question, and is the same that the webhooks name.
      expect(look).toMatchObject({ roomSid: undefined });
      expect(await looker.look(room as Parameters<typeof looker.look>[0], { whichRoom: true })).toEqual({
        ...look,
        roomSid: joined?.roomSid,
      });
      await sfu.leave(room, 'alice');
    });

    test('a goodbye: participant_left CLIENT_INITIATED with the SID that joined, and the list is empty by then', patience, async () => {
      const room = freshRoom();
      await sfu.join(room, 'alice');
      const [, joined] = await until(room, 2);
      await sfu.leave(room, 'alice');
      const [, , left] = await until(room, 3);
      expect(left).toMatchObject({
        event: 'participant_left',
        reason: 'CLIENT_INITIATED',
        sid: joined?.sid,
        joinedAtMs: joined?.joinedAtMs,
      });
      expect(await present(room)).toEqual([]);
      // The room outlives its last participant for a while, and an empty room still says which one it is.
      expect(await looker.look(room as Parameters<typeof looker.look>[0])).toMatchObject({ roomSid: joined?.roomSid });
    });

    test('the same identity again: the old session leaves as DUPLICATE_IDENTITY before the new one joins', patience, async () => {
      const room = freshRoom();
      await sfu.join(room, 'alice');
      await until(room, 2);
      await sfu.join(room, 'alice');
      const [, first, left, second] = await until(room, 4);
      expect(names(room)).toEqual(['room_started', 'participant_joined', 'participant_left DUPLICATE_IDENTITY', 'participant_joined']);
      expect(left?.sid).toBe(first?.sid);
      expect(second?.sid).not.toBe(first?.sid);
      expect(second?.joinedAtMs).toBeGreaterThan(first?.joinedAtMs ?? Number.POSITIVE_INFINITY);
      expect(second?.roomSid).toBe(first?.roomSid);
      expect((await present(room)).map(({ sid }) => sid)).toEqual([second?.sid]);
      await sfu.leave(room, 'alice');
    });

    test('a participant removed through the API leaves as PARTICIPANT_REMOVED, the others stay', patience, async () => {
      const room = freshRoom();
      await sfu.join(room, 'alice');
      await sfu.join(room, 'bob');
      await until(room, 3);
      expect(await evictions.remove(room as RoomName, 'alice' as Identity)).toBe(true);
      expect(await evictions.remove(room as RoomName, 'nobody' as Identity)).toBe(false);
      const left = (await until(room, 4)).at(-1);
      expect(left).toMatchObject({ event: 'participant_left', identity: 'alice', reason: 'PARTICIPANT_REMOVED' });
      await expect.poll(async () => (await present(room)).map(({ identity }) => identity), { timeout: withinMs }).toEqual(['bob']);
      await sfu.leave(room, 'bob');
    });

    test('a deleted room: everybody leaves as ROOM_DELETED, and then the room finishes', patience, async () => {
      const room = freshRoom();
      await sfu.join(room, 'alice');
      await until(room, 2);
      expect(await evictions.close(room as RoomName)).toBe(true);
      await until(room, 4);
      expect(names(room).slice(2)).toEqual(['participant_left ROOM_DELETED', 'room_finished']);
      expect(await looker.look(room as Parameters<typeof looker.look>[0])).toEqual({ kind: 'list', present: [], roomSid: null });
    });

    test('every webhook is signed over its body with the API key', patience, async () => {
      const room = freshRoom();
      await sfu.join(room, 'alice');
      const keys = createKeys([{ key: sfu.key, secret: sfu.secret }]);
      for (const { received } of await until(room, 2)) {
        expect(readSigned(Buffer.from(received.body), received.authorization, keys).kind).toMatch(/^(room|participant)$/);
        expect(readSigned(Buffer.from(`${received.body} `), received.authorization, keys)).toEqual({ kind: 'unauthorized' });
      }
      await sfu.leave(room, 'alice');
    });
  });
}

/** Reads the JSON as it is on the wire. An UNKNOWN_REASON is left out or written, as the sender likes: both are no reason. */
function read(received: Received): Told {
  const json = JSON.parse(received.body) as {
    event?: string;
    room?: { name?: string; sid?: string };
    participant?: { identity?: string; sid?: string; joinedAtMs?: string; disconnectReason?: string };
  };
  const reason = json.participant?.disconnectReason ?? '';
  return {
    event: json.event ?? '',
    room: json.room?.name ?? '',
    roomSid: json.room?.sid ?? '',
    identity: json.participant?.identity ?? '',
    sid: json.participant?.sid ?? '',
    joinedAtMs: Number(json.participant?.joinedAtMs ?? 0),
    reason: reason === 'UNKNOWN_REASON' ? '' : reason,
    received,
  };
}
