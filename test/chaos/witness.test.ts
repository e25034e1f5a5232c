// Who was on the SFU, read from lines as LiveKit writes them.
import { expect, test } from 'vitest';
import { attendanceIn } from './witness.ts';

const line = (msg: string, sid: string, ts: number, more: object = {}): string =>
  JSON.stringify({ level: 'info', ts, msg, room: 'r', participant: 'a', participantID: sid, ...more });
const NOBODY_TOLD: ReadonlyMap<string, number> = new Map();
const read = (lines: readonly string[], killsMs: readonly number[] = [], told = NOBODY_TOLD) =>
  attendanceIn(['not JSON at all', '{"msg":"sent webhook"}', ...lines, ''].join('\n'), killsMs, told);

test('a session is from media to its closing, for the reason that the webhook gives', () => {
  const lines = [
    line('starting RTC session', 'PA_1', 1.5),
    line('participant active', 'PA_1', 2),
    line('participant closing', 'PA_1', 9.25, { reason: 'CLIENT_REQUEST_LEAVE' }),
  ];
  expect(read(lines, [], new Map([['PA_1', 9_300]]))).toEqual({
    glimpses: [{ identity: 'a', sid: 'PA_1', atMs: 1_500 }],
    sessions: [{ identity: 'a', sid: 'PA_1', fromMs: 2_000, toMs: 9_250, reason: 'CLIENT_INITIATED', toldMs: 9_300 }],
  });
});

test('a session that is not closed is still there', () => {
  expect(read([line('participant active', 'PA_1', 2)]).sessions).toMatchObject([{ toMs: Number.POSITIVE_INFINITY, toldMs: null }]);
});

test('with the SFU its sessions end, and those of the next one do not', () => {
  const lines = [line('participant active', 'PA_1', 2), line('participant active', 'PA_2', 7)];
  expect(read(lines, [5_000]).sessions).toMatchObject([
    { sid: 'PA_1', toMs: 5_000, reason: 'SFU_KILLED' },
    { sid: 'PA_2', toMs: Number.POSITIVE_INFINITY },
  ]);
});

test('signalling without media is seen, and is an attempt that was aborted', () => {
  const lines = [line('starting RTC session', 'PA_1', 1), line('participant closing', 'PA_1', 2, { reason: 'SIGNAL_SOURCE_CLOSE' })];
  const { glimpses, sessions } = read(lines);
  expect([glimpses.length, sessions]).toEqual([
    1,
    [{ identity: 'a', sid: 'PA_1', fromMs: 1_000, toMs: 2_000, reason: 'ABORTED', toldMs: null }],
  ]);
});
