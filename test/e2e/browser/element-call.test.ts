// Element Call itself, as its package ships it, in a widget. It leaves its membership to the service for an hour, so every departure
// that the service misses is a ghost for that long. One browser at a time: these ones encode video.
import { describe, expect } from 'vitest';
import { eventually, now } from '../stack/processes.ts';
import { browserStory, type Caller } from './stack/caller.ts';
import { noChromium } from './stack/chromium-binary.ts';
import { ElementCall } from './stack/element-call.ts';
import { CRASH_MS, SOON_MS } from './stack/promises.ts';

const HOUR_MS = 3_600_000;
const AFTERMATH_MS = 6_000;
/** A leave that is on its way to the homeserver when the user comes back to the SFU is still honest. */
const UNDER_WAY_MS = 500;

const open = (caller: Caller): Promise<ElementCall> =>
  ElementCall.open(caller.chromium.page, caller.call, caller.credentials, caller.room.id);

/** In the call, announced, and its leave in the hands of the service, which looks after it. */
async function inCall(caller: Caller, elementCall: ElementCall): Promise<void> {
  await elementCall.joined();
  await caller.restarted(await elementCall.delegated());
  await eventually('the membership in the room', 20_000, () => caller.announcements().find(({ kind }) => kind === 'here'));
}

describe.skipIf(noChromium !== undefined)('Element Call', { concurrent: false }, () => {
  browserStory('finds that delegations are taken, hands an hour over; its tab is killed', async ({ newCaller }) => {
    const alice = await newCaller();
    const elementCall = await open(alice);
    await inCall(alice, elementCall);

    expect(elementCall.probes(), 'the question whether delegations are taken').not.toHaveLength(0);
    for (const probe of elementCall.probes()) expect(probe).toMatchObject({ body: null, authorized: false, status: 400, anyOrigin: true });
    expect((await elementCall.report()).delays.map(({ delayMs }) => delayMs)).toEqual([HOUR_MS]);
    expect(elementCall.delegations().map(({ body, status }) => [body?.delay_timeout, status])).toEqual([[HOUR_MS, 200]]);

    await alice.expectPresentFor(2_000);
    const seat = elementCall.seat();
    await alice.expectLeave('Element Call, tab killed', seat, await alice.chromium.killTab(), CRASH_MS);
  });

  browserStory('hang-up', async ({ newCaller }) => {
    const alice = await newCaller();
    const elementCall = await open(alice);
    await inCall(alice, elementCall);
    const seat = elementCall.seat();
    const departedMs = now();
    await elementCall.hangUp();
    await alice.expectLeave('Element Call, hang-up', seat, departedMs, SOON_MS);
  });

  browserStory('reload: no leave after the return', async ({ newCaller }) => {
    const alice = await newCaller();
    const elementCall = await open(alice);
    await inCall(alice, elementCall);
    await alice.expectPresentFor(2_000);
    const goneMs = now();
    await elementCall.page.reload();
    await elementCall.joined();
    const back = await eventually('the SFU to see the return', 20_000, async () =>
      (await alice.webhooks(elementCall.seat())).find(({ event, atMs }) => event === 'participant_joined' && atMs > goneMs),
    );
    await alice.restarted(await elementCall.delegated());
    const returned = `${alice.leaves().length} leave, honest, before it`;
    alice.record('Element Call, reload, on the SFU again', back.atMs - goneMs, null, returned);
    await alice.expectNoLeaveSince(back.atMs + UNDER_WAY_MS, AFTERMATH_MS);
    // Whoever was never announced as gone need not be announced again.
    expect(alice.announcements().at(-1)?.kind, 'what others know at the end').toBe('here');
  });
});
