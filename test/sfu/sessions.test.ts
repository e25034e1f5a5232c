// Who is listed, and on no node: held against a real SFU with a Redis by test/e2e/sfu-away.test.ts.
import { beforeEach, describe, expect, test } from 'vitest';
import type { Identity, RoomName, Sid } from '../../src/delegation/ids.ts';
import type { Seen } from '../../src/delegation/state.ts';
import type { Called } from '../../src/sfu/room-service.ts';
import { createSessions, type Sessions } from '../../src/sfu/sessions.ts';
import { createVirtualClock, START_MS, type VirtualClock } from '../support/virtual-clock.ts';

const ROOM = 'room' as RoomName;
const DOUBT_MS = START_MS - 5_000;
const LONG_BEFORE_MS = DOUBT_MS - 3_600_000;
const HOSTED: Called = { kind: 'answered', message: {} };
const NOWHERE: Called = { kind: 'nowhere' };

let clock: VirtualClock;
let sessions: Sessions;
let asked: string[];
let losses: number;
let doubted: RoomName[];
let answerFor: (identity: string) => Called | Promise<Called>;

beforeEach(() => {
  clock = createVirtualClock();
  asked = [];
  answerFor = () => HOSTED;
  const call = async (method: string, grant: object, request: object): Promise<Called> => {
    expect([method, grant]).toEqual(['UpdateSubscriptions', { roomAdmin: true, room: ROOM }]);
    const { identity, ...nothing } = request as { identity: string };
    expect(nothing, 'changes nothing').toEqual({ room: ROOM, trackSids: [], subscribe: false });
    asked.push(identity);
    await new Promise<void>((resolve) => clock.endOfTurn(resolve));
    return answerFor(identity);
  };
  losses = 0;
  doubted = [];
  const onLost = (): void => {
    losses += 1;
  };
  sessions = createSessions({ call }, clock, onLost, (room) => void doubted.push(room));
});

function seen(identity: string, joinedAtMs: number | null): Seen {
  return { identity: identity as Identity, sid: `PA_${identity}` as Sid, joinedAtMs, active: true };
}
const alice = seen('alice', LONG_BEFORE_MS);
const bob = seen('bob', LONG_BEFORE_MS);
const back = seen('back', START_MS);
const lostOnes = (...identities: string[]) => {
  answerFor = (identity) => (identities.includes(identity) ? NOWHERE : HOSTED);
};

/** What the room is found to be, and once what is asked beside it is answered. */
async function look(listed: readonly Seen[], doubtMs = DOUBT_MS): Promise<string[]> {
  const { present } = sessions.ofNodes(ROOM, listed, doubtMs);
  await clock.settle();
  return present.map(({ identity }) => identity);
}
const isJustLost = (listed: readonly Seen[]): boolean => sessions.ofNodes(ROOM, listed, DOUBT_MS).justLost;

describe('who is asked for', () => {
  test('nobody where nobody has come since: then nobody has left that node', async () => {
    expect(await look([alice, bob])).toEqual(['alice', 'bob']);
    expect(asked).toEqual([]);
  });

  test('who was there before, once somebody has come; once for each time of doubt', async () => {
    expect(await look([alice, back, bob])).toEqual(['alice', 'back', 'bob']);
    expect(asked).toEqual(['alice', 'bob']);
    await clock.advance(600_000);
    await look([alice, back, bob]);
    expect(asked).toHaveLength(2);
    await look([alice, back, bob, seen('new', clock.nowMs() + 2_000)], clock.nowMs());
    expect(asked.slice(2)).toEqual(['alice', 'back', 'bob']);
  });

  test('clocks differ: who came a minute before may have come since, and who came a second later may have been there', async () => {
    await look([alice, seen('before', DOUBT_MS - 59_999)]);
    expect(asked).toEqual(['alice', 'before']);
    await look([seen('later', DOUBT_MS + 1_999), seen('after', DOUBT_MS + 2_000)]);
    expect(asked.slice(2)).toEqual(['later']);
  });

  test.each([3_600_000, -3_600_000])('where the wall clock was set by %i ms, before the doubt or after it', async (setMs) => {
    clock.setWall(setMs);
    const wallMs = clock.wallMs();
    await look([seen('before it was set', DOUBT_MS - 120_000), seen('after it was set', wallMs - 10_000), seen('back', wallMs)]);
    expect(asked).toEqual(expect.arrayContaining(['before it was set', 'after it was set']));
  });

  test('who was missed, perhaps by another process that found them lost, though nothing speaks against anybody here', async () => {
    lostOnes('bob');
    const missed = async () => {
      const { present } = sessions.ofNodes(ROOM, [alice, bob], DOUBT_MS, [bob, seen('gone', LONG_BEFORE_MS)]);
      await clock.settle();
      return present;
    };
    expect(await missed()).toEqual([alice, bob]);
    expect(asked).toEqual(['bob']);
    expect(await missed()).toEqual([alice]);
    expect(await look([alice, bob])).toEqual(['alice']);
  });

  test('everybody, of an SFU that does not tell when somebody came', async () => {
    await look([seen('alice', null), seen('bob', null)]);
    expect(asked).toEqual(['alice', 'bob']);
  });

  test('nobody more often than every ten seconds, however often the SFU fails', async () => {
    for (let second = 0; second < 10; second += 1) {
      await look([alice, seen('new', clock.nowMs())], clock.nowMs());
      await clock.advance(1_000);
    }
    expect(asked.filter((identity) => identity === 'alice')).toHaveLength(1);
    await look([alice, seen('new', clock.nowMs())], clock.nowMs());
    expect(asked.filter((identity) => identity === 'alice')).toHaveLength(2);
  });

  test('sixteen at once, and one session once however many look', async () => {
    const crowd = Array.from({ length: 40 }, (_, nth) => seen(`m${nth}`, LONG_BEFORE_MS));
    const answer = Promise.withResolvers<Called>();
    answerFor = () => answer.promise;
    await Promise.all([look([...crowd, back]), look([...crowd, back])]);
    expect(asked).toHaveLength(16);
    answer.resolve(HOSTED);
    await clock.settle();
    expect(asked.toSorted()).toEqual(crowd.map(({ identity }) => identity as string).toSorted());
  });
});

describe('who is lost', () => {
  test('is there until that is known, and then not; others may be on their way back for a while', async () => {
    lostOnes('alice');
    expect(await look([alice, back])).toEqual(['alice', 'back']);
    expect(isJustLost([alice, back])).toBe(true);
    expect(await look([alice, back])).toEqual(['back']);
    expect(losses, 'it may just have left').toBe(0);
    await clock.advance(20_000);
    expect(isJustLost([alice, back])).toBe(false);
    expect(await look([alice, back])).toEqual(['back']);
  });

  test('is asked for again before it counts, ten seconds later, whether anybody looks or not', async () => {
    lostOnes('alice');
    await look([alice, back]);
    await clock.advance(9_999);
    await look([alice, back]);
    expect(asked).toEqual(['alice']);
    lostOnes();
    await clock.advance(1);
    expect(asked).toEqual(['alice', 'alice']);
    expect(await look([alice, back]), 'it was a mistake').toEqual(['alice', 'back']);
  });

  test('has its room looked at, once, when it is on no node the second time, though nobody looks', async () => {
    lostOnes('alice');
    await look([alice, back]);
    await clock.advance(9_999);
    expect(doubted).toEqual([]);
    await clock.advance(1);
    expect(doubted).toEqual([ROOM]);
    for (let minutes = 0; minutes < 10; minutes += 1) {
      await clock.advance(60_000);
      await look([alice, back]);
    }
    expect(asked.length).toBeGreaterThan(4);
    expect(doubted).toEqual([ROOM]);
  });

  test('casts no doubt on others when it has just left, and is on no list any more', async () => {
    lostOnes('alice');
    await look([alice, back]);
    await clock.advance(60_000);
    expect(await look([back])).toEqual(['back']);
    expect(losses).toBe(0);
  });

  test('keeps nobody else waiting: a look is answered at once', async () => {
    answerFor = () => new Promise(() => {});
    sessions.lost(ROOM, [alice]);
    await clock.advance(10_000);
    expect(await look([alice, back])).toEqual(['back']);
  });

  test('and then less and less, for it stays on the list', async () => {
    lostOnes('alice');
    await look([alice, back]);
    const times: number[] = [];
    for (let second = 1; second <= 1_300; second += 1) {
      asked = [];
      await clock.advance(1_000);
      expect(await look([alice, back])).toEqual(['back']);
      if (asked.length > 0) times.push(second);
    }
    expect(times).toEqual([10, 30, 70, 150, 310, 610, 910, 1_210]);
    expect(losses, 'told of once, when it was sure').toBe(1);
  });

  test('is everybody in a room that no node has, also when others come back to it', async () => {
    sessions.lost(ROOM, [alice, bob]);
    lostOnes('alice', 'bob');
    expect(await look([alice, bob, back])).toEqual(['back']);
    expect(isJustLost([alice, bob, back])).toBe(true);
    sessions.lost(ROOM, [alice, bob]);
    expect(losses, 'told of once').toBe(1);
  });

  test('is nobody of whom that can not be told: asked again in three seconds, for the SFU may have been about to end', async () => {
    answerFor = () => ({ kind: 'failed', why: 'status 500' });
    await look([alice, back]);
    await clock.advance(2_999);
    expect(await look([alice, back])).toEqual(['alice', 'back']);
    expect(asked).toEqual(['alice']);
    await clock.advance(1);
    await look([alice, back]);
    expect(asked).toEqual(['alice', 'alice']);
  });

  test('is the session: its member may be back by another', async () => {
    lostOnes('alice');
    await look([alice, back]);
    const again = { ...alice, sid: 'PA_again' as Sid, joinedAtMs: START_MS };
    expect(await look([again, back])).toEqual(['alice', 'back']);
  });
});

describe('who was there first', () => {
  const carol = seen('carol', LONG_BEFORE_MS - 1);
  /** A look while nothing else speaks against anybody. */
  const lookAt = (listed: readonly Seen[]) => look(listed, Number.NEGATIVE_INFINITY);
  const askOldest = (listed: readonly Seen[]) => sessions.askOldest(ROOM, listed);

  test('is asked for, and on a node: then so are the others', async () => {
    expect(await askOldest([alice, back, carol, bob])).toBe('answered');
    expect(await lookAt([alice, back, carol, bob])).toHaveLength(4);
    expect(asked).toEqual(['carol']);
  });

  test('is on no node, twice: so are the next fifteen asked for, and once that is known whoever else came before that', async () => {
    await clock.advance(3_600_000);
    const crowd = Array.from({ length: 20 }, (_, nth) => seen(`m${nth}`, LONG_BEFORE_MS + nth));
    const lost = ['carol', 'm2', 'm19'];
    const nowhere = () => new Promise<Called>((resolve) => void clock.after(3_000, () => resolve(NOWHERE)));
    answerFor = (identity) => (lost.includes(identity) ? nowhere() : HOSTED);
    const listed = [back, ...crowd.toReversed(), carol];
    const came = seen('came', clock.nowMs() + 5_000);
    const kind = askOldest(listed);
    await clock.advance(3_000);
    expect(await kind).toBe('nowhere');
    expect(await lookAt(listed), 'it may have been a moment').toContain('carol');
    asked = [];
    const again = sessions.askAgain(ROOM, [...listed, came]);
    await clock.advance(3_000);
    await again;
    expect(asked).toEqual(['carol', ...crowd.slice(0, 15).map(({ identity }) => identity)]);
    asked = [];
    expect(sessions.ofNodes(ROOM, [...listed, came], Number.NEGATIVE_INFINITY).justLost, 'they may be on their way back').toBe(true);
    expect(await lookAt([...listed, came])).toHaveLength(listed.length + 1 - 2);
    expect(asked).toEqual(['back', 'm19', 'm18', 'm17', 'm16', 'm15']);
    await clock.advance(3_000);
    expect(await lookAt([...listed, came]), 'though nobody has come since the SFU failed').toHaveLength(listed.length + 1 - 3);
    asked = [];
    for (let second = 0; second < 300; second += 1) {
      await clock.advance(1_000);
      await sessions.askAgain(ROOM, [...listed, came]);
      await lookAt([...listed, came]);
    }
    expect(new Set(asked)).toEqual(new Set(lost));
    asked = [];
    expect(await askOldest([...listed, came]), 'of those who are left').toBe('answered');
    expect(asked).toEqual(['m0']);
  });

  test('was on no node for a moment', async () => {
    lostOnes('carol');
    await askOldest([alice, carol, bob]);
    lostOnes();
    await sessions.askAgain(ROOM, [alice, carol, bob]);
    expect(await lookAt([alice, carol, bob])).toHaveLength(3);
  });

  test('has just left: nobody else is asked for', async () => {
    lostOnes('carol');
    await askOldest([alice, carol, bob]);
    await sessions.askAgain(ROOM, [alice, bob]);
    await lookAt([alice, bob]);
    expect(asked).toEqual(['carol']);
  });

  test('and others, who could not be asked for then, are until they can', async () => {
    answerFor = (identity) => (identity === 'carol' ? NOWHERE : { kind: 'failed', why: 'status 500' });
    await askOldest([alice, carol]);
    await sessions.askAgain(ROOM, [alice, carol]);
    await clock.advance(3_000);
    lostOnes('carol', 'alice');
    await lookAt([alice, carol]);
    expect(await lookAt([alice, carol])).toEqual([]);
  });

  test('is nobody where all are lost', async () => {
    sessions.lost(ROOM, [alice, bob]);
    expect(await askOldest([alice, bob])).toBeNull();
  });

  test('and alone, in a room that no node has: that is told at once', async () => {
    lostOnes('alice');
    await askOldest([alice]);
    await sessions.askAgain(ROOM, [alice]);
    expect(losses).toBe(0);
    sessions.lost(ROOM, [alice]);
    expect(losses).toBe(1);
    sessions.lost(ROOM, [alice]);
    expect(losses).toBe(1);
  });

  test('is who joined by a clock that was set back since', async () => {
    await askOldest([alice, seen('ahead', START_MS + 3_600_000)]);
    expect(asked).toEqual(['ahead']);
  });

  test('is each in turn, of an SFU that does not tell when somebody came', async () => {
    const listed = [seen('one', null), seen('two', null)];
    for (let time = 0; time < 3; time += 1) {
      await clock.advance(1);
      await askOldest(listed);
    }
    expect(asked).toEqual(['one', 'two', 'one']);
  });
});
