// What a look at a room is evidence of.
import { describe, expect, test } from 'vitest';
import type { Identity, RoomName, RoomSid, Sid } from '../../src/delegation/ids.ts';
import type { Seen } from '../../src/delegation/state.ts';
import type { Evidence } from '../../src/engine/evidence.ts';
import { createPresence, type Presence } from '../../src/engine/presence.ts';
import type { Look, Rooms } from '../../src/sfu/rooms.ts';
import { createModelSightings, Disk } from '../sim/model-store.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const ROOM = 'room' as RoomName;
const people = (...sids: string[]): Look => ({
  kind: 'list',
  present: sids.map((sid) => ({ identity: `of ${sid[3]}` as Identity, sid: sid as Sid, joinedAtMs: null, active: true })),
  roomSid: sids.length > 0 ? undefined : (null as RoomSid | null),
});

const evidenceOf = (...looks: readonly Look[]): Promise<Evidence[]> => evidenceBy(1_000, looks);

/** The evidence of one look after the other, an interval apart, by a process that runs every so often. */
async function evidenceBy(everyMs: number, looks: readonly Look[]): Promise<Evidence[]> {
  const clock = createVirtualClock();
  const found: Evidence[] = [];
  const look = async (): Promise<Look> => looks[found.length] as Look;
  const presence: Presence = createPresence({
    ...{ rooms: { look, answers: async () => true }, clock },
    ...{ onReturn: () => {}, onAnswer: () => {} },
  });
  for (let count = 0; count < looks.length; count += 1) {
    found.push(await presence.ask(ROOM, clock.nowMs(), 0));
    for (let ms = 0; ms < 30_000; ms += everyMs) {
      await clock.advance(everyMs);
      presence.touch(Number.POSITIVE_INFINITY);
    }
  }
  return found;
}
const afterRestart = async (...looks: readonly Look[]) => ({ afterRestart: true, ...(await evidenceOf(...looks)).at(-1) }).afterRestart;

test('of all who were there nobody is, and somebody else is: the SFU forgot them, and some are back', async () => {
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people('PA_a2'))).toBe(true);
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people(), people('PA_a2'))).toBe(true);
});

test('one of them still there, one alone, or nobody yet, is no sign of that', async () => {
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people('PA_b1', 'PA_a2'))).toBe(false);
  expect(await afterRestart(people('PA_a1'), people('PA_b1'))).toBe(false);
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people())).toBe(false);
  expect(await afterRestart(people('PA_a1', 'PA_b1'))).toBe(false);
});

test('the sign is one of that look, not of those after it', async () => {
  expect(await afterRestart(people('PA_a1', 'PA_b1'), people('PA_a2', 'PA_b2'), people('PA_a2'))).toBe(false);
});

describe('an SFU that could not be asked a moment ago', () => {
  async function afterFailure(): Promise<{ readonly ask: (notBeforeMs: number) => Promise<Evidence>; nowMs: number; looks: string[] }> {
    const clock = createVirtualClock();
    const looks: string[] = [];
    const look = async (room: RoomName): Promise<Look> => {
      looks.push(room);
      return looks.length <= 2 ? { kind: 'unreachable', why: 'away' } : people('PA_a1');
    };
    const presence = createPresence({ rooms: { look, answers: async () => true }, clock, onReturn: () => {}, onAnswer: () => {} });
    await presence.ask(ROOM, clock.nowMs(), 0);
    await clock.advance(700);
    return { ask: (notBeforeMs) => presence.ask('another room' as RoomName, notBeforeMs, 0), nowMs: clock.nowMs(), looks };
  }

  test('is asked again by who would act upon its silence: it may be back, and so may whoever left', async () => {
    const { ask, nowMs, looks } = await afterFailure();
    expect(await ask(nowMs)).toMatchObject({ kind: 'list' });
    expect(looks).toEqual([ROOM, ROOM, 'another room']);
  });

  test('is not by those for whom what is known would have done: they are many', async () => {
    const { ask, nowMs, looks } = await afterFailure();
    for (let n = 0; n < 3; n += 1) expect(await ask(nowMs - 2_000)).toMatchObject({ kind: 'unreachable' });
    expect(looks).toEqual([ROOM, ROOM]);
  });
});

test('an SFU that is away is asked by one for all who ask at a time, whichever their room is', async () => {
  const clock = createVirtualClock();
  let looks = 0;
  const look = async (): Promise<Look> => {
    looks += 1;
    await new Promise<void>((resolve) => void clock.after(300, resolve));
    return { kind: 'unreachable', why: 'away' };
  };
  const presence = createPresence({ rooms: { look, answers: async () => false }, clock, onReturn: () => {}, onAnswer: () => {} });
  const sinceMs = clock.nowMs();
  void presence.ask(ROOM, sinceMs, 0);
  await clock.advance(2_000);
  looks = 0;
  const all = Array.from({ length: 20 }, (_, nth) => presence.ask(`room ${nth}` as RoomName, sinceMs, 0));
  await clock.advance(1_000);
  expect(new Set((await Promise.all(all)).map(({ kind }) => kind))).toEqual(new Set(['unreachable']));
  expect(looks).toBe(1);
});

test('a question that was not answered because this process was stopped says nothing of an SFU that others ask', async () => {
  const clock = createVirtualClock();
  let looks = 0;
  const look = async (): Promise<Look> => {
    looks += 1;
    if (looks === 2) await new Promise(() => {});
    return looks < 3 ? { kind: 'unreachable', why: 'away' } : people('PA_a1');
  };
  const presence = createPresence({ rooms: { look, answers: async () => true }, clock, onReturn: () => {}, onAnswer: () => {} });
  const sinceMs = clock.nowMs();
  const first = presence.ask(ROOM, sinceMs, 0);
  await clock.advance(100);
  clock.stall(10_000);
  await clock.advance(10);
  expect(await first).toMatchObject({ kind: 'unreachable' });
  expect(await presence.ask('another room' as RoomName, sinceMs, 0)).toMatchObject({ kind: 'list' });
});

describe('an SFU of which some calls fail', () => {
  /** Asked ten times a second; `fails`: which of the calls do. */
  async function asked(seconds: number, fails: (nth: number) => boolean): Promise<{ kinds: string[]; looks: number; returnsMs: number[] }> {
    const clock = createVirtualClock();
    const startMs = clock.nowMs();
    const [kinds, returnsMs]: [string[], number[]] = [[], []];
    let looks = 0;
    const look = async (): Promise<Look> => {
      looks += 1;
      return fails(looks) ? { kind: 'unreachable', why: 'status 500' } : people('PA_a1');
    };
    const onReturn = (): void => void returnsMs.push(clock.nowMs() - startMs);
    const presence = createPresence({ rooms: { look, answers: async () => true }, clock, onReturn, onAnswer: () => {} });
    for (let nth = 0; nth < seconds * 10; nth += 1) {
      kinds.push((await presence.ask(ROOM, clock.nowMs(), 0)).kind);
      await clock.advance(100);
    }
    return { kinds, looks, returnsMs };
  }

  test('is asked once more, and may have been started anew all the same', async () => {
    const { kinds, looks, returnsMs } = await asked(1, (nth) => nth === 5);
    expect(new Set(kinds)).toEqual(new Set(['list']));
    expect(looks).toBe(11);
    expect(returnsMs).toEqual([400]);
  });

  test('is back at once, and then every few seconds, however often that is', async () => {
    const { returnsMs } = await asked(21, (nth) => nth % 2 === 0);
    expect(returnsMs).toEqual([100, 5_100, 10_100, 15_100, 20_100]);
  });

  test('is back for good after the last time', async () => {
    expect((await asked(10, (nth) => nth % 2 === 0 && nth < 20)).returnsMs).toEqual([100, 5_100]);
  });

  test('is away when it fails again: who has no time to wait is told', async () => {
    const { kinds, looks } = await asked(1, () => true);
    expect(new Set(kinds)).toEqual(new Set(['unreachable']));
    expect(looks).toBe(11);
  });
});

describe('a question that hangs', () => {
  async function asked(
    rooms: number,
    takesMs: (nth: number) => number,
  ): Promise<{ readonly answeredMs: number[]; readonly questions: number }> {
    const clock = createVirtualClock();
    const startMs = clock.nowMs();
    let questions = 0;
    const look = async (): Promise<Look> => {
      questions += 1;
      const ms = takesMs(questions);
      await new Promise<void>((resolve) => void clock.after(ms, resolve));
      return ms >= 5_000 ? { kind: 'unreachable', why: 'timeout' } : people('PA_a1');
    };
    const presence = createPresence({ rooms: { look, answers: async () => true }, clock, onReturn: () => {}, onAnswer: () => {} });
    const answeredMs: number[] = [];
    for (let nth = 0; nth < rooms; nth += 1)
      void presence.ask(`room-${nth}` as RoomName, startMs, 0).then(({ kind }) => {
        if (kind === 'list') answeredMs.push(clock.nowMs() - startMs);
      });
    await clock.advance(10_000);
    return { answeredMs, questions };
  }

  test('is put again each second, and the first answer counts', async () => {
    expect(await asked(1, (nth) => (nth === 1 ? 5_000 : 3))).toEqual({ answeredMs: [1_003], questions: 2 });
    expect(await asked(1, (nth) => (nth <= 3 ? 5_000 : 3))).toEqual({ answeredMs: [3_003], questions: 4 });
    expect(await asked(1, (nth) => (nth === 1 ? 1_001 : 5_000))).toEqual({ answeredMs: [1_001], questions: 2 });
    expect(await asked(1, () => 999)).toEqual({ answeredMs: [999], questions: 1 });
  });

  test('and has failed is put once more, for the SFU may be back just then', async () => {
    expect(await asked(1, (nth) => (nth <= 5 ? 5_000 : 3))).toEqual({ answeredMs: [5_003], questions: 6 });
    expect(await asked(1, (nth) => (nth <= 5 ? 5_000 : 900))).toEqual({ answeredMs: [5_900], questions: 6 });
    expect(await asked(1, () => 5_000)).toEqual({ answeredMs: [], questions: 6 });
  });

  test('is no reason to ask an SFU for much more that has too much to do', async () => {
    const { answeredMs, questions } = await asked(200, () => 4_000);
    expect(answeredMs).toHaveLength(200);
    expect(questions).toBe(232);
  });

  test('and has failed says nothing of an SFU that has answered a later one', async () => {
    const clock = createVirtualClock();
    const answers = async (): Promise<boolean> => {
      await new Promise<void>((resolve) => void clock.after(5_000, resolve));
      return false;
    };
    const rooms = { look: async () => people('PA_a1'), answers };
    const presence = createPresence({ rooms, clock, onReturn: () => {}, onAnswer: () => {} });
    presence.touch(0);
    for (let seconds = 1; seconds <= 6; seconds += 1) {
      await clock.advance(1_000);
      presence.touch(Number.POSITIVE_INFINITY);
      if (seconds === 4) await presence.ask(ROOM, clock.nowMs(), 0);
    }
    expect(presence.reachable).toBe(true);
    expect(await presence.ask(ROOM, clock.nowMs(), 0)).toMatchObject({ kind: 'list', answersSinceMs: clock.nowMs() - 2_000 });
  });
});

test('it says since when the SFU has answered everything', async () => {
  const away: Look = { kind: 'unreachable', why: 'away' };
  const sinceBy = async (everyMs: number) =>
    (await evidenceBy(everyMs, [people('PA_a1'), people(), away, people(), people()])).map((one) =>
      one.kind === 'list' ? one.askedAtMs - one.answersSinceMs : null,
    );
  expect(await sinceBy(1_000)).toEqual([0, 30_000, null, 0, 30_000]);
  // What happened while a process was stopped is not known.
  expect(await sinceBy(30_000)).toEqual([0, 0, null, 0, 0]);
});

test('it says who was on an earlier list, and when, and is not on this one', async () => {
  const lists = await evidenceOf(people('PA_a1', 'PA_b1'), people('PA_a1', 'PA_b1'), people('PA_b1'), people(), people('PA_a2'));
  const gone = lists.map((one) =>
    one.kind === 'list' && one.gone !== null ? [[...one.gone.sids.keys()], one.askedAtMs - one.gone.seenAtMs] : null,
  );
  expect(gone).toEqual([null, null, [['PA_a1'], 30_000], [['PA_b1'], 30_000], [['PA_b1'], 60_000]]);
});

test('who is on a list as before is the same in memory, and only who is', async () => {
  const [first, second] = await evidenceOf(people('PA_a1', 'PA_b1'), people('PA_b1', 'PA_a2'));
  if (first?.kind !== 'list' || second?.kind !== 'list') expect.fail('the SFU answers');
  expect(second.present).toEqual((people('PA_b1', 'PA_a2') as { present: unknown }).present);
  expect(second.present[0]).toBe(first.present[1]);
});

test('a list that says the same in whichever order is the same in memory, and no other', async () => {
  const present = async (...looks: Look[]) => {
    const lists = await evidenceOf(...looks);
    return lists.map((one) => (one.kind === 'list' ? one.present : expect.fail('the SFU answers')));
  };
  const both = people('PA_a1', 'PA_b1');
  const [first, reordered, afterNobody] = await present(both, people('PA_b1', 'PA_a1'), people(), both).then(([a, b, , d]) => [a, b, d]);
  expect(reordered).toBe(first);
  expect(afterNobody).toBe(first);
  for (const other of [people('PA_a1'), people('PA_a1', 'PA_a1'), people('PA_a1', 'PA_b2'), people('PA_a1', 'PA_b1', 'PA_c1')]) {
    const [before, after] = await present(both, other);
    expect(after).not.toBe(before);
    expect(after).toEqual((other as { present: unknown }).present);
  }
});

test('lists are remembered for the rooms that were asked for last, as long as not too many are on them', async () => {
  const clock = createVirtualClock();
  const asked: RoomName[] = [];
  const crowd = Array.from({ length: 60_000 }, (_, n) => `PA_${n}`);
  const look = async (room: RoomName): Promise<Look> => {
    asked.push(room);
    return people(...crowd);
  };
  const presence = createPresence({
    ...{ rooms: { look, answers: async () => true }, clock },
    ...{ onReturn: () => {}, onAnswer: () => {} },
  });
  const [one, other, third] = ['one', 'other', 'third'] as RoomName[] as [RoomName, RoomName, RoomName];
  for (const room of [one, other, other, third, other, one]) await presence.ask(room, clock.nowMs(), 0);
  expect(asked).toEqual([one, other, third, one]);
});

test('a list is remembered, too, while all others are being asked for', async () => {
  const clock = createVirtualClock();
  const crowd = Array.from({ length: 60_000 }, (_, n) => `PA_${n}`);
  const asked: string[] = [];
  let hangs = false;
  const look = async (room: RoomName): Promise<Look> => {
    asked.push(room);
    return hangs ? new Promise(() => {}) : people(...crowd);
  };
  const presence = createPresence({
    ...{ rooms: { look, answers: async () => true }, clock },
    ...{ onReturn: () => {}, onAnswer: () => {} },
  });
  const [one, other] = ['one', 'other'] as RoomName[] as [RoomName, RoomName];
  await presence.ask(one, clock.nowMs(), 0);
  await clock.advance(1_000);
  hangs = true;
  void presence.ask(one, clock.nowMs(), 0);
  await clock.settle();
  hangs = false;
  await presence.ask(other, clock.nowMs(), 0);
  await clock.advance(1_000);
  const askedAtMs = clock.nowMs();
  for (let count = 0; count < 2; count += 1) await presence.ask(other, askedAtMs, 0);
  expect(asked.filter((room) => room === other)).toHaveLength(2);
});

test('who is expected is looked for by a question that is put from now on, and all who wait for it share it', async () => {
  const clock = createVirtualClock();
  const asked: string[][] = [];
  const look = async (...[, { expected = [] } = {}]: Parameters<Rooms['look']>): Promise<Look> => {
    await new Promise<void>((resolve) => void clock.after(10, resolve));
    asked.push(expected.map(({ sid }) => sid));
    return people();
  };
  const presence = createPresence({ rooms: { look, answers: async () => true }, clock, onReturn: () => {}, onAnswer: () => {} });
  const [alice, bob] = (people('PA_a1', 'PA_b1') as Extract<Look, { kind: 'list' }>).present;
  const sinceMs = clock.nowMs();
  const ask = (...expected: readonly (Seen | undefined)[]) =>
    void presence.ask(ROOM, sinceMs, 0, { expected: expected.filter((one) => one !== undefined) });
  ask();
  await clock.advance(5);
  ask(alice);
  ask(bob);
  ask();
  await clock.advance(50);
  ask();
  await clock.advance(50);
  expect(asked).toEqual([[], ['PA_a1', 'PA_b1']]);
});

test('a question that is held back asks which room it is as soon as one of those who share it wants to know', async () => {
  const clock = createVirtualClock();
  const which: boolean[] = [];
  const look = async (...[, { whichRoom = false } = {}]: Parameters<Rooms['look']>): Promise<Look> => {
    which.push(whichRoom);
    return people('PA_a1');
  };
  const presence = createPresence({ rooms: { look, answers: async () => true }, clock, onReturn: () => {}, onAnswer: () => {} });
  await presence.ask(ROOM, clock.nowMs(), 0);
  await clock.advance(10);
  for (const whichRoom of [false, true, false]) void presence.ask(ROOM, clock.nowMs(), 1_000, { whichRoom });
  await clock.advance(2_000);
  expect(which).toEqual([false, true]);
});

test('who was on the last list of their room is asked for at once; in a wave of them the rooms are, and each waits a second or so', async () => {
  const clock = createVirtualClock();
  let asked = 0;
  const look = async (): Promise<Look> => {
    asked += 1;
    return people('PA_a1');
  };
  const presence = createPresence({ rooms: { look, answers: async () => true }, clock, onReturn: () => {}, onAnswer: () => {} });
  const rooms = Array.from({ length: 300 }, (_, n) => `room ${n}` as RoomName);
  const about = ['of a' as Identity];
  let waitedMs: number[] = [];
  const ask = (room: RoomName): void => {
    const sinceMs = clock.nowMs();
    void presence.ask(room, sinceMs, 1_000, { about }).then(() => waitedMs.push(clock.nowMs() - sinceMs));
  };
  for (const room of rooms) await presence.ask(room, clock.nowMs(), 0);
  await clock.advance(500);

  for (const room of rooms.slice(0, 50)) ask(room);
  await clock.advance(0);
  expect(waitedMs, 'a few are asked for at once').toHaveLength(50);
  const [crowded = ROOM, other = ROOM] = rooms.slice(60);
  for (let n = 0; n < 300; n += 1) ask(crowded);
  await clock.advance(1);
  ask(other);
  await clock.advance(1);
  expect(waitedMs, 'a crowd that shares a question does not use up what others need').toHaveLength(50 + 300 + 1);

  await clock.advance(60_000);
  for (const room of rooms) await presence.ask(room, clock.nowMs(), 0);
  await clock.advance(500);
  [asked, waitedMs] = [0, []];
  for (let wave = 0; wave < 4; wave += 1) {
    for (const room of rooms) ask(room);
    await clock.advance(100);
  }
  await clock.advance(1_250);
  expect(waitedMs).toHaveLength(4 * 300);
  expect(Math.max(...waitedMs)).toBeLessThanOrEqual(1_250);
  expect(asked).toBeLessThan(2 * 300);
});

describe('what another process saw', () => {
  const A = { identity: 'of a' as Identity, sid: 'PA_a1' as Sid };
  /** How many questions two processes put to the SFU, when the second wants to know of `who` some seconds after the first looked. */
  async function questions(who: typeof A, notBeforeMs: (nowMs: number) => number): Promise<number> {
    const [clock, sightings] = [createVirtualClock(), createModelSightings(new Disk())];
    let asked = 0;
    const look = async (): Promise<Look> => {
      asked += 1;
      return people('PA_a1', 'PA_b1');
    };
    const beginOne = () =>
      createPresence({
        ...{ rooms: { look, answers: async () => true }, clock, sightings },
        ...{ onReturn: () => {}, onAnswer: () => {} },
      });
    await beginOne().ask(ROOM, clock.nowMs(), 0);
    await clock.advance(3_000);
    const found = await beginOne().askFor(ROOM, who, notBeforeMs(clock.nowMs()));
    expect(found).toMatchObject({ kind: 'list', present: [{ sid: 'PA_a1' }, { sid: 'PA_b1' }], afterRestart: false });
    return asked;
  }

  test('is enough for who is there', async () => expect(await questions(A, (nowMs) => nowMs - 5_000)).toBe(1));
  test('is not, if it is too old', async () => expect(await questions(A, (nowMs) => nowMs - 2_000)).toBe(2));
  test('proves nothing of who is not in it', async () => {
    expect(await questions({ ...A, sid: 'PA_a2' as Sid }, (nowMs) => nowMs - 5_000)).toBe(2);
    expect(await questions({ ...A, identity: 'of c' as Identity }, (nowMs) => nowMs - 5_000)).toBe(2);
  });
});
