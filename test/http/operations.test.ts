// What orchestrators and Prometheus read.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { METRICS } from '../../src/metrics.ts';
import { createHarness, type Harness, handOverBody, participantEvent, SECRETS } from './harness.ts';

let at: Harness;
beforeEach(() => {
  at = createHarness();
});
afterEach(() => at.close());

const ready = async () => {
  const { status, json } = await at.ask('GET', '/readyz');
  return [status, json];
};

test('alive is alive, whatever is away', async () => {
  [at.storeAway, at.draining, at.sfu.reachable] = [true, true, false];
  const { status, json } = await at.ask('GET', '/healthz');
  expect([status, json]).toEqual([200, { status: 'ok' }]);
});

test.each(['/healthz', '/readyz', '/metrics'])('HEAD %s is answered without a body', async (path) => {
  const { status, text } = await at.ask('HEAD', path);
  expect([status, text]).toEqual([200, '']);
});

describe('ready', () => {
  test('with a store that can be written; the SFU is not known yet', async () => {
    expect(await ready()).toEqual([200, { ready: true, store: 'writable', draining: false, sfu: 'unknown' }]);
  });

  test('with an SFU that answers', async () => {
    at.engine.start();
    await at.clock.settle();
    expect(await ready()).toEqual([200, { ready: true, store: 'writable', draining: false, sfu: 'reachable' }]);
  });

  test('with an SFU that does not, which is told', async () => {
    at.sfu.reachable = false;
    at.engine.start();
    await at.clock.settle();
    expect(await ready()).toEqual([200, { ready: true, store: 'writable', draining: false, sfu: 'unreachable' }]);
    at.sfu.reachable = true;
    await at.clock.advance(3_000);
    expect(await ready()).toEqual([200, { ready: true, store: 'writable', draining: false, sfu: 'reachable' }]);
  });

  test('not with a store that can not be written, and again when it can', async () => {
    at.storeAway = true;
    expect(await ready()).toEqual([503, { ready: false, store: 'not writable', draining: false, sfu: 'unknown' }]);
    at.storeAway = false;
    expect((await ready())[0]).toBe(200);
  });

  test('that the store can not be written is told, and counted, though nobody asks for anything else', async () => {
    const storeUp = async () => /^lastwill_store_up (\d)$/m.exec((await at.ask('GET', '/metrics')).text)?.[1];
    at.engine.start();
    at.storeAway = true;
    await ready();
    await ready();
    expect(at.log.filter((line) => line.includes('can not make writes durable'))).toEqual([expect.stringContaining('"why":"told to be"')]);
    expect(await storeUp()).toBe('0');
    at.storeAway = false;
    await at.clock.advance(2_000);
    expect(at.log.filter((line) => line.includes('writable again'))).toHaveLength(1);
    expect(await storeUp()).toBe('1');
  });

  test('not while draining', async () => {
    at.draining = true;
    expect(await ready()).toEqual([503, { ready: false, store: 'writable', draining: true, sfu: 'unknown' }]);
  });

  test('not with a store that was closed', async () => {
    await at.store.close();
    expect((await ready())[0]).toBe(503);
  });
});

describe('metrics', () => {
  test('are all there, with their help', async () => {
    const { status, text, headers } = await at.ask('GET', '/metrics');
    expect(status).toBe(200);
    expect(headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    for (const { name, type, help } of Object.values(METRICS)) {
      expect(text).toContain(`# HELP ${name} ${help}`);
      expect(text).toContain(`# TYPE ${name} ${type}`);
    }
  });

  test('count what is held, by state', async () => {
    at.engine.start();
    await at.post(handOverBody(1), { n: 1 });
    await at.post(handOverBody(2), { n: 2 });
    await at.hook(participantEvent('participant_joined', 2));
    const held = (state: string) => at.metric(`lastwill_delegations{state="${state}"}`);
    expect([await held('awaiting'), await held('connected'), await held('ended')]).toEqual([1, 1, 0]);
  });

  test('do not grow with strangers, and hold no secret', async () => {
    at.engine.start();
    const series = async () => (await at.ask('GET', '/metrics')).text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    const stranger = async (n: number): Promise<void> => {
      await at.post(handOverBody(n), { n });
      await at.post(handOverBody(n, { homeserver: `https://h${n}.example.net` }), { n });
      await at.post(handOverBody(n, { [`field${n}`]: 1 }), { n });
      await at.hook(participantEvent(`event_${n}`, n));
      const joinedAtMs = at.clock.nowMs();
      await at.hook(participantEvent('participant_joined', n, { joinedAtMs }));
      await at.hook(participantEvent('participant_left', n, { reason: 'CLIENT_INITIATED', joinedAtMs }));
      await at.ask('GET', `/nowhere/${n}`);
      await at.ask('GET', `/v1/delegations/x${n}`);
      await at.clock.advance(3_000);
    };
    await stranger(1);
    const before = await series();
    for (let n = 2; n <= 20; n += 1) await stranger(n);
    const after = await series();
    const names = (lines: readonly string[]) => lines.map((line) => line.replace(/ [^ ]*$/, '')).sort();
    expect(names(after)).toEqual(names(before));
    expect(after.join('\n')).not.toMatch(SECRETS);
    expect(after.join('\n')).not.toMatch(/identity-|room-|PA_|example\.net/);
  });

  test('come also when the store is closed', async () => {
    at.engine.start();
    await at.store.close();
    expect((await at.ask('GET', '/metrics')).status).toBe(200);
  });
});

test('metrics are written once for all who ask at the same time, and anew for who asks later', async () => {
  const written = vi.spyOn(at.registry, 'metrics');
  const pages = await Promise.all(Array.from({ length: 50 }, () => at.ask('GET', '/metrics')));
  expect(new Set(pages.map(({ status }) => status))).toEqual(new Set([200]));
  const together = written.mock.calls.length;
  await at.clock.settle();
  await at.ask('GET', '/metrics');
  expect([together, written.mock.calls.length]).toEqual([1, 2]);
});

test('metrics are written so often and no oftener, however many ask one after the other', async () => {
  const written = vi.spyOn(at.registry, 'metrics');
  const askedFor = async (times: number): Promise<number> => {
    const before = written.mock.calls.length;
    for (let n = 0; n < times; n += 1) {
      expect((await at.ask('GET', '/metrics')).status).toBe(200);
      await at.clock.settle();
    }
    return written.mock.calls.length - before;
  };
  expect(await askedFor(200)).toBeLessThanOrEqual(25);
  await at.clock.advance(1_000);
  expect(await askedFor(3)).toBe(3);
});
