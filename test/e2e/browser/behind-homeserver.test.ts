// A browser whose homeserver passes requests on (MSC4512): matrix-js-sdk asks it for the token and hands it the leave. Element Call 0.26.1
// only asks it whether it takes delegations, and goes on with the API for clients alone.
import { afterAll, beforeAll, describe, expect, inject } from 'vitest';
import { eventually, now } from '../stack/processes.ts';
import { browserStory } from './stack/caller.ts';
import { noChromium } from './stack/chromium-binary.ts';
import { ElementCall } from './stack/element-call.ts';
import { CRASH_MS, SOON_MS } from './stack/promises.ts';
import { underTest } from './stack/service.ts';
import { type SharedCall, startCall } from './stack/shared-call.ts';

const DELEGATE = '/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave';

// Another service is not asked: none is known that prints a registration.
describe.skipIf(noChromium !== undefined || underTest !== 'lastwill')('behind its homeserver', () => {
  let call: SharedCall;
  let stop: () => Promise<void>;
  beforeAll(async () => {
    ({ call, stop } = await startCall(inject('call').timesFile, { proxies: true }));
  });
  afterAll(() => stop());

  browserStory('matrix-js-sdk asks the homeserver: goodbye to the SFU alone', async ({ newCaller }) => {
    const alice = await newCaller('alice', call);
    const report = await alice.join('matrix2', { by: 'homeserver' });
    expect(report.grant).toMatchObject({ canPublish: true });
    await alice.expectPresentFor(2_000);
    const departedMs = now();
    await alice.chromium.page.evaluate('window.leaveSfu()');
    await alice.expectLeave('goodbye to the SFU alone, by the homeserver', report, departedMs, SOON_MS);
  });

  browserStory('matrix-js-sdk asks the homeserver: tab killed', async ({ newCaller }) => {
    const alice = await newCaller('alice', call);
    const report = await alice.join('legacy', { by: 'homeserver' });
    await alice.expectLeave('tab killed, by the homeserver', report, await alice.chromium.killTab(), CRASH_MS);
  });

  browserStory('Element Call asks it, is not told 404, and its tab is killed', async ({ newCaller }) => {
    const alice = await newCaller('alice', call);
    const probes: number[] = [];
    alice.chromium.page.on('response', (response) => {
      if (new URL(response.url()).pathname === DELEGATE) probes.push(response.status());
    });
    const elementCall = await ElementCall.open(alice.chromium.page, call, alice.credentials, alice.room.id);
    await elementCall.joined();
    await alice.restarted(await elementCall.delegated());
    await eventually('the membership in the room', 20_000, () => alice.announcements().find(({ kind }) => kind === 'here'));
    expect(probes).not.toHaveLength(0);
    // Of the homeserver: it passes nothing on without an access token.
    expect(new Set(probes)).toEqual(new Set([401]));
    const seat = elementCall.seat();
    await alice.expectLeave('Element Call beside a homeserver that is asked, tab killed', seat, await alice.chromium.killTab(), CRASH_MS);
  });
});
