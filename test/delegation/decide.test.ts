import { describe, expect, it } from 'vitest';
import { adopt, type Decision, decide, delegate, dueAtMs } from '../../src/delegation/decide.ts';
import type { HomeserverUrl, Identity, Owner, Sid } from '../../src/delegation/ids.ts';
import type {
  Awaiting,
  Connected,
  Delegation,
  EndedDelegation,
  Event,
  Leaving,
  LiveDelegation,
  LiveState,
  Session,
} from '../../src/delegation/state.ts';
import { isProven, restartTimeoutMs } from '../../src/delegation/steps/timeouts.ts';
import { DELAY, EVENTS, type EventName, GROUP, ME, NOW, POLICY, ROWS, type RowName, rowIn } from './cases.ts';
import { TABLE } from './table.ts';

const now = { nowMs: NOW, roll: 0.5 };
const run = (state: LiveState, event: EventName, policy = POLICY) => decide(rowIn(state), EVENTS[event], now, policy);

/** One cell of the table, as table.ts writes it. */
function say(before: Delegation, { next, effects }: Decision): string {
  const done = effects.map((effect) => (effect.kind === 'send' ? `send ${effect.action}` : effect.kind)).join(', ');
  const what = next === before ? '·' : describeRow(before, next);
  return done === '' ? what : `${what} → ${done}`;
}

function describeRow(before: Delegation, { state, expiry }: Delegation): string {
  if (state.kind === 'ended') return `ended ${state.outcome}${state.sin === null ? '' : ` (${state.sin})`}`;
  const parts = [`${state.kind} +${(dueAtMs(state) ?? 0) - NOW}`];
  if (state.kind === 'connected') parts.push(state.session.sid ?? '-', ...(state.attempted === null ? [] : [`tried ${state.attempted}`]));
  if (state.kind === 'settling' || state.kind === 'leaving') parts.push(state.departure.cause);
  if (expiry.earliestMs !== before.expiry.earliestMs) parts.push('kept alive');
  else if (expiry.latestMs !== before.expiry.latestMs) parts.push('maybe alive');
  return parts.join(' ');
}

describe('who is known by other names', () => {
  const known = (row: Delegation, ...names: string[]) =>
    decide(row, { kind: 'known_as', identities: names as Identity[] }, now, POLICY).next;

  it('is watched under each of them once, and under a few at most', () => {
    const row = known(rowIn(ROWS['awaiting, nobody seen']), 'a', 'b', 'a', ME);
    expect(row.identities).toEqual([ME, 'a', 'b']);
    const many = known(row, ...Array.from({ length: 20 }, (_, n) => `made up ${n}`));
    expect(many.identities).toHaveLength(8);
    expect(known(many, 'one more')).toBe(many);
  });
});

describe('the state × event table', () => {
  for (const name of Object.keys(ROWS) as RowName[]) {
    it(`${name}: every event`, () => {
      const found = Object.fromEntries(
        (Object.keys(EVENTS) as EventName[]).map((event) => {
          const row = rowIn(ROWS[name]);
          return [event, say(row, decide(row, EVENTS[event], now, POLICY))];
        }),
      );
      expect(found).toEqual(TABLE[name]);
    });
  }

  it.each([3_600_000, -3_600_000])('is the same where the wall clock has been set by %i ms, and the SFU goes by it', (setMs) => {
    const told = <T>(of: T): T =>
      JSON.parse(JSON.stringify(of), (name, value) => (/^(joined|left)AtMs$/.test(name) && value !== null ? value + setMs : value));
    const late = told({ ...EVENTS['A left'], leftAtMs: NOW - 500 } as Event);
    const there = told(rowIn(ROWS['connected, just seen']));
    const { expiry } = there;
    const ranOut = { ...there, expiry: { ...expiry, earliestMs: NOW - 1_000, latestMs: NOW - 1_000 } };
    expect(decide(ranOut, late, { ...now, wallMs: NOW + setMs }, POLICY).next).toMatchObject({ expiry: { ranOutUnder: true } });
    for (const name of Object.keys(ROWS) as RowName[]) {
      const row = told(rowIn(ROWS[name]));
      for (const event of Object.keys(EVENTS) as EventName[]) {
        const decided = decide(row, told(EVENTS[event]), { ...now, wallMs: NOW + setMs }, POLICY);
        expect([event, say(row, decided)]).toEqual([event, TABLE[name][event]]);
      }
    }
  });

  it('an ended delegation: nothing happens any more', () => {
    const state = { kind: 'ended', outcome: 'sent', cause: 'left', atMs: NOW - 5, sin: null, tookMs: 30 } as const;
    const row: EndedDelegation = { ...rowIn(ROWS.leaving), state, handles: null };
    for (const event of Object.values(EVENTS)) expect(decide(row, event, now, POLICY)).toEqual({ next: row, effects: [] });
  });
});

describe('a hand-over', () => {
  const handOver = { ...rowIn(ROWS['connected, just seen']) };

  it('asks the SFU at once and makes no call', () => {
    const { next, effects } = delegate(handOver, NOW, 0.5, POLICY);
    expect(effects).toEqual([{ kind: 'check', notBeforeMs: NOW, batchMs: 1_000, whichRoom: true }]);
    expect(next.state).toMatchObject({ kind: 'awaiting', connectByMs: NOW + 100_000, nextAskMs: NOW });
  });

  it.each([
    ['a short delay', 1_500, 300_000, 1_500],
    ['the setting', 3_600_000, 60_000, 60_000],
    ['five minutes at most', 36_000_000, 900_000, 300_000],
  ])('gives the time to connect: %s', (_, delayMs, connectTimeoutMs, expected) => {
    const { next } = delegate({ ...handOver, delayMs }, NOW, 0.5, { ...POLICY, connectTimeoutMs });
    expect(next.state).toMatchObject({ connectByMs: NOW + expected });
  });

  it('that another service has restarted is proven by that', () => {
    expect(isProven(adopt(handOver, { restartedAtMs: NOW - 5_000 }, NOW, 0.5, POLICY).next)).toBe(true);
    expect(isProven(delegate(handOver, NOW, 0.5, POLICY).next)).toBe(false);
  });
});

describe('a hand-over of an event that was handed over before', () => {
  const older = rowIn(ROWS['connected, just seen']);
  const again = { ...older, owner: 'another owner' as Owner };

  it('knows who is there, and by when it runs out', () => {
    const { next, effects } = delegate(again, NOW, 0.5, POLICY, older);
    const state = { ...older.state, handedOverMs: older.createdAtMs };
    expect([next.state, next.expiry.earliestMs]).toEqual([state, older.expiry.earliestMs]);
    // And that its event was handed over before they were seen, also the third time.
    const third = delegate({ ...again, owner: 'a third' as Owner }, NOW + 1_000, 0.5, POLICY, next).next;
    const gone = decide(third, EVENTS['A left'], { nowMs: NOW + 2_000, roll: 0.5 }, POLICY).next;
    expect([third.state, gone.state]).toMatchObject([state, { kind: 'settling', departure: { certain: true } }]);
    expect(effects).toEqual([{ kind: 'check', notBeforeMs: NOW, batchMs: 50, whichRoom: true }]);
  });

  const tried = (attempts: number, session: Session | null): LiveState => ({ ...(ROWS.leaving as Leaving), attempts, session });
  const { session } = ROWS.leaving as Leaving;
  it.each<[string, LiveState, boolean]>([
    ['awaited', ROWS['awaiting, nobody seen'], false],
    ['settling', ROWS['settling, A left'], true],
    ['leaving', tried(0, session), true],
    ['leaving, who never came', tried(0, null), false],
    ['leaving, who never came, with an ending tried', tried(1, null), true],
  ])('goes on as what it was: %s', (_, state, goesOn) => {
    const before = rowIn(state);
    const { next } = delegate({ ...before, owner: 'another owner' as Owner }, NOW, 0.5, POLICY, before);
    expect(next.state).toEqual(goesOn ? state : expect.objectContaining({ kind: 'awaiting', nextAskMs: NOW }));
  });

  it.each<[string, LiveState]>([
    ['leaving, who never came, with a call that may be on its way', tried(0, null)],
    [
      'connected as somebody who is not watched any more, after an ending was tried',
      { ...(ROWS['connected, just seen'] as Connected), attempted: 'leave' },
    ],
    ['awaited, after an ending was tried', { ...(ROWS['awaiting, nobody seen'] as Awaiting), attempted: 'leave' }],
  ])('sends no other ending of a group than was tried: %s', (_, state) => {
    const before = rowIn(state, GROUP);
    const identities = [
      ...before.identities.filter((one) => state.kind === 'leaving' || one !== before.identities[0]),
      'another' as Identity,
    ];
    const { next } = delegate({ ...before, identities, owner: 'another owner' as Owner }, NOW, 0.5, POLICY, before);
    expect(next.state).toMatchObject({ kind: 'awaiting', attempted: 'leave' });
    const joined = { kind: 'joined', identity: 'another' as Identity, sid: 'PA_x' as Sid, joinedAtMs: NOW, roomSid: null } as const;
    const there = decide(next, joined, { nowMs: NOW + 10, roll: 0.5 }, POLICY).next;
    const lost = { ...EVENTS['A lost'], identity: 'another' as Identity, sid: 'PA_x' as Sid, joinedAtMs: NOW } as Event;
    const wait0 = { ...POLICY, waitMs: { ...POLICY.waitMs, lost: 0 } };
    expect(decide(there, lost, { nowMs: NOW + 5_000, roll: 0.5 }, wait0).effects).toMatchObject([{ kind: 'send', action: 'leave' }]);
  });

  it('is not scheduled a moment ago where it was not restarted yet, nor where it ran out; that it did is not forgotten', () => {
    const ends = (earliestMs: number, more = {}) => ({ ...older, expiry: { earliestMs, latestMs: earliestMs + 5, ...more } });
    const fresh = { earliestMs: NOW + older.delayMs, latestMs: NOW + older.delayMs };
    const by = (row: LiveDelegation) => delegate(again, NOW, 0.5, POLICY, row).next.expiry;
    expect(by(ends(older.createdAtMs + older.delayMs))).toEqual(fresh);
    expect(by(ends(NOW - 1))).toEqual(fresh);
    const ranOut = ends(NOW - 1, { ranOutUnder: true });
    expect(by(ranOut)).toEqual({ ...fresh, ranOutUnder: true });
    const { next } = delegate(again, NOW, 0.5, POLICY, ranOut);
    const gone = { kind: 'restart_answered', askedAtMs: NOW + 10, answer: { kind: 'final', how: 'gone' } } as const;
    expect(decide(next, gone, { nowMs: NOW + 20, roll: 0.5 }, POLICY).next.state).toMatchObject({ kind: 'ended', sin: 'false-leave' });
  });

  it.each([
    ['of another event', { handles: GROUP }],
    ['with another delay', { delayMs: older.delayMs + 1 }],
    ['of another homeserver', { homeserver: 'https://other.example.org' as HomeserverUrl }],
    ['that does not watch who is there', { identities: ['x' as Identity] }],
  ])('not so one %s', (_, over) => {
    expect(delegate({ ...again, ...over }, NOW, 0.5, POLICY, older).next.state.kind).toBe('awaiting');
  });
});

describe('an attempt to connect that was aborted, of an event that runs out within the time for another', () => {
  const expiry = { earliestMs: NOW + 9_000, latestMs: NOW + 9_100 };

  it.each<RowName>(['connected, never established', 'awaiting, nobody seen'])('%s: the SFU is asked in time for a restart', (name) => {
    const before = { ...rowIn(ROWS[name]), delayMs: 10_000, expiry };
    const { next } = decide(before, EVENTS['A aborted'], now, POLICY);
    expect(next.state).toMatchObject({ kind: 'awaiting', connectByMs: NOW + 9_000, nextAskMs: NOW + 7_000 });
    const later = { nowMs: NOW + 7_005, roll: 0.5 };
    const list = { ...EVENTS['list: nobody'], askedAtMs: NOW + 7_000 } as Event;
    expect(decide(next, list, later, POLICY).next.state).toMatchObject({ nextAskMs: NOW + 9_000 });
  });
});

describe('the word of a join that waited, for the SFU to try again or for us to run again', () => {
  const names = ['awaiting, nobody seen', 'connected, just seen', 'settling, A left', 'leaving'] as const;
  const joinedAgo = (name: RowName, agoMs: number) => {
    const event = { ...EVENTS['B joined'], joinedAtMs: NOW - agoMs } as Event;
    return decide({ ...rowIn(ROWS[name]), delayMs: 10_000 }, event, now, POLICY);
  };

  it.each(names)('%s: is not believed to be news, but restarts once more, and a list has to tell', (name) => {
    const { next, effects } = joinedAgo(name, 10_000);
    expect(next.state).toMatchObject({ kind: 'connected', seenAtMs: NOW - 10_000 });
    expect(effects).toMatchObject([{ kind: 'restart' }, { kind: 'check', notBeforeMs: NOW }]);
  });

  it.each(names)('%s: too old for a restart, and a list has to tell', (name) => {
    const { next, effects } = joinedAgo(name, 10_001);
    expect(next.state).toMatchObject({ kind: 'connected', seenAtMs: NOW - 10_001 });
    expect(effects).toMatchObject([{ kind: 'check', notBeforeMs: NOW }]);
  });

  it.each(names)('%s: clocks may differ by two seconds', (name) => {
    expect(joinedAgo(name, 2_000).next.state).toMatchObject({ kind: 'connected', seenAtMs: NOW });
  });

  it('is of a session older than the hand-over: its departure, told later still, is not believed where the SFU can not be asked', () => {
    const joined = { ...EVENTS['A joined'], joinedAtMs: NOW - 70_000 } as Event;
    const decided = (row: Delegation, event: Event, nowMs = NOW) => decide(row, event, { nowMs, roll: 0.5 }, POLICY).next;
    const connected = decided(rowIn(ROWS['awaiting, nobody seen']), joined);
    const later = NOW + POLICY.waitMs.left;
    const afterwards = (row: Delegation) => decided(decided(row, EVENTS['A left']), { kind: 'sfu_unreachable', askedAtMs: later }, later);
    expect(afterwards(connected).state).toMatchObject({ kind: 'settling', failures: 1 });
    expect(afterwards(decided(connected, EVENTS['list: A'])).state.kind).toBe('leaving');
  });

  it('says nothing new of a session that a list has shown since', () => {
    const row = rowIn({ ...ROWS['connected, just seen'], session: { ...ROWS['connected, just seen'].session, established: false } });
    expect(decide(row, EVENTS['A joined'], now, POLICY).next.state).toMatchObject({
      session: { established: true },
      seenAtMs: NOW - 1_000,
    });
  });
});

describe('a departure by the clock of an SFU that is a little ahead', () => {
  it('is not certainly of a session after the hand-over: without a wait the SFU is asked all the same', () => {
    const atOnce = { ...POLICY, waitMs: { ...POLICY.waitMs, left: 0 } };
    const left = (agoMs: number) => ({ ...EVENTS['A left'], joinedAtMs: NOW - 61_000 + agoMs }) as Event;
    const effects = (agoMs: number) => decide(rowIn(ROWS['awaiting, nobody seen']), left(agoMs), now, atOnce).effects;
    expect(effects(200)).toMatchObject([{ kind: 'check' }]);
    expect(effects(2_000)).toMatchObject([{ kind: 'send' }]);
  });
});

describe('a clock that was set back under a session', () => {
  const before = NOW + 3_540_000;

  it('leaves no join to be told from an older one: who comes back while the SFU can not be asked is there', () => {
    const settling = ROWS['settling, A left'];
    const joined = (heldMs: number) => {
      const row = rowIn({ ...settling, session: { ...settling.session, joinedAtMs: heldMs } });
      return decide(row, { ...EVENTS['B joined'], joinedAtMs: NOW - 50 } as Event, now, POLICY).next.state.kind;
    };
    expect(joined(before)).toBe('connected');
    expect(joined(NOW + 500)).toBe('settling');
  });

  it('leaves no departure of another session to be told from a newer one: the SFU is asked', () => {
    const connected = ROWS['connected, just seen'];
    const told = (heldMs: number, tellsMs: number) => {
      const row = rowIn({ ...connected, session: { ...connected.session, joinedAtMs: heldMs } });
      const left = { ...EVENTS['A left'], sid: 'PA_other', joinedAtMs: tellsMs } as Event;
      const { next, effects } = decide(row, left, now, POLICY);
      return [next.state.kind, ...effects.map(({ kind }) => kind)];
    };
    expect(told(NOW - 1_000, before)).toEqual(['connected', 'check']);
    expect(told(before, NOW - 1_000)).toEqual(['connected', 'check']);
    expect(told(NOW - 9_000, NOW - 1_000)).toEqual(['settling']);
    expect(told(NOW - 1_000, NOW - 9_000)).toEqual(['connected']);
  });

  it('does not make its departure one of after the hand-over', () => {
    const left = { ...EVENTS['A left'], joinedAtMs: before } as Event;
    expect(decide(rowIn(ROWS['awaiting, nobody seen']), left, now, POLICY).next.state.kind).toBe('awaiting');
  });
});

describe('which ending is owed', () => {
  const connected = ROWS['connected, just seen'];
  const wait0 = { ...POLICY, waitMs: { ...POLICY.waitMs, left: 0, lost: 0, replaced: 0 } };

  it('tells a goodbye from a lost connection, where the group has both', () => {
    const ending = (event: EventName) => decide(rowIn(connected, GROUP), EVENTS[event], now, wait0).effects;
    expect(ending('A left')).toMatchObject([{ kind: 'send', action: 'leave' }]);
    expect(ending('A lost')).toMatchObject([{ kind: 'send', action: 'lost' }]);
  });

  it('sends the leave for a lost connection where nothing else was given', () => {
    expect(decide(rowIn(connected, DELAY), EVENTS['A lost'], now, wait0).effects).toMatchObject([{ kind: 'send', action: 'leave' }]);
  });

  it('never sends a second ending after one whose fate is unknown', () => {
    const back = decide(rowIn(ROWS['leaving, try due'], GROUP), EVENTS['B joined'], now, wait0).next;
    expect(back.state).toMatchObject({ kind: 'connected', attempted: 'leave' });
    const lost = {
      kind: 'left',
      identity: back.identities[0] ?? ('' as never),
      sid: 'PA_b' as never,
      joinedAtMs: NOW - 500,
      roomSid: null,
      cause: 'lost',
    } as const;
    expect(decide(back, lost, now, wait0).effects).toMatchObject([{ kind: 'send', action: 'leave' }]);
  });

  it('asks the SFU about a takeover and a removal even without a wait', () => {
    expect(run(connected, 'A replaced', wait0).effects).toMatchObject([{ kind: 'check' }]);
    expect(run(connected, 'A removed', wait0).effects).toMatchObject([{ kind: 'check' }]);
  });
});

describe('a list that waited', () => {
  it('as for a process that was stopped, is no evidence for a restart: the SFU is asked anew', () => {
    const row = rowIn(ROWS['connected, restart due, stale']);
    const lease = Math.min(POLICY.presenceIntervalMs, row.delayMs / 2);
    const effects = (askedAtMs: number) => decide(row, { ...EVENTS['list: A'], askedAtMs } as Event, now, POLICY).effects;
    expect(effects(NOW - 2 * lease)).toMatchObject([{ kind: 'restart' }]);
    expect(effects(NOW - 2 * lease - 1)).toEqual([{ kind: 'check', notBeforeMs: NOW, batchMs: 0, whichRoom: false }]);
  });
});

describe('restarts', () => {
  it.each([0, 0.5, 0.999])('come around 80 %% of the delay, never later than 90 %% (chance %s)', (roll) => {
    const { next } = decide(rowIn(ROWS['connected, just seen']), EVENTS['restart: ok'], { nowMs: NOW, roll }, POLICY);
    const part = ((dueAtMs(next.state) ?? 0) - (NOW - 10)) / 100_000;
    expect(part).toBeGreaterThanOrEqual(0.75);
    expect(part).toBeLessThanOrEqual(0.85);
  });

  it('leave time for another try when a call hangs', () => {
    const row = { ...rowIn(ROWS['connected, restart due, fresh']), expiry: { earliestMs: NOW + 3_000, latestMs: NOW + 3_000 } };
    expect(decide(row, EVENTS.due, now, POLICY).effects).toEqual([{ kind: 'restart' }]);
    expect(restartTimeoutMs(row, NOW, 0)).toBe(1_500);
    expect(restartTimeoutMs(row, NOW, 1_500)).toBe(2_250);
  });

  it.each([
    ['is known to be slow: as long as it took, and half as long again', { failures: 0 }, 3_000, 1_500, 2_250],
    ['is known to be slow: not longer than is left', { failures: 0 }, 3_000, 2_500, 3_000],
    ['has failed in a session before this one: another try', { failures: 0 }, 3_000, 6_000, 1_500],
    ['was slow, and has failed since: another try', { failures: 1 }, 3_000, 1_500, 1_500],
    ['may have restarted it by a call that failed: a part of what is left by that', { failures: 1 }, -500, 8_500, 2_000],
    ['may have, and is not heard of for the sixth time: as much as it may need', { failures: 6 }, -500, 8_500, 4_000],
    ['has let it run out, unless its client restarts it', { failures: 1 }, -8_000, 1_000, 2_000],
  ])('give a homeserver time that %s', (_, over, earliestInMs, spreadMs, expected) => {
    const expiry = { earliestMs: NOW + earliestInMs, latestMs: NOW + earliestInMs + spreadMs };
    const row = { ...rowIn({ ...ROWS['connected, restart due, fresh'], ...over } as LiveState), delayMs: 8_000, expiry };
    expect(restartTimeoutMs(row, NOW, 0)).toBe(expected);
  });

  it.each([
    [0, 0.75],
    [1_000, 0.75],
    [1_500, 0.7],
    [3_000, 0.4],
    [9_000, 0.4],
  ])('come earlier where the last one took long (%s ms of 10 s), for it may be done at the end of that', (tookMs, expected) => {
    const row = { ...rowIn(ROWS['connected, just seen']), delayMs: 10_000 };
    const answered = { kind: 'restart_answered', askedAtMs: NOW - tookMs, answer: { kind: 'ok' } } as const;
    const { next } = decide(row, answered, { nowMs: NOW, roll: 0 }, POLICY);
    expect(((dueAtMs(next.state) ?? 0) - (NOW - tookMs)) / 10_000).toBe(expected);
  });

  it('that fail come again well before the expiry', () => {
    const row = { ...rowIn(ROWS['connected, just seen']), expiry: { earliestMs: NOW + 400, latestMs: NOW + 400 } };
    const { next } = decide(row, EVENTS['restart: failed'], now, POLICY);
    expect((dueAtMs(next.state) ?? 0) - NOW).toBeLessThanOrEqual(100);
  });

  it.each([
    ['may run out soon', NOW + 400, NOW + 100_000, true, 250],
    ['had run out by our count, and may have been restarted by the very call', NOW - 2_000, NOW - 2_000, true, 2_000],
    ['has run out by our count, unless its client restarts it', NOW - 30_000, NOW - 30_000, false, 2_000],
  ])('that fail again and again come in a hurry where the event %s', (_, earliestMs, latestMs, reached, mostMs) => {
    const state = { ...ROWS['connected, restart due, fresh'], failures: 20 };
    const row = { ...rowIn(state), delayMs: 8_000, expiry: { earliestMs, latestMs } };
    const { next } = decide(row, { kind: 'restart_answered', askedAtMs: NOW - 10, answer: { kind: 'failed', reached } }, now, POLICY);
    expect((dueAtMs(next.state) ?? 0) - NOW).toBeLessThanOrEqual(mostMs);
  });
});

describe('the two sins', () => {
  const stateAfter = (row: Delegation, event: EventName, nowMs: number) =>
    decide(row, EVENTS[event], { nowMs, roll: 0.5 }, POLICY).next.state;

  it('an event that ran out under a present participant is a false leave', () => {
    const row = rowIn({ ...ROWS['connected, just seen'], seenAtMs: NOW + 29_000 });
    expect(stateAfter(row, 'restart: gone', NOW + 41_000)).toMatchObject({ kind: 'ended', outcome: 'expired', sin: 'false-leave' });
    expect(stateAfter(row, 'restart: gone', NOW + 30_000)).toMatchObject({ kind: 'ended', outcome: 'already-sent', sin: null });
    // By the newer text it is a conflict, whether the event was sent or cancelled.
    expect(stateAfter(row, 'restart: conflict', NOW + 41_000)).toMatchObject({ kind: 'ended', outcome: 'expired', sin: 'false-leave' });
    expect(stateAfter(row, 'restart: conflict', NOW + 30_000)).toMatchObject({ kind: 'ended', outcome: 'cancelled', sin: null });
  });

  // Synapse drops an event that it refuses to send, and then knows of none.
  it('a leave that was refused, and is gone since, was sent by nobody', () => {
    const row = rowIn({ ...ROWS['leaving, try due'], last: 'refused' });
    expect(stateAfter(row, 'send: gone', NOW + 100)).toMatchObject({ kind: 'ended', outcome: 'rejected', sin: null });
  });

  it('a leave that came too late is a ghost', () => {
    const row = rowIn(ROWS['leaving, try due']);
    expect(stateAfter(row, 'send: ok', NOW + 1_800)).toMatchObject({ outcome: 'sent', sin: null, tookMs: 2_000 });
    expect(stateAfter(row, 'send: ok', NOW + 1_801)).toMatchObject({ outcome: 'sent', sin: 'ghost' });
  });

  it('a leave is given up only after many tries, a day after the end of its event: until then its client may keep the event alive', () => {
    const tried = (attempts: number) => rowIn({ ...ROWS['leaving, try due'], attempts });
    const row = tried(100);
    const abandonedMs = row.expiry.latestMs + 86_400_000;
    expect(stateAfter(row, 'due', abandonedMs - 1)).toMatchObject({ kind: 'leaving' });
    expect(stateAfter(row, 'due', abandonedMs)).toMatchObject({ kind: 'ended', outcome: 'expired', sin: 'ghost' });
    expect(stateAfter(rowIn({ ...ROWS['leaving, try due'], attempts: 100, last: 'refused' }), 'due', abandonedMs)).toMatchObject({
      outcome: 'rejected',
    });
  });

  const HARDLY_TRIED: [string, LiveState, EventName][] = [
    ['a leave', ROWS['leaving, try due'], 'due'],
    ['who is there', { ...ROWS['connected, restart due, fresh'], failures: 1 }, 'due'],
    ['who is waited for', { ...ROWS['settling, A missing'], failures: 1 }, 'unreachable'],
    ['who has not come yet', { ...ROWS['awaiting, time is up'], failures: 1 }, 'unreachable'],
  ];
  it.each(HARDLY_TRIED)('%s is not given up after one failure, though the clock says that the event ended days ago', (_, state, event) => {
    const told = { ...EVENTS[event], ...(event === 'unreachable' ? { askedAtMs: NOW + 9 * 86_400_000 } : {}) } as Event;
    const { next } = decide(rowIn(state), told, { nowMs: NOW + 9 * 86_400_000, roll: 0.5 }, POLICY);
    expect(next.state.kind).toBe(state.kind);
  });

  it('a leave that its homeserver has in all likelihood sent by itself is tried once a minute', () => {
    const row = rowIn(ROWS['leaving, try due']);
    const pauseMs = (nowMs: number): number => {
      const state = stateAfter(row, 'send: failed', nowMs);
      return state.kind === 'leaving' ? state.nextTryMs - nowMs : Number.NaN;
    };
    expect(pauseMs(NOW + 159_799)).toBeLessThan(10_000);
    expect(pauseMs(NOW + 159_800)).toBe(60_000);
  });
});

describe('a cancellation', () => {
  const left = (earliestMs: number, latestMs: number, delayMs = 8_000) => ({
    ...rowIn({ ...ROWS.cancelling, attempts: 20 }),
    ...{ delayMs, expiry: { earliestMs, latestMs } },
  });

  it.each([
    ['may run out soon', left(NOW + 3_000, NOW + 9_000), 1_500, 750],
    ['may have run out, and surely not yet', left(NOW - 1_000, NOW + 6_000), 3_000, 1_500],
    ['has run out by our count, unless its client restarts it', left(NOW - 9_000, NOW - 8_000), 2_000, 2_000],
    ['runs out in an hour', left(NOW + 3_600_000, NOW + 3_600_000, 3_600_000), 10_000, 10_000],
  ])('of an event that %s leaves time for another, which comes soon', (_, row, timeoutMs, mostMs) => {
    expect(decide(row, EVENTS.due, now, POLICY).effects).toEqual([{ kind: 'cancel', timeoutMs }]);
    const failed = { kind: 'cancel_answered', answer: { kind: 'failed', reached: true } } as const;
    const pauseMs = (dueAtMs(decide(row, failed, now, POLICY).next.state) ?? 0) - NOW;
    expect(pauseMs).toBeGreaterThan(mostMs / 4);
    expect(pauseMs).toBeLessThanOrEqual(mostMs);
  });
});

describe('superseding a group', () => {
  it('without a way to cancel it is let go', () => {
    if (GROUP.kind !== 'futures' || GROUP.lost === null) throw new Error('the group has two futures');
    const handles = { ...GROUP, leave: { ...GROUP.leave, cancel: null }, lost: { ...GROUP.lost, cancel: null } };
    const { next, effects } = decide(rowIn(ROWS['connected, just seen'], handles), EVENTS.superseded, now, POLICY);
    expect([next.state.kind, next.handles, effects]).toEqual(['ended', null, []]);
  });
});
