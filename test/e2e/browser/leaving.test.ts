// Ways to go, with matrix-js-sdk and livekit-client in a real browser: the leave is in the room soon after the departure, though the
// delayed event that was handed over has an hour to run.
import { describe, expect } from 'vitest';
import { now } from '../stack/processes.ts';
import { browserStory } from './stack/caller.ts';
import { noChromium } from './stack/chromium-binary.ts';
import { CRASH_MS, SOON_MS } from './stack/promises.ts';

describe.skipIf(noChromium !== undefined)('a browser goes', () => {
  browserStory('hang-up', async ({ newCaller }) => {
    const alice = await newCaller();
    const report = await alice.join('legacy');
    await alice.expectPresentFor(2_000);
    const departedMs = now();
    await alice.chromium.page.evaluate('window.hangUp()');
    await alice.expectLeave('hang-up', report, departedMs, SOON_MS);
  });

  for (const mode of ['legacy', 'matrix2'] as const) {
    browserStory(`goodbye to the SFU alone, ${mode}`, async ({ newCaller }) => {
      const alice = await newCaller();
      const report = await alice.join(mode);
      await alice.expectPresentFor(2_000);
      const departedMs = now();
      await alice.chromium.page.evaluate('window.leaveSfu()');
      await alice.expectLeave(`goodbye to the SFU alone, ${mode}`, report, departedMs, SOON_MS);
    });

    browserStory(`tab killed, ${mode}`, async ({ newCaller }) => {
      const alice = await newCaller();
      const report = await alice.join(mode);
      await alice.expectLeave(`tab killed, ${mode}`, report, await alice.chromium.killTab(), CRASH_MS);
    });
  }

  browserStory('browser killed', async ({ newCaller }) => {
    const alice = await newCaller();
    const report = await alice.join('legacy');
    await alice.expectLeave('browser killed', report, await alice.chromium.kill(), CRASH_MS);
  });

  browserStory('tab closed', async ({ newCaller }) => {
    const alice = await newCaller();
    const report = await alice.join('legacy');
    const departedMs = now();
    await alice.chromium.page.close({ runBeforeUnload: false });
    await alice.expectLeave('tab closed', report, departedMs, CRASH_MS);
  });

  browserStory('network cut', async ({ newCaller }) => {
    const alice = await newCaller();
    const report = await alice.join('legacy');
    const { atMs } = await alice.chromium.cutNetwork();
    await alice.expectLeave('network cut', report, atMs, CRASH_MS);
    expect((await alice.report()).connected, 'the page knows that it is cut off').toBe(false);
  });

  browserStory('browser stopped', async ({ newCaller }) => {
    const alice = await newCaller();
    const report = await alice.join('matrix2');
    const { atMs } = await alice.chromium.freeze();
    await alice.expectLeave('browser stopped', report, atMs, CRASH_MS);
  });
});
