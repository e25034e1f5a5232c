// "Moving from lk-jwt-service", as the README has it: calls are on, jobs are in Redis, the one service is stopped, and lastwill is started
// at its address with its environment. Whoever is there stays, and whoever goes gets its leave, also those who went in between.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, inject } from 'vitest';
import { LEGACY_SLOT, legacyIdentity, memberIdentity, memberRoom } from '../../src/delegation/names.ts';
import type { Member } from './stack/call.ts';
import { Homeserver } from './stack/homeserver.ts';
import { LastwillApi } from './stack/lastwill-api.ts';
import { API_KEY, API_SECRET, LiveKit, participantToken, sfuUrl } from './stack/livekit.ts';
import type { Json, MatrixClient } from './stack/matrix.ts';
import type { Participant } from './stack/participant.ts';
import { type Stage, story } from './stack/place.ts';
import { eventually, freePort, nodeBinary, repositoryDir, Server } from './stack/processes.ts';
import { noRedis, Redis } from './stack/redis.ts';
import type { Place, SeatNames } from './stack/seat.ts';
import { callsAbout } from './stack/synapse.ts';
import { WebhookTap } from './stack/webhooks.ts';

const PEER = process.env.LASTWILL_PEER?.trim().split(/\s+/) ?? [];
const JOBS = 'lk-jwt:jobs';
const SOON_MS = 3_000;
const CRASH_MS = 22_000 + SOON_MS;
const SHORT_MS = 10_000;
const HOUR_MS = 3_600_000;

type Mode = 'legacy' | 'newer';

/** Whoever gave tokens and took delegations until now. */
interface Before {
  /** False: it takes no delegations, so that clients keep their leaves up themselves until they find another service at its address. */
  readonly keepsJobs: boolean;
  token(matrix: MatrixClient, room: string, mode: Mode): Promise<SeatNames>;
  delegate(member: Member, mode: Mode, delayId: string, delayMs: number): Promise<void>;
  stop(): Promise<void>;
}

interface Scene {
  readonly place: Place;
  readonly homeserver: Homeserver;
  readonly redis: Redis;
  /** That of the service before, to the letter. */
  readonly env: Record<string, string>;
}

async function scene(stage: Stage): Promise<Scene> {
  const url = `http://127.0.0.1:${await freePort()}`;
  const [redis, homeserver, tap] = await Promise.all([Redis.start(), Homeserver.start({ serviceUrl: url }), WebhookTap.start()]);
  const livekit = await LiveKit.start([`${url}/sfu_webhook`, tap.url]);
  stage.later(() => Promise.all([redis.kill(), homeserver.kill(), livekit.kill(), tap.stop()]));
  const place: Place = {
    ...{ synapseUrl: homeserver.url, synapseLog: homeserver.logFile, sfu: livekit.address, shared: true },
    ...{ lastwill: new LastwillApi(url), timesFile: inject('shared').timesFile },
    webhooks: async (room) => tap.seen.filter((webhook) => webhook.room === room),
  };
  const env = {
    LIVEKIT_URL: sfuUrl(livekit.address),
    LIVEKIT_KEY: API_KEY,
    LIVEKIT_SECRET: API_SECRET,
    LIVEKIT_JWT_BIND: new URL(url).host,
    LIVEKIT_FULL_ACCESS_HOMESERVERS: homeserver.serverName,
    LIVEKIT_CS_API_URL_OVERRIDES: `${homeserver.serverName}=${homeserver.url}`,
    LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'YES_I_KNOW_WHAT_I_AM_DOING',
    LIVEKIT_REDIS_URL: redis.url,
  };
  return { place, homeserver, redis, env };
}

async function service(
  stage: Stage,
  name: string,
  [command = '', ...args]: readonly string[],
  env: Record<string, string>,
): Promise<Server> {
  const cwd = mkdtempSync(join(tmpdir(), 'lastwill-e2e-data-'));
  const server = new Server(name, command, args, { cwd, logFile: join(cwd, 'log'), env: { PATH: process.env.PATH, ...env } });
  stage.later(() => server.kill());
  await server.ready(20_000, async () => (await fetch(`http://${env.LIVEKIT_JWT_BIND}/healthz`)).ok);
  return server;
}

/** Both APIs of the service before, as Element Call asks them. */
function asked({ userId }: MatrixClient, room: string, mode: Mode, openid: Json): [path: string, body: Json] {
  if (mode === 'legacy') return ['/sfu/get', { room, device_id: 'DEVICE', openid_token: openid }];
  const member = { id: 'member-1', claimed_user_id: userId, claimed_device_id: 'DEVICE' };
  return ['/get_token', { room_id: room, slot_id: LEGACY_SLOT, member, openid_token: openid }];
}

async function peer(stage: Stage, { env, place }: Scene): Promise<Before> {
  const server = await service(stage, 'the service before', PEER, env);
  const ask = async (matrix: MatrixClient, room: string, mode: Mode, delay: Json = {}): Promise<Json> => {
    const openid = await matrix.call('POST', `/_matrix/client/v3/user/${encodeURIComponent(matrix.userId)}/openid/request_token`, {});
    const [path, body] = asked(matrix, room, mode, openid);
    const answer = await fetch(`${place.lastwill.url}${path}`, { method: 'POST', body: JSON.stringify({ ...body, ...delay }) });
    const text = await answer.text();
    expect([answer.status, path], text).toEqual([200, path]);
    return JSON.parse(text) as Json;
  };
  const probe = await fetch(`${place.lastwill.url}/delegate_delayed_leave`, { method: 'POST' });
  return {
    keepsJobs: probe.status !== 404,
    token: async (matrix, room, mode) => {
      const token = String((await ask(matrix, room, mode)).jwt);
      const { sub, video } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { sub: string; video: Json };
      return { token, identity: sub, sfuRoom: String(video.room) };
    },
    delegate: async ({ matrix, room, place: { synapseLog } }, mode, delayId, delayMs) => {
      await ask(matrix, room, mode, { delay_id: delayId, delay_timeout: delayMs, delay_cs_api_url: matrix.url });
      await eventually('the service to restart', 5_000, () => callsAbout(synapseLog, delayId)[0]);
    },
    stop: () => server.stop(),
  };
}

/** Its jobs as they lie in Redis, without it. */
function jobs({ homeserver, redis }: Scene): Before {
  return {
    keepsJobs: true,
    token: async ({ userId }, roomId, mode) => {
      const user = userId as Parameters<typeof legacyIdentity>[0];
      const identity =
        mode === 'legacy' ? legacyIdentity(user, 'DEVICE') : memberIdentity({ userId: user, deviceId: 'DEVICE', memberId: 'member-1' });
      const sfuRoom = memberRoom({ roomId, slotId: LEGACY_SLOT });
      return { identity, sfuRoom, token: await participantToken(sfuRoom, identity) };
    },
    delegate: async ({ identity, sfuRoom }, _mode, delayId, delayMs) => {
      const params = { DelayId: delayId, DelayTimeout: delayMs * 1e6, ServerName: homeserver.serverName };
      const job = { Params: { ...params, LiveKitRoom: sfuRoom, LiveKitIdentity: identity }, RestartedAt: new Date().toISOString() };
      await redis.set(JOBS, JSON.stringify([sfuRoom, identity]), JSON.stringify(job));
    },
    stop: async () => {},
  };
}

interface Call {
  readonly name: string;
  readonly one: Member;
  readonly participant: Participant;
  readonly mode: Mode;
  readonly delayMs: number;
}

async function callsOf(stage: Stage, { place }: Scene, before: Before): Promise<Record<'goodbye' | 'crash' | 'hour' | 'between', Call>> {
  const call = async (name: string, mode: Mode, delayMs: number): Promise<Call> => {
    const one = await stage.member(place, { seat: (matrix, room) => before.token(matrix, room, mode) });
    return { name, mode, delayMs, one, participant: await one.join() };
  };
  const [goodbye, crash, hour, between] = await Promise.all([
    ...([call('goodbye', 'legacy', SHORT_MS), call('crash', 'newer', SHORT_MS)] as const),
    ...([call('goodbye, 1 h', 'newer', HOUR_MS), call('gone in between', 'legacy', HOUR_MS)] as const),
  ]);
  return { goodbye, crash, hour, between };
}

async function swap(stage: Stage, at: Scene, before: Before, what: string): Promise<void> {
  const { place, redis, env } = at;
  const { goodbye, crash, hour, between } = await callsOf(stage, at, before);
  const [staying, cast] = [
    [goodbye, crash, hour],
    [goodbye, crash, hour, between],
  ];
  const delegate = async ({ one, mode, delayMs }: Call) => before.delegate(one, mode, await one.scheduleLeave(delayMs), delayMs);
  if (before.keepsJobs) await Promise.all(cast.map(delegate));
  expect(await redis.fields(JOBS)).toHaveLength(before.keepsJobs ? cast.length : 0);

  await before.stop();
  const goneMs = await between.participant.leave();
  const lastwill = [nodeBinary, join(repositoryDir, 'src/main.ts')];
  await service(stage, 'lastwill', lastwill, { ...env, LASTWILL_DATA_DIR: mkdtempSync(join(tmpdir(), 'lastwill-e2e-data-')) });
  expect((await fetch(`${place.lastwill.url}/readyz`)).status).toBe(200);
  if (!before.keepsJobs) await Promise.all(staying.map(delegate));
  await eventually('those who are there to be kept', 5_000, async () =>
    (await place.lastwill.metric('lastwill_delegations', 'state="connected"')) === staying.length ? true : undefined,
  );
  if (before.keepsJobs) await between.one.expectLeave(`${what}: ${between.name}`, goneMs, 15_000);
  await Promise.all(staying.map(({ one }) => one.expectPresentFor(2 * SHORT_MS)));
  const [wentMs, laterMs, diedMs] = await Promise.all([goodbye.participant.leave(), hour.participant.leave(), crash.participant.crash()]);
  await Promise.all([
    goodbye.one.expectLeave(`${what}: ${goodbye.name}`, wentMs, SOON_MS),
    hour.one.expectLeave(`${what}: ${hour.name}`, laterMs, SOON_MS),
    crash.one.expectLeave(`${what}: ${crash.name}`, diedMs, CRASH_MS),
  ]);
  for (const { one } of staying) await one.expectClean();
  expect(await redis.fields(JOBS), 'the way back').toHaveLength(before.keepsJobs ? cast.length : 0);
}

describe.skipIf(noRedis !== undefined)('the swap', () => {
  story('jobs in Redis, as lk-jwt-service writes them', async ({ stage }) => {
    const at = await scene(stage);
    await swap(stage, at, jobs(at), 'swap, jobs in Redis');
  });

  story.skipIf(PEER.length === 0)('from the service that LASTWILL_PEER starts, with calls in progress', async ({ stage }) => {
    const at = await scene(stage);
    await swap(stage, at, await peer(stage, at), 'swap, from a live service');
  });

  story.runIf(PEER.length === 0)('from a live service is not played: LASTWILL_PEER holds no start command of one', ({ skip }) => skip());
});
