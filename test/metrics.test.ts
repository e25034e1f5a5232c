import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import manifest from '../package.json' with { type: 'json' };
import type { HomeserverUrl, ServerName } from '../src/delegation/ids.ts';
import { createMetrics, METRICS, metricsTable } from '../src/metrics.ts';

describe('metrics', () => {
  const created = () => {
    const registry = new Registry();
    const homeservers = {
      fullAccess: { all: true, names: ['example.org', 'other.example:8448'] as ServerName[] },
      overrides: new Map([['over.example' as ServerName, 'http://synapse:8008' as HomeserverUrl]]),
      applicationService: { serverName: 'home.example' as ServerName, asToken: 'as', hsToken: null, membershipCheckMs: 0 },
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
    ['home.example', 'home.example'],
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
