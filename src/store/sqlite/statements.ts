// Every statement of the embedded store, prepared once.
import type { DatabaseSync, StatementSync } from 'node:sqlite';

export function prepareAll(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  // Cancellations may pile up while a homeserver is away, and must not crowd out the row that they made room for.
  const order = `CASE d.kind WHEN 'ended' THEN 2 WHEN 'cancelling' THEN 1 ELSE 0 END, d.ended_at DESC`;
  const outside = (parameter: string) => `d.homeserver NOT IN (SELECT value FROM json_each(${parameter}))`;
  return {
    begin: sql('BEGIN IMMEDIATE'),
    commit: sql('COMMIT'),
    rollback: sql('ROLLBACK'),
    anySealed: sql('SELECT 1 FROM delegation WHERE substr(handles, 1, length(?1)) = ?1 LIMIT 1'),
    named: sql('SELECT number, id, rev, body, handles FROM delegation WHERE id = ?'),
    numbered: sql('SELECT number, id, rev, body, handles FROM delegation WHERE number = ?'),
    byOwner: sql(`SELECT d.number FROM delegation d WHERE d.owner = ? AND d.room = ? ORDER BY ${order} LIMIT ?`),
    byWatched: sql('SELECT number FROM watched WHERE slot = ? AND room = ? AND identity = ?'),
    byRoom: sql('SELECT DISTINCT number FROM watched WHERE slot = ? AND room = ?'),
    insert: sql(
      'INSERT INTO delegation (id, owner, room, slot, homeserver, kind, due_at, ended_at, rev, body, handles) VALUES (?,?,?,?,?,?,?,?,?,?,?)',
    ),
    // SQLite writes every index of a column that is named, whether it changes or not; most updates are restarts, which change one.
    keep: sql('UPDATE delegation SET due_at = ?, rev = ?, body = ? WHERE number = ?'),
    move: sql('UPDATE delegation SET kind = ?, due_at = ?, rev = ?, body = ? WHERE number = ?'),
    reseal: sql('UPDATE delegation SET handles = ? WHERE number = ?'),
    end: sql('UPDATE delegation SET kind = ?, due_at = NULL, ended_at = ?, rev = ?, body = ?, handles = NULL WHERE number = ?'),
    watch: sql('INSERT OR IGNORE INTO watched (slot, room, identity, number) VALUES (?,?,?,?)'),
    unwatch: sql('DELETE FROM watched WHERE slot = ? AND room = ? AND identity = ? AND number = ?'),
    onceKnown: sql('SELECT 1 FROM webhook WHERE key = ?'),
    onceKeep: sql('INSERT OR IGNORE INTO webhook (key, at) VALUES (?,?)'),
    dueLeaves: sql(
      `SELECT d.id, d.rev, d.due_at FROM delegation d INDEXED BY delegation_owed WHERE d.kind = 'leaving' AND d.due_at >= ? AND d.due_at <= ? AND ${outside('?')}
       ORDER BY d.due_at LIMIT ?`,
    ),
    dueOthers: sql(
      `SELECT d.id, d.rev, d.due_at FROM delegation d INDEXED BY delegation_due WHERE d.due_at >= ? AND d.due_at <= ? AND d.kind <> 'leaving' AND (d.kind <> 'cancelling' OR ${outside('?')})
       AND (d.kind <> 'connected' OR ${outside('?')}) ORDER BY d.due_at LIMIT ?`,
    ),
    nextDue: sql('SELECT MIN(due_at) AS due FROM delegation WHERE due_at > ?'),
    rooms: sql('SELECT DISTINCT slot, room FROM watched WHERE slot >= ? AND slot < ?'),
    count: sql('SELECT kind, COUNT(*) AS n FROM delegation GROUP BY kind'),
    purgeEnded: sql('DELETE FROM delegation WHERE number IN (SELECT number FROM delegation WHERE ended_at < ? LIMIT ?)'),
    purgeOnce: sql('DELETE FROM webhook WHERE key IN (SELECT key FROM webhook WHERE at < ? LIMIT ?)'),
    track: sql(
      `INSERT INTO tracked (room_id, room, identity, user_id, granted_at) VALUES (?,?,?,?,?)
       ON CONFLICT DO UPDATE SET user_id = excluded.user_id, granted_at = excluded.granted_at`,
    ),
    untrack: sql('DELETE FROM tracked WHERE room_id = ? AND room = ? AND identity = ? AND granted_at = ?'),
    trackedRooms: sql('SELECT DISTINCT room_id AS roomId FROM tracked'),
    trackedIn: sql('SELECT room_id AS roomId, room, identity, user_id AS userId, granted_at AS grantedAtMs FROM tracked WHERE room_id = ?'),
    beat: sql('UPDATE pulse SET beat = beat + 1'),
  };
}
