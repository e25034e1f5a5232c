// The database's file: where it is, and as what it is opened.
import { closeSync, openSync } from 'node:fs';
import { resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { damaged } from './unusable.ts';

/** The file in the folder of LASTWILL_DATA_DIR. */
export function sqliteFile(folder: string): string {
  return resolve(folder, 'lastwill.sqlite');
}

/**
 * Locked for this process alone: a second one would act on the same delegations. What SQLite's connections have to know of each other is
 * in the memory of the process, so no file has to be shared in a way that not every volume can do.
 */
export function addressOf(path: string): URL {
  return new URL(`${pathToFileURL(path).href}?vfs=unix-excl`);
}

/** Null: in memory. */
export function openFile(path: string | null): DatabaseSync {
  if (path === null) return new DatabaseSync(':memory:');
  // Handles are capabilities: what SQLite makes beside this file has its mode.
  closeSync(openSync(path, 'a', 0o600));
  return new DatabaseSync(addressOf(path));
}

/**
 * Before anything else is done with it. Commits are synced until it is whole and known to be ours.
 * @throws StoreUnusable when it is damaged.
 */
export function prepareFile(db: DatabaseSync, path: string): void {
  // The log is copied by log-copy.ts.
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 0');
  // The operating system has the file in memory as well. The handles of an ended row are overwritten, not only unlinked.
  db.exec('PRAGMA cache_size = -4000; PRAGMA secure_delete = ON');
  const check = db.prepare('PRAGMA quick_check(1)').get() as { quick_check: string };
  if (check.quick_check !== 'ok') throw damaged(path, check.quick_check);
}
