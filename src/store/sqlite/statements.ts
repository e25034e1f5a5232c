// Every statement of the embedded store, prepared once.
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { LiveState } from '../../delegation/state.ts';
import { MOST_GIVEN } from '../attendance.ts';
import { type First, OWNER_ROWS, OWNER_SEARCHED } from '../store.ts';

const ROW = 'number, id, rev, body, handles';
const LIVE: readonly LiveState['kind'][] = ['awaiting', 'connected', 'settling', 'leaving', 'cancelling'];
const ENDED = `SELECT number FROM delegation WHERE kind = 'ended'`;
const NEWEST_OF_OWNER = `SELECT * FROM delegation WHERE owner = ? AND room = ? ORDER BY number DESC LIMIT ${OWNER_SEARCHED}`;
const NEARNESS = `CASE kind WHEN 'ended' THEN 2 WHEN 'cancelling' THEN 1 ELSE 0 END, ended_at DESC, number DESC`;
const NOT_AWAY = (parameter: string) => `homeserver NOT IN (SELECT value FROM json_each(${parameter}))`;

/**
 * SQLite plans by the value of a bare `LIMIT ?`, and to do so compiles the statement anew each time that it is run: ten times as long as to
 * look and find nothing. Of a sum it knows no value.
 */
const upTo = (parameter = '?') => `LIMIT ${parameter} + 0`;

/** Those of a kind that came due in a time, longest overdue first, or last: a walk along one stretch of the index, which ends with its limit. */
function dueOf(kind: LiveState['kind'], and: string, order: 'ASC' | 'DESC' = 'ASC'): string {
  const due = `kind = '${kind}' AND turn_at >= ?1 AND turn_at <= ?2`;
  return `SELECT id, rev, due_at FROM delegation INDEXED BY delegation_turn WHERE ${due} AND ${and} ORDER BY turn_at ${order}`;
}

function nextOf(kind: LiveState['kind']): string {
  return `SELECT turn_at AS due FROM delegation INDEXED BY delegation_turn WHERE kind = '${kind}' AND turn_at > ?1 ORDER BY turn_at LIMIT 1`;
}

export function prepareAll(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    begin: sql('BEGIN IMMEDIATE'),
    commit: sql('COMMIT'),
    rollback: sql('ROLLBACK'),
    anySealed: sql('SELECT 1 FROM delegation WHERE substr(handles, 1, length(?1)) = ?1 LIMIT 1'),
    named: sql(`SELECT ${ROW} FROM delegation WHERE id = ?`),
    byOwner: sql(`SELECT ${ROW} FROM (${NEWEST_OF_OWNER}) ORDER BY ${NEARNESS} LIMIT ${OWNER_ROWS}`),
    byEvent: sql(`SELECT ${ROW} FROM delegation WHERE event = ? AND room = ? AND owner <> ? AND ended_at IS NULL`),
    unnamed: sql(`SELECT ${ROW} FROM delegation WHERE number > ? AND event IS NULL AND ended_at IS NULL ORDER BY number ${upTo()}`),
    nameEvent: sql('UPDATE delegation SET event = ? WHERE number = ?'),
    byWatched: sql(
      `SELECT ${ROW} FROM watched w JOIN delegation USING (number) WHERE w.slot = ? AND w.room = ? AND w.identity = ? AND w.number > ?
       ORDER BY w.number ${upTo()}`,
    ),
    // Whoever is watched under two identities is there twice.
    byRoom: sql(`SELECT ${ROW} FROM delegation WHERE number IN (SELECT number FROM watched WHERE slot = ? AND room = ?)`),
    isBeyond: sql('SELECT 1 FROM watched WHERE slot = ? AND room = ? LIMIT 1 OFFSET ?'),
    watchedIn: sql(
      `SELECT identity, number FROM watched WHERE slot = ? AND room = ? AND (identity, number) > (?, ?) ORDER BY identity, number ${upTo()}`,
    ),
    // By then it may have ended, or its number be another row's.
    stillIn: sql(`SELECT ${ROW} FROM delegation WHERE number IN (SELECT value FROM json_each(?)) AND room = ? AND ended_at IS NULL`),
    insert: sql(
      'INSERT INTO delegation (id, owner, room, slot, homeserver, event, kind, due_at, ended_at, rev, body, handles) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)',
    ),
    // SQLite writes every index of a column that is named, whether it changes or not; most updates are restarts, which change one.
    keep: sql('UPDATE delegation SET due_at = ?, rev = ?, body = ? WHERE number = ?'),
    move: sql('UPDATE delegation SET kind = ?, due_at = ?, rev = ?, body = ? WHERE number = ?'),
    reseal: sql('UPDATE delegation SET handles = ? WHERE number = ?'),
    end: sql('UPDATE delegation SET kind = ?, due_at = NULL, ended_at = ?, rev = ?, body = ?, handles = NULL WHERE number = ?'),
    watch: sql('INSERT OR IGNORE INTO watched (slot, room, identity, number) VALUES (?,?,?,?)'),
    unwatch: sql('DELETE FROM watched WHERE slot = ? AND room = ? AND identity = ? AND number = ?'),
    onceKnown: sql('SELECT 1 FROM webhook WHERE era IN (?, ?) AND key = ?'),
    onceKeep: sql('INSERT OR IGNORE INTO webhook (era, key) VALUES (?,?)'),
    dueLeaves: sql(`${dueOf('leaving', NOT_AWAY('?3'))} ${upTo('?4')}`),
    dueRestarts: {
      oldest: sql(`${dueOf('connected', NOT_AWAY('?3'))} ${upTo('?4')}`),
      newest: sql(`${dueOf('connected', NOT_AWAY('?3'), 'DESC')} ${upTo('?4')}`),
    } satisfies Record<First, StatementSync>,
    dueOthers: sql(
      `SELECT id, rev, due_at FROM (
         SELECT * FROM (${dueOf('cancelling', NOT_AWAY('?3'))} ${upTo('?4')}) UNION ALL
         SELECT * FROM (${dueOf('awaiting', 'TRUE')} ${upTo('?4')}) UNION ALL
         SELECT * FROM (${dueOf('settling', 'TRUE')} ${upTo('?4')})
       ) ORDER BY due_at ${upTo('?4')}`,
    ),
    nextDue: sql(`SELECT MIN(due) AS due FROM (${LIVE.map((kind) => `SELECT * FROM (${nextOf(kind)})`).join(' UNION ALL ')})`),
    rooms: sql('SELECT DISTINCT slot, room FROM watched WHERE slot >= ? AND slot < ?'),
    count: sql('SELECT kind, COUNT(*) AS n FROM delegation GROUP BY kind'),
    countEnded: sql(`SELECT COUNT(*) AS n FROM (SELECT 1 FROM delegation WHERE kind = 'ended' ${upTo()})`),
    purgeEnded: sql(`DELETE FROM delegation WHERE number IN (${ENDED} AND turn_at < ? ORDER BY turn_at ${upTo()}) RETURNING number`),
    purgeOldest: sql(`DELETE FROM delegation WHERE number IN (${ENDED} ORDER BY turn_at ${upTo()}) RETURNING number`),
    purgeOnce: sql(`DELETE FROM webhook WHERE (era, key) IN (SELECT era, key FROM webhook WHERE era < ? ${upTo()})`),
    track: sql(
      `INSERT INTO tracked (room_id, room, identity, user_id, granted_at) VALUES (?,?,?,?,?)
       ON CONFLICT DO UPDATE SET user_id = excluded.user_id, granted_at = excluded.granted_at`,
    ),
    untrack: sql('DELETE FROM tracked WHERE room_id = ? AND room = ? AND identity = ? AND granted_at = ?'),
    trackedRooms: sql('SELECT DISTINCT room_id AS roomId FROM tracked'),
    trackedIn: sql('SELECT room_id AS roomId, room, identity, user_id AS userId, granted_at AS grantedAtMs FROM tracked WHERE room_id = ?'),
    isGiven: sql('SELECT 1 FROM given WHERE era = ? AND owner = ? AND identity = ?'),
    give: sql('INSERT INTO given (era, owner, identity, slot) VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET slot = excluded.slot'),
    givenTo: sql(`SELECT DISTINCT identity FROM given WHERE era IN (?, ?) AND owner IN (?, ?) LIMIT ${MOST_GIVEN}`),
    allGiven: sql('SELECT DISTINCT slot, owner, identity FROM given WHERE era >= ? AND slot IS NOT NULL'),
    purgeGiven: sql(`DELETE FROM given WHERE (era, owner, identity) IN (SELECT era, owner, identity FROM given WHERE era < ? ${upTo()})`),
    beat: sql('UPDATE pulse SET beat = beat + 1'),
  };
}
