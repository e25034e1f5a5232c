// A LiveKit that keeps its rooms in a Redis goes on listing who was on a node that was killed, and does not list who is there when what is
// written in the Redis got lost. One node, as most have it, and two.
import { describe, expect } from 'vitest';
import type { Member } from './stack/call.ts';
import type { Delegation } from './stack/lastwill-api.ts';
import { LiveKit, type LiveKitOptions } from './stack/livekit.ts';
import type { Participant } from './stack/participant.ts';
import { type OwnPlace, type Stage, story } from './stack/place.ts';
import { eventually, sleep } from './stack/processes.ts';
import { noRedis, Redis } from './stack/redis.ts';
import { seatNames } from './stack/seat.ts';

const SOON_MS = 3_000;
const INTERVAL_MS = 3_000;
/** So long nobody looks without a reason where nothing else is set. */
const USUAL_INTERVAL_MS = 30_000;
const ENV = { LASTWILL_PRESENCE_INTERVAL_MS: String(INTERVAL_MS) };
const SFU_DOWN_MS = 20_000;
/** The SFU looks so long for a node that has a room or a participant. */
const NOWHERE_MS = 3_000;
/** Clients of a killed node come back; with a second node LiveKit has to notice first that the one is dead. */
const BACK_MS = 8_000;
const BACK_ON_ANOTHER_MS = 20_000;

/** A node that was frozen finds out that its participants are gone, as it does of those who crash; and their room ends. */
const WAKES_MS = 30_000;
const ROOM_ENDS_MS = 20_000;

const redisStory = story.skipIf(noRedis !== undefined);

async function rooms(stage: Stage): Promise<{ redis: Redis; sfu: { redis: string } }> {
  const redis = await Redis.start();
  stage.later(() => redis.kill());
  return { redis, sfu: { redis: new URL(redis.url).host } };
}

/** A second node. */
async function another(
  stage: Stage,
  { tap }: OwnPlace,
  redis: Redis,
  how: Pick<LiveKitOptions, 'listsByNode'> = {},
): Promise<{ node: LiveKit; nodeId: string }> {
  const others = await redis.fields('nodes');
  const node = await LiveKit.start([tap.url], { redis: new URL(redis.url).host, ...how });
  stage.later(() => node.kill());
  return { node, nodeId: (await redis.fields('nodes')).find((id) => !others.includes(id)) ?? '' };
}

/** The SFU lists nobody in the member's room. */
const unlisted = ({ livekit }: OwnPlace, { sfuRoom }: Member, timeoutMs: number): Promise<true> =>
  eventually('the SFU to list nobody', timeoutMs, async () =>
    (await livekit.rooms.listParticipants(sfuRoom)).length === 0 ? true : undefined,
  );

interface Connected {
  readonly delegation: Delegation;
  readonly sid: string | null;
  readonly participant: Participant;
}

async function connected(one: Member): Promise<Connected> {
  const delegation = await one.scheduleAndDelegate(300_000);
  const participant = await one.join();
  await one.reaches(delegation, 'connected');
  return { delegation, sid: (await one.look(delegation)).sid ?? null, participant };
}

/** The SFU is killed, the participant with it, and the SFU comes back; when the participant died. */
async function diesWith({ livekit }: OwnPlace, participant: Participant, awayMs: number): Promise<number> {
  await livekit.kill();
  const departedMs = await participant.crash();
  await sleep(awayMs);
  await livekit.startAgain();
  return departedMs;
}

async function frozen(stage: Stage, how: Pick<LiveKitOptions, 'listsByNode'> = {}): Promise<void> {
  const { redis, sfu } = await rooms(stage);
  const place = await stage.place({ env: ENV, sfu: { ...sfu, ...how } });
  const { node, nodeId } = await another(stage, place, redis, how);
  // Several, for whose word a list is can be chance.
  const all = await Promise.all([1, 2, 3, 4].map(() => stage.member(place)));
  for (const { sfuRoom } of all) await place.livekit.rooms.createRoom({ name: sfuRoom, nodeId });
  const seated = await Promise.all(all.map((one) => connected(one)));
  node.freeze();
  const isMoved = async (one: Member, nth: number) => (await one.look(seated[nth]?.delegation as Delegation)).sid !== seated[nth]?.sid;
  await eventually('everybody to come to the other node', BACK_ON_ANOTHER_MS, async () =>
    (await Promise.all(all.map(isMoved))).every(Boolean) ? true : undefined,
  );
  node.thaw();
  await Promise.all(all.map((one) => unlisted(place, one, WAKES_MS)));
  // Until the room has ended on that node, and some more.
  await Promise.all(all.map((one) => one.expectPresentFor(ROOM_ENDS_MS + 2 * INTERVAL_MS)));
  expect(place.tap.seen.filter(({ event }) => event === 'room_finished')).toHaveLength(all.length);
  await Promise.all(
    all.map(async (one, nth) => {
      const departedMs = (await seated[nth]?.participant.leave()) ?? 0;
      await one.expectLeave('struck off the list by a node that was frozen, then gone', departedMs, SOON_MS);
    }),
  );
  for (const one of all) await one.expectClean();
}

describe('an SFU with a Redis', () => {
  redisStory('the only node is killed and started again: the leave of who died with it is sent, though still listed', async ({ stage }) => {
    const { sfu } = await rooms(stage);
    const place = await stage.place({ env: ENV, sfu });
    const [alice, bob] = await Promise.all([stage.member(place), stage.member(place)]);
    const [{ participant }, { participant: other }] = await Promise.all([connected(alice), connected(bob)]);
    const awayMs = 4_000;
    const departedMs = await diesWith(place, participant, awayMs);
    const boundMs = awayMs + INTERVAL_MS + 2 * NOWHERE_MS + SFU_DOWN_MS + 4_000 + SOON_MS;
    await alice.expectLeave('SFU with a Redis restarted, participant dead', departedMs, boundMs);
    expect(await place.livekit.rooms.listParticipants(alice.sfuRoom), 'what the SFU says').toHaveLength(1);
    // By the seconds that the SFU takes to look for it.
    await alice.expectLate();
    await bob.expectPresent();
    await bob.expectLeave('SFU with a Redis restarted and back, then gone', await other.leave(), SOON_MS);
    await bob.expectLate();
  });

  redisStory('the same, beside one who is back in that call', async ({ stage }) => {
    const { sfu } = await rooms(stage);
    const place = await stage.place({ env: ENV, sfu });
    const alice = await stage.member(place);
    const bob = await stage.member(place, { seat: () => seatNames(undefined, alice.sfuRoom) });
    const [{ participant }, { participant: other }] = await Promise.all([connected(alice), connected(bob)]);
    const awayMs = 1_000;
    const departedMs = await diesWith(place, participant, awayMs);
    const boundMs = awayMs + BACK_MS + 3 * NOWHERE_MS + SFU_DOWN_MS + 2 * INTERVAL_MS + SOON_MS;
    await alice.expectLeave('SFU with a Redis restarted, participant dead, others back', departedMs, boundMs);
    expect(await place.livekit.rooms.listParticipants(alice.sfuRoom), 'what the SFU says').toHaveLength(2);
    const asked = place.livekit.rooms.updateSubscriptions(alice.sfuRoom, alice.identity, [], false);
    await expect(asked, 'what its nodes say').rejects.toThrow('no response from servers');
    await alice.expectLate();
    await bob.expectPresent();
    await bob.expectLeave('SFU with a Redis restarted, back in a call with a dead one, then gone', await other.leave(), SOON_MS);
    await bob.expectLate();
  });

  redisStory('one of two nodes is killed: who died with it leaves, and who comes back on the other stays', async ({ stage }) => {
    const { redis, sfu } = await rooms(stage);
    const place = await stage.place({ env: ENV, sfu });
    const { node, nodeId } = await another(stage, place, redis);
    const alice = await stage.member(place);
    const bob = await stage.member(place, { seat: () => seatNames(undefined, alice.sfuRoom) });
    const carol = await stage.member(place);
    for (const name of [alice.sfuRoom, carol.sfuRoom]) await place.livekit.rooms.createRoom({ name, nodeId });
    const seated = await Promise.all([alice, bob, carol].map((one) => connected(one)));
    const [first, staying, second] = seated as [Connected, Connected, Connected];
    await node.kill();
    const departedMs = Math.max(...(await Promise.all([first, second].map(({ participant }) => participant.crash()))));
    const boundMs = BACK_ON_ANOTHER_MS + 3 * NOWHERE_MS + SFU_DOWN_MS + 2 * INTERVAL_MS + SOON_MS;
    for (const one of [alice, carol]) await one.expectLeave('one node of two killed, participant dead', departedMs, boundMs);
    for (const one of [alice, carol]) await one.expectLate();
    const { sid } = await bob.look(staying.delegation);
    expect(sid, 'by another session').not.toBe(staying.sid);
    await bob.expectPresent();
    await bob.expectLeave('one node of two killed, back on the other, then gone', await staying.participant.leave(), SOON_MS);
    await bob.expectLate();
  });

  redisStory('the Redis is started anew without its data: who is there stays, and who goes then leaves', async ({ stage }) => {
    const { redis, sfu } = await rooms(stage);
    const place = await stage.place({ env: ENV, sfu });
    const [alice, bob] = await Promise.all([stage.member(place), stage.member(place)]);
    const [first, second] = await Promise.all([connected(alice), connected(bob)]);
    await redis.kill();
    await redis.startAgain();
    await unlisted(place, alice, 5_000);
    await alice.expectPresentFor(SFU_DOWN_MS + 2 * INTERVAL_MS);
    await place.lastwill.kill();
    await place.lastwill.startAgain();
    await unlisted(place, alice, 5_000);
    await alice.expectPresentFor(SFU_DOWN_MS + 2 * INTERVAL_MS);
    await bob.expectPresent();
    await alice.expectLeave('Redis of the SFU lost, then gone', await first.participant.leave(), SOON_MS);
    place.tap.copies = () => 0;
    const boundMs = SFU_DOWN_MS + 3 * INTERVAL_MS + SOON_MS;
    await bob.expectLeave('Redis of the SFU lost, then gone without a webhook', await second.participant.leave(), boundMs);
    for (const one of [alice, bob]) await one.expectClean();
  });

  redisStory(
    'the same, and somebody has come since, when lastwill is started anew: who is not listed beside them stays',
    async ({ stage }) => {
      const { redis, sfu } = await rooms(stage);
      const place = await stage.place({ env: ENV, sfu });
      const alice = await stage.member(place);
      const { participant } = await connected(alice);
      await redis.kill();
      await redis.startAgain();
      await unlisted(place, alice, 5_000);
      // Nobody can join before that.
      await eventually('the node to be known again', 15_000, async () => ((await redis.fields('nodes')).length > 0 ? true : undefined));
      const bob = await stage.member(place, { seat: () => seatNames(undefined, alice.sfuRoom) });
      await connected(bob);
      expect(await place.livekit.rooms.listParticipants(alice.sfuRoom), 'what the SFU says').toMatchObject([{ identity: bob.identity }]);
      await place.lastwill.kill();
      await place.lastwill.startAgain();
      await alice.expectPresentFor(SFU_DOWN_MS + 2 * INTERVAL_MS);
      await bob.expectPresent();
      await alice.expectLeave('Redis of the SFU lost, lastwill started anew, then gone', await participant.leave(), SOON_MS);
      await alice.expectClean();
    },
  );

  redisStory('the same beside two replicas, of which the one that was told who came has ended: who came stays', async ({ stage }) => {
    const { redis, sfu } = await rooms(stage);
    const shared = await Redis.start();
    stage.later(() => shared.kill());
    const env = { LIVEKIT_REDIS_URL: shared.url };
    const place = await stage.place({ env, sfu });
    const other = await stage.beside(place, { url: place.synapseUrl }, env);
    const alice = await stage.member({ ...place, lastwill: other });
    const { participant } = await connected(alice);
    await place.lastwill.kill();
    await redis.kill();
    await redis.startAgain();
    await unlisted(place, alice, 5_000);
    await alice.expectPresentFor(USUAL_INTERVAL_MS + SFU_DOWN_MS + INTERVAL_MS);
    const boundMs = USUAL_INTERVAL_MS + SFU_DOWN_MS + SOON_MS;
    await alice.expectLeave('Redis of the SFU lost, one of two replicas killed, then gone', await participant.leave(), boundMs);
  });

  redisStory('a node that was frozen wakes up, and strikes who has come to another off the list: they stay', ({ stage }) => frozen(stage));

  redisStory('the same where the nodes themselves are asked for the list, and each has one of its own', ({ stage }) =>
    frozen(stage, { listsByNode: true }),
  );
});
