// Attendance in the tables. The identities that a membership was given are kept by the era they came in, as webhooks are (once.ts): no
// second tree tells their age, and whole eras are forgotten.
import type { Identity, Owner } from '../../delegation/ids.ts';
import { type Attendance, type Given, type MovableGiven, ownerName, type Tracked } from '../attendance.ts';
import { slotOf } from '../slots.ts';
import type { prepareAll } from './statements.ts';

/** Files are by it: it never changes. What was given in this era and the last is known: for GIVEN_KEPT_MS at least. */
const ERA_MS = 86_400_000;
const eraOf = (atMs: number): number => Math.floor(atMs / ERA_MS);

/** In the place of an owner who came from another store, which keeps only the name. */
const NAMED = 'name:';
const nameOf = (owner: string): string => (owner.startsWith(NAMED) ? owner.slice(NAMED.length) : ownerName(owner as Owner));

type Statements = ReturnType<typeof prepareAll>;

export interface SqliteAttendanceDeps {
  readonly sql: Statements;
  /** In the transaction of this turn: what `plan` returns; null: there is nothing to be written. */
  readonly commit: (plan: () => (() => void) | null) => Promise<void>;
  readonly durable: () => Promise<void>;
  readonly nowMs: () => number;
}

export function createSqliteAttendance({ sql, commit, durable, nowMs }: SqliteAttendanceDeps): Attendance & MovableGiven {
  return {
    track: async ({ roomId, room, identity, userId, grantedAtMs }) => {
      await commit(() => () => sql.track.run(roomId, room, identity, userId, grantedAtMs));
      await durable();
    },
    untrack: ({ roomId, room, identity, grantedAtMs }) => commit(() => () => sql.untrack.run(roomId, room, identity, grantedAtMs)),
    trackedRooms: async () => (sql.trackedRooms.all() as unknown as { roomId: string }[]).map(({ roomId }) => roomId),
    trackedIn: async (roomId) => (sql.trackedIn.all(roomId) as unknown as Tracked[]).map((one) => ({ ...one })),
    give: (room, owner, identity) => {
      const era = eraOf(nowMs());
      return commit(() =>
        sql.isGiven.get(era, owner, identity) === undefined ? () => sql.give.run(era, owner, identity, slotOf(room)) : null,
      );
    },
    takeGiven: ({ slot, owner, identity }) => commit(() => () => sql.give.run(eraOf(nowMs()), NAMED + owner, identity, slot)),
    allGiven: async () => {
      const found = sql.allGiven.all(eraOf(nowMs()) - 1) as unknown as readonly Given[];
      return found.map(({ slot, owner, identity }) => ({ slot, owner: nameOf(owner), identity }));
    },
    givenTo: async (_room, owner) => {
      const era = eraOf(nowMs());
      let found: readonly { readonly identity: Identity }[] = [];
      // After all that was begun before.
      await commit(() => {
        found = sql.givenTo.all(era - 1, era, owner, NAMED + ownerName(owner)) as unknown as typeof found;
        return null;
      });
      return found.map(({ identity }) => identity);
    },
  };
}

/** Within a transaction; returns how many identities were forgotten. */
export function purgeGiven(sql: Statements, nowMs: number, limit: number): number {
  return Number(sql.purgeGiven.run(eraOf(nowMs) - 1, limit).changes);
}
