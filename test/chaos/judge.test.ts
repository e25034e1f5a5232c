// The judge sees a sin where there is one, and none where there is none.
import { describe, expect, test } from 'vitest';
import type { Evidence, Session, Waits } from './evidence.ts';
import { judge } from './judge.ts';

const WAITS: Waits = {
  left: 1_000,
  lost: 1_000,
  replaced: 1_000,
  sfuDown: 15_000,
  aborted: 30_000,
  missing: 4_000,
  presenceInterval: 10_000,
};
const T = 1_000_000;
const HERE = { identity: 'a', atMs: T - 1_000, kind: 'here', serial: 1 } as const;
const gone = (atMs: number) => ({ identity: 'a', atMs, kind: 'gone', serial: 0 }) as const;
const session = (more: Partial<Session> = {}): Session => ({
  ...{ identity: 'a', sid: 'PA_1', fromMs: T, toMs: T + 60_000, reason: 'CLIENT_INITIATED', toldMs: T + 60_000 },
  ...more,
});
const sent = (beganMs: number, endedMs = beganMs + 10) => ({ delayId: 'd1', action: 'send', beganMs, endedMs, status: 200 });
const evidence = (more: Partial<Evidence>): Evidence => ({
  sessions: [session()],
  glimpses: [],
  announcements: [HERE],
  handOvers: [{ identity: 'a', serial: 1, delayId: 'd1', takenMs: T - 500 }],
  acts: [],
  outages: [],
  deeds: [],
  endedMs: T + 600_000,
  ...more,
});
const sins = (more: Partial<Evidence>) => {
  const { ghosts, falseLeaves, overtaken } = judge(evidence(more), WAITS);
  return { ghosts: ghosts.length, falseLeaves: falseLeaves.length, overtaken };
};
const left = (afterMs: number, more: Partial<Evidence> = {}): Partial<Evidence> => ({
  announcements: [HERE, gone(T + 60_000 + afterMs)],
  acts: [sent(T + 60_000 + afterMs - 5)],
  ...more,
});
const NONE = { ghosts: 0, falseLeaves: 0, overtaken: 0 };
const GHOST = { ...NONE, ghosts: 1 };
const FALSE_LEAVE = { ...NONE, falseLeaves: 1 };

describe('a ghost', () => {
  test('is who has gone and is never declared gone', () => expect(sins({})).toEqual(GHOST));
  test('is who is declared gone after the wait and a second', () => expect(sins(left(2_001))).toEqual(GHOST));
  test('is not who is declared gone before', () => expect(sins(left(1_999))).toEqual(NONE));
  test('is not who is back in time', () =>
    expect(sins({ sessions: [session(), session({ sid: 'PA_2', fromMs: T + 61_500, toMs: T + 900_000 })] })).toEqual(NONE));
  test('is not who was seen in a list again in time', () =>
    expect(sins({ glimpses: [{ identity: 'a', sid: 'PA_2', atMs: T + 61_500 }] })).toEqual(NONE));
  test('is not who the homeserver took its time for', () => {
    expect(sins(left(2_900, { acts: [sent(T + 61_900, T + 62_910)] }))).toEqual(NONE);
    expect(sins(left(2_900, { acts: [sent(T + 62_000, T + 62_910)] }))).toEqual(GHOST);
  });
  test('is not excused by a leave for which it came back first', () => {
    const sessions = [session(), session({ sid: 'PA_2', fromMs: T + 80_000, toMs: T + 90_000 })];
    expect(sins(left(31_000, { sessions })).ghosts).toBe(1);
  });
  test('is who is back too late', () =>
    expect(sins({ sessions: [session(), session({ sid: 'PA_2', fromMs: T + 62_500, toMs: T + 900_000 })] })).toEqual(GHOST));
  test('is not who never handed a leave over, or only after it was gone', () => {
    const handOver = { identity: 'a', serial: 1, delayId: 'd1' };
    expect(sins({ handOvers: [] })).toEqual(NONE);
    expect(sins({ handOvers: [{ ...handOver, takenMs: null }] })).toEqual(NONE);
    expect(sins({ handOvers: [{ ...handOver, takenMs: T + 61_000 }] })).toEqual(NONE);
  });
  test('is not who had been declared gone already', () => expect(sins({ announcements: [HERE, gone(T - 500)] })).toEqual(NONE));
  test('may be late by as much as the webhook', () => {
    expect(sins(left(3_400, { sessions: [session({ toldMs: T + 61_500 })] }))).toEqual(NONE);
    expect(sins(left(3_600, { sessions: [session({ toldMs: T + 61_500 })] }))).toEqual(GHOST);
    expect(sins(left(15_001, { sessions: [session({ toldMs: T + 90_000 })] }))).toEqual(GHOST);
  });
  test('may be late by an interval and a second look if the webhook was lost', () => {
    const sessions = [session({ toldMs: null })];
    expect(sins(left(14_999, { sessions }))).toEqual(NONE);
    expect(sins(left(15_001, { sessions }))).toEqual(GHOST);
  });
  test.for([
    ['service', 5_000],
    ['SFU', 25_000],
    ['homeserver', 10_000],
  ] as const)('may be late by the outage of the %s, and %i ms', ([part, more]) => {
    const outages = [{ part, fromMs: T + 60_500, toMs: T + 70_000 }];
    expect(sins(left(2_000 + 9_500 + more - 1, { outages }))).toEqual(NONE);
    expect(sins(left(2_000 + 9_500 + more + 1, { outages }))).toEqual(GHOST);
    const again = [...outages, { part, fromMs: T + 72_000, toMs: T + 73_000 }];
    expect(sins(left(2_000 + 10_500 + more * (part === 'SFU' ? 2 : 1) + 1, { outages: again }))).toEqual(GHOST);
  });
  test('is not excused by an outage before or after', () => {
    const outages = [
      { part: 'service', fromMs: T, toMs: T + 59_000 },
      { part: 'homeserver', fromMs: T + 63_000, toMs: T + 70_000 },
    ] as const;
    expect(sins(left(3_000, { outages }))).toEqual(GHOST);
  });
  test('is excused for as long as the machine stood still', () => {
    const outages = [{ part: 'machine', fromMs: T + 60_500, toMs: T + 61_000 }] as const;
    expect(sins(left(2_499, { outages }))).toEqual(NONE);
    expect(sins(left(2_501, { outages }))).toEqual(GHOST);
  });
});

describe('an attempt that is aborted', () => {
  const killed = session({ reason: 'SFU_KILLED', toldMs: null });
  const attempt = session({ sid: 'PA_2', reason: 'ABORTED', fromMs: T + 64_000, toMs: T + 65_000, toldMs: T + 65_000 });
  const back = session({ sid: 'PA_3', fromMs: T + 66_500, toMs: T + 900_000 });
  const ending = (afterMs: number, sessions: readonly Session[]) => sins(left(5_000 + afterMs, { sessions }));
  test('leaves its participant the wait that it was made in', () => {
    expect(ending(1_000, [killed, attempt, back])).toEqual(FALSE_LEAVE);
    expect(ending(15_990, [killed, attempt])).toEqual(NONE);
    expect(ending(16_010, [killed, attempt])).toEqual(GHOST);
  });
  test('leaves the wait of a first one to who had not been there before', () => {
    expect(ending(30_990, [attempt])).toEqual(NONE);
    expect(ending(31_010, [attempt])).toEqual(GHOST);
  });
  test('is a presence while it lasts', () => expect(sins(left(4_500, { sessions: [killed, attempt, back] }))).toEqual(FALSE_LEAVE));
});

describe('the cause', () => {
  const causeOf = (deed: { atMs: number; what: string; ended: 'killed' | null }, reason = 'CONNECTION_TIMEOUT') =>
    judge(evidence(left(1_500, { sessions: [session({ reason })], deeds: [{ identity: 'a', ...deed }] })), WAITS).departures[0]?.cause;
  test('is what was done in that session', () => expect(causeOf({ atMs: T + 40_000, what: 'killed', ended: 'killed' })).toBe('killed'));
  test('is not what was done in a session before', () =>
    expect(causeOf({ atMs: T - 10, what: 'killed', ended: 'killed' })).toBe('CONNECTION_TIMEOUT'));
  test('is not a cut that was survived until the SFU was killed', () => {
    expect(causeOf({ atMs: T + 40_000, what: 'cut off', ended: null }, 'SFU_KILLED')).toMatch(/^the SFU was killed/);
    expect(causeOf({ atMs: T + 40_000, what: 'killed', ended: 'killed' }, 'SFU_KILLED')).toBe('killed');
  });
});

describe('a false leave', () => {
  const announcements = [HERE, gone(T + 30_000), { ...HERE, atMs: T + 30_500, serial: 2 }];
  test('is one sent while its participant is there', () => expect(sins({ announcements, acts: [sent(T + 29_990)] })).toEqual(FALSE_LEAVE));
  test("is one by the homeserver's own timer while its participant is there", () => expect(sins({ announcements })).toEqual(FALSE_LEAVE));
  test('is one between two sessions of who is back within the wait', () => {
    const sessions = [
      session({ toMs: T + 29_900, reason: 'DUPLICATE_IDENTITY' }),
      session({ sid: 'PA_2', fromMs: T + 30_050, toMs: T + 900_000 }),
    ];
    expect(sins({ sessions, announcements, acts: [sent(T + 29_990)] })).toEqual(FALSE_LEAVE);
  });
  test('is not one between two sessions of who took longer', () => {
    const sessions = [session({ toMs: T + 28_900 }), session({ sid: 'PA_2', fromMs: T + 30_050, toMs: T + 900_000 })];
    expect(sins({ sessions, announcements, acts: [sent(T + 29_990)] })).toEqual(NONE);
  });
  test('after the SFU was killed is one of who came back within its wait', () => {
    const sessions = [session({ toMs: T + 20_000, reason: 'SFU_KILLED' }), session({ sid: 'PA_2', fromMs: T + 34_000, toMs: T + 900_000 })];
    expect(sins({ sessions, announcements, acts: [sent(T + 29_990)] })).toEqual(FALSE_LEAVE);
  });
  test('is not one of who had died, and came anew', () => {
    const sessions = [session({ toMs: T + 20_000, reason: 'SFU_KILLED' }), session({ sid: 'PA_2', fromMs: T + 34_000, toMs: T + 900_000 })];
    const deeds = [{ identity: 'a', atMs: T + 22_000, what: 'killed', ended: 'killed' } as const];
    expect(sins({ sessions, announcements, acts: [sent(T + 29_990)], deeds })).toEqual(NONE);
    expect(sins({ sessions, announcements: [HERE, gone(T + 22_000)], acts: [sent(T + 21_990)], deeds })).toEqual(FALSE_LEAVE);
  });
  test('is not one of who said goodbye while the SFU was down, after the wait for that', () => {
    const sessions = [session({ toMs: T + 20_000, reason: 'SFU_KILLED' }), session({ sid: 'PA_2', fromMs: T + 34_000, toMs: T + 900_000 })];
    const deeds = [{ identity: 'a', atMs: T + 28_000, what: 'reloaded', ended: 'goodbye' }] as const;
    expect(sins({ sessions, announcements, acts: [sent(T + 29_990)], deeds })).toEqual(NONE);
    expect(sins({ sessions, announcements, acts: [sent(T + 29_990)], deeds: [{ ...deeds[0], atMs: T + 29_100 }] })).toEqual(FALSE_LEAVE);
  });
  test('is not one that the homeserver, stopped, took only after the return', () => {
    const outages = [{ part: 'homeserver', fromMs: T + 22_500, toMs: T + 30_000 }] as const;
    const sessions = [session({ toMs: T + 22_000 }), session({ sid: 'PA_2', fromMs: T + 28_000, toMs: T + 900_000 })];
    expect(sins({ sessions, announcements, acts: [sent(T + 23_000, T + 30_005)], outages })).toEqual({ ...NONE, overtaken: 1 });
  });
});
