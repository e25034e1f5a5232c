// The dialects that no homeserver of today speaks, on model homeservers, with the SFU and its participants as real as ever.
import { randomBytes } from 'node:crypto';
import { describe, expect } from 'vitest';
import { type DelayedDialect, type DelayedHomeserver, startDelayedHomeserver } from '../support/delayed-homeserver.ts';
import { type FuturesHomeserver, type FutureTokens, startFuturesHomeserver } from '../support/futures-homeserver.ts';
import { type Stage, story } from './stack/place.ts';
import { eventually, now, sleep } from './stack/processes.ts';
import type { Seat } from './stack/seat.ts';

const SOON_MS = 3_000;
const CRASH_NOTICED_MS = 22_000;
const MINUTE_MS = 60_000;
const TYPE = 'org.matrix.msc3401.call.member';
const ALICE = '@alice:homeserver.test';
const SERVER_NAME = 'homeserver.test';
const AS_TOKEN = 'as_token_of_the_end_to_end_stories';

interface Model {
  readonly seat: Seat;
  /** PUTs an event, or schedules one; the answer's body. */
  put(path: string, content: object): Promise<unknown>;
  /** The contents of all events of a type that are in the room, with their times. */
  events(type?: string): { readonly atMs: number; readonly content: unknown; readonly redacted: boolean }[];
  /** Paths of the calls that lastwill made about delayed events, with their answers. */
  calls(): string[];
}

async function model(stage: Stage, homeserver: FuturesHomeserver | DelayedHomeserver, identity?: string): Promise<Model> {
  stage.later(() => homeserver.close());
  const env = { LIVEKIT_AS_TOKEN: AS_TOKEN, LIVEKIT_HS_SERVER_NAME: SERVER_NAME };
  const place = await stage.place({ homeservers: { [SERVER_NAME]: homeserver.url }, ...(identity !== undefined && { env }) });
  const token = homeserver.login(ALICE);
  const room = `!${randomBytes(6).toString('hex')}:${SERVER_NAME}`;
  return {
    seat: await stage.seat(place, identity),
    async put(path, content) {
      const [prefix = '', rest = ''] = path.split('/ROOM/');
      const url = `${homeserver.url}/_matrix/client/${prefix}/rooms/${encodeURIComponent(room)}/${rest}`;
      const headers = { authorization: `Bearer ${token}` };
      const response = await fetch(url, { method: 'PUT', headers, body: JSON.stringify(content) });
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      return response.json();
    },
    events: (type = TYPE) =>
      homeserver.rooms
        .timeline(room)
        .filter((event) => event.type === type)
        .map(({ atMs, content, redactedBy }) => ({ atMs, content, redacted: redactedBy !== null })),
    calls: () =>
      homeserver.calls
        .filter(({ method, path }) => method === 'POST' && /future|delayed/.test(path))
        .map(({ path, status }) => `${path} ${status}`),
  };
}

async function expectEvent(story: string, { seat, events }: Model, content: unknown, departedMs: number, boundMs: number): Promise<void> {
  const found = await eventually(`the event of ${story}`, departedMs + boundMs - now(), () => events()[1]);
  expect(found.content).toEqual(content);
  await seat.record(story, departedMs, found.atMs);
  await sleep(1_000);
  expect(events(), 'exactly one ending').toHaveLength(2);
  await seat.expectNoSin();
}

async function expectQuiet({ events }: Model, durationMs: number): Promise<void> {
  const untilMs = now() + durationMs;
  while (now() < untilMs) {
    expect(events(), 'false leave').toHaveLength(1);
    await sleep(200);
  }
}

describe('futures (dialect A, MSC4140 of June 2024)', () => {
  const LEFT = { left: 'on purpose' };
  const LOST = { left: 'connection lost' };

  /** The membership, a timeout future for a lost connection, and an action future of the same group for a goodbye. */
  async function group(alice: Model, timeoutMs: number): Promise<{ lost: FutureTokens; left: FutureTokens }> {
    await alice.put(`v3/ROOM/state/${TYPE}/alice`, { application: 'm.call' });
    const lost = (await alice.put(`v1/ROOM/state_future/${TYPE}/alice?future_timeout=${timeoutMs}`, LOST)) as FutureTokens;
    const left = await alice.put(`v1/ROOM/state_future/${TYPE}/alice?future_group_id=${lost.future_group_id}`, LEFT);
    return { lost, left: left as FutureTokens };
  }

  async function delegated(stage: Stage, timeoutMs: number) {
    const alice = await model(stage, await startFuturesHomeserver());
    const participant = await alice.seat.join();
    const { lost, left } = await group(alice, timeoutMs);
    const delegation = await alice.seat.handOver({
      homeserver: SERVER_NAME,
      leave: { send_token: left.send_token, cancel_token: left.cancel_token },
      lost: { send_token: lost.send_token, refresh_token: lost.refresh_token ?? '' },
      timeout_ms: timeoutMs,
    });
    await alice.seat.reaches(delegation, 'connected');
    return { alice, delegation, participant };
  }

  story('clean leave: the ending of a goodbye is sent, and no other', async ({ stage }) => {
    const { alice, participant } = await delegated(stage, MINUTE_MS);
    await expectEvent('A: clean leave', alice, LEFT, await participant.leave(), SOON_MS);
  });

  story('participant killed -9: the ending of a lost connection is sent, and no other', async ({ stage }) => {
    const { alice, participant } = await delegated(stage, MINUTE_MS);
    await expectEvent('A: killed -9', alice, LOST, await participant.crash(), CRASH_NOTICED_MS + SOON_MS);
  });

  story('a future of 3 s is held for 15 s by refreshes', async ({ stage }) => {
    const { alice, participant } = await delegated(stage, 3_000);
    await expectQuiet(alice, 15_000);
    await expectEvent('A: 3 s, held for 15 s', alice, LEFT, await participant.leave(), SOON_MS);
  });

  story('a newer state event invalidates the futures: the delegation ends, nothing is sent', async ({ stage }) => {
    const { alice, delegation, participant } = await delegated(stage, 3_000);
    await alice.put(`v3/ROOM/state/${TYPE}/alice`, { application: 'm.call', expires: 1 });
    await alice.seat.reaches(delegation, 'ended', 3_000 + SOON_MS);
    await participant.leave();
    await sleep(2_500);
    expect(alice.events()).toHaveLength(2);
    expect(alice.calls().at(-1)).toMatch(/ 410$/);
    await alice.seat.expectNoSin();
  });

  story('a redaction (MSC2228)', async ({ stage }) => {
    const alice = await model(stage, await startFuturesHomeserver());
    const sent = (await alice.put('v3/ROOM/send/m.room.message/1', { msgtype: 'm.text', body: 'for this call only' })) as {
      event_id: string;
    };
    const path = `v1/ROOM/send_future/m.room.redaction/2?future_timeout=${MINUTE_MS}`;
    const future = (await alice.put(path, { redacts: sent.event_id })) as FutureTokens;
    const delegation = await alice.seat.handOver({
      homeserver: SERVER_NAME,
      leave: { send_token: future.send_token, refresh_token: future.refresh_token ?? '', cancel_token: future.cancel_token },
      timeout_ms: MINUTE_MS,
    });
    const participant = await alice.seat.join();
    await alice.seat.reaches(delegation, 'connected');
    expect(alice.events('m.room.message')).toMatchObject([{ redacted: false }]);
    const departedMs = await participant.leave();
    const redaction = await eventually('the redaction', SOON_MS, () => alice.events('m.room.redaction')[0]);
    expect(alice.events('m.room.message')).toMatchObject([{ redacted: true, content: {} }]);
    await alice.seat.record('A: a scheduled redaction', departedMs, redaction.atMs);
  });
});

for (const dialect of ['B', 'D'] as const satisfies readonly DelayedDialect[]) {
  describe(`delayed events (dialect ${dialect})`, () => {
    const LEFT = { left: true };

    async function delegated(stage: Stage, delayMs: number) {
      // D acts in the owner's name: as an application service, for the user that the identity names.
      const identity = dialect === 'D' ? `${ALICE}:DEVICE` : undefined;
      const homeserver = await startDelayedHomeserver({ dialect, asToken: AS_TOKEN });
      const alice = await model(stage, homeserver, identity);
      const participant = await alice.seat.join();
      await alice.put(`v3/ROOM/state/${TYPE}/alice`, { application: 'm.call' });
      const path = `v3/ROOM/state/${TYPE}/alice?org.matrix.msc4140.delay=${delayMs}`;
      const { delay_id } = (await alice.put(path, LEFT)) as { delay_id: string };
      const delegation = await alice.seat.handOver({ homeserver: SERVER_NAME, leave: { delay_id }, timeout_ms: delayMs });
      await alice.seat.reaches(delegation, 'connected');
      return { alice, participant };
    }

    story('clean leave', async ({ stage }) => {
      const { alice, participant } = await delegated(stage, MINUTE_MS);
      await expectEvent(`${dialect}: clean leave`, alice, LEFT, await participant.leave(), SOON_MS);
    });

    story('participant killed -9', async ({ stage }) => {
      const { alice, participant } = await delegated(stage, MINUTE_MS);
      await expectEvent(`${dialect}: killed -9`, alice, LEFT, await participant.crash(), CRASH_NOTICED_MS + SOON_MS);
    });

    story('a delay of 3 s is held for 15 s by restarts', async ({ stage }) => {
      const { alice, participant } = await delegated(stage, 3_000);
      await expectQuiet(alice, 15_000);
      await expectEvent(`${dialect}: 3 s, held for 15 s`, alice, LEFT, await participant.leave(), SOON_MS);
    });
  });
}
