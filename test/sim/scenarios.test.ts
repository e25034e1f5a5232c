// What simulation found, as short stories with a name: each failed before its mend, and is told here without chance.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Plan } from './plan.ts';
import { World } from './world.ts';

const WELL: Plan = {
  seed: 1,
  replicas: 1,
  skewMs: 0,
  policy: {
    waitMs: { left: 1_000, lost: 1_000, replaced: 1_000, sfuDown: 15_000, aborted: 30_000, missing: 4_000 },
    connectTimeoutMs: 60_000,
    presenceIntervalMs: 30_000,
  },
  homeservers: [
    { dialect: 'C', limit: null, latencyMs: 5, asToken: false },
    { dialect: 'C', limit: null, latencyMs: 150, asToken: false },
  ],
  members: [
    {
      room: 0,
      homeserver: 0,
      delayMs: 60_000,
      lost: false,
      joinsAtMs: null,
      compatible: false,
      twice: false,
      restarts: false,
      ownLeave: false,
      sendsTooMuch: false,
    },
  ],
  steps: [],
  outages: [],
  rates: { webhookLost: 0, webhookDoubled: 0, webhookLate: 0, killed: 0, homeserverFails: 0, storeFails: 0, sfuSlow: 0, lookUpSlow: 0 },
};
const [MEMBER] = WELL.members as [Plan['members'][number]];

async function play(over: Partial<Plan>): Promise<readonly string[]> {
  const { violations } = await new World({ ...WELL, ...over }).run();
  return violations.map(({ never, atMs, what }) => `${atMs} ${never}: ${what}`);
}

test('killed between the decision and the call, and the member comes back meanwhile: the next process looks again', async () => {
  const found = await play({
    steps: [
      { afterMs: 100, member: 0, deed: 'join', forMs: 0, trouble: null },
      { afterMs: 10_000, member: 0, deed: 'full-reconnect', forMs: 1_455, trouble: null },
    ],
    // The leave is on its way to the lane when the process dies, and no webhook finds anybody until it is back.
    outages: [
      { kind: 'homeserver-limits', atMs: 9_000, forMs: 2_200, which: 0 },
      { kind: 'kill', atMs: 11_150, forMs: 2_000, which: 0 },
      { kind: 'webhooks-away', atMs: 11_150, forMs: 20_000, which: 0 },
    ],
  });
  expect(found).toEqual([]);
});

test('an SFU with a Redis is killed, some are back, and it is stopped: it ends the room of the same SID, and the others have time as before', async () => {
  for (let seed = 1; seed <= 12; seed += 1) {
    const found = await play({
      seed,
      members: [MEMBER, MEMBER, MEMBER],
      steps: [0, 1, 2].map((member) => ({ afterMs: 100, member, deed: 'join', forMs: 0, trouble: null })),
      outages: [
        { kind: 'sfu-crash', atMs: 20_000, forMs: 60, which: 0 },
        { kind: 'sfu-stop', atMs: 25_700, forMs: 60, which: 0 },
        // Only an SFU with a Redis has lists to lose.
        { kind: 'lists-lost', atMs: 110_000, forMs: 0, which: 0 },
      ],
    });
    expect(found, `seed ${seed}`).toEqual([]);
  }
});

test.each([1, 3])('the store is away for longer than a delay: %d replicas lose nobody who is there', async (replicas) => {
  const found = await play({
    replicas,
    members: [{ ...MEMBER, delayMs: 10_000 }],
    steps: [{ afterMs: 100, member: 0, deed: 'join', forMs: 0, trouble: null }],
    outages: [{ kind: 'store-away', atMs: 30_000, forMs: 40_000, which: 0 }],
  });
  expect(found).toEqual([]);
});

test('the store fails over and has not heard of a departure, or of the leave: the next list tells, and nobody is left', async () => {
  for (const afterMs of [20, 500, 1_300, 2_000]) {
    const found = await play({
      replicas: 3,
      steps: [
        { afterMs: 100, member: 0, deed: 'join', forMs: 0, trouble: null },
        { afterMs: 20_000, member: 0, deed: 'hang-up', forMs: 0, trouble: { kind: 'store-forgets', afterMs, forMs: 1_000 } },
      ],
    });
    expect(found, `${afterMs} ms after`).toEqual([]);
  }
});

test('a leave waits for its homeserver, and the member comes back without a word: it is looked for before the call', async () => {
  const found = await play({
    steps: [
      { afterMs: 100, member: 0, deed: 'join', forMs: 0, trouble: null },
      { afterMs: 10_000, member: 0, deed: 'full-reconnect', forMs: 1_455, trouble: null },
    ],
    outages: [
      { kind: 'homeserver-5xx', atMs: 11_000, forMs: 4_000, which: 0 },
      { kind: 'webhooks-away', atMs: 11_150, forMs: 20_000, which: 0 },
    ],
  });
  expect(found).toEqual([]);
});

test('connected while the first call is still finding out how its homeserver wants it: the leave is not sent', async () => {
  const found = await play({
    members: [{ ...MEMBER, homeserver: 1, delayMs: 10_000, restarts: true }],
    steps: [
      { afterMs: 100, member: 0, deed: 'never-connect', forMs: 0, trouble: null },
      { afterMs: 10_010, member: 0, deed: 'join', forMs: 0, trouble: null },
    ],
  });
  expect(found).toEqual([]);
});

test('the store is away when nobody is found: what is decided later is decided on a later look', async () => {
  const found = await play({
    members: [{ ...MEMBER, delayMs: 60_000 }],
    policy: { ...WELL.policy, connectTimeoutMs: 10_000 },
    steps: [
      { afterMs: 100, member: 0, deed: 'never-connect', forMs: 0, trouble: null },
      { afterMs: 10_400, member: 0, deed: 'join', forMs: 0, trouble: null },
    ],
    outages: [
      { kind: 'store-away', atMs: 10_102, forMs: 900, which: 0 },
      { kind: 'webhooks-away', atMs: 10_000, forMs: 20_000, which: 0 },
    ],
  });
  expect(found).toEqual([]);
});

test('the SFU is gone for longer than the delay, and the client restarts its event by itself: its leave is tried for as long as it can be alive', async () => {
  const found = await play({
    members: [{ ...MEMBER, delayMs: 18_000, restarts: true }],
    steps: [{ afterMs: 100, member: 0, deed: 'join', forMs: 0, trouble: null }],
    outages: [
      { kind: 'sfu-crash', atMs: 12_000, forMs: 80_000, which: 0 },
      { kind: 'homeserver-5xx', atMs: 107_000, forMs: 2_000, which: 0 },
    ],
  });
  expect(found).toEqual([]);
});

test('a process that was stopped wakes with an old failure of the SFU: it looks again before it believes it', async () => {
  const members = [0, 1, 2].map((room) => ({ ...MEMBER, room, delayMs: 300_000, joinsAtMs: 100 + room }));
  const found = await play({
    members,
    outages: [
      { kind: 'sfu-stop', atMs: 10_000, forMs: 27_000, which: 0 },
      { kind: 'pause', atMs: 25_004, forMs: 30_000, which: 0 },
    ],
  });
  expect(found).toEqual([]);
});

test('an event that is handed over once more while the SFU is away is waited for as who was there', async () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    const found = await play({
      seed,
      policy: { ...WELL.policy, connectTimeoutMs: 10_000 },
      members: [{ ...MEMBER, compatible: true, twice: true, delayMs: 300_000, joinsAtMs: 0 }],
      outages: [{ kind: 'sfu-crash', atMs: 800, forMs: 14_000, which: 0 }],
    });
    expect(found).toEqual([]);
  }
});

test('gone a moment after the hand-over, before any list could show it: not waited for as if it had never come', async () => {
  const found = await play({
    policy: { ...WELL.policy, connectTimeoutMs: 300_000 },
    members: [{ ...MEMBER, delayMs: 3_600_000 }],
    steps: [
      { afterMs: 100, member: 0, deed: 'join', forMs: 0, trouble: null },
      { afterMs: 10_000, member: 0, deed: 'redelegate', forMs: 0, trouble: null },
      { afterMs: 1, member: 0, deed: 'crash', forMs: 0, trouble: null },
      { afterMs: 0, member: 0, deed: 'room-deleted', forMs: 0, trouble: null },
    ],
    // The news of it comes after the list in which nobody was.
    outages: [{ kind: 'webhooks-away', atMs: 10_050, forMs: 500, which: 0 }],
  });
  expect(found).toEqual([]);
});

/** Worlds as they were drawn, where a story in few words does not show the same. */
const KEPT = path.join(import.meta.dirname, 'kept');

test.each(readdirSync(KEPT))('%s', async (file) => {
  expect(await play(JSON.parse(readFileSync(path.join(KEPT, file), 'utf8')) as Plan)).toEqual([]);
});
