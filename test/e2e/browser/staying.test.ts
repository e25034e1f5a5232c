// Who is there is never announced as gone. (A leave between going and coming back is honest, one after it is not.)
import { describe, expect } from 'vitest';
import { eventually, now } from '../stack/processes.ts';
import { browserStory } from './stack/caller.ts';
import { noChromium } from './stack/chromium-binary.ts';

/** Longer than the wait after any departure but a vanished SFU. */
const AFTERMATH_MS = 6_000;

describe.skipIf(noChromium !== undefined)('a browser stays', () => {
  for (const mode of ['legacy', 'matrix2'] as const) {
    browserStory(`reload, ${mode}: back within 2 s, and no leave after that`, async ({ newCaller }) => {
      const alice = await newCaller();
      const before = await alice.join(mode);
      await alice.expectPresentFor(2_000);
      const goneMs = now();
      await alice.chromium.page.reload();
      const report = await alice.joined();
      const back = await eventually('the return to be announced', 5_000, () => {
        const here = alice.here(report);
        return here !== undefined && here.atMs > goneMs ? here : undefined;
      });
      await alice.delegated();
      await alice.expectNoLeaveSince(back.sentMs, AFTERMATH_MS, back.key);
      // A new member id is a new membership: the old one is nobody's any more.
      if (mode === 'matrix2')
        expect(
          alice.leaves().map(({ key }) => key),
          'the old membership',
        ).toEqual([before.memberId]);
      const between = alice.leaves().filter(({ sentMs }) => sentMs <= back.sentMs).length;
      alice.record(`reload, ${mode}, announced again`, back.atMs - goneMs, null, `${between} honest leave before it`);
    });
  }

  browserStory('offline by the developer tools: media goes on, and so does the membership', async ({ newCaller }) => {
    const alice = await newCaller();
    const report = await alice.join('legacy');
    await alice.chromium.goOffline();
    await alice.expectPresentFor(25_000);
    expect((await alice.webhooks(report)).map(({ event }) => event)).not.toContain('participant_left');
  });

  browserStory('network cut for 4 s', async ({ newCaller }) => {
    const alice = await newCaller();
    await alice.join('matrix2');
    const { atMs, thaw } = await alice.chromium.cutNetwork();
    await alice.expectPresentFor(4_000);
    thaw();
    expect(now() - atMs, 'a cut that LiveKit may not notice').toBeLessThan(10_000);
    await alice.expectPresentFor(AFTERMATH_MS);
    expect((await alice.report()).connected).toBe(true);
  });
});
