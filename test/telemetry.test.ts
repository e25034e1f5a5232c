import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import manifest from '../package.json' with { type: 'json' };
import type { HomeserverUrl, ServerName } from '../src/delegation/ids.ts';
import { createLogger, createMetrics, METRICS, metricsTable } from '../src/telemetry.ts';

function recorder(level: 'debug' | 'info' = 'debug') {
  const lines: string[] = [];
  return {
    lines,
    log: createLogger(level, (line) => lines.push(line)),
    last: () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown>,
  };
}

const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2hunter2';

class Telling {
  readonly name = 'telling';
  toJSON(): string {
    return `hunter2 of ${this.name}`;
  }
}

const SECRETS: [string, object][] = [
  [
    'a field by name',
    { token: 'hunter2', delay_id: 'hunter2', asToken: 'hunter2', Authorization: 'hunter2', 'x-secret': 'hunter2', key: 'hunter2' },
  ],
  ['a field deep inside', { a: [{ b: { send_token: 'hunter2' } }] }],
  ['handles as a whole', { handles: { kind: 'delay', delayId: 'hunter2' } }],
  ['a delay id in a path', { url: 'https://hs/_matrix/client/v1/delayed_events/hunter2/send?user_id=@a:b' }],
  ['a future token in a path', { url: new URL('https://hs/_matrix/client/v1/future/hunter2') }],
  ['a token in a query', { url: 'https://hs/userinfo?access_token=hunter2&x=1' }],
  ['a header in text', { text: 'Authorization: Bearer hunter2' }],
  ['a password in a URL', { text: 'redis://user:hunter2@cache' }],
  ['a JWT anywhere', { text: `got ${JWT}.` }],
  ['a JWT in a longer word', { text: `a.b.x-${JWT}.c, eyJ.${JWT}, ${JWT}.${JWT}` }],
  ['a map', { map: new Map([['url', 'x?token=hunter2']]) }],
  ['bytes', { bytes: Buffer.from('hunter2') }],
  ['an error', { err: new Error('GET /delayed_events/hunter2 failed', { cause: new Error(`Bearer ${JWT}`) }) }],
  ['what a client hung on an error', { err: Object.assign(new Error('failed'), { request: { headers: ['hunter2'] } }) }],
  ['what an object would say of itself', { one: { toJSON: () => 'hunter2' }, other: new Telling() }],
  ['an error in place of the fields', new Error('token=hunter2')],
];

describe('log', () => {
  test.each(SECRETS)('%s is taken out', (_, fields) => {
    const { log, lines } = recorder();
    log.info(fields, 'happened');
    expect(lines).toHaveLength(1);
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines.join('')).not.toContain(Buffer.from('hunter2').join());
  });

  test('what is handed in stays as it is', () => {
    const { log } = recorder();
    const fields = { a: [{ token: 'hunter2', n: 1n }], b: { text: 'Bearer hunter2' } };
    log.info(fields, 'happened');
    expect(fields).toEqual({ a: [{ token: 'hunter2', n: 1n }], b: { text: 'Bearer hunter2' } });
  });

  test('a message is scrubbed as well', () => {
    const { log, last } = recorder();
    log.warn({}, `refused ${JWT}`);
    expect(last().msg).toBe('refused (hidden)');
  });

  test('what is no secret stays readable', () => {
    const { log, last } = recorder();
    log.info({ id: 'dg_1', room: 'r', identity: '@a:b:D', sid: 'PA_1', attempt: 2, none: null, at: new Date(0), n: 1n }, 'left');
    expect(last()).toMatchObject({
      level: 'info',
      id: 'dg_1',
      room: 'r',
      identity: '@a:b:D',
      sid: 'PA_1',
      attempt: 2,
      none: null,
      n: '1',
      msg: 'left',
    });
    log.error({ err: Object.assign(new TypeError('no'), { code: 'ECONNREFUSED' }) }, 'failed');
    expect(last().err).toMatchObject({ type: 'TypeError', message: 'no', code: 'ECONNREFUSED' });
  });

  test('a ring of objects ends', () => {
    const ring: Record<string, unknown> = {};
    ring.ring = ring;
    const { log, lines } = recorder();
    log.info(ring, 'round');
    expect(lines[0]).toContain('(deep)');
  });

  test('a long text of a stranger, full of what begins like a secret, holds nobody up', () => {
    const text = '-eyJaaaaa'.repeat(30_000);
    const { log, last } = recorder();
    const startMs = performance.now();
    log.info({ identity: text }, 'joined');
    expect(last().identity).toBe(text);
    expect(performance.now() - startMs).toBeLessThan(1_000);
  });

  test('below the level nothing is written', () => {
    const { log, lines } = recorder('info');
    log.debug({}, 'quiet');
    expect(lines).toEqual([]);
  });
});

describe('metrics', () => {
  const created = () => {
    const registry = new Registry();
    const homeservers = {
      fullAccess: { all: true, names: ['example.org', 'other.example:8448'] as ServerName[] },
      overrides: new Map([['over.example' as ServerName, 'http://synapse:8008' as HomeserverUrl]]),
    };
    return { registry, metrics: createMetrics(registry, { homeservers, process: false }) };
  };
  const valueAt = async (registry: Registry, line: string) => {
    const found = (await registry.metrics()).split('\n').find((text) => text.startsWith(`${line} `));
    return found === undefined ? null : Number(found.slice(line.length));
  };

  test('are those that are described, no more and no less', async () => {
    const { registry } = created();
    const described = Object.values(METRICS).map(({ name, type, help }) => ({ name, type, help }));
    const registered = (await registry.getMetricsAsJSON()).map(({ name, type, help }) => ({ name, type: String(type), help }));
    const byName = (a: { name: string }, b: { name: string }) => a.name.localeCompare(b.name);
    expect(registered.sort(byName)).toEqual(described.sort(byName));
    for (const { name } of described) expect(metricsTable()).toContain(`| \`${name}\` |`);
  });

  test('tell which version runs', async () => {
    expect(await valueAt(created().registry, `lastwill_build_info{version="${manifest.version}"}`)).toBe(1);
  });

  test('begin at 0 where an alert waits for the first', async () => {
    const { registry } = created();
    expect(await valueAt(registry, 'lastwill_ghosts_total{cause="missing"}')).toBe(0);
    expect(await valueAt(registry, 'lastwill_false_leaves_total')).toBe(0);
    expect(await valueAt(registry, 'lastwill_leaves_total{cause="left",outcome="sent"}')).toBe(0);
    for (const of of ['commits', 'syncs']) expect(await valueAt(registry, `lastwill_store_${of}_total{result="failed"}`), of).toBe(0);
    expect(await valueAt(registry, 'lastwill_sfu_up'), 'not known before the first call').toBeNaN();
  });

  test('count and observe, ms in and seconds out', async () => {
    const { registry, metrics } = created();
    metrics.ghost('left');
    metrics.falseLeave();
    metrics.ghostAvoided('removed');
    metrics.leave('left', 'sent');
    metrics.overdueLeaveFailed();
    metrics.restart('limited');
    metrics.lateRestart();
    metrics.restartsGivenUp(2);
    metrics.delegation('created');
    metrics.departureToLeave('left', 1500);
    metrics.homeserverRequest('send', 20);
    metrics.storeCommit('ok', 2, 7);
    metrics.dueLag(40);
    metrics.sfuRequest('failed');
    const expected: [string, number][] = [
      ['lastwill_ghosts_total{cause="left"}', 1],
      ['lastwill_false_leaves_total', 1],
      ['lastwill_ghosts_avoided_total{cause="removed"}', 1],
      ['lastwill_leaves_total{cause="left",outcome="sent"}', 1],
      ['lastwill_overdue_leave_failures_total', 1],
      ['lastwill_restarts_total{result="limited"}', 1],
      ['lastwill_late_restarts_total', 1],
      ['lastwill_delegations_total{result="created"}', 1],
      ['lastwill_departure_to_leave_seconds_sum{cause="left"}', 1.5],
      ['lastwill_departure_to_leave_seconds_bucket{le="1",cause="left"}', 0],
      ['lastwill_departure_to_leave_seconds_bucket{le="2",cause="left"}', 1],
      ['lastwill_homeserver_request_seconds_sum{action="send"}', 0.02],
      ['lastwill_store_commits_total{result="ok"}', 1],
      ['lastwill_store_commit_seconds_sum', 0.002],
      ['lastwill_store_batch_size_sum', 7],
      ['lastwill_due_lag_seconds_sum', 0.04],
      ['lastwill_sfu_requests_total{result="failed"}', 1],
      ['lastwill_sfu_up', 0],
    ];
    for (const [line, value] of expected) expect(await valueAt(registry, line), line).toBe(value);
    metrics.sfuRequest('ok');
    expect(await valueAt(registry, 'lastwill_sfu_up')).toBe(1);
  });

  test('strangers cannot grow the labels', async () => {
    const { registry, metrics } = created();
    for (let i = 0; i < 50; i += 1) {
      metrics.webhook(`invented_${i}`, 'ignored');
      metrics.homeserverFailure(`https://invented-${i}.example`, 'timeout');
      metrics.homeserverFailure(`not a url ${i}`, 'timeout');
    }
    metrics.webhook('participant_left', 'applied');
    expect(await valueAt(registry, 'lastwill_webhooks_total{event="other",verdict="ignored"}')).toBe(50);
    expect(await valueAt(registry, 'lastwill_webhooks_total{event="participant_left",verdict="applied"}')).toBe(1);
    expect(await valueAt(registry, 'lastwill_homeserver_failures_total{homeserver="other",why="timeout"}')).toBe(100);
  });

  const LABELS: [string, string][] = [
    ['example.org', 'example.org'],
    ['https://example.org', 'example.org'],
    ['https://matrix.example.org:8448', 'example.org'],
    ['https://other.example:8448', 'other.example:8448'],
    ['http://synapse:8008', 'over.example'],
    ['https://notexample.org', 'other'],
  ];
  test.each(LABELS)('the homeserver %s counts as %s', async (homeserver, label) => {
    const { registry, metrics } = created();
    metrics.homeserverFailure(homeserver, 'limited');
    expect(await valueAt(registry, `lastwill_homeserver_failures_total{homeserver="${label}",why="limited"}`)).toBe(1);
  });

  test('delegations are counted when asked for; a failing count spoils nothing else', async () => {
    const { registry, metrics } = created();
    metrics.countDelegationsWith(() => Promise.resolve({ connected: 3 }));
    expect(await valueAt(registry, 'lastwill_delegations{state="connected"}')).toBe(3);
    expect(await valueAt(registry, 'lastwill_delegations{state="leaving"}')).toBe(0);
    metrics.countDelegationsWith(() => Promise.reject(new Error('locked')));
    expect(await valueAt(registry, 'lastwill_delegations{state="connected"}')).toBeNull();
    expect(await valueAt(registry, 'lastwill_late_restarts_total')).toBe(0);
  });

  test('the process is measured from the first scrape on, unless told otherwise', async () => {
    const registry = new Registry();
    const metrics = createMetrics(registry);
    for (const _ of ['first', 'second']) metrics.watchProcess();
    expect(await registry.metrics()).toContain('process_resident_memory_bytes');
    const without = created();
    without.metrics.watchProcess();
    expect(await without.registry.metrics()).not.toContain('process_resident_memory_bytes');
  });
});
