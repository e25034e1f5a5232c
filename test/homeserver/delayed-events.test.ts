import { afterEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { FutureToken, HomeserverUrl, UserId } from '../../src/delegation/ids.ts';
import type { Answer } from '../../src/delegation/state.ts';
import type { AddressPolicy } from '../../src/homeserver/address.ts';
import { type Call, createDelayedEvents, type DelayedEvents, type DelayedEventsDeps } from '../../src/homeserver/delayed-events.ts';
import type { Dialect } from '../../src/homeserver/dialect.ts';
import { createOutbound } from '../../src/homeserver/outbound.ts';
import { answer, type Script, type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts';
import { delayTarget } from './contract.ts';

const SECRET = 'syd_s3cret-id';
const AS_TOKEN = 'as_s3cret';
const ALICE = '@alice:homeserver.test' as UserId;
const TOKEN: Call = { kind: 'token', token: SECRET as FutureToken };
const SEND = delayTarget(SECRET).send;
const RESTART = delayTarget(SECRET).restart;
const UNSTABLE = '/_matrix/client/unstable/org.matrix.msc4140';
const PATHS: Readonly<Record<Dialect, string>> = {
  'A-stable': `/_matrix/client/v1/future/${SECRET}`,
  'A-unstable': `${UNSTABLE}/future/${SECRET}`,
  B: `${UNSTABLE}/delayed_events/${SECRET}`,
  C: `${UNSTABLE}/delayed_events/${SECRET}/send`,
  D: `/_matrix/client/v1/delayed_events/${SECRET}/send`,
};
const GONE: Answer = { kind: 'final', how: 'gone' };
const REFUSED: Answer = { kind: 'refused' };
const failedAnswer = (reached: boolean): Answer => ({ kind: 'failed', reached });

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** What each dialect's path answers; any other path is unrecognised, and `/versions` says what is told here. */
type Table = Partial<Record<Dialect, Script>>;
async function homeserver(table: Table, features: unknown = {}): Promise<{ server: ScriptedServer; url: HomeserverUrl }> {
  const server = await startScriptedServer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    if (path === '/_matrix/client/versions') return answer(response, 200, { versions: ['v1.11'], unstable_features: features });
    for (const [dialect, script] of Object.entries(table)) {
      if (path === PATHS[dialect as Dialect] || path === PATHS[dialect as Dialect].replace(/send$/, 'restart'))
        return script(request, response);
    }
    answer(response, 404, { errcode: 'M_UNRECOGNIZED', error: 'Unrecognized request' });
  });
  closers.push(server.close);
  return { server, url: `http://127.0.0.1:${server.port}` as HomeserverUrl };
}
const says =
  (status: number, body: unknown = {}, headers: Record<string, string> = {}): Script =>
  (_, response) =>
    answer(response, status, body, headers);

function client({ addresses = () => 'loopback-too', ...more }: Partial<DelayedEventsDeps> & { addresses?: AddressPolicy } = {}): {
  client: DelayedEvents;
  dialects: string[];
  failures: string[];
} {
  const dialects: string[] = [];
  const failures: string[] = [];
  const delayed = createDelayedEvents({
    clock: systemClock(),
    outbound: createOutbound({ clock: systemClock(), addresses, insecureTls: false }),
    applicationService: null,
    onDialect: (_, dialect) => void dialects.push(dialect),
    onFailure: (_, why) => void failures.push(why),
    ...more,
  });
  closers.push(delayed.close);
  return { client: delayed, dialects, failures };
}
const quick = { timeoutMs: 5000, userId: null };
const calls = (server: ScriptedServer): string[] => server.requests.filter((line) => !line.endsWith('/versions'));

describe('an answer, in each dialect', () => {
  const ANSWERS: readonly [status: number, body: unknown, expected: Answer, why: string | null][] = [
    [200, {}, { kind: 'ok' }, null],
    [200, { event_id: '$sent' }, { kind: 'ok' }, null],
    [200, '<html>welcome</html>', failedAnswer(true), 'garbage'],
    [200, [], failedAnswer(true), 'garbage'],
    [200, '', failedAnswer(true), 'garbage'],
    // Done is done, whoever says it in other words; but a page that stands in between is none (some ask "are you human?" by 202).
    [201, { delay_id: 'x' }, { kind: 'ok' }, null],
    [202, {}, { kind: 'ok' }, null],
    [202, '', { kind: 'ok' }, null],
    [202, '<html>are you human?</html>', failedAnswer(true), 'garbage'],
    [203, [], failedAnswer(true), 'garbage'],
    [204, '', { kind: 'ok' }, null],
    [302, {}, failedAnswer(true), 'redirect'],
    [308, '<html>over there</html>', failedAnswer(true), 'redirect'],
    [400, { errcode: 'M_INVALID_PARAM' }, failedAnswer(true), 'garbage'],
    [401, { errcode: 'M_UNKNOWN_TOKEN' }, REFUSED, 'unauthorized'],
    [401, { errcode: 'M_MISSING_TOKEN' }, REFUSED, 'unauthorized'],
    [403, { errcode: 'M_FORBIDDEN' }, REFUSED, 'forbidden'],
    // By something in between, for a homeserver gives its reason: as little its word as a page that says 404.
    [401, '<html>log in first</html>', failedAnswer(false), 'dialect'],
    [403, '<html>you look like a robot</html>', failedAnswer(false), 'dialect'],
    [404, { errcode: 'M_NOT_FOUND' }, GONE, null],
    [404, { errcode: 'M_UNKNOWN' }, failedAnswer(true), 'garbage'],
    [404, { errcode: 'M_UNRECOGNIZED' }, failedAnswer(false), 'dialect'],
    [405, { errcode: 'M_UNRECOGNIZED' }, failedAnswer(false), 'dialect'],
    [404, '<html>no such page</html>', failedAnswer(false), 'dialect'],
    [409, { errcode: 'M_UNKNOWN' }, { kind: 'final', how: 'conflict' }, null],
    [409, '<html>elsewhere</html>', failedAnswer(false), 'dialect'],
    [410, {}, GONE, null],
    [410, '<html>gone for good</html>', failedAnswer(false), 'dialect'],
    // Synapse lets events be scheduled that it can't send, and forgets them when it has tried.
    [413, { errcode: 'M_TOO_LARGE' }, REFUSED, 'forbidden'],
    [413, {}, failedAnswer(true), 'garbage'],
    [429, { errcode: 'M_LIMIT_EXCEEDED' }, { kind: 'limited', retryAfterMs: null }, 'limited'],
    [429, { retry_after_ms: 1234 }, { kind: 'limited', retryAfterMs: 1234 }, 'limited'],
    [429, { errcode: 'M_UNKNOWN', retry_after_ms: 1234 }, { kind: 'limited', retryAfterMs: 1234 }, 'limited'],
    [429, '<html>too many</html>', { kind: 'limited', retryAfterMs: null }, 'limited'],
    // HAProxy as Element's ESS has it, for a Synapse that is away.
    [429, { errcode: 'M_UNKNOWN', error: 'Server is unavailable' }, failedAnswer(true), 'garbage'],
    [500, {}, failedAnswer(true), 'status_5xx'],
    [502, '<html>bad gateway</html>', failedAnswer(true), 'status_5xx'],
  ];
  const CASES = (Object.keys(PATHS) as Dialect[]).flatMap((dialect) => ANSWERS.map((row) => [dialect, ...row] as const));
  test.each(CASES)('%s: %i %j', async (dialect, status, body, expected, why) => {
    const { url, server } = await homeserver({ [dialect]: says(status, body) });
    const { client: delayed, failures, dialects } = client();
    expect(await delayed.act(url, dialect.startsWith('A') ? TOKEN : SEND, quick)).toEqual(expected);
    expect(failures).toEqual(why === null ? [] : [why]);
    expect(dialects).toEqual(why === null ? [dialect] : []);
    expect(calls(server)).toContain(`POST ${PATHS[dialect]}`);
  });

  test('writes the action where the dialect has it', async () => {
    const { server, url } = await homeserver({ B: says(200) });
    await client().client.act(url, RESTART, quick);
    expect(server.bodies.at(-1)).toBe('{"action":"restart"}');
    const other = await homeserver({ C: says(200) });
    await client().client.act(other.url, RESTART, quick);
    expect([calls(other.server).at(-1), other.server.bodies.at(-1)]).toEqual([`POST ${UNSTABLE}/delayed_events/${SECRET}/restart`, '{}']);
  });
});

describe('a limit', () => {
  const date = (fromNowMs: number): string => new Date(systemClock().nowMs() + fromNowMs).toUTCString();
  const limited = async (headers: Record<string, string>, body: unknown = {}): Promise<number | null> => {
    const { url } = await homeserver({ C: says(429, body, headers) });
    const heard = await client().client.act(url, SEND, quick);
    return heard.kind === 'limited' ? heard.retryAfterMs : -1;
  };
  test('is told in seconds, as a date or in ms, and the longer hint counts', async () => {
    expect(await limited({ 'retry-after': '7' })).toBe(7000);
    expect(await limited({ 'retry-after': '2' }, { retry_after_ms: 2500 })).toBe(2500);
    expect(await limited({ 'retry-after': '4' }, { retry_after_ms: 2500 })).toBe(4000);
    // Synapse rounds the header up.
    expect(await limited({ 'retry-after': '3' }, { retry_after_ms: 2500 })).toBe(2500);
    const dated = await limited({ 'retry-after': date(20_000) });
    expect(dated).toBeGreaterThan(17_000);
    expect(dated).toBeLessThanOrEqual(20_000);
  });
  test.each([180_000, -180_000])('as a date is one of the clock of who told it, which is off by %i ms', async (offMs) => {
    const sent = date(offMs);
    const until = new Date(Date.parse(sent) + 20_000).toUTCString();
    expect(await limited({ date: sent, 'retry-after': until })).toBe(20_000);
  });
  test('is bounded, and nonsense is no hint', async () => {
    expect(await limited({ 'retry-after': '86400' })).toBe(300_000);
    expect(await limited({ 'retry-after': date(-60_000) })).toBe(null);
    expect(await limited({ 'retry-after': 'soon' }, { retry_after_ms: 'later' })).toBe(null);
    expect(await limited({ 'retry-after': 'soon' }, { retry_after_ms: -5 })).toBe(null);
  });
});

describe('negotiation', () => {
  test.each([
    [{ 'org.matrix.msc4140': true }, ['C', 'B', 'D']],
    [{ 'org.matrix.msc4140': true, 'org.matrix.msc4140.stable': true }, ['C', 'B', 'D']],
    [{}, ['C', 'B', 'D']],
  ] as const)('tries delay ids in order without an application service, %j', async (features, order) => {
    const { server, url } = await homeserver({}, features);
    await client().client.act(url, SEND, quick);
    expect(calls(server)).toEqual(order.map((dialect) => `POST ${PATHS[dialect]}`));
  });

  test.each([
    [{ 'org.matrix.msc4140': true }, ['C', 'B', 'D']],
    [{ 'org.matrix.msc4140.stable': true }, ['D', 'C', 'B']],
    [{}, ['D', 'C', 'B']],
  ] as const)('and with one, %j', async (features, order) => {
    const { server, url } = await homeserver({}, features);
    const applicationService = { homeserver: url, asToken: AS_TOKEN };
    await client({ applicationService }).client.act(url, SEND, { timeoutMs: 5000, userId: ALICE });
    const query = `?user_id=${encodeURIComponent(ALICE)}`;
    expect(calls(server)).toEqual(order.map((dialect) => `POST ${PATHS[dialect]}${query}`));
  });

  test.each([
    [{ 'org.matrix.msc4140': true }, 'A-unstable'],
    [{}, 'A-stable'],
  ] as const)('tries tokens by what is announced, %j', async (features, first) => {
    const { server, url } = await homeserver({ 'A-stable': says(200), 'A-unstable': says(200) }, features);
    await client().client.act(url, TOKEN, quick);
    expect(calls(server)).toEqual([`POST ${PATHS[first]}`]);
  });

  test('is done once: then the dialect is known', async () => {
    const { server, url } = await homeserver({ B: says(200) });
    const { client: delayed, dialects } = client();
    for (let round = 0; round < 3; round += 1) expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
    expect(calls(server)).toEqual(['C', 'B', 'B', 'B'].map((dialect) => `POST ${PATHS[dialect as Dialect]}`));
    expect(server.requests.length - calls(server).length).toBe(1);
    expect(dialects).toEqual(['B']);
  });

  test('is shared by calls that arrive together', async () => {
    const { server, url } = await homeserver({ D: says(200) });
    const { client: delayed } = client();
    const answers = await Promise.all(Array.from({ length: 50 }, () => delayed.act(url, SEND, quick)));
    expect(new Set(answers.map(({ kind }) => kind))).toEqual(new Set(['ok']));
    const count = (line: string): number => server.requests.filter((request) => request === line).length;
    expect([count(`POST ${PATHS.C}`), count(`POST ${PATHS.B}`), count(`POST ${PATHS.D}`)]).toEqual([1, 1, 50]);
  });

  test('that finds nothing is shared too', async () => {
    const { server, url } = await homeserver({});
    const { client: delayed, failures } = client();
    await Promise.all(Array.from({ length: 20 }, () => delayed.act(url, SEND, quick)));
    expect(calls(server)).toHaveLength(3);
    expect(failures).toEqual(Array(20).fill('dialect'));
  });

  test('needs no versions: without them the usual order is tried', async () => {
    const server = await startScriptedServer((request, response) => {
      if (request.url?.endsWith('/versions')) return answer(response, 500, 'broken');
      answer(response, 200);
    });
    closers.push(server.close);
    const url = `http://127.0.0.1:${server.port}` as HomeserverUrl;
    expect(await client().client.act(url, TOKEN, quick)).toEqual({ kind: 'ok' });
    expect(calls(server)).toEqual([`POST ${PATHS['A-stable']}`]);
  });

  test('asks for versions once for all that arrive together', async () => {
    const { server, url } = await homeserver({ 'A-unstable': says(200) });
    const { client: delayed } = client();
    await Promise.all(Array.from({ length: 20 }, () => delayed.act(url, TOKEN, quick)));
    expect(server.requests.filter((line) => line.endsWith('/versions'))).toHaveLength(1);
  });

  test('is not ended by versions that hang', async () => {
    const server = await startScriptedServer((request, response) => {
      if (!request.url?.endsWith('/versions')) answer(response, 200);
    });
    closers.push(server.close);
    const url = `http://127.0.0.1:${server.port}` as HomeserverUrl;
    expect(await client().client.act(url, TOKEN, { timeoutMs: 800, userId: null })).toEqual({ kind: 'ok' });
  });

  test('a first call that hangs is not waited for by those after it', async () => {
    let hung = false;
    const once: Script = (_, response) => {
      if (hung) answer(response, 200);
      hung = true;
    };
    const { url } = await homeserver({ C: once });
    const { client: delayed } = client();
    const first = delayed.act(url, RESTART, { timeoutMs: 3_000, userId: null });
    const second = delayed.act(url, SEND, { timeoutMs: 10_000, userId: null });
    const startMs = systemClock().nowMs();
    expect(await second).toEqual({ kind: 'ok' });
    expect(systemClock().nowMs() - startMs).toBeLessThan(2_500);
    expect(await first).toEqual(failedAnswer(true));
  });

  test('starts again when what worked is recognised no more', async () => {
    let spoken: Dialect = 'C';
    const only =
      (dialect: Dialect): Script =>
      (_, response) =>
        spoken === dialect ? answer(response, 200) : answer(response, 404, { errcode: 'M_UNRECOGNIZED' });
    const { url } = await homeserver({ B: only('B'), C: only('C') });
    const { client: delayed, dialects } = client();
    expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
    spoken = 'B';
    expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
    expect(dialects).toEqual(['C', 'B']);
  });

  test('goes on where a call with little time had to stop', async () => {
    const answers: Script[] = [() => {}, says(200)];
    const { url, server } = await homeserver({
      C: says(404, { errcode: 'M_UNRECOGNIZED' }),
      B: (request, response) => answers.shift()?.(request, response),
    });
    const { client: delayed } = client();
    const hasty = { timeoutMs: 1_000, userId: null };
    expect(await delayed.act(url, SEND, hasty)).toEqual(failedAnswer(true));
    expect(await delayed.act(url, SEND, hasty)).toEqual({ kind: 'ok' });
    expect(calls(server)).toEqual((['C', 'B', 'B'] as const).map((dialect) => `POST ${PATHS[dialect]}`));
  });

  test('a bare 404 speaks of the event once the dialect has worked, and of the dialect before', async () => {
    const script = vi.fn<Script>();
    const { url, server } = await homeserver({ C: script });
    const { client: delayed } = client();
    script.mockImplementation(says(404, ''));
    expect(await delayed.act(url, SEND, quick)).toEqual(failedAnswer(false));
    script.mockImplementation(says(200));
    expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
    const before = calls(server).length;
    script.mockImplementation(says(404, ''));
    expect(await delayed.act(url, SEND, quick)).toEqual(GONE);
    expect(calls(server)).toHaveLength(before + 1);
  });

  test.each(['404 page not found', '<html>no such page</html>', ''])(
    'but not where a proxy says it of a homeserver that is being started anew: %j',
    async (page) => {
      let isAway = false;
      const server = await startScriptedServer((request, response) => {
        if (isAway) return answer(response, 404, page);
        if (request.url === '/_matrix/client/versions') return answer(response, 200, { versions: ['v1.11'] });
        answer(response, request.url === PATHS.C ? 200 : 404, { errcode: 'M_UNRECOGNIZED' });
      });
      closers.push(server.close);
      const url = `http://127.0.0.1:${server.port}` as HomeserverUrl;
      const { client: delayed, failures } = client();
      expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
      await expect.poll(() => server.requests).toContain('GET /_matrix/client/versions');
      expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
      isAway = true;
      const before = calls(server).length;
      expect(await delayed.act(url, SEND, quick)).toEqual(failedAnswer(true));
      expect(failures).toEqual(['garbage']);
      isAway = false;
      expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
      expect(calls(server)).toHaveLength(before + 2);
    },
  );

  test.each([401, 403])('a proxy that answers %i for a homeserver does not speak for it either', async (status) => {
    const script = vi.fn<Script>();
    const { url, server } = await homeserver({ C: script });
    const answered: string[] = [];
    const { client: delayed, failures } = client({ onAnswer: (homeserver) => void answered.push(homeserver) });
    script.mockImplementation(says(200));
    expect(await delayed.act(url, RESTART, quick)).toEqual({ kind: 'ok' });
    script.mockImplementation(says(status, '<html>you look like a robot</html>'));
    expect(await delayed.act(url, RESTART, quick)).toEqual(failedAnswer(false));
    expect([failures, answered]).toEqual([['garbage'], [url]]);
    expect(calls(server)).toHaveLength(2);
  });

  test('and where a homeserver has never told its versions: it can not be asked whether it is there', async () => {
    let isGone = false;
    const server = await startScriptedServer((request, response) =>
      answer(response, !isGone && request.url === PATHS.C ? 200 : 404, isGone ? '' : {}),
    );
    closers.push(server.close);
    const url = `http://127.0.0.1:${server.port}` as HomeserverUrl;
    const { client: delayed } = client();
    expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
    await expect.poll(() => server.requests).toContain('GET /_matrix/client/versions');
    isGone = true;
    expect(await delayed.act(url, SEND, quick)).toEqual(GONE);
  });

  test('a final answer is not yet proof that a bare 404 speaks of the event', async () => {
    const script = vi.fn<Script>();
    const { url } = await homeserver({ C: script, B: says(200) });
    const { client: delayed, dialects } = client();
    script.mockImplementation(says(404, { errcode: 'M_NOT_FOUND' }));
    expect(await delayed.act(url, SEND, quick)).toEqual(GONE);
    script.mockImplementation(says(404, ''));
    expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
    expect(dialects).toEqual(['C', 'B']);
  });

  test('a missing token on the stable path is told only if no other path answers', async () => {
    const missing = says(401, { errcode: 'M_MISSING_TOKEN' });
    const lone = await homeserver({ D: missing });
    const { client: delayed, failures } = client();
    expect(await delayed.act(lone.url, SEND, quick)).toEqual(REFUSED);
    expect(failures).toEqual(['unauthorized']);
    const both = await homeserver({ C: missing, B: says(200), D: missing });
    expect(await delayed.act(both.url, SEND, quick)).toEqual({ kind: 'ok' });
  });
});

describe('the application service', () => {
  const owner = { timeoutMs: 5000, userId: ALICE };
  test('acts in the name of the owner, in every dialect of delay ids', async () => {
    for (const dialect of ['B', 'C', 'D'] as const) {
      const { server, url } = await homeserver({ [dialect]: says(200) });
      await client({ applicationService: { homeserver: url, asToken: AS_TOKEN } }).client.act(url, SEND, owner);
      expect(server.requests.at(-1)).toBe(`POST ${PATHS[dialect]}?user_id=%40alice%3Ahomeserver.test`);
      expect(server.headers.at(-1)?.authorization).toBe(`Bearer ${AS_TOKEN}`);
    }
  });

  test('shows its token to its own homeserver only, and only for a user', async () => {
    const { server, url } = await homeserver({ C: says(200), 'A-stable': says(200) });
    const elsewhere = `${url}/prefix` as HomeserverUrl;
    const { client: delayed } = client({ applicationService: { homeserver: elsewhere, asToken: AS_TOKEN } });
    await delayed.act(url, SEND, owner);
    const { client: own } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    await own.act(url, SEND, quick);
    await own.act(url, TOKEN, owner);
    expect(server.headers.map(({ authorization }) => authorization)).toEqual(server.headers.map(() => undefined));
    expect(server.requests.join()).not.toContain('user_id');
  });

  test('is refused while its homeserver is not known yet, which ends nothing, and acts once it is', async () => {
    const { url } = await homeserver({
      D: (request, response) =>
        request.headers.authorization ? answer(response, 200) : answer(response, 401, { errcode: 'M_MISSING_TOKEN' }),
    });
    const applicationService = { homeserver: null as HomeserverUrl | null, asToken: AS_TOKEN };
    const { client: delayed } = client({ applicationService });
    for (const _ of [1, 2]) expect(await delayed.act(url, SEND, owner)).toEqual(REFUSED);
    applicationService.homeserver = url;
    expect(await delayed.act(url, SEND, owner)).toEqual({ kind: 'ok' });
  });

  const withToken =
    (script: Script, without: Script): Script =>
    (request, response) =>
      (request.headers.authorization === undefined ? without : script)(request, response);

  test.each([
    ['C', 401, 'M_UNKNOWN_TOKEN', 'unauthorized'],
    ['C', 403, 'M_FORBIDDEN', 'forbidden'],
    ['B', 401, 'M_UNKNOWN_TOKEN', 'unauthorized'],
    ['B', 403, 'M_FORBIDDEN', 'forbidden'],
  ] as const)('goes without its token where that is all that stands in the way (%s: %i)', async (dialect, status, errcode, why) => {
    const { server, url } = await homeserver({ [dialect]: withToken(says(status, { errcode }), says(200)) });
    const { client: delayed, dialects, failures } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    expect(await delayed.act(url, RESTART, owner)).toEqual({ kind: 'ok' });
    expect(await delayed.act(url, SEND, owner)).toEqual({ kind: 'ok' });
    expect(server.requests.at(-1)).toBe(`POST ${PATHS[dialect]}`);
    // What is wrong with it an operator is told all the same.
    expect(failures).toEqual([why, why]);
    expect(dialects).toEqual([dialect]);
  });

  // Synapse, of an application service that is not exempt: it counts the calls of each user, their own client's as well.
  test.each(['B', 'C'] as const)('goes without its token where its user has made too many calls (%s)', async (dialect) => {
    const tooMany = says(429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 900 });
    let without = says(200);
    const { server, url } = await homeserver({ [dialect]: withToken(tooMany, (...asked) => without(...asked)) });
    const { client: delayed, failures } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    expect(await delayed.act(url, RESTART, owner)).toEqual({ kind: 'ok' });
    expect(failures).toEqual(['limited']);
    without = says(429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 1_500 });
    // What counts for all others.
    expect(await delayed.act(url, RESTART, owner)).toEqual({ kind: 'limited', retryAfterMs: 1_500 });
    without = says(404, { errcode: 'M_NOT_FOUND' });
    expect(await delayed.act(url, RESTART, owner)).toEqual(GONE);
    expect(calls(server).at(-1)).not.toContain('user_id');
  });

  test('what is said without the token counts, be it a limit, the end or a failure on the way', async () => {
    const said: readonly [Script, Answer][] = [
      [says(429, { retry_after_ms: 1234 }), { kind: 'limited', retryAfterMs: 1234 }],
      [says(429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 1234 }), { kind: 'limited', retryAfterMs: 1234 }],
      [says(404, { errcode: 'M_NOT_FOUND' }), GONE],
      [(request) => request.socket.destroy(), failedAnswer(true)],
    ];
    for (const [without, expected] of said) {
      const { url } = await homeserver({ C: withToken(says(401, { errcode: 'M_UNKNOWN_TOKEN' }), without) });
      const { client: delayed } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
      expect(await delayed.act(url, SEND, owner)).toEqual(expected);
    }
  });

  test.each([
    ['C', says(401, { errcode: 'M_MISSING_TOKEN' }), 2],
    ['C', says(403, { errcode: 'M_FORBIDDEN' }), 2],
    // By its own text nobody else may.
    ['D', says(200), 1],
  ] as const)('is refused where nobody may act without (%s)', async (dialect, without, times) => {
    const { server, url } = await homeserver({ [dialect]: withToken(says(401, { errcode: 'M_UNKNOWN_TOKEN' }), without) });
    const { client: delayed, failures } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    expect(await delayed.act(url, SEND, owner)).toEqual(REFUSED);
    expect(failures).toEqual(['unauthorized']);
    expect(calls(server).filter((line) => line.startsWith(`POST ${PATHS[dialect]}`))).toHaveLength(times);
  });

  // tuwunel: the stable path is the owner's, and on the unstable one the delay id is enough.
  const BOTH_PATHS = { 'org.matrix.msc4140': true, 'org.matrix.msc4140.stable': true };
  const missing = says(401, { errcode: 'M_MISSING_TOKEN' });

  test.each([
    ['an application service that the homeserver does not know', 401, 'M_UNKNOWN_TOKEN', 'unauthorized'],
    ['a user who is none of its own', 403, 'M_EXCLUSIVE', 'forbidden'],
  ] as const)('goes without its token by the path that takes anybody, where the stable one refuses %s', async (_, status, errcode, why) => {
    const refuses = says(status, { errcode });
    const { server, url } = await homeserver({ C: withToken(refuses, says(200)), D: withToken(refuses, missing) }, BOTH_PATHS);
    const { client: delayed, failures } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    expect(await delayed.act(url, RESTART, owner)).toEqual({ kind: 'ok' });
    expect(await delayed.act(url, SEND, owner)).toEqual({ kind: 'ok' });
    expect(server.requests.at(-1)).toBe(`POST ${PATHS.C}`);
    expect(failures).toEqual([why, why]);
  });

  test('also of one user alone, where the stable path has worked for others', async () => {
    const { url } = await homeserver(
      {
        C: withToken(says(403, { errcode: 'M_EXCLUSIVE' }), says(404, { errcode: 'M_NOT_FOUND' })),
        D: (request, response) => answer(response, request.url?.includes('alice') ? 200 : 403, { errcode: 'M_EXCLUSIVE' }),
      },
      BOTH_PATHS,
    );
    const { client: delayed, dialects } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    expect(await delayed.act(url, SEND, owner)).toEqual({ kind: 'ok' });
    expect(await delayed.act(url, SEND, { ...owner, userId: '@bob:homeserver.test' as UserId })).toEqual(GONE);
    expect(await delayed.act(url, SEND, owner)).toEqual({ kind: 'ok' });
    expect(dialects).toEqual(['D', 'C']);
  });

  test('and what the sender may not send now is refused by both', async () => {
    const forbidden = says(403, { errcode: 'M_FORBIDDEN' });
    const { url } = await homeserver({ C: forbidden, D: forbidden }, BOTH_PATHS);
    const { client: delayed, failures } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    for (const _ of [1, 2]) expect(await delayed.act(url, SEND, owner)).toEqual(REFUSED);
    expect(failures).toEqual(['forbidden', 'forbidden']);
  });

  test('nothing is tried again without the token that is no longer wanted', async () => {
    const { server, url } = await homeserver(
      { C: withToken(says(401, { errcode: 'M_UNKNOWN_TOKEN' }), says(200)) },
      { 'org.matrix.msc4140': true },
    );
    const { client: delayed } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    const isWanted = async (): Promise<boolean> => calls(server).length === 0;
    expect(await delayed.act(url, RESTART, { ...owner, isWanted })).toEqual(REFUSED);
    expect(calls(server)).toHaveLength(1);
  });

  test('a call without a user does not follow what was learnt with one', async () => {
    const { server, url } = await homeserver({
      C: says(200),
      D: (request, response) =>
        request.headers.authorization ? answer(response, 200) : answer(response, 401, { errcode: 'M_MISSING_TOKEN' }),
    });
    const { client: delayed, dialects } = client({ applicationService: { homeserver: url, asToken: AS_TOKEN } });
    await delayed.act(url, SEND, owner);
    expect(await delayed.act(url, SEND, quick)).toEqual({ kind: 'ok' });
    expect(dialects).toEqual(['D', 'C']);
    expect(server.requests.filter((line) => line.endsWith('/versions'))).toHaveLength(1);
  });
});

describe('a homeserver that has moved since the hand-over', () => {
  const ofAlice = { timeoutMs: 5000, userId: ALICE };
  const AWAY = says(503, '<html>');
  const NOT_THERE = says(404, { errcode: 'M_NOT_FOUND' });
  const FORBIDDEN = says(403, { errcode: 'M_FORBIDDEN' });
  const SILENT: Script = () => {};
  const made = (server: ScriptedServer): number => calls(server).filter((line) => line.includes(UNSTABLE)).length;
  /** One after the other, the last for ever. */
  const inTurn = (...scripts: readonly Script[]): Script => {
    let n = 0;
    return (...exchange) => scripts[Math.min(n++, scripts.length - 1)]?.(...exchange);
  };
  async function moved(script: Script, from: Script | null = null, isLedTo = true) {
    const [old, now] = [await homeserver({ C: from ?? says(200) }), await homeserver({ C: script })];
    if (from === null) await old.server.close();
    const answered: string[] = [];
    const failed: [string, string][] = [];
    const { client: delayed } = client({
      whereIs: (userId) => (userId === ALICE ? now.url : null),
      isLedTo: (url) => url === now.url || isLedTo,
      applicationService: { homeserver: now.url, asToken: AS_TOKEN },
      onAnswer: (url) => void answered.push(url),
      onFailure: (url, why) => void failed.push([url === now.url ? 'now' : 'old', why]),
    });
    return { old, now, answered, client: delayed, failed };
  }

  test.each(['gone', 502, 404, 403])('is called where it is now; the old address: %s', async (left) => {
    const from = left === 'gone' ? null : says(left as number, '<html>');
    const { old, now, answered, client: delayed, failed } = await moved(says(200), from);
    expect(await delayed.act(old.url, RESTART, ofAlice)).toEqual({ kind: 'ok' });
    expect([failed, answered]).toEqual([[], [now.url]]);
    expect(calls(now.server).at(-1)).toBe(`POST ${UNSTABLE}/delayed_events/${SECRET}/restart?user_id=${encodeURIComponent(ALICE)}`);
  });

  test('is called where it is now if the old address says nothing, and at once from then on', async () => {
    const { old, now, client: delayed, failed } = await moved(says(200), SILENT);
    for (const call of [RESTART, SEND]) expect(await delayed.act(old.url, call, { ...ofAlice, timeoutMs: 2000 })).toEqual({ kind: 'ok' });
    expect([failed, made(old.server), made(now.server)]).toEqual([[], 1, 2]);
  });

  test.each([404, 409, 410, 429])('is called where it is now if the old address has nothing but a page for all: %i', async (status) => {
    const { old, now, client: delayed } = await moved(says(200), says(status, '<html>it has moved'));
    expect([await delayed.act(old.url, RESTART, ofAlice), made(now.server)]).toEqual([{ kind: 'ok' }, 1]);
  });

  test('is asked at both addresses at once where the old one said nothing the last time', async () => {
    const late: Script = (_, response) => void setTimeout(() => answer(response, 200), 700);
    const { old, client: delayed } = await moved(late, SILENT);
    const answers = [];
    for (let n = 0; n < 2; n += 1) answers.push(await delayed.act(old.url, RESTART, { ...ofAlice, timeoutMs: 1000 }));
    expect(answers).toEqual([failedAnswer(true), { kind: 'ok' }]);
  });

  test('is not called there if the old address has answered while it was found out whether to', async () => {
    const late: Script = (_, response) => void setTimeout(() => answer(response, 200), 700);
    const { old, now, client: delayed } = await moved(says(200), late);
    const isWanted = async () => {
      await new Promise((resolve) => setTimeout(resolve, made(old.server) === 0 ? 0 : 500));
      return true;
    };
    expect(await delayed.act(old.url, RESTART, { ...ofAlice, timeoutMs: 1000, isWanted })).toEqual({ kind: 'ok' });
    expect(made(now.server)).toBe(0);
  });

  test('is called at the old address again where the new one fails, and the failures are its own', async () => {
    const old = inTurn(AWAY, AWAY, says(200));
    const { client: delayed, failed, ...at } = await moved(inTurn(says(200), AWAY), old);
    const answers = [];
    for (let n = 0; n < 4; n += 1) answers.push(await delayed.act(at.old.url, RESTART, ofAlice));
    expect(answers).toEqual([{ kind: 'ok' }, failedAnswer(true), { kind: 'ok' }, { kind: 'ok' }]);
    expect([failed, made(at.old.server), made(at.now.server)]).toEqual([[['now', 'status_5xx']], 4, 3]);
  });

  test('is waited for at the old address while the new one has nothing to say', async () => {
    const late: Script = (_, response) => void setTimeout(() => answer(response, 200), 1200);
    const { old, now, answered, client: delayed } = await moved(NOT_THERE, late, false);
    expect(await delayed.act(old.url, SEND, { ...ofAlice, timeoutMs: 2000 })).toEqual({ kind: 'ok' });
    expect([answered, made(now.server)]).toEqual([[old.url], 1]);
  });

  test.each([
    ['is not there', NOT_THERE, failedAnswer(false), ['old', 'refused']],
    ['may not be touched there', FORBIDDEN, failedAnswer(false), ['old', 'refused']],
    ['can not be asked there either', AWAY, failedAnswer(true), ['now', 'status_5xx']],
  ])('and an event that %s is over for that no more than before', async (_, script, expected, failure) => {
    const { old, answered, client: delayed, failed } = await moved(script);
    expect(await delayed.act(old.url, SEND, ofAlice)).toEqual(expected);
    expect([failed, answered]).toEqual([[failure], []]);
  });

  test.each([
    ['is not there', NOT_THERE, GONE],
    ['may not be touched there', FORBIDDEN, REFUSED],
  ])('and that an event %s is believed if nothing leads to the old address', async (_, script, expected) => {
    const { old, now, answered, client: delayed } = await moved(script, null, false);
    expect(await delayed.act(old.url, SEND, ofAlice)).toEqual(expected);
    expect(answered).toEqual([now.url]);
  });

  test('or if events from there have been found at the new one', async () => {
    const { old, client: delayed } = await moved(inTurn(says(200), NOT_THERE));
    expect(await delayed.act(old.url, RESTART, ofAlice)).toEqual({ kind: 'ok' });
    expect(await delayed.act(old.url, SEND, ofAlice)).toEqual(GONE);
  });

  test('but not while the old address has done what it was asked last', async () => {
    const { old, client: delayed } = await moved(NOT_THERE, inTurn(says(200), AWAY), false);
    expect(await delayed.act(old.url, RESTART, ofAlice)).toEqual({ kind: 'ok' });
    expect(await delayed.act(old.url, RESTART, ofAlice)).toEqual(failedAnswer(true));
  });

  test.each([
    ['limited', says(429, { errcode: 'M_LIMIT_EXCEEDED' }), 'limited'],
    ['refused', FORBIDDEN, 'forbidden'],
  ])('what may have been done at the old address may have been so though the call is %s at the new one', async (_, script, why) => {
    const { old, client: delayed, failed } = await moved(script, AWAY, false);
    expect(await delayed.act(old.url, SEND, ofAlice)).toEqual(failedAnswer(true));
    expect(failed).toEqual([['now', why]]);
  });

  test.each([
    ['403', FORBIDDEN, REFUSED],
    ['500', says(500, { errcode: 'M_UNKNOWN' }), failedAnswer(true)],
  ])('nobody is asked there of whom a homeserver at the old address says %s', async (_, script, expected) => {
    const { old, now, client: delayed } = await moved(says(200), script);
    expect(await delayed.act(old.url, SEND, ofAlice)).toEqual(expected);
    expect(calls(now.server)).toEqual([]);
  });

  test('nobody is asked there whose homeserver is not known, or who is not wanted any more', async () => {
    const { old, now, client: delayed } = await moved(says(200));
    expect(await delayed.act(old.url, SEND, quick)).toEqual(failedAnswer(false));
    expect(await delayed.act(old.url, SEND, { ...ofAlice, isWanted: async () => false })).toEqual(failedAnswer(false));
    expect(calls(now.server)).toEqual([]);
  });
});

// As a worker of Synapse, which restarts delayed events and knows nothing of sending them.
test('that a leave can be sent in no dialect does not fail the restarts that wait for what it finds out', async () => {
  let release = (): void => {};
  const { server, url } = await homeserver({
    C: (request, response) => {
      if (request.url?.endsWith('/restart')) answer(response, 200);
      else answer(response, 404, { errcode: 'M_UNRECOGNIZED' });
    },
    B: (_, response) => {
      release = () => answer(response, 405, { errcode: 'M_UNRECOGNIZED' });
    },
  });
  const { client: delayed } = client();
  expect(await delayed.act(url, RESTART, quick)).toEqual({ kind: 'ok' });
  const send = delayed.act(url, SEND, quick);
  await vi.waitFor(() => expect(calls(server).at(-1)).toBe(`POST ${PATHS.B}`));
  const restarts = [1, 2, 3].map(() => delayed.act(url, RESTART, quick));
  release();
  expect(await Promise.all([send, ...restarts])).toEqual([failedAnswer(false), ...Array(3).fill({ kind: 'ok' })]);
});

test('nor those that come once it has run out of time while it finds that out', async () => {
  const { server, url } = await homeserver({
    C: (request, response) => {
      if (request.url?.endsWith('/restart')) answer(response, 200);
      else answer(response, 404, { errcode: 'M_UNRECOGNIZED' });
    },
    B: () => {},
  });
  const { client: delayed } = client();
  expect(await delayed.act(url, RESTART, quick)).toEqual({ kind: 'ok' });
  expect(await delayed.act(url, SEND, { timeoutMs: 300, userId: null })).toEqual(failedAnswer(true));
  expect(await delayed.act(url, RESTART, quick)).toEqual({ kind: 'ok' });
  expect(calls(server).at(-1)).toMatch(/restart$/);
});

describe('a failure says honestly whether the request was out', () => {
  test('refused connections and names that lead nowhere: not', async () => {
    const { server, url } = await homeserver({});
    await server.close();
    const { client: delayed, failures } = client();
    expect(await delayed.act(url, SEND, quick)).toEqual(failedAnswer(false));
    expect(await delayed.act('https://no-such-host.invalid' as HomeserverUrl, SEND, quick)).toEqual(failedAnswer(false));
    expect(failures).toEqual(['refused', 'refused']);
  });

  test('an address that may not be called: not', async () => {
    const { server, url } = await homeserver({ C: says(200) });
    const { client: delayed, failures } = client({ addresses: () => 'public' });
    expect(await delayed.act(url, SEND, quick)).toEqual(failedAnswer(false));
    const named = `http://localhost:${server.port}` as HomeserverUrl;
    expect(await delayed.act(named, SEND, quick)).toEqual(failedAnswer(false));
    expect(failures).toEqual(['address', 'address']);
    expect(server.requests).toEqual([]);
  });

  test('a homeserver that hangs: yes, and the call ends in time', async () => {
    const { url } = await homeserver({ C: () => {} });
    const { client: delayed, failures } = client();
    const startMs = systemClock().nowMs();
    expect(await delayed.act(url, SEND, { timeoutMs: 300, userId: null })).toEqual(failedAnswer(true));
    expect(systemClock().nowMs() - startMs).toBeLessThan(1500);
    expect(failures).toEqual(['timeout']);
  });

  test('everything together ends in time, even when all that is asked hangs', async () => {
    const server = await startScriptedServer(() => {});
    closers.push(server.close);
    const { client: delayed } = client();
    const url = `http://127.0.0.1:${server.port}` as HomeserverUrl;
    const startMs = systemClock().nowMs();
    await Promise.all(Array.from({ length: 5 }, () => delayed.act(url, SEND, { timeoutMs: 400, userId: null })));
    expect(systemClock().nowMs() - startMs).toBeLessThan(1500);
    expect(await delayed.act(url, SEND, { timeoutMs: 0, userId: null })).toEqual(failedAnswer(false));
  });

  test('connections cut before, within and instead of an answer: yes', async () => {
    const cuts: Script[] = [
      (request) => void request.socket.destroy(),
      (_, response) => void response.writeHead(200, { 'content-length': 10 }).write('{', () => response.destroy()),
      (request) => void request.socket.end('no such protocol\r\n\r\n'),
    ];
    for (const cut of cuts) {
      const { url } = await homeserver({ C: cut });
      expect(await client().client.act(url, SEND, quick)).toEqual(failedAnswer(true));
    }
  });

  test('what answers is not HTTP, or not TLS where that is asked for: it is there, and no homeserver', async () => {
    const { url: plain } = await homeserver({ C: (request) => void request.socket.end('no such protocol\r\n\r\n') });
    const { client: delayed, failures } = client();
    expect(await delayed.act(plain, SEND, quick)).toEqual(failedAnswer(true));
    expect(await delayed.act(plain.replace('http:', 'https:') as HomeserverUrl, SEND, quick)).toEqual(failedAnswer(false));
    expect(failures).toEqual(['garbage', 'garbage']);
  });

  test('an answer without end is cut off', async () => {
    const { url } = await homeserver({ C: (_, response) => void response.writeHead(200).end(`{"a":"${'x'.repeat(70_000)}"}`) });
    const { client: delayed, failures } = client();
    expect(await delayed.act(url, SEND, quick)).toEqual(failedAnswer(true));
    expect(failures).toEqual(['garbage']);
  });

  test('a redirect is not followed', async () => {
    const { server, url } = await homeserver({ C: says(307, {}, { location: 'https://elsewhere.test/' }) });
    const { client: delayed, failures } = client();
    expect(await delayed.act(url, SEND, quick)).toEqual(failedAnswer(true));
    expect(calls(server)).toHaveLength(1);
    expect(failures).toEqual(['redirect']);
  });
});

test('an outage is over with any answer, be it no, and with nothing else', async () => {
  for (const [status, body, isAnswer] of [
    [200, {}, true],
    [404, { errcode: 'M_NOT_FOUND' }, true],
    [429, { errcode: 'M_LIMIT_EXCEEDED' }, true],
    [429, { errcode: 'M_UNKNOWN' }, false],
    [403, { errcode: 'M_FORBIDDEN' }, true],
    [502, '<html>', false],
  ] as const) {
    const { url } = await homeserver({ C: says(status, body) });
    const answered: string[] = [];
    await client({ onAnswer: (homeserver) => void answered.push(homeserver) }).client.act(url, SEND, quick);
    expect(answered, String(status)).toEqual(isAnswer ? [url] : []);
  }
});

test('nothing that comes back holds a secret, and what is printed by an answer neither', async () => {
  const heard: unknown[] = [];
  const onFailure = (...said: unknown[]): void => void heard.push(said);
  for (const script of [says(500, SECRET), says(403, { error: SECRET }), (() => {}) as Script]) {
    const { url } = await homeserver({ C: script });
    const applicationService = { homeserver: url, asToken: AS_TOKEN };
    const { client: delayed } = client({ applicationService, onFailure });
    heard.push(await delayed.act(url, SEND, { timeoutMs: 200, userId: ALICE }));
  }
  const { client: delayed } = client({ onFailure });
  heard.push(await delayed.act('not a url' as HomeserverUrl, SEND, quick));
  expect(heard).toHaveLength(8);
  expect(JSON.stringify(heard)).not.toMatch(/s3cret|alice/);
});
