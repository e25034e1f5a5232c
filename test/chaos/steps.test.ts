// What is added to the wait, taken apart.
import { expect, test } from 'vitest';
import type { Evidence } from './evidence.ts';
import { addedBy } from './steps.ts';

const GONE = Date.parse('2026-11-25T03:00:00.000Z');
const moved = (afterMs: number, to: string, sid = 'PA_1'): string =>
  JSON.stringify({ level: 'info', time: new Date(GONE + afterMs).toISOString(), sid, to, msg: 'delegation moved' });
const EVIDENCE: Evidence = {
  sessions: [{ identity: 'a', sid: 'PA_1', fromMs: GONE - 9_000, toMs: GONE, reason: 'CLIENT_INITIATED', toldMs: GONE + 4 }],
  handOvers: [{ identity: 'a', serial: 1, delayId: 'd1', takenMs: GONE - 8_000 }],
  acts: [{ delayId: 'd1', action: 'send', beganMs: GONE + 1_020, endedMs: GONE + 1_060, status: 200 }],
  ...{ glimpses: [], announcements: [], outages: [], deeds: [], endedMs: GONE + 60_000 },
};
const DEPARTURE = { identity: 'a', cause: 'hung up', disturbed: [], departedMs: GONE, goneMs: GONE, leftMs: GONE + 1_050, latestMs: GONE };

test('each step has its time, and together they are all that is more than the wait', () => {
  const log = [
    moved(-8_000, 'connected'),
    moved(10, 'settling'),
    moved(1_016, 'leaving'),
    'no line of ours',
    moved(20, 'settling', 'PA_2'),
  ];
  const steps = addedBy(EVIDENCE, [DEPARTURE], log.join('\n'), 1_000);
  expect(steps.map(({ inOrderMs }) => inOrderMs)).toEqual([[10], [6], [4], [30], [50]]);
});

test('a leave that cannot be followed through the log is left out', () => {
  const steps = addedBy(EVIDENCE, [DEPARTURE], moved(10, 'settling'), 1_000);
  expect(steps.map(({ inOrderMs }) => inOrderMs.length)).toEqual([0, 0, 0, 0, 0]);
});
