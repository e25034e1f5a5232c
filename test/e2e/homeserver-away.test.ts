// The homeserver is away, silent or stingy when it is needed.
import { describe, expect } from 'vitest';
import type { Member } from './stack/call.ts';
import type { Delegation } from './stack/lastwill-api.ts';
import type { Participant } from './stack/participant.ts';
import { story } from './stack/place.ts';
import { eventually, now, sleep } from './stack/processes.ts';
import { seatNames } from './stack/seat.ts';
import { callsAbout, DEFAULT_DELAYED_EVENT_LIMIT, SERVER_NAME, type Synapse } from './stack/synapse.ts';

const SOON_MS = 3_000;
/** A leave that is owed is tried again after 10 s at the most. */
const BACKOFF_CAP_MS = 10_000;
/** A call that is not answered is given up. */
const CALL_TIMEOUT_MS = 10_000;

describe('Synapse at the moment of the leave', () => {
  story('is down, and comes back', async ({ stage }) => {
    const synapse = await stage.synapse();
    const place = await stage.place({ synapse });
    const alice = await stage.member(place);
    const { delegation, participant } = await settledIn(alice, synapse);
    await synapse.stop();
    const departedMs = await participant.leave();
    await alice.reaches(delegation, 'leaving');
    await sleep(5_000);
    await synapse.startAgain();
    const backMs = now();
    await alice.expectLeave(
      'Synapse down at the leave',
      departedMs,
      backMs - departedMs + BACKOFF_CAP_MS + SOON_MS,
      `back after ${(backMs - departedMs).toFixed(0)} ms`,
    );
    await alice.expectLate();
  });

  story('hangs, and goes on', async ({ stage }) => {
    const synapse = await stage.synapse();
    const place = await stage.place({ synapse });
    const alice = await stage.member(place);
    const { delegation, participant } = await settledIn(alice, synapse);
    synapse.freeze();
    const departedMs = await participant.leave();
    await alice.reaches(delegation, 'leaving');
    await sleep(5_000);
    synapse.thaw();
    const backMs = now();
    await alice.expectLeave(
      'Synapse hanging at the leave',
      departedMs,
      backMs - departedMs + CALL_TIMEOUT_MS + SOON_MS,
      `on again after ${(backMs - departedMs).toFixed(0)} ms`,
    );
    await alice.expectLate();
  });
});

story(
  'Synapse does not know the application service: who stays is kept, who leaves is gone, and the operator is told',
  async ({ stage }) => {
    const synapse = await stage.synapse();
    const place = await stage.place({
      synapse,
      env: { LIVEKIT_AS_TOKEN: 'no_token_of_this_synapse', LIVEKIT_HS_SERVER_NAME: SERVER_NAME },
    });
    const alice = await stage.member(place, { seat: ({ userId }) => seatNames(`${userId}:DEVICE`) });
    const participant = await alice.join();
    const delayId = await alice.scheduleLeave(3_000);
    await alice.reaches(await alice.delegate(delayId, 3_000), 'connected');
    await alice.expectPresentFor(10_000);
    await alice.expectLeave('application service unknown', await participant.leave(), SOON_MS);
    await alice.expectClean();
    expect(callsAbout(synapse.logFile, delayId).map(({ status }) => status)).toContain(401);
    expect(place.lastwill.log()).toContain('LIVEKIT_AS_TOKEN and LIVEKIT_HS_SERVER_NAME of an application service that it has loaded');
  },
);

story("five participants with a delay of 10 s, under Synapse's default rate limit", async ({ stage }) => {
  const synapse = await stage.synapse({ delayedEventLimit: DEFAULT_DELAYED_EVENT_LIMIT });
  const place = await stage.place({ synapse });
  const members: Member[] = [];
  for (let count = 0; count < 5; count += 1) members.push(await stage.member(place));
  const joined = await Promise.all(
    members.map(async (one) => {
      const participant = await one.join();
      const delegation = await one.scheduleAndDelegate(10_000);
      await one.reaches(delegation, 'connected');
      return { one, participant };
    }),
  );
  await Promise.all(members.map((one) => one.expectPresentFor(40_000)));
  await Promise.all(
    joined.map(async ({ one, participant }) => {
      await one.expectLeave('five with 10 s, default rate limit', await participant.leave(), 6_000 + SOON_MS);
    }),
  );
  await eventually('all to be over', 1_000, () => (members.every((one) => one.leaves().length === 1) ? true : undefined));
  expect(await place.lastwill.metric('lastwill_false_leaves_total')).toBe(0);
});

/** Connected, and the restart that follows is done: nothing is under way when the homeserver goes. */
async function settledIn(alice: Member, synapse: Synapse): Promise<{ delegation: Delegation; participant: Participant }> {
  const delayId = await alice.scheduleLeave(300_000);
  const delegation = await alice.delegate(delayId, 300_000);
  const participant = await alice.join();
  await eventually('the first restart', 5_000, () => callsAbout(synapse.logFile, delayId)[0]);
  return { delegation, participant };
}
