// What a list says about each of many rows is what it says about one; and what an answer says of a row that has changed since.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Identity, Sid } from '../../src/delegation/ids.ts';
import type { Answer, LiveDelegation } from '../../src/delegation/state.ts';
import type { List } from '../../src/engine/evidence.ts';
import { createPerformer, eventOf, eventsOf, type PerformerDeps } from '../../src/engine/perform.ts';
import { POLICY, ROWS, rowIn } from '../delegation/cases.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

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

test.each<[Answer, boolean]>([
  [{ kind: 'limited', retryAfterMs: 30_000 }, false],
  [{ kind: 'ok' }, true],
  [{ kind: 'final', how: 'gone' }, true],
])('%j to a restart says something of an event that another process has restarted meanwhile: %s', async (answer, says) => {
  const row = rowIn(ROWS['connected, restart due, fresh']);
  const restarted: LiveDelegation = {
    ...row,
    expiry: { earliestMs: row.expiry.earliestMs + 9_000, latestMs: row.expiry.latestMs + 9_000 },
  };
  const told: boolean[] = [];
  const deps = {
    lanes: { run: async () => answer },
    apply: async (...[, , eventFor]: Parameters<PerformerDeps['apply']>) => {
      told.push(eventFor(restarted) !== null);
      expect(eventFor(row)).not.toBeNull();
      return { rows: 1, changed: 0, duplicate: false, earliestDueMs: null, todo: [] };
    },
    clock: createVirtualClock(),
    policy: POLICY,
    metrics: { restart: () => {}, lateRestart: () => {} },
  } as unknown as PerformerDeps;
  await createPerformer(deps).perform({ row, effects: [{ kind: 'restart' }], claim: null });
  expect(told).toEqual([says]);
});

test('that other processes hear of sessions as well makes no restart go through the list of a large room once more', async () => {
  const row = rowIn(ROWS['connected, restart due, fresh']);
  const readsWhere = async (sought: boolean): Promise<number> => {
    let reads = 0;
    const others = Array.from({ length: 1_000 }, (_, nth) => ({
      ...{ sid: `PA_${nth}` as Sid, joinedAtMs: null, active: true },
      get identity() {
        reads += 1;
        return `other-${nth}` as Identity;
      },
    }));
    const session = { identity: row.identities[0] as Identity, sid: 'PA_a' as Sid, joinedAtMs: null, active: true };
    const list = {
      kind: 'list',
      askedAtMs: 0,
      present: [...others, session],
      roomSid: undefined,
      afterRestart: false,
      answersSinceMs: 0,
      gone: null,
    };
    const ask = async () => list;
    const apply = async () => ({ rows: 1, changed: 0, duplicate: false, earliestDueMs: null, todo: [] });
    const deps = {
      isSought: () => sought,
      presence: { ask, askFor: ask },
      apply,
      clock: createVirtualClock(),
      policy: POLICY,
    } as unknown as PerformerDeps;
    const effects = [{ kind: 'check', notBeforeMs: 0, batchMs: 0, whichRoom: false }] as const;
    await createPerformer(deps).perform({ row, effects, claim: null });
    return reads;
  };
  const alone = await readsWhere(true);
  expect(alone).toBeGreaterThan(0);
  expect(await readsWhere(false)).toBe(alone);
});
