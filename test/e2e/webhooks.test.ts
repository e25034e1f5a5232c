// Webhooks as a hostile or broken network brings them: forged, doubled, late, or not at all.
import { describe, expect } from 'vitest';
import { story } from './stack/place.ts';
import { eventually } from './stack/processes.ts';
import { deliver, sign } from './stack/webhooks.ts';

const SOON_MS = 3_000;

describe('webhooks', () => {
  story('forged ones are refused and change nothing; the genuine one counts', async ({ stage }) => {
    const place = await stage.place();
    const alice = await stage.member(place);
    const delegation = await alice.scheduleAndDelegate(120_000);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    const [joined] = place.tap.find('participant_joined', alice.identity);
    const body = departureOf(joined?.body ?? '');
    const forgeries = {
      'wrong secret': await sign(body, { secret: 'another-secret-of-at-least-32-characters' }),
      'hash of another body': await sign(body, { hashOf: `${body} ` }),
      'signature of another webhook': joined?.authorization ?? '',
      expired: await sign(body, { ttlSeconds: -60 }),
      'no signature': '',
      'not a token': 'nonsense',
    };
    for (const [forgery, authorization] of Object.entries(forgeries)) {
      expect(await deliver(place.lastwill.webhookUrl, body, authorization), forgery).toBe(401);
    }
    await alice.expectPresentFor(4_000);
    expect((await alice.look(delegation)).state).toBe('connected');
    await alice.expectLeave('forged webhooks, then gone', await participant.leave(), SOON_MS);
    expect(new Set(place.tap.answers)).toEqual(new Set([200]));
    await alice.expectClean();
  });

  story('each one delivered three times', async ({ stage }) => {
    const place = await stage.place({ copies: () => 3 });
    const alice = await stage.member(place);
    const delegation = await alice.scheduleAndDelegate(120_000);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    await alice.expectLeave('each webhook three times', await participant.leave(), SOON_MS);
    await alice.reaches(delegation, 'ended');
    expect(new Set(place.tap.answers)).toEqual(new Set([200]));
    await alice.expectClean();
  });

  story('the departure of an older session, late and again, does not end the newer one', async ({ stage }) => {
    const place = await stage.place({ copies: (webhook) => (webhook.event === 'participant_left' ? 0 : 1) });
    const alice = await stage.member(place);
    const delegation = await alice.scheduleAndDelegate(120_000);
    await alice.join();
    const before = await alice.reaches(delegation, 'connected');
    const second = await alice.join();
    const late = await eventually('the departure', 5_000, () => place.tap.find('participant_left', alice.identity)[0]);
    await eventually('the newer session to be known', 5_000, async () =>
      (await alice.look(delegation)).sid !== before.sid ? true : undefined,
    );
    for (let again = 0; again < 3; again += 1) {
      expect(await deliver(place.lastwill.webhookUrl, late.body, late.authorization)).toBe(200);
      await alice.expectPresentFor(2_000);
    }
    expect((await alice.look(delegation)).state).toBe('connected');
    place.tap.copies = () => 1;
    await alice.expectLeave('late departure of an older session, then gone', await second.leave(), SOON_MS);
    await alice.expectClean();
  });

  story('one with as much metadata as LiveKit takes', async ({ stage }) => {
    const place = await stage.place();
    const alice = await stage.member(place);
    const delegation = await alice.scheduleAndDelegate(120_000);
    const participant = await alice.join();
    await alice.reaches(delegation, 'connected');
    await place.livekit.rooms.updateParticipant(alice.sfuRoom, alice.identity, { metadata: '\u0001'.repeat(512 * 1024) });
    await alice.expectLeave('half a megabyte of metadata', await participant.leave(), SOON_MS);
    expect(place.tap.find('participant_left', alice.identity)[0]?.body.length).toBeGreaterThan(3_000_000);
    expect(new Set(place.tap.answers)).toEqual(new Set([200]));
    await alice.expectClean();
  });

  story('none arrives at all: presence is found, and its end, by asking', async ({ stage }) => {
    const presenceMs = 3_000;
    const missingMs = 4_000;
    const place = await stage.place({ copies: () => 0, env: { LASTWILL_PRESENCE_INTERVAL_MS: String(presenceMs) } });
    const alice = await stage.member(place);
    const participant = await alice.join();
    const delegation = await alice.scheduleAndDelegate(12_000);
    await alice.reaches(delegation, 'connected', presenceMs + SOON_MS);
    await alice.expectPresentFor(20_000);
    await alice.expectLeave('no webhook at all, asked every 3 s', await participant.leave(), presenceMs + missingMs + SOON_MS);
    await alice.expectClean();
  });
});

/** What LiveKit would say if the one who joined had left. */
function departureOf(joined: string): string {
  const webhook = JSON.parse(joined) as { participant: object };
  const participant = { ...webhook.participant, state: 'DISCONNECTED', disconnectReason: 'CLIENT_INITIATED' };
  return JSON.stringify({ ...webhook, event: 'participant_left', id: 'EV_forged', participant });
}
