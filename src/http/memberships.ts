// Hands the leaves of memberships over, whichever API they came by. Behind a homeserver there are two APIs, which give the same member
// different identities on the SFU, each with a device or without. A client may get its token by one and hand its leave over by the other; a
// delegation that does not watch the identity of that token would send the leave of somebody who is there. So, behind a homeserver,
//   - one membership has one delegation, whichever API took it;
//   - the identity of each token is remembered, unless every delegation of the membership watches it anyway;
//   - whichever comes second, the token or the delegation, adds the identity to the delegation.
import type { Clock } from '../clock.ts';
import type { HomeserverUrl, Identity } from '../delegation/ids.ts';
import {
  identitiesOf,
  type Member,
  memberOwner,
  memberRoom,
  type ProxiedMember,
  proxiedIdentitiesOf,
  proxiedOwner,
} from '../delegation/names.ts';
import type { Engine } from '../engine/engine.ts';
import type { HandedOver } from '../engine/hand-over.ts';
import { serverOf } from '../homeserver/names.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Attendance } from '../store/attendance.ts';
import { StoreUnavailable } from '../store/store.ts';
import { countHandedOver } from './counted.ts';
import { patiently } from './patience.ts';
import type { HandedLeave } from './requests.ts';

export interface Leave extends HandedLeave {
  readonly homeserver: HomeserverUrl;
  /** When the request came, Unix ms: a later one is newer, whichever is answered first. */
  readonly askedAtMs: number;
}

export interface Memberships<M extends ProxiedMember> {
  /** The member is about to get a token for this identity. Never rejects: without the store there can still be a call. */
  given(member: M, identity: Identity): Promise<void>;
  /** A newer delayed event of the same membership supersedes the older one. @throws StoreUnavailable: nothing was promised. */
  handOver(member: M, leave: Leave): Promise<void>;
}

export interface MembershipsDeps {
  readonly engine: Engine;
  readonly metrics: Metrics;
  readonly clock: Clock;
}

/** With one API there is one way to name a member. */
export function createMemberships({ engine, metrics, clock }: MembershipsDeps): Memberships<Member> {
  return {
    given: async () => {},
    handOver: async (member, leave) => {
      const { userId } = member;
      const to = { owner: memberOwner(member), room: memberRoom(member), identities: identitiesOf(member), userId };
      countHandedOver(metrics, await patiently(clock, () => engine.handOver({ ...to, ...leave })));
    },
  };
}

export interface MembershipsBehindDeps extends MembershipsDeps {
  readonly identities: Pick<Attendance, 'give' | 'givenTo'>;
  /** The server name of the homeserver that passes requests on. */
  readonly serverName: string;
  readonly log: Log;
}

export function createMembershipsBehind(deps: MembershipsBehindDeps): Memberships<ProxiedMember> {
  const { engine, metrics, clock, identities, serverName, log } = deps;

  /** The store first, then the delegation: a hand-over that comes meanwhile reads the one, or its delegation is found by the other. */
  async function remember(member: ProxiedMember, identity: Identity): Promise<void> {
    const [room, owner] = [memberRoom(member), proxiedOwner(member)];
    await Promise.all([identities.give(room, owner, identity), engine.knownAs(room, owner, [identity])]);
  }

  async function handOver(member: ProxiedMember, leave: Leave): Promise<HandedOver> {
    const [room, owner, { userId }] = [memberRoom(member), proxiedOwner(member), member];
    const given = async (): Promise<readonly Identity[]> => (isRemembered(member) ? identities.givenTo(room, owner) : []);
    const watched = [...proxiedIdentitiesOf(member), ...(await given())];
    const done = await engine.handOver({ owner, room, identities: watched, userId, ...leave });
    const missed = (await given()).filter((identity) => !done.row.identities.includes(identity));
    if (missed.length > 0) await engine.knownAs(room, owner, missed);
    return done;
  }

  /** Only users of our own homeserver have two APIs. */
  const isRemembered = ({ userId }: ProxiedMember): boolean => serverOf(userId) === serverName;

  return {
    given: async (member, identity) => {
      if (!isRemembered(member)) return;
      if (proxiedIdentitiesOf({ ...member, deviceId: null }).includes(identity)) return;
      await remember(member, identity).catch((err: unknown) => {
        if (!(err instanceof StoreUnavailable)) log.error({ err }, 'the identity of a token could not be remembered');
      });
    },
    handOver: async (member, leave) => countHandedOver(metrics, await patiently(clock, () => handOver(member, leave))),
  };
}
