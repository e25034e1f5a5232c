// The models are held against the real servers: what LiveKit was recorded to tell for each way of leaving and of coming back
// (deploy/reasons.md, which `npm run reasons` writes) is what the model tells, in the same order; and a model homeserver answers as
// Synapse does in the end-to-end contract (test/homeserver/contract.ts).
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { HomeserverUrl, Identity, RoomName } from '../../src/delegation/ids.ts';
import type { Reply } from '../../src/homeserver/outbound.ts';
import { Chance } from './chance.ts';
import { ModelHomeserver } from './model-homeserver.ts';
import { ModelSfu, type SfuSession } from './model-sfu.ts';
import type { Dialect } from './plan.ts';
import { Process, Timeline } from './timeline.ts';

const RECORDED = readFileSync(path.resolve(import.meta.dirname, '../../deploy/reasons.md'), 'utf8');
const ROOM = 'room' as RoomName;
const ME = 'me' as Identity;

/** Each order of webhooks that was recorded of this way, whatever the client: `left A [REASON]`, `joined B` and so on. */
function recorded(name: string): readonly string[] {
  const rows = RECORDED.split('\n').filter((line) => line.startsWith(`| ${name} |`));
  return rows.flatMap((row) => {
    const told = row.split('|')[3] ?? '';
    return told.split(', or: ').map((order) =>
      order
        .replace(/\s*\(\d+ of \d+\)/g, '')
        .split(';')
        .map((one) => one.trim().replace(/\s[\d.–]+\s(ms|s)$/, ''))
        .join('; '),
    );
  });
}

/** A model SFU with one participant in it, who does as told; what it tells from then on. */
async function told(act: (at: { sfu: ModelSfu; session: SfuSession; later: Timeline['after'] }) => void, watchMs: number): Promise<string> {
  const timeline = new Timeline();
  const names: string[] = [];
  const heard: string[] = [];
  const sfu = new ModelSfu({
    timeline,
    chance: new Chance(1),
    hasRedis: false,
    deliver: async () => true,
    rates: { webhookLost: 0, webhookDoubled: 0, webhookLate: 0 },
    trace: () => {},
    onPresence: (session, present, reason) => {
      if (!present) reasons.set(session.sid, reason);
    },
  });
  const reasons = new Map<string, string>();
  sfu.onHook = (hook, session) => {
    if (session === null) return void heard.push(hook.event);
    if (!names.includes(session.sid)) names.push(session.sid);
    const letter = String.fromCharCode(65 + names.indexOf(session.sid));
    const what = hook.event.replace('participant_', '').replace('connection_', '');
    heard.push(what === 'joined' ? `joined ${letter}` : `${what} ${letter} [${reasons.get(session.sid)}]`);
  };
  const connecting = sfu.connect(ROOM, ME);
  await timeline.runUntil(timeline.nowMs + 2_000, () => {});
  const session = await connecting;
  if (session === null) throw new Error('the SFU is up');
  heard.length = 0;
  act({ sfu, session, later: (delayMs, fire) => timeline.after(delayMs, fire) });
  await timeline.runUntil(timeline.nowMs + watchMs, () => {});
  return heard.length === 0 ? 'none' : heard.join('; ');
}

describe('the model SFU tells what the real one was recorded to tell', () => {
  const connect = (sfu: ModelSfu) => void sfu.connect(ROOM, ME);
  const WAYS: readonly [name: string, watchMs: number, act: Parameters<typeof told>[0]][] = [
    ['hang-up', 5_000, ({ sfu, session }) => sfu.leave(session)],
    [
      'reload',
      5_000,
      ({ sfu, session, later }) => {
        sfu.leave(session);
        later(1_000, () => connect(sfu));
      },
    ],
    ['process killed', 25_000, ({ sfu, session }) => sfu.fallSilent(session)],
    ...[1, 5, 15].map((seconds): (typeof WAYS)[number] => [
      `network cut for ${seconds} s`,
      40_000,
      ({ sfu, session, later }) => {
        sfu.fallSilent(session);
        later(seconds * 1_000, () => sfu.resume(session));
      },
    ]),
    [
      'network cut for 30 s',
      40_000,
      ({ sfu, session, later }) => {
        sfu.fallSilent(session);
        later(31_900, () => connect(sfu));
      },
    ],
    [
      'network cut for 60 s',
      90_000,
      ({ sfu, session, later }) => {
        sfu.fallSilent(session);
        later(65_000, () => connect(sfu));
      },
    ],
    [
      'full reconnect',
      5_000,
      ({ sfu, session, later }) => {
        sfu.leave(session);
        later(45, () => connect(sfu));
      },
    ],
    [
      'the SFU lets go of the session (migration)',
      5_000,
      ({ sfu, session, later }) => {
        sfu.leave(session, 'MIGRATION');
        later(300, () => connect(sfu));
      },
    ],
    ['the SFU tells it to leave', 5_000, ({ sfu, session }) => sfu.leave(session, 'SERVER_SHUTDOWN')],
    ['same identity connects again', 5_000, ({ sfu }) => connect(sfu)],
    ['removed by the API', 5_000, ({ sfu, session }) => sfu.leave(session, 'PARTICIPANT_REMOVED')],
    ['room deleted by the API', 5_000, ({ sfu }) => sfu.deleteRoom(ROOM)],
    [
      'SFU killed, started again after 2 s',
      10_000,
      ({ sfu, later }) => {
        sfu.crash(false);
        later(2_000, () => sfu.start());
        later(5_000, () => connect(sfu));
      },
    ],
  ];

  test.each(WAYS)('%s', async (name, watchMs, act) => {
    const orders = recorded(name);
    expect(orders.length).toBeGreaterThan(0);
    expect(orders).toContain(await told(act, watchMs));
  });
});

describe('a model homeserver answers as the real ones', () => {
  async function open(dialect: Dialect) {
    const timeline = new Timeline();
    const sent: string[] = [];
    const homeserver = new ModelHomeserver({
      timeline,
      chance: new Chance(1),
      plan: { dialect, limit: null, latencyMs: 5, asToken: false },
      url: 'https://one.example' as HomeserverUrl,
      failRate: 0,
      sendsTooMuch: () => false,
      trace: () => {},
      onFault: () => {},
      onCall: () => {},
      onLeave: ({ name }) => sent.push(name),
      mayDie: () => {},
    });
    const way = homeserver.outbound(new Process(timeline, 0));
    const call = async (target: string, body = '{}'): Promise<string> => {
      const url = `https://one.example/_matrix/client/unstable/org.matrix.msc4140/${target}`;
      const asked = way.request({ method: 'POST', url, body, timeoutMs: 1_000 });
      await timeline.runUntil(timeline.nowMs + 1_000, () => {});
      return say(await asked);
    };
    const pass = (ms: number) => timeline.runUntil(timeline.nowMs + ms, () => {});
    return { homeserver, sent, call, pass };
  }
  const say = (reply: Reply): string =>
    reply.kind === 'failed'
      ? reply.why
      : [reply.status, (reply.json as { errcode?: string } | undefined)?.errcode].filter(Boolean).join(' ');

  test.each([
    ['B', (id: string, act: string) => [`delayed_events/${id}`, JSON.stringify({ action: act })] as const],
    ['C', (id: string, act: string) => [`delayed_events/${id}/${act}`, '{}'] as const],
  ] as const)('dialect %s: restarts begin anew, and what is final is not found', async (dialect, write) => {
    const { homeserver, sent, call, pass } = await open(dialect);
    const { name } = homeserver.schedule(0, 10_000, false);
    await pass(8_000);
    expect(await call(...write(name, 'restart'))).toBe('200');
    await pass(8_500);
    expect(sent).toEqual([]);
    await pass(1_500);
    expect(sent).toEqual([name]);
    for (const act of ['send', 'restart', 'cancel']) expect(await call(...write(name, act))).toBe('404 M_NOT_FOUND');
    const other = homeserver.schedule(0, 10_000, false);
    expect(await call(...write(other.name, 'cancel'))).toBe('200');
    await pass(20_000);
    expect(await call(...write(other.name, 'send'))).toBe('404 M_NOT_FOUND');
    expect(sent).toEqual([name]);
    expect(await call(`future/send-${name}`)).toBe('404 M_UNRECOGNIZED');
  });

  test('dialect A: a token says what it does, and a group ends once', async () => {
    const { homeserver, sent, call, pass } = await open('A');
    const { name } = homeserver.schedule(0, 10_000, true);
    await pass(8_000);
    expect(await call(`future/refresh-${name}`)).toBe('200');
    await pass(8_500);
    expect(await call(`future/lostsend-${name}`)).toBe('200');
    expect(sent).toEqual([name]);
    expect(await call(`future/refresh-${name}`)).toBe('410 M_NOT_FOUND');
    expect(await call(`delayed_events/${name}/send`)).toBe('404 M_UNRECOGNIZED');
  });

  test('what falls due while it is stopped is sent when it is back', async () => {
    const { homeserver, sent, pass } = await open('C');
    const { name } = homeserver.schedule(0, 10_000, false);
    homeserver.moods.stalled = 1;
    await pass(60_000);
    expect(sent).toEqual([]);
    homeserver.moods.stalled = 0;
    homeserver.catchUp();
    expect(sent).toEqual([name]);
  });
});
