// Ways to go: each ends with exactly one leave in the room, soon after the departure and never before it.
import { describe, test } from 'vitest';
import { member, sharedPlace } from './stack/place.ts';

/** The wait for a return (1 s by default), then the calls, on a machine that runs many stories at once. */
const SOON_MS = 3_000;
/** LiveKit notices a crash after 19.5 to 21.6 s. */
const CRASH_NOTICED_MS = 22_000;

describe('a departure puts the leave in the room', () => {
  test('clean leave', async () => {
    const alice = await member(sharedPlace());
    const delegation = await alice.scheduleAndDelegate(30_000);
    const participant = await alice.join({ publish: true });
    await alice.reaches(delegation, 'connected');
    await alice.expectPresentFor(2_000);
    await alice.expectLeave('clean leave', await participant.leave(), SOON_MS);
    await alice.reaches(delegation, 'ended');
    await alice.expectClean();
  });

  test('participant killed -9', async () => {
    const alice = await member(sharedPlace());
    const delegation = await alice.scheduleAndDelegate(60_000);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    await alice.expectLeave('participant killed -9', await participant.crash(), CRASH_NOTICED_MS + SOON_MS);
    await alice.reaches(delegation, 'ended');
    await alice.expectClean();
  });
});
