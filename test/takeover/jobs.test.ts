import fc from 'fast-check';
import { expect, it } from 'vitest';
import { readJob } from '../../src/takeover/jobs.ts';

const FIELD = '["room-1","@alice:example.org:PHONE"]';
const PARAMS = {
  DelayId: 'syd_secret',
  DelayTimeout: 10_000_000_000,
  ServerName: 'example.org',
  LiveKitRoom: 'room-1',
  LiveKitIdentity: '@alice:example.org:PHONE',
};
const value = (params: object = {}, more: object = { RestartedAt: '2026-11-23T08:00:00.123456789Z' }) =>
  JSON.stringify({ Params: { ...PARAMS, ...params }, ...more });

it('reads a job', () => {
  expect(readJob(FIELD, value())).toEqual({
    kind: 'job',
    job: {
      ...{ room: 'room-1', identity: '@alice:example.org:PHONE', delayId: 'syd_secret', delayMs: 10_000, serverName: 'example.org' },
      restartedAtMs: Date.UTC(2026, 10, 23, 8, 0, 0, 123),
    },
  });
});

it('takes a job whose restart is not known', () => {
  expect(readJob(FIELD, value({}, {}))).toMatchObject({ kind: 'job', job: { restartedAtMs: null } });
  expect(readJob(FIELD, value({}, { RestartedAt: 'yesterday' }))).toMatchObject({ kind: 'job', job: { restartedAtMs: null } });
  expect(readJob(FIELD, value({}, { RestartedAt: 5 }))).toMatchObject({ kind: 'job', job: { restartedAtMs: null } });
});

it('takes a delay as long as its clients may ask of us', () => {
  expect(readJob(FIELD, value({ DelayTimeout: 3.2e16 }))).toMatchObject({ kind: 'job', job: { delayMs: 3.2e10 } });
  expect(readJob(FIELD, value({ DelayTimeout: 9_223_372_036_854e6 }))).toMatchObject({ kind: 'job' });
});

it.each([
  ['no JSON', FIELD, 'syd_secret'],
  ['another field', '["room-2","@alice:example.org:PHONE"]', value()],
  ['a field that is no pair', '"room-1"', value()],
  ['a delay_id with a path in it', FIELD, value({ DelayId: '../syd_secret' })],
  ['a delay of nothing', FIELD, value({ DelayTimeout: 0 })],
  ['a delay that 64 bits do not hold', FIELD, value({ DelayTimeout: 9.3e18 })],
  ['a missing name', FIELD, value({ ServerName: undefined })],
])('refuses %s, and shows nothing of it', (_, field, text) => {
  const read = readJob(field, text);
  expect(read.kind).toBe('unreadable');
  expect(JSON.stringify(read)).not.toContain('syd_secret');
});

it.each([
  ['[', 'its value has no usable JSON'],
  [value({ ServerName: undefined }), 'its value has no usable Params.ServerName'],
])('says what is wrong with %s', (text, why) => {
  expect(readJob(FIELD, text)).toEqual({ kind: 'unreadable', why });
});

it('never throws', () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), fc.oneof(fc.string(), fc.json()), (field, text) => void readJob(field, text)));
});
