// Who is there stays: delays far shorter than the call, a second connection, a quick return, a reconnect.
import { describe, expect } from 'vitest';
import type { Member } from './stack/call.ts';
import type { Delegation } from './stack/lastwill-api.ts';
import type { Participant } from './stack/participant.ts';
import { type Stage, story } from './stack/place.ts';
import { eventually, now } from './stack/processes.ts';
import { Seat, seatNames } from './stack/seat.ts';
import { callsAbout, SERVER_NAME } from './stack/synapse.ts';

const SOON_MS = 3_000;

describe('restarts hold a leave back', () => {
  story('a delay of 6 s is held for 60 s', async ({ stage }) => {
    const alice = await stage.member();
    const participant = await alice.join();
    const delayId = await alice.scheduleLeave(6_000);
    const delegation = await alice.delegate(delayId, 6_000);
    await alice.reaches(delegation, 'connected');
    await alice.expectPresentFor(60_000);
    await alice.expectLeave('a delay of 6 s, held for 60 s', await participant.leave(), SOON_MS, restarts(alice.place.synapseLog, delayId));
    await alice.expectClean();
  });

  story('a delay of 1.5 s is held for 20 s', async ({ stage }) => {
    const alice = await stage.member();
    const participant = await alice.join();
    const delayId = await alice.scheduleLeave(1_500);
    await alice.delegate(delayId, 1_500);
    await alice.expectPresentFor(20_000);
    await alice.expectLeave(
      'a delay of 1.5 s, held for 20 s',
      await participant.leave(),
      SOON_MS,
      restarts(alice.place.synapseLog, delayId),
    );
    await alice.expectClean();
  });

  story('who is on the SFU before the delegation arrives is found within 2 s', async ({ stage }) => {
    const alice = await stage.member();
    const participant = await alice.join();
    const delayId = await alice.scheduleLeave(60_000);
    const delegatedMs = now();
    const delegation = await alice.delegate(delayId, 60_000);
    await alice.reaches(delegation, 'connected', 2_000);
    await eventually('the first restart', 2_000, () => (callsAbout(alice.place.synapseLog, delayId).length > 0 ? true : undefined));
    expect(now() - delegatedMs).toBeLessThan(2_000);
    await alice.expectLeave('on the SFU before the delegation', await participant.leave(), SOON_MS);
    await alice.expectClean();
  });
});

describe('another session of the same identity is no departure', () => {
  story('a second connection: no leave while it stays, one when it goes', async ({ stage }) => {
    const alice = await stage.member();
    const delegation = await alice.scheduleAndDelegate(60_000);
    const first = await alice.join();
    const before = await alice.reaches(delegation, 'connected');
    const second = await alice.join();
    await eventually('the first session to be thrown out', 5_000, () => (first.events.includes('disconnected') ? true : undefined));
    await alice.expectPresentFor(6_000);
    const after = await alice.reaches(delegation, 'connected');
    expect(after.sid).not.toBe(before.sid);
    await alice.expectLeave('second connection, then gone', await second.leave(), SOON_MS);
    await alice.expectClean();
  });

  story('a quick leave and rejoin: no leave, then one when it goes for good', async ({ stage }) => {
    const { alice, delegation, second } = await quickReturn(stage);
    await alice.expectPresentFor(6_000);
    await alice.reaches(delegation, 'connected');
    await alice.expectLeave('quick leave and rejoin, then gone', await second.leave(), SOON_MS);
    await alice.expectClean();
  });

  story('a full reconnect of the SDK: no leave, then one when it goes', async ({ stage }) => {
    const alice = await stage.member();
    const delegation = await alice.scheduleAndDelegate(60_000);
    const participant = await alice.join({ publish: true });
    const before = await alice.reaches(delegation, 'connected');
    await participant.fullReconnect();
    await eventually('the reconnection', 10_000, () => (participant.events.includes('reconnected') ? true : undefined));
    await alice.expectPresentFor(5_000);
    const after = await alice.reaches(delegation, 'connected');
    expect(after.sid).not.toBe(before.sid);
    await alice.expectLeave('full reconnect, then gone', await participant.leave(), SOON_MS);
    await alice.expectClean();
  });
});

describe('another word of the client', () => {
  story('the same again is the same delegation', async ({ stage }) => {
    const alice = await stage.member();
    const delayId = await alice.scheduleLeave(30_000);
    const delegation = await alice.delegate(delayId, 30_000);
    const again = await alice.place.lastwill.delegate(alice.token, {
      homeserver: alice.place.synapseUrl,
      leave: { delay_id: delayId },
      timeout_ms: 30_000,
    });
    expect(again).toMatchObject({ status: 200, body: { id: delegation.id } });
    await alice.place.lastwill.handBack(alice.token, delegation.id);
  });

  story('a newer delay_id: the older event is cancelled and never fires', async ({ stage }) => {
    const alice = await stage.member();
    const participant = await alice.join();
    const older = await alice.scheduleLeave(8_000);
    await alice.delegate(older, 8_000);
    const newer = await alice.scheduleLeave(60_000);
    const delegation = await alice.delegate(newer, 60_000);
    await alice.reaches(delegation, 'connected');
    await eventually('the older event to be cancelled', 3_000, async () =>
      (await alice.matrix.scheduled()).includes(older) ? undefined : true,
    );
    await alice.expectPresentFor(10_000);
    expect(await alice.matrix.scheduled()).toEqual([newer]);
    await alice.expectLeave('superseded, then gone', await participant.leave(), SOON_MS);
    await alice.expectClean();
  });

  story('a newer delay_id, and gone at once: the leave does not wait for somebody who never came', async ({ stage }) => {
    const alice = await stage.member();
    const participant = await alice.join();
    await alice.reaches(await alice.scheduleAndDelegate(60_000), 'connected');
    await alice.scheduleAndDelegate(60_000);
    await alice.expectLeave('superseded, and gone at once', await participant.leave(), SOON_MS);
    await alice.expectClean();
  });

  story('handed back: lastwill sends nothing, the homeserver does when the delay is over', async ({ stage }) => {
    const alice = await stage.member();
    const participant = await alice.join();
    const delayId = await alice.scheduleLeave(10_000);
    const delegation = await alice.delegate(delayId, 10_000);
    await alice.reaches(delegation, 'connected');
    await eventually('the first restart', 3_000, () => callsAbout(alice.place.synapseLog, delayId)[0]);
    const answer = await alice.place.lastwill.handBack(alice.token, delegation.id);
    expect(answer.status).toBeLessThan(300);
    const before = callsAbout(alice.place.synapseLog, delayId);
    const expiresMs = now() + 10_000;
    const departedMs = await participant.leave();
    await alice.expectPresentFor(7_000);
    await alice.expectLeave('handed back, delay of 10 s', departedMs, expiresMs - departedMs + SOON_MS, "the homeserver's own timer");
    expect(callsAbout(alice.place.synapseLog, delayId)).toEqual(before);
    await alice.expectClean();
  });
});

describe('one event under two identities', () => {
  story('the first to hand it over goes, and the other stays: no leave, then one when that one goes', async ({ stage }) => {
    const alice = await stage.member();
    const other = new Seat(alice.place, await seatNames(undefined, alice.sfuRoom));
    try {
      const [participant, second] = await Promise.all([alice.join(), other.join()]);
      const delayId = await alice.scheduleLeave(10_000);
      const older = await alice.delegate(delayId, 10_000);
      await alice.reaches(older, 'connected');
      const newer = await other.handOver({ homeserver: SERVER_NAME, leave: { delay_id: delayId }, timeout_ms: 10_000 });
      expect(await alice.reaches(older, 'ended')).toMatchObject({ outcome: 'superseded' });
      await other.reaches(newer, 'connected');
      await participant.leave();
      await alice.expectPresentFor(15_000);
      await alice.expectLeave('one event under two identities, then gone', await second.leave(), SOON_MS);
      await alice.expectClean();
    } finally {
      await other.end();
    }
  });
});

/** Leaves and joins again within the wait for a return; a machine that is too slow for that gets some more attempts. */
async function quickReturn(stage: Stage, attempts = 5): Promise<{ alice: Member; delegation: Delegation; second: Participant }> {
  const alice = await stage.member();
  const delegation = await alice.scheduleAndDelegate(60_000);
  const [first, second] = await Promise.all([alice.join(), alice.prepare()]);
  await alice.reaches(delegation, 'connected');
  await first.leave();
  await alice.joinWith(second);
  const told = (event: string): number[] => webhooks.filter((webhook) => webhook.event === event).map((webhook) => webhook.atMs);
  const webhooks = await eventually('LiveKit to tell of the return', 5_000, async () => {
    const seen = await alice.place.webhooks(alice.sfuRoom);
    return seen.filter((webhook) => webhook.event === 'participant_joined').length === 2 ? seen : undefined;
  });
  const awayMs = (told('participant_joined')[1] ?? 0) - (told('participant_left')[0] ?? 0);
  if (awayMs < 900) return { alice, delegation, second };
  expect(attempts, `this machine is too slow for a quick return: ${awayMs} ms`).toBeGreaterThan(1);
  return quickReturn(stage, attempts - 1);
}

const restarts = (log: string, delayId: string): string =>
  `${callsAbout(log, delayId).filter((call) => call.action === 'restart').length} restarts`;
