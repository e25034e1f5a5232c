// lastwill is killed -9 and started again on the same data: what was promised still holds.
import { describe, expect } from 'vitest';
import type { Member } from './stack/call.ts';
import { type OwnPlace, type Stage, story } from './stack/place.ts';
import { eventually, now, sleep } from './stack/processes.ts';

const SOON_MS = 3_000;
/** LiveKit's notice of a departure: the goodbye of one who had just joined was seen to be lost, and then it takes LiveKit 20 s. */
const NOTICED_MS = 30_000;
/** An absence known only from lists is held this long by default, and must be confirmed by a second list. */
const MISSING_MS = 4_000;

async function killedWithOneThere(stage: Stage) {
  const place = await stage.place();
  const alice = await stage.member(place);
  const delegation = await alice.scheduleAndDelegate(120_000);
  const participant = await alice.join();
  await alice.reaches(delegation, 'connected');
  await place.lastwill.kill();
  return { place, alice, participant };
}

async function expectLeaveOnceBack(place: OwnPlace, alice: Member, departedMs: number, what: string): Promise<void> {
  const readyMs = await place.lastwill.startAgain();
  const note = `down until ${(now() - departedMs).toFixed(0)} ms after it, ready in ${readyMs.toFixed(0)} ms`;
  await alice.expectLeave(what, departedMs, now() - departedMs + MISSING_MS + SOON_MS, note);
  await alice.expectClean();
}

describe('lastwill killed -9 and started again', () => {
  story('the participant leaves while it is down; LiveKit tells again', async ({ stage }) => {
    const { place, alice, participant } = await killedWithOneThere(stage);
    const departedMs = await participant.leave();
    await eventually('LiveKit to tell nobody', NOTICED_MS, () => place.tap.find('participant_left', alice.identity)[0]);
    await sleep(1_000);
    await expectLeaveOnceBack(place, alice, departedMs, 'lastwill down at the leave');
  });

  story('the participant leaves while it is down, and LiveKit never tells', async ({ stage }) => {
    const { place, alice, participant } = await killedWithOneThere(stage);
    place.tap.copies = () => 0;
    const departedMs = await participant.leave();
    await eventually('the departure to be lost', NOTICED_MS, () => place.tap.find('participant_left', alice.identity)[0]);
    await expectLeaveOnceBack(place, alice, departedMs, 'lastwill down at the leave, webhook lost');
  });

  // LiveKit has given the word of the departure up by then. It closes a room when nobody has been in it for 20 s.
  story('the last one in a room leaves while it is down, and it is back as LiveKit closes the room', async ({ stage }) => {
    const { place, alice, participant } = await killedWithOneThere(stage);
    const departedMs = await participant.leave();
    await eventually('LiveKit to tell for the last time', NOTICED_MS, () =>
      place.tap.find('participant_left', alice.identity).length === 5 ? true : undefined,
    );
    await sleep(Math.max(0, departedMs + 17_000 - now()));
    await expectLeaveOnceBack(place, alice, departedMs, 'lastwill down at the leave, room closed');
  });

  // The delay leaves room for starts on a busy machine: down for longer than the last fifth of it, nobody can keep the event.
  story('the participant stays, with a delay of 20 s, and leaves afterwards', async ({ stage }) => {
    const place = await stage.place();
    const alice = await stage.member(place);
    const participant = await alice.join();
    const delegation = await alice.scheduleAndDelegate(20_000);
    await alice.reaches(delegation, 'connected');
    for (let crash = 0; crash < 3; crash += 1) {
      await place.lastwill.kill();
      await place.lastwill.startAgain();
      await alice.expectPresentFor(4_000);
    }
    await alice.expectPresentFor(22_000);
    expect((await alice.look(delegation)).state).toBe('connected');
    await alice.expectLeave('lastwill killed three times before the leave', await participant.leave(), SOON_MS);
    await alice.expectClean();
  });

  story('killed in the moment between the departure and the leave', async ({ stage }) => {
    const place = await stage.place();
    const alice = await stage.member(place);
    const delegation = await alice.scheduleAndDelegate(120_000);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    const departedMs = await participant.leave();
    await eventually('the webhook to be answered', 5_000, () => {
      const told = place.tap.find('participant_left', alice.identity).length > 0;
      return told && place.tap.answers.length === place.tap.seen.length ? true : undefined;
    });
    await place.lastwill.kill();
    expect(alice.leaves()).toEqual([]);
    const readyMs = await place.lastwill.startAgain();
    await alice.expectLeave(
      'lastwill killed between webhook and leave',
      departedMs,
      2_000 + readyMs + SOON_MS,
      `ready in ${readyMs.toFixed(0)} ms`,
    );
    await alice.expectLate();
  });
});
