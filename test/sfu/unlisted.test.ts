// Who is on a node, and not listed: held against a real SFU with a Redis by test/e2e/sfu-with-redis.test.ts.
import { beforeEach, describe, expect, test } from 'vitest';
import type { Identity, RoomName, Sid } from '../../src/delegation/ids.ts';
import type { Seen } from '../../src/delegation/state.ts';
import type { Called } from '../../src/sfu/room-service.ts';
import { createUnlisted, type Unlisted } from '../../src/sfu/unlisted.ts';
import { createVirtualClock, START_MS, type VirtualClock } from '../support/virtual-clock.ts';

const ROOM = 'room' as RoomName;
const HOSTED: Called = { kind: 'answered', message: {} };
const NOWHERE: Called = { kind: 'nowhere' };
const NOWHERE_AFTER_MS = 3_000;

let clock: VirtualClock;
let unlisted: Unlisted;
let asked: string[];
let stored: readonly Seen[] | null;
let answerFor: (identity: string) => Promise<Called>;

beforeEach(() => {
  clock = createVirtualClock();
  asked = [];
  stored = [];
  answerFor = async () => HOSTED;
  const call = async (method: string, grant: object, request: object): Promise<Called> => {
    expect([method, grant]).toEqual(['UpdateSubscriptions', { roomAdmin: true, room: ROOM }]);
    const { identity, ...nothing } = request as { identity: string };
    expect(nothing, 'changes nothing').toEqual({ room: ROOM, trackSids: [], subscribe: false });
    asked.push(identity);
    return answerFor(identity);
  };
  unlisted = createUnlisted({ call }, clock, async () => stored);
});

const late = (ms: number, called: Called): Promise<Called> => new Promise((resolve) => clock.after(ms, () => resolve(called)));
function seen(identity: string, session = 1): Seen {
  return { identity: identity as Identity, sid: sidOf(identity, session), joinedAtMs: START_MS + session, active: true };
}
const sidOf = (identity: string, session = 1): Sid => `PA_${identity}${session}` as Sid;
const [alice, bob, carol] = [seen('alice'), seen('bob'), seen('carol')];
const left = (sid: Sid | null, kind: 'left' | 'aborted' = 'left') =>
  unlisted.told(ROOM, kind === 'aborted' ? { kind, identity: alice.identity, sid } : { ...alice, kind, sid, roomSid: null, cause: 'left' });
const joined = (one: Seen, sid: Sid | null = one.sid) => unlisted.told(ROOM, { ...one, kind: 'joined', sid, roomSid: null });

/** Who is found to be there although not listed, and after how long. */
const look = (...listed: readonly Seen[]) => lookFor([], ...listed);
async function lookFor(expected: readonly Seen[], ...listed: readonly Seen[]): Promise<{ found: readonly Seen[]; tookMs: number }> {
  const beganMs = clock.nowMs();
  let done: { found: readonly Seen[]; tookMs: number } | undefined;
  void unlisted.among(ROOM, listed, expected).then((found) => {
    done = { found, tookMs: clock.nowMs() - beganMs };
  });
  for (let ms = 0; done === undefined && ms < 10_000; ms += 50) await (ms === 0 ? clock.settle() : clock.advance(50));
  if (done === undefined) throw new Error('a look that is not answered');
  return done;
}

describe('who is missing from a list', () => {
  test('is there as long as a node says so, and nobody else is asked for', async () => {
    await look(alice, bob);
    for (let again = 0; again < 3; again += 1) expect(await look(bob)).toEqual({ found: [alice], tookMs: 0 });
    expect(asked).toEqual(['alice', 'alice', 'alice']);
    expect(await look()).toEqual({ found: [alice, bob], tookMs: 0 });
    expect(await look(alice, bob)).toEqual({ found: [], tookMs: 0 });
  });

  test('is not asked for where a webhook has told of the departure, also of a connection that never came up', async () => {
    for (const kind of ['left', 'aborted'] as const) {
      await look(alice, bob);
      left(alice.sid, kind);
      expect(await look(bob)).toEqual({ found: [], tookMs: 0 });
    }
    await look(alice, bob);
    left(null);
    expect(await look(bob)).toEqual({ found: [], tookMs: 0 });
    expect(asked).toEqual([]);
  });

  test('but is where that departure was of another session', async () => {
    await look(seen('alice', 2));
    left(sidOf('alice', 1));
    expect(await look()).toMatchObject({ found: [seen('alice', 2)] });
  });

  test('also if no list has shown the session yet: a webhook has told of it, and an older one late', async () => {
    joined(seen('alice', 2));
    joined(seen('alice', 1));
    joined(bob, null);
    expect(await look()).toMatchObject({ found: [seen('alice', 2)] });
    joined(seen('alice', 3));
    expect(await look()).toMatchObject({ found: [seen('alice', 3)] });
    expect(asked).toEqual(['alice', 'alice']);
  });

  test('was replaced by a session that is listed, and is forgotten', async () => {
    await look(alice);
    await look(seen('alice', 2));
    expect(await look()).toMatchObject({ found: [seen('alice', 2)] });
  });
});

describe('who is listed by an older session', () => {
  const [older, newer] = [{ ...seen('alice'), joinedAtMs: START_MS - 5_000 }, seen('alice', 2)];

  test('is there by the newer one as long as a node says so, also when the older one is gone', async () => {
    await look(newer, bob);
    for (let again = 0; again < 2; again += 1) expect(await look(older, bob)).toMatchObject({ found: [newer] });
    left(older.sid);
    expect(await look(bob)).toMatchObject({ found: [newer] });
    left(newer.sid);
    expect(await look(bob)).toMatchObject({ found: [] });
  });

  test('but the older one is who joined by a clock that was ahead: by a list, and by a webhook before any list', async () => {
    const HOUR_MS = 3_600_000;
    const ahead = { ...seen('alice'), joinedAtMs: START_MS + HOUR_MS };
    clock.setWall(HOUR_MS);
    await look(ahead, bob);
    clock.setWall(-HOUR_MS);
    expect(await look(newer, bob)).toMatchObject({ found: [] });
    await look(ahead, bob);
    joined(newer);
    expect(await look(bob)).toMatchObject({ found: [newer] });
  });

  test('but not once that is gone, or where clocks may be all that makes it older, or nobody knows', async () => {
    await look(newer);
    left(newer.sid);
    expect(await look(older)).toMatchObject({ found: [] });
    await look({ ...newer, joinedAtMs: (older.joinedAtMs as number) + 2_000 });
    expect(await look(older)).toMatchObject({ found: [] });
    await look({ ...newer, joinedAtMs: null });
    expect(await look(older)).toMatchObject({ found: [] });
    expect(asked).toEqual([]);
  });
});

describe('where no node answers', () => {
  beforeEach(async () => {
    await look(alice, bob);
    answerFor = () => late(NOWHERE_AFTER_MS, NOWHERE);
  });

  test('the list is waited for no longer than a moment, and each is asked for twice, and then never more', async () => {
    expect(await look(bob)).toEqual({ found: [], tookMs: 200 });
    expect(await look(bob), 'under way').toEqual({ found: [], tookMs: 200 });
    expect(asked).toEqual(['alice']);
    await clock.advance(NOWHERE_AFTER_MS);
    expect(await look(bob)).toEqual({ found: [], tookMs: 200 });
    await clock.advance(NOWHERE_AFTER_MS);
    expect(await look(bob)).toEqual({ found: [], tookMs: 0 });
    expect(asked).toEqual(['alice', 'alice']);
  });

  test('one that was hardly found is there once it is', async () => {
    expect(await look(bob)).toMatchObject({ found: [] });
    await clock.advance(NOWHERE_AFTER_MS);
    answerFor = async () => HOSTED;
    expect(await look(bob)).toMatchObject({ found: [alice] });
    expect(await look(bob)).toMatchObject({ found: [alice] });
  });

  test('others are waited for longer once one of them was found', async () => {
    answerFor = (identity) => (identity === 'alice' ? Promise.resolve(HOSTED) : late(700, HOSTED));
    expect(await look()).toEqual({ found: [alice, bob], tookMs: 700 });
    await look(alice, bob);
    answerFor = (identity) => (identity === 'alice' ? Promise.resolve(HOSTED) : late(NOWHERE_AFTER_MS, NOWHERE));
    expect(await look()).toEqual({ found: [alice], tookMs: 800 });
  });

  test('an answer that comes too late for a list counts for the next one, until a node says otherwise', async () => {
    answerFor = () => late(1_000, HOSTED);
    expect(await look(bob)).toEqual({ found: [], tookMs: 200 });
    await clock.advance(20_000);
    expect(await look(bob)).toEqual({ found: [alice], tookMs: 0 });
    await clock.advance(27_000);
    expect(await look(bob), 'too old').toEqual({ found: [], tookMs: 200 });
    await clock.advance(1_000);
    answerFor = () => late(NOWHERE_AFTER_MS, NOWHERE);
    expect(await look(bob)).toEqual({ found: [alice], tookMs: 0 });
    await clock.advance(NOWHERE_AFTER_MS);
    expect(await look(bob)).toEqual({ found: [], tookMs: 200 });
  });

  test('an error proves nothing: the list is all there is, and the next one asks again', async () => {
    answerFor = async () => ({ kind: 'failed', why: 'status 403' });
    for (let again = 0; again < 3; again += 1) expect(await look(bob)).toEqual({ found: [], tookMs: 0 });
    expect(asked).toHaveLength(3);
    answerFor = async () => HOSTED;
    expect(await look(bob)).toMatchObject({ found: [alice] });
    answerFor = async () => ({ kind: 'failed', why: 'status 403' });
    for (let again = 0; again < 10; again += 1) await look(bob);
    expect(asked, 'not for ever').toHaveLength(8);
  });
});

describe('what a node says of a session of which a webhook has told meanwhile', () => {
  beforeEach(() => look(alice, bob));

  test('that it is gone, does not make it present', async () => {
    answerFor = () => late(150, HOSTED);
    clock.after(100, () => left(alice.sid));
    expect(await look(bob)).toMatchObject({ found: [] });
  });

  test('that the next one has taken its place, says nothing of that one', async () => {
    answerFor = () => late(150, NOWHERE);
    await look(bob);
    const next = seen('alice', 2);
    clock.after(100, () => joined(next));
    await look(bob);
    answerFor = async () => HOSTED;
    expect(await look(bob)).toMatchObject({ found: [next] });
  });
});

test('a crowd that is gone is asked for by thirty-two at once, and who has been listed again meanwhile not at all', async () => {
  const crowd = Array.from({ length: 100 }, (_, nth) => seen(`m${nth}`));
  await look(...crowd, carol);
  answerFor = () => late(NOWHERE_AFTER_MS, NOWHERE);
  await look(carol);
  expect(asked).toHaveLength(32);
  await look(...crowd, carol);
  await clock.advance(NOWHERE_AFTER_MS);
  expect(asked).toHaveLength(32);
  answerFor = async () => HOSTED;
  expect((await look(carol)).found).toHaveLength(100);
});

test('a hundred thousand are remembered, and of rooms that were looked at longer ago nobody', async () => {
  const hall = (nth: number): RoomName => `hall ${nth}` as RoomName;
  const crowd = Array.from({ length: 10_000 }, (_, nth) => seen(`guest ${nth}`));
  await look(alice, bob);
  for (let nth = 1; nth <= 9; nth += 1) await unlisted.among(hall(nth), crowd);
  await look(alice, bob);
  await unlisted.among(hall(10), crowd);
  expect(await look(bob), 'it was looked at since').toEqual({ found: [alice], tookMs: 0 });
  for (let nth = 11; nth <= 20; nth += 1) await unlisted.among(hall(nth), crowd);
  asked = [];
  expect(await look()).toEqual({ found: [], tookMs: 0 });
  expect(asked).toEqual([]);
});

test('of an SFU that has forgotten everybody, not everybody is asked for', async () => {
  const crowd = Array.from({ length: 1_000 }, (_, nth) => seen(`m${nth}`));
  await look(...crowd);
  answerFor = () => late(NOWHERE_AFTER_MS, NOWHERE);
  await look();
  await clock.advance(600_000);
  expect(asked).toHaveLength(32 + 256);
});

describe('where the list of many got lost', () => {
  const crowd = Array.from({ length: 1_000 }, (_, nth) => seen(`m${nth}`));
  beforeEach(async () => {
    await look(...crowd);
    answerFor = () => late(5, HOSTED);
  });

  test('all of them are found, by the first list', async () => {
    for (let again = 0; again < 2; again += 1) expect((await look()).found).toHaveLength(1_000);
  });

  test('also beside some who are on no node, and after others who were not', async () => {
    const gone = Array.from({ length: 40 }, (_, nth) => seen(`gone${nth}`));
    answerFor = (identity) => (identity.startsWith('gone') ? late(NOWHERE_AFTER_MS, NOWHERE) : late(5, HOSTED));
    for (let again = 0; again < 2; again += 1) {
      await look(...crowd, ...gone.slice(20));
      await look(...crowd);
      await clock.advance(3 * NOWHERE_AFTER_MS);
      await look(...crowd, ...gone);
    }
    expect((await look()).found).toHaveLength(1_000);
    await clock.advance(NOWHERE_AFTER_MS);
    expect((await look()).found).toHaveLength(1_000);
  });

  test('but once they have all been asked for in vain no look waits for more of them than may wait', async () => {
    answerFor = () => late(NOWHERE_AFTER_MS, NOWHERE);
    await look();
    await clock.advance(NOWHERE_AFTER_MS);
    for (let again = 0; again < 3; again += 1) await look();
    await clock.advance(NOWHERE_AFTER_MS);
    await clock.advance(600_000);
    expect(asked.length).toBeLessThanOrEqual(3 * (32 + 256));
  });
});

describe('who is expected, for another process has heard of them', () => {
  beforeEach(async () => {
    await look(bob);
  });

  test('is asked for, and not forgotten then', async () => {
    expect(await lookFor([alice], bob)).toEqual({ found: [alice], tookMs: 0 });
    expect(await look(bob)).toEqual({ found: [alice], tookMs: 0 });
  });

  test('is waited for longer, for no earlier list has begun to ask; but only the first time', async () => {
    answerFor = () => late(700, HOSTED);
    expect(await lookFor([alice], bob)).toEqual({ found: [alice], tookMs: 700 });
    answerFor = () => late(NOWHERE_AFTER_MS, NOWHERE);
    expect(await lookFor([carol], bob, alice)).toEqual({ found: [], tookMs: 800 });
    expect(await lookFor([carol], bob, alice)).toEqual({ found: [], tookMs: 200 });
  });

  test('is not asked for once more who was on no node twice', async () => {
    answerFor = async () => NOWHERE;
    for (let again = 0; again < 4; again += 1) expect(await lookFor([alice], bob)).toEqual({ found: [], tookMs: 0 });
    expect(asked).toEqual(['alice', 'alice']);
  });

  test('but is half a minute later, for their node may have been frozen', async () => {
    answerFor = async () => NOWHERE;
    for (let again = 0; again < 2; again += 1) await lookFor([alice], bob);
    answerFor = async () => HOSTED;
    await clock.advance(29_000);
    expect(await lookFor([alice], bob)).toMatchObject({ found: [] });
    await clock.advance(1_000);
    expect(await lookFor([alice], bob)).toMatchObject({ found: [alice] });
  });

  test('is sought, and need not be expected again, until half a minute after it was on no node', async () => {
    const isSought = () => unlisted.isSought(ROOM, alice);
    expect(isSought()).toBe(false);
    await lookFor([alice], bob);
    expect(isSought()).toBe(true);
    expect(unlisted.isSought(ROOM, seen('alice', 2))).toBe(false);
    answerFor = async () => NOWHERE;
    for (let again = 0; again < 2; again += 1) await look(bob);
    await clock.advance(29_000);
    expect(isSought()).toBe(true);
    await clock.advance(1_000);
    expect(isSought()).toBe(false);
  });

  test('is asked for by the newer session where only an older one is known', async () => {
    await look({ ...carol, joinedAtMs: START_MS - 5_000 }, bob);
    expect(await lookFor([seen('carol', 2)], bob)).toMatchObject({ found: [seen('carol', 2)] });
  });

  test('but is not if listed, or if a newer session is known', async () => {
    joined(seen('carol', 2));
    expect(await lookFor([alice, carol], bob, alice)).toMatchObject({ found: [seen('carol', 2)] });
    expect(asked).toEqual(['carol']);
  });
});

describe('after a start', () => {
  test('who is stored is asked for where the list is empty, once', async () => {
    stored = [alice, bob];
    answerFor = async (identity) => (identity === 'alice' ? HOSTED : NOWHERE);
    for (let again = 0; again < 3; again += 1) expect(await look()).toMatchObject({ found: [alice] });
    expect(asked).toEqual(['alice', 'bob', 'alice', 'bob', 'alice']);
    left(alice.sid);
    expect(await look()).toMatchObject({ found: [] });
    expect(asked).toHaveLength(5);
  });

  test('also beside those who are listed, or come while the store is asked', async () => {
    stored = [alice, bob];
    expect(await look(bob)).toMatchObject({ found: [alice] });
    stored = [];
    expect(await look(bob), 'once').toMatchObject({ found: [alice] });
    left(alice.sid);
    expect(await look(bob)).toMatchObject({ found: [] });
    unlisted = createUnlisted({ call: async () => HOSTED }, clock, async () => {
      joined(bob);
      return [alice];
    });
    expect(await look(bob)).toMatchObject({ found: [alice] });
  });

  test('but is not where a newer session is listed', async () => {
    stored = [alice];
    expect(await look(seen('alice', 2))).toMatchObject({ found: [] });
    expect(asked).toEqual([]);
  });

  test('also if that could not be told at first', async () => {
    stored = null;
    expect(await look()).toMatchObject({ found: [] });
    stored = [alice];
    expect(await look()).toMatchObject({ found: [alice] });
  });

  test('also where others have come since, and have gone again', async () => {
    stored = [alice, bob];
    joined(carol);
    expect(await look(carol)).toMatchObject({ found: [alice, bob] });
    unlisted = createUnlisted({ call: async () => HOSTED }, clock, async () => [bob]);
    joined(alice);
    left(alice.sid);
    expect(await look()).toMatchObject({ found: [bob] });
  });

  test('a leave does not wait for a store that takes its time: what that says counts with the next list', async () => {
    let questions = 0;
    unlisted = createUnlisted({ call: async () => HOSTED }, clock, async () => {
      questions += 1;
      return new Promise((resolve) => void clock.after(2_000, () => resolve([alice])));
    });
    expect(await look(bob)).toEqual({ found: [], tookMs: 200 });
    expect(await look(bob)).toEqual({ found: [], tookMs: 200 });
    await clock.advance(2_000);
    expect(await look(bob)).toEqual({ found: [alice], tookMs: 0 });
    expect(questions).toBe(1);
  });
});
