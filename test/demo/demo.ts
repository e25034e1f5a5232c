// The whole story in one terminal, with nothing else running: a model SFU and a model homeserver behind real HTTP, and the real lastwill
// between them. Ends by itself; the exit code says whether the story came true.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AccessToken } from 'livekit-server-sdk';
import { type DelayedHomeserver, startDelayedHomeserver } from '../support/delayed-homeserver.ts';
import { type FakeSfu, startFakeSfu } from '../support/fake-sfu.ts';
import { type Lastwill, startLastwill } from './lastwill.ts';

const ROOM = '!standup:homeserver.test';
const SFU_ROOM = 'standup';
const MEMBER = 'org.matrix.msc3401.call.member';
const DELAY_MS = 8_000;
const CRASH_NOTICED_MS = 3_000;
/** A story that takes longer than this has gone wrong. */
const LONGEST_MS = 28_000;
const ON_TIME_MS = 2_000;

const startedMs = performance.now();
const dataDir = mkdtempSync(join(tmpdir(), 'lastwill-demo-'));
const closers: (() => Promise<void>)[] = [async () => rmSync(dataDir, { recursive: true, force: true })];

/** Something did not happen as told. */
class NotTrue extends Error {}

function say(who: string, what: string): void {
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(5);
  process.stdout.write(`${seconds} s  ${who.padEnd(11)} ${what}\n`);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits for a condition; what it waits for is the message if it never comes. */
async function until<T>(what: string, withinMs: number, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > endMs) throw new NotTrue(`${what}: not within ${withinMs / 1000} s`);
    await pause(5);
  }
}

function insist(condition: boolean, what: string): void {
  if (!condition) throw new NotTrue(what);
}

/** One user with a client: her membership and its delayed leave on the homeserver, her session on the SFU. */
function createMember(name: string, sfu: FakeSfu, homeserver: DelayedHomeserver, lastwill: Lastwill) {
  const userId = `@${name}:homeserver.test`;
  const identity = `${userId}:PHONE`;
  const accessToken = homeserver.login(userId);
  const title = name[0]?.toUpperCase() + name.slice(1);
  let delayId = '';

  async function put(content: unknown, query = ''): Promise<Record<string, unknown>> {
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(ROOM)}/state/${MEMBER}/${encodeURIComponent(userId)}${query}`;
    const headers = { authorization: `Bearer ${accessToken}`, 'content-type': 'application/json' };
    const response = await fetch(homeserver.url + path, { method: 'PUT', headers, body: JSON.stringify(content) });
    insist(response.ok, `the homeserver takes the membership of ${title} (${response.status})`);
    return (await response.json()) as Record<string, unknown>;
  }
  const calls = (action: string): number =>
    homeserver.calls.filter(({ path, status }) => path.endsWith(`/${delayId}/${action}`) && status === 200).length;

  return {
    title,
    identity,
    isGone: () => Object.keys(homeserver.rooms.state(ROOM, MEMBER, userId)?.content ?? {}).length === 0,
    leftAtMs: () => homeserver.rooms.state(ROOM, MEMBER, userId)?.atMs ?? 0,
    async enter(): Promise<void> {
      await put({ application: 'm.call', device_id: 'PHONE' });
      delayId = String((await put({}, `?org.matrix.msc4140.delay=${DELAY_MS}`)).delay_id);
      say(title, `enters the room; the leave is scheduled on the homeserver, ${DELAY_MS / 1000} s ahead`);
      sfu.join(SFU_ROOM, identity);
      say(title, 'joins the call on the SFU');
    },
    async delegate(): Promise<void> {
      const token = new AccessToken(sfu.key, sfu.secret, { identity, ttl: 600 });
      token.addGrant({ room: SFU_ROOM, roomJoin: true });
      await lastwill.delegate(await token.toJwt(), {
        homeserver: homeserver.url,
        leave: { delay_id: delayId },
        timeout_ms: DELAY_MS,
      });
      say(title, 'hands the delayed leave over to lastwill, and looks after it no more');
    },
    async restarted(count: number, withinMs: number): Promise<void> {
      await until(`restart ${count} of the leave of ${title}`, withinMs, () => (calls('restart') >= count ? true : undefined));
    },
  };
}

async function alicesStory(sfu: FakeSfu, homeserver: DelayedHomeserver, lastwill: Lastwill): Promise<void> {
  const alice = createMember('alice', sfu, homeserver, lastwill);
  const enteredMs = performance.now();
  await alice.enter();
  await alice.delegate();
  await alice.restarted(1, 3_000);
  say('lastwill', 'has found Alice on the SFU, and restarts the delay');
  await alice.restarted(2, DELAY_MS);
  say('lastwill', `restarts it again, before the ${DELAY_MS / 1000} s are over`);
  await pause(enteredMs + DELAY_MS + 800 - performance.now());
  insist(!alice.isGone(), 'Alice is on the SFU, and so her membership stands');
  say(
    'homeserver',
    `has not sent the leave, ${((performance.now() - enteredMs) / 1000).toFixed(1)} s after it was scheduled: Alice is still there`,
  );

  sfu.crash(SFU_ROOM, alice.identity, CRASH_NOTICED_MS);
  say('Alice', `CRASHES: no goodbye (this SFU notices after ${CRASH_NOTICED_MS / 1000} s, a real LiveKit after about 20 s)`);
  const webhook = await until('the webhook of her departure', CRASH_NOTICED_MS + 2_000, () =>
    sfu.webhooks.find(({ event, identity }) => event === 'participant_left' && identity === alice.identity),
  );
  say('SFU', `webhook participant_left (${webhook.reason})`);
  await until('the leave of Alice', ON_TIME_MS + 2_000, () => (alice.isGone() ? true : undefined));
  const tookMs = Math.round(alice.leftAtMs() - webhook.atMs);
  say('homeserver', `LEAVE SENT: Alice is out of the room, ${tookMs} ms after the webhook (1000 of them waiting for a quick return)`);
  insist(tookMs < ON_TIME_MS, `the leave comes within ${ON_TIME_MS} ms of the webhook, not ${tookMs}`);
}

async function bobsStory(sfu: FakeSfu, homeserver: DelayedHomeserver, lastwill: Lastwill): Promise<void> {
  const bob = createMember('bob', sfu, homeserver, lastwill);
  await bob.enter();
  await bob.delegate();
  await bob.restarted(1, 3_000);
  say('lastwill', 'has found Bob on the SFU, and restarts the delay');
  const back = sfu.fullReconnect(SFU_ROOM, bob.identity);
  say('SFU', 'webhook participant_left (CLIENT_INITIATED): the network of Bob changes, and his client connects anew');
  await back;
  say('SFU', 'webhook participant_joined, of another session');
  await bob.restarted(2, 2_000);
  await pause(2_500);
  insist(!bob.isGone(), 'Bob came back, and so his membership stands');
  say('homeserver', 'NO LEAVE: Bob came back quickly, and nobody saw him flicker');

  const hungUp = performance.timeOrigin + performance.now();
  sfu.leave(SFU_ROOM, bob.identity);
  say('Bob', 'hangs up');
  await until('the leave of Bob', ON_TIME_MS + 2_000, () => (bob.isGone() ? true : undefined));
  say('homeserver', `LEAVE SENT: Bob is out of the room, ${Math.round(bob.leftAtMs() - hungUp)} ms after he hung up`);
}

async function tell(): Promise<void> {
  const sfu = await startFakeSfu();
  closers.push(() => sfu.close());
  const homeserver = await startDelayedHomeserver();
  closers.push(() => homeserver.close());
  const lastwill = await startLastwill({ dataDir, sfu });
  closers.push(() => lastwill.stop());
  sfu.webhookUrls = [`${lastwill.url}/sfu_webhook`];
  process.stdout.write(`A model SFU at ${sfu.url}, a model homeserver at ${homeserver.url}, and lastwill itself at ${lastwill.url}.\n\n`);
  await alicesStory(sfu, homeserver, lastwill);
  process.stdout.write('\n');
  await bobsStory(sfu, homeserver, lastwill);
}

async function close(): Promise<void> {
  for (const closer of closers.splice(0).reverse()) await closer();
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void close().finally(() => process.exit(1)));
}
const tooLong = new Promise<never>((_, reject) => {
  setTimeout(() => reject(new NotTrue(`the story took longer than ${LONGEST_MS / 1000} s`)), LONGEST_MS).unref();
});
try {
  await Promise.race([tell(), tooLong]);
  process.stdout.write('\nAll of it came true. `npm start` runs lastwill for your own SFU.\n');
} catch (error) {
  process.exitCode = 1;
  process.stdout.write(`\nThe story did not come true: ${error instanceof NotTrue ? error.message : String(error)}\n`);
} finally {
  await close();
}
