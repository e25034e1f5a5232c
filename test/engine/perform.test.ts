// What a list says about each of many rows is what it says about one.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Identity, Sid } from '../../src/delegation/ids.ts';
import { eventOf, eventsOf } from '../../src/engine/perform.ts';
import type { List } from '../../src/engine/presence.ts';
import { ROWS, rowIn } from '../delegation/cases.ts';

const anIdentity = fc.constantFrom('@a:x:A', '@b:x:B', '@c:x:C', '@d:x:D').map((text) => text as Identity);
const aList: fc.Arbitrary<List> = fc.record({
  kind: fc.constant('list' as const),
  askedAtMs: fc.nat(),
  // On an SFU there is one participant of an identity at most.
  present: fc
    .uniqueArray(anIdentity)
    .map((all) => all.map((identity) => ({ identity, sid: `PA_${identity}` as Sid, joinedAtMs: null, active: true }))),
  roomSid: fc.constant(undefined),
  afterRestart: fc.boolean(),
  answersSinceMs: fc.nat(),
  gone: fc.constant(null),
});
test('by an index of the list: in the same order, for the first one binds', () => {
  fc.assert(
    fc.property(aList, fc.uniqueArray(anIdentity, { minLength: 1 }), (list, identities) => {
      const row = { ...rowIn(ROWS['connected, just seen']), identities };
      expect(eventsOf(list)(row)).toEqual(eventOf(list, row));
    }),
  );
});
