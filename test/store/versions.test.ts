// What other versions have written: files that older ones left behind are read and acted upon, whatever was under way there, and what a newer
// one knows of a delegation beyond us stays with it. Recorded when an engine of that version was killed with somebody in each state.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MIGRATIONS } from '../../src/store/sqlite/migrations.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { SLOTS } from '../../src/store/store.ts';
import { EngineWorld } from '../engine/world.ts';
import { identity, room, sid } from '../support/fixtures.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const RECORDED = path.join(import.meta.dirname, 'recorded');
const KILLED_AFTER_MS = 4_550;
/** A start takes a while. */
const STARTED_AFTER_MS = KILLED_AFTER_MS + 1_500;
/** Of every delayed event there. */
const DELAY_MS = 60_000;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-versions-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The file as it was when that process was killed. */
function brought(recorded: string): string {
  const file = path.join(folder, 'lastwill.sqlite');
  const db = new DatabaseSync(file);
  db.exec(`PRAGMA synchronous = OFF; BEGIN; ${readFileSync(path.join(RECORDED, recorded), 'utf8')}; COMMIT`);
  db.close();
  return file;
}

/** This version on it. */
async function goesOn(file: string): Promise<EngineWorld> {
  const world = new EngineWorld({}, { path: file });
  world.clock.stall(STARTED_AFTER_MS);
  for (const n of [2, 5, 7]) world.join(room(n), identity(n), sid(n));
  return world;
}

/** What is in a database, apart from rows. */
function schemaOf(db: DatabaseSync): unknown[] {
  const all = db.prepare('SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name').all();
  db.close();
  return all.map(({ name, sql }) => [name, String(sql).replace(/\s+/g, '')]);
}

/** As the first so many migrations make it. */
function migratedTo(version: number): DatabaseSync {
  const db = new DatabaseSync(':memory:');
  for (const sql of MIGRATIONS.slice(0, version)) db.exec(sql);
  return db;
}

const sqlFiles = readdirSync(RECORDED).filter((name) => name.endsWith('.sql'));

describe.each(sqlFiles)('on the file of %s', (recorded) => {
  test('who was owed a leave gets it, who is there is kept, and what was replaced is cancelled', async () => {
    const world = await goesOn(brought(recorded));
    expect(await world.store.count()).toEqual({ awaiting: 1, connected: 3, settling: 1, leaving: 1, cancelling: 1, ended: 1 });
    await world.clock.advance(5_000);
    expect(world.actions('send').map(({ target }) => target)).toEqual(['delay-secret-4']);
    expect(world.actions('cancel').map(({ target }) => target)).toEqual(['delay-secret-5']);
    await world.clock.advance(3 * DELAY_MS);
    // The one who was waited for, and the one who never came.
    expect(world.actions('send').map(({ target }) => target)).toEqual(['delay-secret-4', 'delay-secret-3', 'delay-secret-1']);
    for (const target of ['delay-secret-2', 'delay-secret-15']) {
      expect(world.actions('restart', target).length).toBeGreaterThanOrEqual(3);
    }
    const tokens = new Set(world.actions('token').map(({ target }) => target));
    expect([...tokens]).toEqual(['refresh-secret-leave-7']);
    for (const n of [2, 5, 7]) world.leave(room(n), identity(n));
    await world.clock.advance(DELAY_MS);
    expect(await world.store.count()).toEqual({ awaiting: 0, connected: 0, settling: 0, leaving: 0, cancelling: 0, ended: 8 });
    expect(await world.store.rooms(0, SLOTS)).toEqual([]);
    expect(await world.metric('lastwill_false_leaves_total')).toBe(0);
    expect(world.lines.filter((line) => line.includes('unexpectedly'))).toEqual([]);
  });

  test('its tables become those of a new store', async () => {
    const file = brought(recorded);
    await openSqliteStore({ path: file, clock: createVirtualClock(), seal: null }).close();
    expect(schemaOf(new DatabaseSync(file))).toEqual(schemaOf(migratedTo(MIGRATIONS.length)));
  });
});

test.each(sqlFiles.flatMap((name) => (/^schema-\d+/.test(name) ? [name] : [])))('no migration was edited since it made %s', (recorded) => {
  const version = Number(/\d+/.exec(recorded)?.[0]);
  expect(schemaOf(migratedTo(version))).toEqual(schemaOf(new DatabaseSync(brought(recorded))));
});
