// Sixteen in a call with delays of 10 s behind Synapse's default limit: more than it carries, and with an application service's token no
// matter at all.
import { describe, expect } from 'vitest';
import { NO_REDIS, RedisServer } from '../support/redis-server.ts';
import type { Member } from './stack/call.ts';
import type { Participant } from './stack/participant.ts';
import { type OwnPlace, type Stage, story } from './stack/place.ts';
import { sleep } from './stack/processes.ts';
import { seatNames } from './stack/seat.ts';
import { callsAbout, DEFAULT_DELAYED_EVENT_LIMIT, DEFAULT_MESSAGE_LIMIT, SERVER_NAME, type Synapse } from './stack/synapse.ts';

const PEOPLE = 16;
const DELAY_MS = 10_000;
const HOLD_MS = 45_000;
/** Where nothing is short until somebody does something: each has been restarted by then. */
const SETTLE_MS = 10_000;
const SOON_MS = 3_000;
/**
 * Nine restarts a cycle leave next to nothing, and a leave costs its call at once: what its participant needs no more is saved only when the
 * next restart would have been. Four within less than ten seconds are more than a call a second can bear.
 */
const BETWEEN_LEAVES_MS = 7_000;
const AS_TOKEN = 'as_token_of_the_end_to_end_stories';

interface Seated {
  readonly one: Member;
  readonly participant: Participant;
  readonly delayId: string;
}

/**
 * One after the other, as people come; all are there for as long as a call needs to show who can be kept (`holdMs`). Each is handed over to the
 * next of the replicas.
 */
async function everybody(
  stage: Stage,
  synapse: Synapse,
  env: Record<string, string>,
  { replicas = 1, holdMs = HOLD_MS } = {},
): Promise<{ place: OwnPlace; seated: Seated[] }> {
  const place = await stage.place({ synapse, env });
  const beside = await Promise.all(Array.from({ length: replicas - 1 }, () => stage.beside(place, synapse, env)));
  const doors = [place.lastwill, ...beside];
  const seated: Seated[] = [];
  for (let count = 0; count < PEOPLE; count += 1) {
    const door = { ...place, lastwill: doors[count % doors.length] ?? place.lastwill };
    const one = await stage.member(door, { seat: ({ userId }) => seatNames(`${userId}:DEVICE`) });
    const participant = await one.join();
    const delayId = await one.scheduleLeave(DELAY_MS);
    await one.delegate(delayId, DELAY_MS);
    seated.push({ one, participant, delayId });
  }
  await sleep(holdMs);
  return { place, seated };
}

const gone = ({ one }: Seated): boolean => one.leaves().length > 0;

// Each of them alone: nine tenths of what is let through are used.
describe.sequential("Synapse's default limit for delayed events, and 16 participants with a delay of 10 s", () => {
  story('without it 9 are kept, who leaves is not made to wait, and the operator is told', async ({ stage }) => {
    const synapse = await stage.synapse({ delayedEventLimit: DEFAULT_DELAYED_EVENT_LIMIT });
    const { place, seated } = await everybody(stage, synapse, {});
    const kept = seated.filter((one) => !gone(one));
    expect(kept.length).toBeGreaterThanOrEqual(9);
    const ready = await (await fetch(`${place.lastwill.url}/readyz`)).json();
    expect(ready).toMatchObject({
      ready: true,
      limits: [{ homeserver: synapse.url, advice: expect.stringContaining('rc_delayed_event_mgmt') }],
    });
    expect(place.lastwill.log()).toContain('raise rc_delayed_event_mgmt');
    expect(await place.lastwill.metric('lastwill_homeserver_failures_total', 'why="limited"')).toBeGreaterThan(0);
    for (const { one, participant } of kept.slice(0, 4)) {
      await one.expectLeave('16 with 10 s, default limit', await participant.leave(), SOON_MS, `${kept.length} kept`);
      await sleep(BETWEEN_LEAVES_MS);
    }
    await sleep(DELAY_MS + 2_000);
    expect(kept.slice(4).filter(gone).length, 'lost by the leaves of others').toBe(0);
  });

  story.skipIf(NO_REDIS !== null)('nor are there fewer with three replicas, for one of them makes the restarts', async ({ stage }) => {
    const synapse = await stage.synapse({ delayedEventLimit: DEFAULT_DELAYED_EVENT_LIMIT });
    const redis = await RedisServer.start([]);
    stage.later(() => redis.end());
    const { seated } = await everybody(stage, synapse, { LIVEKIT_REDIS_URL: redis.url }, { replicas: 3 });
    expect(seated.filter((one) => !gone(one)).length).toBeGreaterThanOrEqual(9);
  });
});

story("an application service's token, and the same limit: nobody is lost", async ({ stage }) => {
  const synapse = await stage.synapse({ delayedEventLimit: DEFAULT_DELAYED_EVENT_LIMIT, asToken: AS_TOKEN });
  const { place, seated } = await everybody(stage, synapse, { LIVEKIT_AS_TOKEN: AS_TOKEN, LIVEKIT_HS_SERVER_NAME: SERVER_NAME });
  expect(seated.filter(gone)).toHaveLength(0);
  for (const { one, participant } of seated.slice(0, 3)) {
    await one.expectLeave("16 with 10 s, default limit, application service's token", await participant.leave(), SOON_MS);
  }
  expect(await place.lastwill.metric('lastwill_false_leaves_total')).toBe(0);
  expect(await (await fetch(`${place.lastwill.url}/readyz`)).json()).not.toHaveProperty('limits');
});

// Its users then share what each of them may with their own clients.
story('an application service that is limited: who uses up their own calls costs nobody else anything', async ({ stage }) => {
  const synapse = await stage.synapse({ delayedEventLimit: DEFAULT_DELAYED_EVENT_LIMIT, asToken: AS_TOKEN, asLimited: true });
  const env = { LIVEKIT_AS_TOKEN: AS_TOKEN, LIVEKIT_HS_SERVER_NAME: SERVER_NAME };
  const { place, seated } = await everybody(stage, synapse, env, { holdMs: SETTLE_MS });
  const [{ one, delayId }, ...others] = seated as [Seated, ...Seated[]];
  const path = `/_matrix/client/unstable/org.matrix.msc4140/delayed_events/${delayId}/restart`;
  const untilMs = Date.now() + HOLD_MS;
  while (Date.now() < untilMs) await one.matrix.raw('POST', path, {});
  expect(callsAbout(synapse.logFile, delayId)).toContainEqual({ action: 'restart', status: 429 });
  expect(others.filter(gone), 'lost by the calls of another').toHaveLength(0);
  expect(await place.lastwill.metric('lastwill_false_leaves_total')).toBe(0);
  expect(place.lastwill.log()).toContain('rate_limited: false');
});

describe("Synapse's default limit for what each user sends", () => {
  story('who has used it up and leaves costs nobody else anything', async ({ stage }) => {
    const synapse = await stage.synapse({ messageLimit: DEFAULT_MESSAGE_LIMIT });
    const { place, seated } = await everybody(stage, synapse, {}, { holdMs: SETTLE_MS });
    const [talker, ...others] = seated as [Seated, ...Seated[]];
    expect(seated.filter(gone)).toHaveLength(0);
    const { matrix, room } = talker.one;
    const refused = async (): Promise<boolean> =>
      matrix.sendMessage(room, 'm.room.message', { msgtype: 'm.text', body: 'and another thing' }).then(
        () => false,
        () => true,
      );
    // What they may send next is five seconds away just when another message has got through.
    while (!(await refused()));
    while (await refused());
    await talker.participant.leave();
    await sleep(DELAY_MS + 5_000);
    expect(callsAbout(synapse.logFile, talker.delayId)).toContainEqual({ action: 'send', status: 429 });
    expect(others.filter(gone), 'lost by the leave of another').toHaveLength(0);
    expect(await place.lastwill.metric('lastwill_false_leaves_total')).toBe(0);
  });
});
