// Who left, or seems to have: how long is waited for a return, and what that is not cut short by.
import { describe, expect, it } from 'vitest';
import { decide, dueAtMs } from '../../src/delegation/decide.ts';
import type { RoomSid, Sid } from '../../src/delegation/ids.ts';
import type { Delegation, Event, LiveState, Seen, Settling } from '../../src/delegation/state.ts';
import { EVENTS, type EventName, ME, NOW, POLICY, ROWS, rowIn } from './cases.ts';

const now = { nowMs: NOW, roll: 0.5 };
const run = (state: LiveState, event: EventName, policy = POLICY) => decide(rowIn(state), EVENTS[event], now, policy);

describe('the SFU said that it stops, and can not be asked', () => {
  it('is asked again for about five minutes, and then its word stands', () => {
    const stops = { ...EVENTS['A left'], cause: 'sfu_down' } as Event;
    let row: Delegation = decide(rowIn(ROWS['connected, just seen']), stops, now, POLICY).next;
    let nowMs = NOW + POLICY.waitMs.sfuDown;
    const fromMs = nowMs;
    while (row.state.kind === 'settling') {
      const { next, effects } = decide(row, { kind: 'sfu_unreachable', askedAtMs: nowMs }, { nowMs, roll: 0.5 }, POLICY);
      expect(effects).toMatchObject(next.state.kind === 'settling' ? [] : [{ kind: 'send', action: 'leave' }]);
      if (next.state.kind === 'settling') nowMs = next.state.nextAskMs;
      row = next;
    }
    expect(row.state.kind).toBe('leaving');
    expect(nowMs - fromMs).toBeGreaterThanOrEqual(300_000);
    expect(nowMs - fromMs).toBeLessThan(600_000);
  });
});

describe('the SFU was restarted, and a list has told so', () => {
  const decided = (row: Delegation, event: Event, nowMs = NOW) => decide(row, event, { nowMs, roll: 0.5 }, POLICY).next;
  const connected = rowIn(ROWS['connected, just seen']);
  const forgotten = decided(connected, EVENTS['list: nobody, after a restart']);
  const stopped = (event: EventName, stoppedMs = NOW - 2_000) =>
    decided(forgotten, { ...EVENTS[event], cause: 'sfu_down', leftAtMs: stoppedMs } as Event, NOW + 8_000).state;
  const untilMs = NOW + POLICY.waitMs.sfuDown;

  it('the word of its stop, which comes late, gives nobody longer to come back', () => {
    expect(forgotten.state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs });
    expect(stopped('A left')).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down', fence: 'PA_a' }, untilMs });
  });

  it('a word without a SID may be of another stop, and does', () => {
    expect(stopped('left, no SID')).toMatchObject({ kind: 'settling', untilMs: untilMs + 8_000 });
  });

  it('the word of a stop since, where it only had lost its lists before, does as well', () => {
    const departure = { cause: 'sfu_down', atMs: NOW + 8_000, fence: 'PA_a', certain: true };
    expect(stopped('A left', NOW + 7_000)).toMatchObject({ kind: 'settling', departure, untilMs: untilMs + 8_000 });
  });

  it('that of a stop at about the same time gives the whole wait from the end of the second that it tells', () => {
    expect(stopped('A left', NOW + 1_000)).toMatchObject({ kind: 'settling', untilMs: untilMs + 2_000, nextAskMs: untilMs + 2_000 });
  });
});

describe('missing from a list, without a word of the departure, and the SFU has closed the room since', () => {
  const nobody = (askedAtMs: number, answersSinceMs = 0): Event => ({
    ...{ kind: 'snapshot', present: [], roomSid: null, afterRestart: false, answersSinceMs, lastSeenMs: null, lookedFor: true, askedAtMs },
  });
  const told = (row: Delegation, event: Event, nowMs: number) => decide(row, event, { nowMs, roll: 0.5 }, POLICY).next;
  const missing = told(rowIn(ROWS['connected, just seen']), EVENTS['list: nobody, our room'], NOW);
  const closed = told(missing, EVENTS['our room finished'], NOW + 1_000);
  const { left, sfuDown } = POLICY.waitMs;

  it('who was in it has left: that the room is gone is no sign of a restart', () => {
    expect(missing.state).toMatchObject({ kind: 'settling', departure: { cause: 'missing' } });
    expect(closed.state).toMatchObject({ kind: 'settling', departure: { cause: 'left' }, untilMs: NOW + 1_000 + left });
    const nowMs = NOW + 1_000 + left;
    expect(told(closed, nobody(nowMs), nowMs).state).toMatchObject({ kind: 'leaving', onTimeUntilMs: nowMs + 1_000 });
  });

  it('nor is that another room begins', () => {
    expect(told(closed, EVENTS['the room started anew'], NOW + 1_500)).toBe(closed);
  });

  it('also if a list has told before that the room is gone, as where the SFU has forgotten it', () => {
    const gone = told(missing, nobody(NOW + POLICY.waitMs.missing), NOW + POLICY.waitMs.missing);
    expect(gone.state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' } });
    const nowMs = NOW + 5_000;
    const finished = { ...EVENTS['our room finished'], closedAtMs: NOW + 1_000 } as Event;
    expect(told(gone, finished, nowMs).state).toMatchObject({ departure: { cause: 'left' }, untilMs: nowMs + left });
  });

  it('but not if it was closed after a restart, which with a Redis it outlives: who is not back yet may be on the way', () => {
    const restarted = told(rowIn(ROWS['connected, just seen']), EVENTS['list: nobody, after a restart'], NOW);
    expect(restarted.state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: NOW + sfuDown });
    const finished = { ...EVENTS['our room finished'], closedAtMs: NOW + 5_000 } as Event;
    expect(told(restarted, finished, NOW + 5_500)).toBe(restarted);
    expect(told(restarted, EVENTS['our room finished'], NOW + 5_500), 'when is not told').toBe(restarted);
  });

  it('nobody is waited for longer than without the word of it', () => {
    const { untilMs } = missing.state as Settling;
    expect(told(missing, EVENTS['our room finished'], untilMs - 200).state).toMatchObject({ departure: { cause: 'left' }, untilMs });
  });

  it('but if the SFU can not be asked then, it may have stopped, and its clients be on their way back', () => {
    const row = told(closed, { kind: 'sfu_unreachable', askedAtMs: NOW + 2_000 }, NOW + 2_000);
    const backMs = NOW + 6_000;
    const untilMs = backMs + sfuDown;
    expect(told(row, nobody(backMs, backMs), backMs).state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs });
    expect(told(row, EVENTS['the room started anew'], backMs).state).toMatchObject({ departure: { cause: 'sfu_down' }, untilMs });
  });
});

describe('on the way back from an SFU that has stopped, and seen on a list, but not up yet', () => {
  const session = { ...ROWS['connected, just seen'].session, sid: 'PA_b' as Sid, joinedAtMs: NOW - 500, after: 'sfu_down' } as const;
  const row = rowIn({ ...ROWS['connected, just seen'], session });

  it('the late word that the room before is finished is no departure: the SFU is asked', () => {
    const { next, effects } = decide(row, EVENTS['our room finished'], now, POLICY);
    expect(next).toBe(row);
    expect(effects).toMatchObject([{ kind: 'check' }]);
  });
});

describe('taken over, and the SFU forgot the new session before a word of it got out', () => {
  const replaced = run(ROWS['connected, just seen'], 'A replaced').next;
  const later = NOW + POLICY.waitMs.replaced;
  const nobody = (roomSid: RoomSid | null, askedAtMs: number): Event => ({
    ...{ kind: 'snapshot', present: [], afterRestart: false, answersSinceMs: 0, lastSeenMs: null, lookedFor: true },
    ...{ roomSid, askedAtMs },
  });
  const decided = (row: Delegation, event: Event, nowMs: number) => decide(row, event, { nowMs, roll: 0.5 }, POLICY);

  it.each([
    ['is there no more', null],
    ['is another one', 'RM_b' as RoomSid],
  ])('who is in no list of a room that %s is waited for like all clients of that SFU', (_, roomSid) => {
    const { next, effects } = decided(replaced, nobody(roomSid, later), later);
    expect([next.state.kind, effects]).toEqual(['settling', []]);
    const backByMs = later + POLICY.waitMs.sfuDown;
    expect(dueAtMs(next.state)).toBe(backByMs);
    expect(decided(next, { kind: 'sfu_unreachable', askedAtMs: backByMs }, backByMs).next.state.kind).toBe('settling');
    expect(decided(next, nobody(roomSid, backByMs), backByMs).effects).toMatchObject([{ kind: 'send' }]);
  });

  it('nobody in the same room is nobody', () =>
    expect(decided(replaced, nobody('RM_a' as RoomSid, later), later).effects).toMatchObject([{ kind: 'send' }]));
});

describe('an absence that only lists told', () => {
  const state = ROWS['settling, A missing'] as Settling;
  const untilMs = NOW - 5_000;
  const departure = { ...state.departure, atMs: untilMs - POLICY.waitMs.missing };
  const missing = rowIn({ ...state, departure, untilMs, nextAskMs: untilMs });
  const nobody = (askedAtMs: number) => ({ ...EVENTS['list: nobody'], askedAtMs, roomSid: 'RM_a' as RoomSid }) as Event;

  it('is looked at twice again, where the second look comes late: they may have come and be reconnecting', () => {
    const again = decide(missing, nobody(NOW), now, POLICY).next;
    expect(again.state).toMatchObject({ kind: 'settling', untilMs: NOW + POLICY.waitMs.missing });
    const later = NOW + POLICY.waitMs.missing;
    expect(decide(again, nobody(later), { nowMs: later, roll: 0.5 }, POLICY).effects).toMatchObject([{ kind: 'send' }]);
  });

  it('is believed where the question waited for the one before it, which looked for a node in vain', () => {
    const askedAtMs = untilMs + 3_100;
    expect(decide(missing, nobody(askedAtMs), { nowMs: askedAtMs, roll: 0.5 }, POLICY).effects).toMatchObject([{ kind: 'send' }]);
  });

  it('is believed when the third look is late as well, and we were there all the time: there is too much to do', () => {
    const again = decide(missing, nobody(NOW), now, POLICY).next;
    const later = NOW + POLICY.waitMs.missing + 5_000;
    const decided = (answersSinceMs: number) =>
      decide(again, { ...nobody(later), answersSinceMs } as Event, { nowMs: later, roll: 0.5 }, POLICY);
    expect(decided(NOW).effects).toMatchObject([{ kind: 'send' }]);
    expect(decided(later - 1).next.state).toMatchObject({ kind: 'settling', untilMs: later + POLICY.waitMs.missing });
  });
});

describe('a list that was asked for others, and does not say which room it is', () => {
  const ofOthers = { ...EVENTS['list: nobody'], roomSid: undefined } as Event;
  const decided = (row: Delegation, event: Event) => decide(row, event, { nowMs: NOW, roll: 0.5 }, POLICY);

  it.each(['settling, A missing', 'settling, A replaced'] as const)(
    'does not decide what an SFU that forgot would look like as well: which room it is, is asked first [%s]',
    (name) => {
      const row = rowIn(ROWS[name]);
      expect(decided(row, ofOthers)).toEqual({
        next: row,
        effects: [{ kind: 'check', notBeforeMs: NOW, batchMs: 0, whichRoom: true }],
      });
      expect(decided(row, EVENTS['list: nobody, another room']).next.state).toMatchObject({ departure: { cause: 'sfu_down' } });
      expect(decided(row, EVENTS['list: nobody, our room']).effects).toMatchObject([{ kind: 'send' }]);
    },
  );

  it('decides what a webhook has told, and where the room of the one who left is not known either', () => {
    expect(decided(rowIn(ROWS['settling, wait over']), ofOthers).effects).toMatchObject([{ kind: 'send' }]);
    const { session, ...state } = ROWS['settling, A missing'];
    const somewhere = rowIn({ ...state, session: { ...session, roomSid: null } });
    expect(decided(somewhere, ofOthers).effects).toMatchObject([{ kind: 'send' }]);
  });

  it('says enough after a restart of the SFU', () => {
    const { next, effects } = decided(rowIn(ROWS['settling, A missing']), { ...ofOthers, afterRestart: true } as Event);
    expect([next.state.kind, effects]).toEqual(['settling', []]);
    expect(next.state).toMatchObject({ departure: { cause: 'sfu_down' } });
  });
});

describe('an attempt to connect that is aborted', () => {
  const decided = (row: Delegation, event: Event, nowMs = NOW) => decide(row, event, { nowMs, roll: 0.5 }, POLICY).next;
  const connected = rowIn(ROWS['connected, just seen']);
  const aborted = (row: Delegation) => {
    const { state } = decided(decided(row, EVENTS['list: B joining']), EVENTS['B aborted']);
    return state.kind === 'settling' ? [state.departure.cause, state.untilMs - NOW] : state.kind;
  };

  it('and was missed by a list before, is waited for as it would have been', () => {
    const stopped = decided(connected, { ...EVENTS['A left'], cause: 'sfu_down' } as Event);
    const missing = decided(decided(stopped, EVENTS['list: B joining']), { ...EVENTS['list: nobody'], askedAtMs: NOW + 1 } as Event);
    expect(missing.state).toMatchObject({ kind: 'settling', departure: { cause: 'missing' } });
    const { state } = decided(missing, EVENTS['B aborted'], NOW + 900);
    expect(state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: NOW + 900 + POLICY.waitMs.sfuDown });
  });

  it.each([
    ['was stopped', 'sfu_down', 'sfu_down', POLICY.waitMs.sfuDown],
    ['lost the connection', 'lost', 'lost', POLICY.waitMs.lost],
    ['let somebody else take over', 'replaced', 'replaced', POLICY.waitMs.replaced],
    ['said goodbye', 'left', 'lost', POLICY.waitMs.lost],
    ['were removed', 'removed', 'lost', POLICY.waitMs.lost],
  ] as const)('leaves those whose SFU, or who, %s where they were', (_, before, after, waitMs) => {
    const settling = decided(connected, { ...EVENTS['A left'], cause: before } as Event);
    expect(aborted(settling)).toEqual([after, waitMs]);
  });

  it('has the wait for an SFU that forgot, where only a list told of that', () => {
    const joining = { ...EVENTS['list: B joining'], roomSid: 'RM_b' as RoomSid };
    const { state } = decided(decided(connected, joining), EVENTS['B aborted']);
    expect(state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: NOW + POLICY.waitMs.sfuDown });
  });

  it('does not hide that the SFU forgot, where nothing has told so yet', () => {
    const settling = decided(decided(connected, EVENTS['list: B joining']), EVENTS['B aborted']);
    const later = NOW + POLICY.waitMs.replaced;
    const nobody = { ...EVENTS['list: nobody'], askedAtMs: later, roomSid: 'RM_b' as RoomSid };
    expect(decided(settling, nobody, later).state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' } });
  });

  it('is no proof where the SFU can not be asked, and only a list told of the session before', () => {
    const settling = decided(decided(connected, EVENTS['list: B joining']), EVENTS['B aborted']);
    const later = NOW + POLICY.waitMs.lost;
    const away = { ...EVENTS.unreachable, askedAtMs: later } as Event;
    expect(decided(settling, away, later).state).toMatchObject({ kind: 'settling', departure: { certain: false } });
  });

  it('and was taken over before by another one is one attempt after the other', () => {
    const takenOver = { ...EVENTS['B left'], cause: 'replaced' } as Event;
    const stopped = decided(connected, { ...EVENTS['A left'], cause: 'sfu_down' } as Event);
    const onItsWay = { state: { kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: NOW + 9_000 + POLICY.waitMs.sfuDown } };
    for (const before of [stopped, decided(stopped, EVENTS['list: B joining'])]) {
      const settling = decided(before, takenOver, NOW + 9_000);
      expect(settling).toMatchObject(onItsWay);
      const third = { identity: ME, sid: 'PA_c' as Sid, joinedAtMs: NOW + 8_990, active: false };
      const list = { ...EVENTS['list: nobody'], present: [third], askedAtMs: NOW + 9_000 } as Event;
      const joining = decided(settling, list, NOW + 9_000);
      expect(joining.state.kind).toBe('connected');
      expect(decided(joining, { kind: 'aborted', identity: ME, sid: third.sid }, NOW + 9_000)).toMatchObject(onItsWay);
    }
  });

  it.each([
    ['was there', connected],
    ['was missing', rowIn({ ...ROWS['settling, A replaced'], departure: { cause: 'missing', atMs: NOW, fence: null, certain: false } })],
  ] as const)(
    'and was taken over in another room than the one in which its member %s is on the way back to an SFU that forgot',
    (_, row) => {
      const inRoom = (roomSid: string) =>
        decided(row, { ...EVENTS['B left'], cause: 'replaced', roomSid: roomSid as RoomSid } as Event).state;
      expect(inRoom('RM_b')).toMatchObject({ departure: { cause: 'sfu_down' }, untilMs: NOW + POLICY.waitMs.sfuDown });
      expect(inRoom('RM_a')).toMatchObject({ departure: { cause: 'replaced' }, untilMs: NOW + POLICY.waitMs.replaced });
    },
  );

  it('does not hide it either where a takeover is waited for less than a lost connection', () => {
    const policy = { ...POLICY, waitMs: { ...POLICY.waitMs, replaced: 500 } };
    const { next: settling } = decide(decided(connected, EVENTS['list: B joining']), EVENTS['B aborted'], now, policy);
    expect(settling.state).toMatchObject({ kind: 'settling', departure: { cause: 'lost' } });
    const later = { nowMs: NOW + POLICY.waitMs.lost, roll: 0.5 };
    expect(decide(settling, { kind: 'due' }, later, policy).effects).toMatchObject([{ kind: 'check', whichRoom: true }]);
    const nobody = { ...EVENTS['list: nobody'], askedAtMs: later.nowMs, roomSid: 'RM_b' as RoomSid };
    expect(decide(settling, nobody, later, policy).next.state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' } });
    const sameRoom = { ...nobody, roomSid: 'RM_a' as RoomSid } as Event;
    expect(decide(settling, sameRoom, later, policy).next.state.kind).toBe('leaving');
  });

  it('has the wait anew that it is made in', () => {
    const settling = decided(connected, { ...EVENTS['A left'], cause: 'sfu_down' } as Event);
    const { state } = decided(settling, EVENTS['B aborted'], NOW + 9_000);
    expect(state).toMatchObject({ kind: 'settling', untilMs: NOW + 9_000 + POLICY.waitMs.sfuDown });
  });
});

describe('who left right after the hand-over', () => {
  const decided = (row: Delegation, event: EventName) => decide(row, EVENTS[event], now, POLICY).next;
  const awaiting = { ...ROWS['awaiting, nobody seen'], connectByMs: NOW + 200, nextAskMs: NOW + 200 };

  it('has the wait for a return, however near the end of a short delay is, and also if an attempt is aborted meanwhile', () => {
    const row = { ...rowIn(awaiting), expiry: { earliestMs: NOW + 200, latestMs: NOW + 200 } };
    const left = decided(row, 'an older session left');
    expect(left.state).toMatchObject({ kind: 'awaiting', connectByMs: NOW + POLICY.waitMs.left });
    expect(decided(left, 'B aborted').state).toMatchObject({ kind: 'awaiting', connectByMs: NOW + POLICY.waitMs.left });
    expect(decided(row, 'B aborted').state).toMatchObject({ kind: 'awaiting', connectByMs: NOW + 200 });
  });
});

describe('an SFU that was stopped', () => {
  const decided = (row: Delegation, event: Event, nowMs = NOW) => decide(row, event, { nowMs, roll: 0.5 }, POLICY).next;
  const stopped = decided(rowIn(ROWS['connected, just seen']), { ...EVENTS['A left'], cause: 'sfu_down' } as Event);
  const waitMs = POLICY.waitMs.sfuDown;
  const nobodyAt = (askedAtMs: number) => ({ ...EVENTS['list: nobody'], askedAtMs });
  const sent: Event = { kind: 'send_answered', action: 'leave', answer: { kind: 'ok' } };

  it('and is first asked long after the wait, for we were away as well, may be back just now: its clients have the wait from then on', () => {
    const backMs = NOW + waitMs + 25_000;
    const waiting = decided(stopped, nobodyAt(backMs), backMs);
    expect(waiting.state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: backMs + waitMs });
    expect(decided(waiting, nobodyAt(backMs + waitMs), backMs + waitMs).state.kind).toBe('leaving');
  });

  it('and answers only since then, as far as a process knows that began in between, may be back just now as well', () => {
    const askedAtMs = NOW + waitMs + 800;
    const answers = (answersSinceMs: number) => decided(stopped, { ...nobodyAt(askedAtMs), answersSinceMs } as Event, askedAtMs);
    expect(answers(askedAtMs).state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: askedAtMs + waitMs });
    expect(answers(NOW).state.kind).toBe('leaving');
  });

  it('and answers again since before the wait was over, has been back for that long: its clients have the wait from the return on', () => {
    const askedAtMs = NOW + waitMs;
    const answers = (answersSinceMs: number) => decided(stopped, { ...nobodyAt(askedAtMs), answersSinceMs } as Event, askedAtMs);
    const backMs = NOW + 9_000;
    expect(answers(backMs).state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: backMs + waitMs });
    const leaving = decided(answers(backMs), nobodyAt(backMs + waitMs), backMs + waitMs);
    expect(leaving.state).toMatchObject({ kind: 'leaving', departure: { atMs: NOW }, onTimeUntilMs: backMs + waitMs + 1_000 });
    expect(decided(leaving, sent, backMs + waitMs + 900).state).toMatchObject({ kind: 'ended', outcome: 'sent', sin: null });
    expect(decided(leaving, sent, backMs + waitMs + 1_100).state).toMatchObject({ kind: 'ended', outcome: 'sent', sin: 'ghost' });
  });

  it.each<[string, LiveState, Event]>([
    ['had not been seen since the hand-over', { ...ROWS['connected, just seen'], handedOverMs: NOW + 1 }, EVENTS['A left']],
    ['had joined just after the hand-over', ROWS['awaiting, nobody seen'], { ...EVENTS['A left'], joinedAtMs: NOW - 60_000 } as Event],
  ])('has stopped for those, too, whose session %s', (_, state, left) => {
    const settling = decided(rowIn(state), { ...left, cause: 'sfu_down' } as Event);
    expect(settling.state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: NOW + waitMs });
    const backMs = NOW + waitMs - 30;
    const back = decided(settling, { ...nobodyAt(NOW + waitMs), answersSinceMs: backMs } as Event, NOW + waitMs);
    expect(back.state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' }, untilMs: backMs + waitMs });
  });

  it('and is asked in time is believed', () => {
    expect(decided(stopped, nobodyAt(NOW + waitMs), NOW + waitMs).state.kind).toBe('leaving');
  });
});

describe('an event that would run out while its member is waited for', () => {
  const connected = { ...ROWS['connected, just seen'], seenAtMs: NOW - 300_000 };
  const row = (endsInMs: number) => ({
    ...rowIn(connected),
    ...{ delayMs: 60_000, expiry: { earliestMs: NOW + endsInMs, latestMs: NOW + endsInMs } },
  });
  const forgotten = (endsInMs: number, lastSeenMs: number | null) =>
    decide(row(endsInMs), { ...EVENTS['list: nobody, another room'], lastSeenMs } as Event, now, POLICY);

  it('is restarted once more, on what an earlier list has shown, or on what its last restart was made on', () => {
    const { next, effects } = forgotten(10_000, NOW - 20_000);
    expect(next.state).toMatchObject({ kind: 'settling', departure: { cause: 'sfu_down' } });
    expect(effects).toMatchObject([{ kind: 'restart' }]);
    const short = { ...row(4_000), delayMs: 8_000 };
    expect(decide(short, EVENTS['list: nobody, another room'], now, POLICY).effects).toMatchObject([{ kind: 'restart' }]);
  });

  it('is not where that was long ago, or the wait is over before, or short', () => {
    expect(forgotten(10_000, NOW - 61_000).effects).toEqual([]);
    expect(forgotten(10_000, null).effects).toEqual([]);
    expect(forgotten(POLICY.waitMs.sfuDown + 1_000, NOW - 20_000).effects).toEqual([]);
    expect(decide(row(500), EVENTS['A left'], now, POLICY).effects).toEqual([]);
  });
});

describe('a short delay that runs out within the wait', () => {
  const decided = (row: Delegation, event: Event, nowMs = NOW) => decide(row, event, { nowMs, roll: 0.5 }, POLICY).next;
  const endsMs = NOW + 6_000;
  const row = { ...rowIn(ROWS['connected, just seen']), delayMs: 8_000, expiry: { earliestMs: endsMs, latestMs: endsMs + 10 } };
  const settling = decided(row, { ...EVENTS['A left'], cause: 'sfu_down' } as Event);

  it('is looked after once before, for whoever is back without a word of it', () => {
    expect(settling.state).toMatchObject({ kind: 'settling', nextAskMs: endsMs - 1_000, untilMs: NOW + POLICY.waitMs.sfuDown });
    const due = { nowMs: endsMs - 1_000, roll: 0.5 };
    expect(decide(settling, EVENTS.due, due, POLICY).effects).toMatchObject([{ kind: 'check', notBeforeMs: due.nowMs }]);
    const back = { ...EVENTS['list: B'], askedAtMs: due.nowMs } as Event;
    expect(decide(settling, back, due, POLICY)).toMatchObject({
      next: { state: { kind: 'connected' } },
      effects: [{ kind: 'restart' }, {}],
    });
    const nobody = { ...EVENTS['list: nobody'], askedAtMs: due.nowMs } as Event;
    expect(decided(settling, nobody, due.nowMs).state).toMatchObject({ kind: 'settling', nextAskMs: NOW + POLICY.waitMs.sfuDown });
  });

  it('also before the end of what a last restart has begun anew', () => {
    const answered = { kind: 'restart_answered', askedAtMs: NOW + 100, answer: { kind: 'ok' } } as const;
    const nearlyOver = { ...row, expiry: { earliestMs: NOW + 500, latestMs: NOW + 510 } };
    const restarted = decided(decided(nearlyOver, { ...EVENTS['A left'], cause: 'sfu_down' } as Event), answered, NOW + 200);
    expect(restarted.state).toMatchObject({ kind: 'settling', nextAskMs: NOW + 100 + 8_000 - 1_000 });
    expect(decided(settling, answered, NOW + 200).state).toMatchObject({ kind: 'settling', nextAskMs: NOW + 100 + 8_000 - 1_000 });
  });

  it('also where a routine list comes first', () => {
    const routine = { ...EVENTS['list: nobody'], askedAtMs: NOW + 100 } as Event;
    expect(decided(settling, routine, NOW + 100)).toBe(settling);
  });
});

describe('a node that was frozen lists the session from before, which another one has taken the place of', () => {
  const newer: Seen = { identity: ME, sid: 'PA_a' as Sid, joinedAtMs: NOW - 60_000, active: true };
  const older: Seen = { ...newer, sid: 'PA_before' as Sid, joinedAtMs: NOW - 90_000 };
  const list = (askedAtMs: number, ...present: Seen[]): Event => ({
    ...{ kind: 'snapshot', present, afterRestart: false, answersSinceMs: 0, lastSeenMs: null, lookedFor: true },
    ...{ roomSid: undefined, askedAtMs },
  });
  const decided = (row: Delegation, event: Event, nowMs: number, wallMs = nowMs) =>
    decide(row, event, { nowMs, wallMs, roll: 0.5 }, POLICY).next;
  const connected = rowIn(ROWS['connected, just seen']);

  it('who is there stays there by the newer one, and the departure of the older one is none', () => {
    const row = decided(connected, list(NOW + 1_000, older), NOW + 1_000);
    expect(row.state).toMatchObject({ kind: 'connected', session: { sid: newer.sid, joinedAtMs: newer.joinedAtMs } });
    const struckOff = { ...EVENTS['A left'], sid: older.sid, joinedAtMs: older.joinedAtMs, cause: 'lost' } as Event;
    expect(decided(row, struckOff, NOW + 2_000).state).toMatchObject({ kind: 'connected', session: { sid: newer.sid } });
  });

  it('who has left may be back all the same, where the clock of the SFU was set back some seconds ago', () => {
    const gone = decided(connected, EVENTS['A lost'], NOW);
    const overMs = (gone.state as Settling).untilMs;
    expect(decided(gone, list(overMs, older), overMs).state).toMatchObject({ kind: 'connected', session: { sid: older.sid } });
  });

  it('nor does it count how old it is if the clock of the SFU was set back since', () => {
    const row = decided(connected, list(NOW + 1_000, older), NOW + 1_000, NOW - 3_600_000);
    expect(row.state).toMatchObject({ kind: 'connected', session: { sid: older.sid } });
  });
});

describe('a session that seems to be newer has left, and nothing else was heard of it', () => {
  const away = (askedAtMs: number): Event => ({ kind: 'sfu_unreachable', askedAtMs });
  const decided = (row: Delegation, event: Event, nowMs: number) => decide(row, event, { nowMs, roll: 0.5 }, POLICY).next;
  const left = decided(rowIn(ROWS['connected, just seen']), EVENTS['B left'], NOW);
  const overMs = NOW + POLICY.waitMs.left;

  it('is no proof by itself: a clock may have been wrong for the moment in which it came', () => {
    expect(left.state).toMatchObject({ kind: 'settling', departure: { cause: 'left', fence: 'PA_b', certain: false } });
    expect(decided(left, away(overMs), overMs).state).toMatchObject({ kind: 'settling' });
  });

  it('nor are two of them', () => {
    const another = { ...EVENTS['B left'], sid: 'PA_c' as Sid, joinedAtMs: NOW - 400 } as Event;
    const both = decided(left, another, NOW + 10);
    expect(both.state).toMatchObject({ kind: 'settling', departure: { fence: 'PA_c', certain: false } });
    expect(decided(both, away(overMs + 10), overMs + 10).state).toMatchObject({ kind: 'settling' });
  });

  it('is one where ours was told to have left before', () => {
    const both = decided(decided(rowIn(ROWS['connected, just seen']), EVENTS['A left'], NOW), EVENTS['B left'], NOW + 10);
    expect(decided(both, away(overMs + 10), overMs + 10).state).toMatchObject({ kind: 'leaving' });
  });
});
