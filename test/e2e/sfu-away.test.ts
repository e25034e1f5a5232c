// The SFU dies: whoever comes back was never gone, and if nothing comes back, the homeserver's own timer is the last resort.
import { describe, expect } from 'vitest';
import { story } from './stack/place.ts';
import { eventually, now, sleep } from './stack/processes.ts';
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
});
