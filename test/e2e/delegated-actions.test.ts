// The delegated event need not be a leave: lastwill only sees a handle, and Synapse sends whatever was scheduled.
import { describe, expect } from 'vitest';
import type { Member } from './stack/call.ts';
import type { Json, Sighting } from './stack/matrix.ts';
import { story } from './stack/place.ts';
import { callsAbout } from './stack/synapse.ts';

const SOON_MS = 3_000;
const DELAY_MS = 60_000;
const byDelay = (delayId: string) => (sighting: Sighting) => sighting.event.unsigned?.['org.matrix.msc4140.delay_id'] === delayId;

/** Joins with this event delegated, leaves, and gives back the event as the room got it. */
async function sentAtDeparture(story: string, alice: Member, delayId: string): Promise<Sighting> {
  const delegation = await alice.delegate(delayId, DELAY_MS);
  const participant = await alice.join();
  await alice.reaches(delegation, 'connected');
  await alice.expectPresentFor(1_000);
  expect(alice.watcher.sightings.filter(byDelay(delayId))).toEqual([]);
  const sighting = await alice.expectEvent(story, await participant.leave(), SOON_MS, byDelay(delayId));
  await alice.reaches(delegation, 'ended');
  await alice.expectClean(0);
  return sighting;
}

describe('what Synapse can schedule is sent at the departure', () => {
  story('a message (MSC3277)', async ({ stage }) => {
    const alice = await stage.member();
    const content = { msgtype: 'm.notice', body: 'Alice is gone' };
    const delayId = await alice.matrix.scheduleMessage(alice.room, 'm.room.message', content, DELAY_MS);
    const { event } = await sentAtDeparture('a scheduled message', alice, delayId);
    expect(event).toMatchObject({ type: 'm.room.message', content });
  });

  story('a redaction, scheduled as m.room.redaction by /send (MSC2228)', async ({ stage }) => {
    const alice = await stage.member();
    const content = { msgtype: 'm.text', body: 'for this call only' };
    const secret = await alice.matrix.sendMessage(alice.room, 'm.room.message', content);
    const delayId = await alice.matrix.scheduleMessage(alice.room, 'm.room.redaction', { redacts: secret }, DELAY_MS);
    expect((await alice.matrix.event(alice.room, secret)).content).toEqual(content);
    await sentAtDeparture('a scheduled redaction', alice, delayId);
    expect((await alice.matrix.event(alice.room, secret)).content).toEqual({});
  });

  story('no redaction in rooms before version 11: Synapse takes the schedule, then fails with 500 and forgets it', async ({ stage }) => {
    const alice = await stage.member();
    const room = await alice.matrix.createRoom({ room_version: '10' });
    const content = { msgtype: 'm.text', body: 'stays' };
    const secret = await alice.matrix.sendMessage(room, 'm.room.message', content);
    const delayId = await alice.matrix.scheduleMessage(room, 'm.room.redaction', { redacts: secret }, DELAY_MS);
    const delegation = await alice.delegate(delayId, DELAY_MS);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    await participant.leave();
    await alice.reaches(delegation, 'ended', 2 * SOON_MS);
    const sent = callsAbout(alice.place.synapseLog, delayId).filter((call) => call.action === 'send');
    expect(sent.map((call) => call.status)).toEqual([500, 404]);
    expect((await alice.matrix.event(room, secret)).content).toEqual(content);
  });

  story('Synapse cannot schedule one by /redact: the delay is ignored and the event is redacted at once', async ({ stage }) => {
    const alice = await stage.member();
    const secret = await alice.matrix.sendMessage(alice.room, 'm.room.message', { msgtype: 'm.text', body: 'gone at once' });
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(alice.room)}/redact/${encodeURIComponent(secret)}/txn`;
    const answer = await alice.matrix.call('PUT', `${path}?org.matrix.msc4140.delay=${DELAY_MS}`, {});
    expect(answer).toEqual({ event_id: expect.any(String) });
    expect(((await alice.matrix.event(alice.room, secret)) as { content: Json }).content).toEqual({});
  });

  story('a sticky m.rtc.member leave (MSC4143, MSC4354)', async ({ stage }) => {
    const alice = await stage.member();
    const stickyMs = 600_000;
    const joined = { slot_id: 'm.call#ROOM', sticky_key: 'alice-device', member: { id: 'alice-device', claimed_device_id: 'DEVICE' } };
    await alice.matrix.sendMessage(alice.room, 'm.rtc.member', joined, { stickyMs });
    const left = { slot_id: 'm.call#ROOM', sticky_key: 'alice-device' };
    const delayId = await alice.matrix.scheduleMessage(alice.room, 'm.rtc.member', left, DELAY_MS, { stickyMs });
    const { event } = await sentAtDeparture('a scheduled sticky leave', alice, delayId);
    expect(event).toMatchObject({ type: 'm.rtc.member', content: left, msc4354_sticky: { duration_ms: stickyMs } });
    expect(event.unsigned?.msc4354_sticky_duration_ttl_ms).toBeGreaterThan(stickyMs - 60_000);
  });
});
