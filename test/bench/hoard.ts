// Many held delegations without the hours that handing them over would take: written by the store that will read them.
import { join } from 'node:path';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { decide, delegate } from '../../src/delegation/decide.ts';
import {
  type DelayId,
  delegationId,
  type HomeserverUrl,
  type Identity,
  participantOwner,
  type RoomName,
  type RoomSid,
  type Sid,
  sha256,
} from '../../src/delegation/ids.ts';
import type { LiveDelegation, Policy } from '../../src/delegation/state.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { identityOf, JOINED_AT_MS, roomSidOf, sfuRoom, sidOf } from './shared.ts';
import type { World } from './world.ts';

const POLICY: Policy = {
  waitMs: { left: 1_000, lost: 1_000, replaced: 1_000, sfuDown: 15_000, aborted: 30_000, missing: 4_000 },
  connectTimeoutMs: 300_000,
  presenceIntervalMs: 30_000,
};
const AT_ONCE = 2_000;

/** Members from 0 on, seen on the SFU and restarted a moment ago. */
export async function hoard(dataDir: string, world: World, members: number): Promise<void> {
  const [clock, random] = [systemClock(), systemRandom()];
  const store = openSqliteStore({ path: join(dataDir, 'lastwill.sqlite'), clock, seal: null });
  const put = (member: number) => {
    const row = connected(world, member, clock.nowMs(), random.bytes(16));
    return store.update({ by: 'id', room: row.room, id: row.id }, null, () => ({ writes: [{ row, leaseMs: 0 }], value: null }));
  };
  for (let from = 0; from < members; from += AT_ONCE) {
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, members - from) }, (_, nth) => put(from + nth)));
  }
  await store.close();
}

function connected({ shared, serverName, url }: World, member: number, nowMs: number, bytes: Uint8Array): LiveDelegation {
  const number = member % shared.rooms;
  const [room, identity] = [sfuRoom(number) as RoomName, identityOf(member, serverName) as Identity];
  const handles = { kind: 'delay', delayId: `d-${member}` as DelayId } as const;
  const handOver = {
    ...{ id: delegationId(bytes), owner: participantOwner(room, identity), room, identities: [identity], userId: null, handles },
    ...{ homeserver: url as HomeserverUrl, handlesHash: sha256(JSON.stringify(handles)), delayMs: shared.delayMs },
  };
  const roomSid = roomSidOf(number) as RoomSid;
  const there = { identity, sid: sidOf(member) as Sid, joinedAtMs: JOINED_AT_MS + member, active: true };
  const list = {
    ...{ askedAtMs: nowMs, present: [there], roomSid, afterRestart: false, answersSinceMs: JOINED_AT_MS, lastSeenMs: null },
    lookedFor: true,
  };
  const at = { nowMs, roll: member / shared.size };
  const seen = decide(delegate(handOver, nowMs, at.roll, POLICY).next, { kind: 'snapshot', ...list }, at, POLICY).next;
  return decide(seen, { kind: 'restart_answered', askedAtMs: nowMs, answer: { kind: 'ok' } }, at, POLICY).next as LiveDelegation;
}
