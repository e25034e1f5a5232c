// The SFU dies: whoever comes back was never gone, and if nothing comes back, the homeserver's own timer is the last resort.
import { describe, expect } from 'vitest';
import { story } from './stack/place.ts';
import { eventually, now, sleep } from './stack/processes.ts';
import { noRedis, Redis } from './stack/redis.ts';
import { seatNames } from './stack/seat.ts';
import { callsAbout } from './stack/synapse.ts';

const SOON_MS = 3_000;

describe('SFU killed', () => {
  story("for good: restarts stop, and the homeserver's own timer sends the leave", async ({ stage }) => {
    const delayMs = 8_000;
    const place = await stage.place();
    const alice = await stage.member(place);
    await alice.join();
    const delayId = await alice.scheduleLeave(delayMs);
    const delegation = await alice.delegate(delayId, delayMs);
    await alice.reaches(delegation, 'connected');
    await alice.expectPresentFor(10_000);
    await place.livekit.kill();
    const killedMs = now();
    // One more restart may go out on evidence from just before the kill, and the delay starts anew with it.
    await alice.expectLeave('SFU killed for good, delay of 8 s', killedMs, delayMs / 2 + delayMs + SOON_MS, "the homeserver's own timer");
    expect(callsAbout(place.synapseLog, delayId).filter((call) => call.action === 'send')).toEqual([]);
  });

  story('and started again: who comes back has not left', async ({ stage }) => {
    const place = await stage.place();
    const alice = await stage.member(place);
    const delegation = await alice.scheduleAndDelegate(120_000);
    const participant = await alice.join();
    const before = await alice.reaches(delegation, 'connected');
    await place.livekit.kill();
    const killedMs = now();
    // What a supervisor takes to start it again.
    await sleep(2_000);
    await place.livekit.startAgain();
    const back = await eventually('the participant to come back', 30_000, () =>
      place.tap.find('participant_joined', alice.identity).find((webhook) => webhook.atMs > killedMs),
    );
    await alice.expectPresentFor(20_000);
    const after = await alice.reaches(delegation, 'connected');
    expect(after.sid).not.toBe(before.sid);
    const note = `back ${(back.atMs - killedMs).toFixed(0)} ms after the kill`;
    await alice.expectLeave('SFU killed and back, then gone', await participant.leave(), SOON_MS, note);
    await alice.expectClean();
  });

  story('and started again, and the participant died with it: the leave is sent after the wait', async ({ stage }) => {
    const sfuDownMs = 20_000;
    const place = await stage.place({ env: { LASTWILL_PRESENCE_INTERVAL_MS: '3000' } });
    const alice = await stage.member(place);
    const delegation = await alice.scheduleAndDelegate(300_000);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    await place.livekit.kill();
    const departedMs = await participant.crash();
    await place.livekit.startAgain();
    await alice.expectLeave('SFU restarted, participant dead', departedMs, 3_000 + 3_000 + sfuDownMs + 4_000 + SOON_MS);
    await alice.expectClean();
  });

  story.skipIf(noRedis !== undefined)('with a Redis that still lists the dead one: its leave is sent as well', async ({ stage }) => {
    const sfuDownMs = 20_000;
    /** The SFU looks for a node that has the room. */
    const nowhereMs = 3_000;
    const redis = await Redis.start();
    stage.later(() => redis.kill());
    const sfu = { redis: new URL(redis.url).host };
    const place = await stage.place({ env: { LASTWILL_PRESENCE_INTERVAL_MS: '3000' }, sfu });
    const [alice, bob] = await Promise.all([stage.member(place), stage.member(place)]);
    const [delegation, staying] = await Promise.all([alice.scheduleAndDelegate(300_000), bob.scheduleAndDelegate(300_000)]);
    const [participant, other] = await Promise.all([alice.join(), bob.join()]);
    await Promise.all([alice.reaches(delegation, 'connected'), bob.reaches(staying, 'connected')]);
    await place.livekit.kill();
    const departedMs = await participant.crash();
    const awayMs = 4_000;
    await sleep(awayMs);
    await place.livekit.startAgain();
    const boundMs = awayMs + 3_000 + 2 * nowhereMs + sfuDownMs + 4_000 + SOON_MS;
    await alice.expectLeave('SFU with a Redis restarted, participant dead', departedMs, boundMs);
    expect(await place.livekit.rooms.listParticipants(alice.sfuRoom), 'what the SFU says').toHaveLength(1);
    // By the seconds that the SFU takes to look for it.
    await alice.expectLate();
    await bob.expectPresent();
    await bob.expectLeave('SFU with a Redis restarted and back, then gone', await other.leave(), SOON_MS);
    await bob.expectLate();
  });

  story.skipIf(noRedis !== undefined)(
    'with a Redis that still lists the dead one beside one who is back in that call',
    async ({ stage }) => {
      const sfuDownMs = 20_000;
      const redis = await Redis.start();
      stage.later(() => redis.kill());
      const sfu = { redis: new URL(redis.url).host };
      const place = await stage.place({ env: { LASTWILL_PRESENCE_INTERVAL_MS: '3000' }, sfu });
      const alice = await stage.member(place);
      const bob = await stage.member(place, { seat: () => seatNames(undefined, alice.sfuRoom) });
      const [delegation, staying] = await Promise.all([alice.scheduleAndDelegate(300_000), bob.scheduleAndDelegate(300_000)]);
      const [participant, other] = await Promise.all([alice.join(), bob.join()]);
      await Promise.all([alice.reaches(delegation, 'connected'), bob.reaches(staying, 'connected')]);
      await place.livekit.kill();
      const departedMs = await participant.crash();
      const awayMs = 1_000;
      await sleep(awayMs);
      await place.livekit.startAgain();
      // Bob is back within some seconds; then the SFU is asked for alice, and once more after the wait.
      const boundMs = awayMs + 8_000 + 3 * 3_000 + sfuDownMs + 2 * 3_000 + SOON_MS;
      await alice.expectLeave('SFU with a Redis restarted, participant dead, others back', departedMs, boundMs);
      expect(await place.livekit.rooms.listParticipants(alice.sfuRoom), 'what the SFU says').toHaveLength(2);
      await alice.expectLate();
      await bob.expectPresent();
      await bob.expectLeave('SFU with a Redis restarted, back in a call with a dead one, then gone', await other.leave(), SOON_MS);
      await bob.expectLate();
    },
  );
});
