// The schema's history, by number: `user_version` of the file says how many have been applied. Never edit one that has landed.
import type { DatabaseSync } from 'node:sqlite';
import { StoreUnusable } from '../store.ts';

export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE delegation (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    room TEXT NOT NULL,
    slot INTEGER NOT NULL,
    homeserver TEXT NOT NULL,
    kind TEXT NOT NULL,
    due_at INTEGER,
    ended_at INTEGER,
    rev INTEGER NOT NULL,
    body TEXT NOT NULL,
    handles TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX delegation_owner ON delegation (owner);
  CREATE INDEX delegation_room ON delegation (slot, room) WHERE ended_at IS NULL;
  CREATE INDEX delegation_due ON delegation (due_at) WHERE due_at IS NOT NULL;
  CREATE INDEX delegation_owed ON delegation (due_at) WHERE kind = 'leaving';
  CREATE INDEX delegation_ended ON delegation (ended_at) WHERE ended_at IS NOT NULL;
  CREATE INDEX delegation_kind ON delegation (kind);
  CREATE TABLE watched (
    room TEXT NOT NULL,
    identity TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (room, identity, id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE webhook (key TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX webhook_at ON webhook (at);
  CREATE TABLE pulse (one INTEGER PRIMARY KEY CHECK (one = 1), beat INTEGER NOT NULL) STRICT;
  INSERT INTO pulse VALUES (1, 0);
  `,
  `
  CREATE TABLE tracked (
    room_id TEXT NOT NULL,
    room TEXT NOT NULL,
    identity TEXT NOT NULL,
    user_id TEXT NOT NULL,
    granted_at INTEGER NOT NULL,
    PRIMARY KEY (room_id, room, identity)
  ) STRICT, WITHOUT ROWID;
  `,
  // Rows in the order in which they came: those who came together are restarted together, and then share pages. A table without row
  // numbers scatters them, and puts what is longer than a quarter of a page on a page of its own.
  `
  CREATE TABLE numbered (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    room TEXT NOT NULL,
    slot INTEGER NOT NULL,
    homeserver TEXT NOT NULL,
    kind TEXT NOT NULL,
    due_at INTEGER,
    ended_at INTEGER,
    rev INTEGER NOT NULL,
    body TEXT NOT NULL,
    handles TEXT
  ) STRICT;
  INSERT INTO numbered (id, owner, room, slot, homeserver, kind, due_at, ended_at, rev, body, handles)
    SELECT id, owner, room, slot, homeserver, kind, due_at, ended_at, rev, body, handles FROM delegation ORDER BY due_at;
  DROP TABLE delegation;
  ALTER TABLE numbered RENAME TO delegation;
  CREATE UNIQUE INDEX delegation_id ON delegation (id);
  CREATE INDEX delegation_owner ON delegation (owner);
  CREATE INDEX delegation_room ON delegation (slot, room) WHERE ended_at IS NULL;
  CREATE INDEX delegation_due ON delegation (due_at) WHERE due_at IS NOT NULL;
  CREATE INDEX delegation_owed ON delegation (due_at) WHERE kind = 'leaving';
  CREATE INDEX delegation_ended ON delegation (ended_at) WHERE ended_at IS NOT NULL;
  CREATE INDEX delegation_kind ON delegation (kind);
  CREATE TABLE watching (
    room TEXT NOT NULL,
    identity TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (room, identity, number)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO watching SELECT w.room, w.identity, d.number FROM watched w JOIN delegation d ON d.id = w.id;
  DROP TABLE watched;
  ALTER TABLE watching RENAME TO watched;
  `,
  // What is watched tells the rooms as well: one tree less to be written, at places that share no pages.
  `
  CREATE TABLE watching (
    slot INTEGER NOT NULL,
    room TEXT NOT NULL,
    identity TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (slot, room, identity, number)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO watching SELECT d.slot, w.room, w.identity, w.number FROM watched w JOIN delegation d ON d.number = w.number;
  DROP TABLE watched;
  ALTER TABLE watching RENAME TO watched;
  DROP INDEX delegation_room;
  `,
  // One tree for all that is looked for by time, where there were four, and none for the age of a webhook: each tree costs every commit the
  // pages that it touches.
  `
  ALTER TABLE delegation ADD COLUMN turn_at INTEGER GENERATED ALWAYS AS (coalesce(due_at, ended_at)) VIRTUAL;
  DROP INDEX delegation_due;
  DROP INDEX delegation_owed;
  DROP INDEX delegation_ended;
  DROP INDEX delegation_kind;
  CREATE INDEX delegation_turn ON delegation (kind, turn_at);
  CREATE TABLE kept (era INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (era, key)) STRICT, WITHOUT ROWID;
  INSERT INTO kept SELECT at / 600000, key FROM webhook;
  DROP TABLE webhook;
  ALTER TABLE kept RENAME TO webhook;
  `,
  `
  CREATE TABLE given (
    era INTEGER NOT NULL,
    owner TEXT NOT NULL,
    identity TEXT NOT NULL,
    PRIMARY KEY (era, owner, identity)
  ) STRICT, WITHOUT ROWID;
  `,
  // Where other stores keep it; of what was given before that is not known.
  'ALTER TABLE given ADD COLUMN slot INTEGER',
  // An index of its own, which nothing but a row's beginning and its purge writes to; for rows from before it is told to (SqliteRows.nameEvents).
  `
  ALTER TABLE delegation ADD COLUMN event TEXT;
  CREATE INDEX delegation_event ON delegation (event) WHERE event IS NOT NULL;
  `,
];

/** The first version whose rows name their events. */
export const EVENTS_SINCE = 8;

export interface Migrated {
  /** The version that the file had. */
  readonly before: number;
  /** To be called when what has to be done to its rows is done as well: until then it is of that version, whatever ends us. */
  commit(): void;
}

/** @throws StoreUnusable when it was written by a newer version. */
export function migrate(db: DatabaseSync): Migrated {
  if (versionOf(db) === REPLACED.version && !hasEvents(db)) db.exec(REPLACED.undo);
  const before = versionOf(db);
  if (before > MIGRATIONS.length) {
    throw new StoreUnusable(
      `the store ${db.location()} has schema ${before}, this version of lastwill knows up to ${MIGRATIONS.length}: start the newer version again`,
    );
  }
  if (before === MIGRATIONS.length) return { before, commit: () => {} };
  db.exec(['BEGIN IMMEDIATE', ...MIGRATIONS.slice(before), `PRAGMA user_version = ${MIGRATIONS.length}`].join(';'));
  return { before, commit: () => db.exec('COMMIT') };
}

/**
 * For an hour of 30 November 2026 schema 8 was another one: it had no column for events, and named them among the identities that are watched,
 * after a zero byte.
 */
const REPLACED = {
  version: EVENTS_SINCE,
  undo: 'BEGIN IMMEDIATE; DELETE FROM watched WHERE identity < char(1); PRAGMA user_version = 7; COMMIT',
} as const;

function versionOf(db: DatabaseSync): number {
  return (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version;
}

function hasEvents(db: DatabaseSync): boolean {
  return db.prepare(`SELECT 1 FROM pragma_table_info('delegation') WHERE name = 'event'`).get() !== undefined;
}
