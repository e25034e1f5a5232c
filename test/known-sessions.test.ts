import { expect, test } from 'vitest';
import type { LiveDelegation, LiveState } from '../src/delegation/state.ts';
import { knownSessions } from '../src/known-sessions.ts';
import { openSqliteStore } from '../src/store/sqlite/sqlite.ts';
import { type Store, StoreUnavailable } from '../src/store/store.ts';
import { departure, identity, LIVE_KINDS, room, row, session, sid } from './support/fixtures.ts';
import { createVirtualClock, START_MS } from './support/virtual-clock.ts';

const put = (store: Store, one: LiveDelegation) =>
  store.update({ by: 'id', room: one.room, id: one.id }, null, () => ({ writes: [{ row: one, leaseMs: 0 }], value: null }));

function inRoom(n: number, kind: LiveState['kind'], state: object = {}): LiveDelegation {
  const one = row(n, { kind });
  return { ...one, room: room(1), state: { ...one.state, ...state } as LiveState };
}

test('whoever is connected in that room, or missing from a list only, by its session', async () => {
  const store = openSqliteStore({ path: ':memory:', clock: createVirtualClock(), seal: null });
  for (const [nth, kind] of LIVE_KINDS.entries()) await put(store, inRoom(11 + nth, kind));
  const fromList = departure(2, { fence: null, cause: 'missing' });
  await put(store, inRoom(1, 'connected'));
  await put(store, inRoom(2, 'settling', { session: session(2, { established: false }), departure: fromList }));
  await put(store, inRoom(3, 'connected', { session: session(3, { sid: null }) }));
  await put(store, row(4, { kind: 'connected' }));
  const connected = 11 + LIVE_KINDS.indexOf('connected');
  const expected = [1, 2, connected].map((n) => ({ identity: identity(n), sid: sid(n), joinedAtMs: START_MS, active: n !== 2 }));
  expect((await knownSessions(store, room(1)))?.toSorted((one, other) => one.sid.length - other.sid.length)).toEqual(expected);
  await store.close();
});

test('not known while the store is away', async () => {
  const update = () => Promise.reject(new StoreUnavailable(new Error('told to be')));
  expect(await knownSessions({ update } as unknown as Store, room())).toBeNull();
});
