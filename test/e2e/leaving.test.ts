// Ways to go: each ends with exactly one leave in the room, soon after the departure and never before it.
import { readFileSync } from 'node:fs';
import { describe, expect, inject } from 'vitest';
import { roomService, sfuUrl } from './stack/livekit.ts';
import { story } from './stack/place.ts';
import { now, sleep } from './stack/processes.ts';

/** The wait for a return (1 s by default), then the calls, on a machine that runs many stories at once. */
const SOON_MS = 3_000;
/** LiveKit notices a crash after 19.5 to 21.6 s. */
const CRASH_NOTICED_MS = 22_000;
const HOUR_MS = 3_600_000;

describe('a departure puts the leave in the room', () => {
  story('clean leave, and no secret in the log', async ({ stage }) => {
    const alice = await stage.member();
    const delayId = await alice.scheduleLeave(30_000);
    const delegation = await alice.delegate(delayId, 30_000);
    const participant = await alice.join({ publish: true });
    await alice.reaches(delegation, 'connected');
    await alice.expectPresentFor(2_000);
    await alice.expectLeave('clean leave', await participant.leave(), SOON_MS);
    const ended = await alice.reaches(delegation, 'ended');
    expect(JSON.stringify(ended.outcome)).toContain('sent');
    await alice.expectClean();
    const log = readFileSync(inject('shared').lastwillLog, 'utf8');
    for (const secret of [delayId, alice.token]) expect(log.includes(secret), 'a secret in the log').toBe(false);
  });

  story('clean leave with an hour of delay', async ({ stage }) => {
    const alice = await stage.member();
    const delegation = await alice.scheduleAndDelegate(HOUR_MS);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    await alice.expectLeave('clean leave, delay of 1 h', await participant.leave(), SOON_MS);
    await alice.expectClean();
  });

  story('participant killed -9', async ({ stage }) => {
    const alice = await stage.member();
    const delegation = await alice.scheduleAndDelegate(60_000);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    await alice.expectLeave('participant killed -9', await participant.crash(), CRASH_NOTICED_MS + SOON_MS);
    await alice.reaches(delegation, 'ended');
    await alice.expectClean();
  });

  story('participant removed through the API of LiveKit', async ({ stage }) => {
    const alice = await stage.member();
    const delegation = await alice.scheduleAndDelegate(60_000);
    await alice.join();
    await alice.reaches(delegation, 'connected');
    const departedMs = now();
    await roomService(alice.place.sfu).removeParticipant(alice.sfuRoom, alice.identity);
    await alice.expectLeave('participant removed', departedMs, SOON_MS);
    await alice.expectClean();
  });

  story('room deleted through the API of LiveKit', async ({ stage }) => {
    const alice = await stage.member();
    const delegation = await alice.scheduleAndDelegate(60_000);
    await alice.join();
    await alice.reaches(delegation, 'connected');
    const departedMs = now();
    await roomService(alice.place.sfu).deleteRoom(alice.sfuRoom);
    await alice.expectLeave('room deleted', departedMs, SOON_MS);
    await alice.expectClean();
  });
});

describe('an SFU that asks its nodes who is in a room, and of a room that is none says so after three seconds', () => {
  story('room deleted, and never connected: no leave waits for that', async ({ stage }) => {
    const place = await stage.place({ env: { LASTWILL_CONNECT_TIMEOUT_MS: '4000' }, sfu: { listsByNode: true } });
    const alice = await stage.member(place);
    const delegation = await alice.scheduleAndDelegate(60_000);
    await alice.join();
    await alice.reaches(delegation, 'connected');
    // The first look at her room is over.
    await sleep(1_000);
    const departedMs = now();
    await roomService(place.sfu).deleteRoom(alice.sfuRoom);
    await alice.expectLeave('room deleted, lists by node', departedMs, SOON_MS);
    await alice.expectClean();
    const bob = await stage.member(place);
    const delegatedMs = now();
    await bob.scheduleAndDelegate(HOUR_MS);
    await bob.expectLeave('never connected, lists by node', delegatedMs, 4_000 + SOON_MS);
    await bob.expectClean();
  });
});

describe('who never really came', () => {
  story('never connected, delay of 5 s: the leave comes at its time', async ({ stage }) => {
    const alice = await stage.member();
    const scheduledMs = now();
    await alice.scheduleAndDelegate(5_000);
    const tookMs = await alice.expectLeave('never connected, delay of 5 s', scheduledMs, 5_000 + SOON_MS);
    expect(tookMs).toBeGreaterThan(4_500);
    await alice.expectClean();
  });

  story('never connected, delay of 1 h: the leave comes when the time to connect is over', async ({ stage }) => {
    const place = await stage.place({ env: { LASTWILL_CONNECT_TIMEOUT_MS: '4000' } });
    const alice = await stage.member(place);
    const delayId = await alice.scheduleLeave(HOUR_MS);
    const delegatedMs = now();
    await alice.delegate(delayId, HOUR_MS);
    const tookMs = await alice.expectLeave('never connected, delay of 1 h, 4 s to connect', delegatedMs, 4_000 + SOON_MS);
    expect(tookMs).toBeGreaterThan(3_500);
    await alice.expectClean();
  });

  story('connection aborted before it was established: the leave comes after the wait for another attempt', async ({ stage }) => {
    const abortedWaitMs = 5_000;
    const place = await stage.place({ env: { LASTWILL_WAIT_ABORTED_MS: String(abortedWaitMs) } });
    const alice = await stage.member(place);
    await alice.scheduleAndDelegate(120_000);
    const departedMs = await signallingOnly(`${sfuUrl(place.sfu)}/rtc?protocol=15&auto_subscribe=1&access_token=${alice.token}`);
    const tookMs = await alice.expectLeave('connection aborted, 5 s for another attempt', departedMs, abortedWaitMs + SOON_MS);
    expect(place.tap.find('participant_connection_aborted', alice.identity)).toHaveLength(1);
    expect(tookMs).toBeGreaterThan(abortedWaitMs - 500);
    await alice.expectClean();
  });
});

/** Opens signalling, waits for the SFU's first word (it has the participant now), and goes without ever sending media. */
async function signallingOnly(url: string): Promise<number> {
  const socket = new WebSocket(url);
  await new Promise<void>((heard, failed) => {
    socket.addEventListener('message', () => heard(), { once: true });
    socket.addEventListener('error', () => failed(new Error('no signalling')), { once: true });
  });
  const departedMs = now();
  socket.close();
  return departedMs;
}
