// A file or folder that can't be used: an operator reads what happened, to which path, and how to go on, with what that costs.
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { StoreUnusable } from '../store.ts';

/** Primary result codes of SQLite; the low byte of every extended one. */
const BUSY = [5, 6];
const READ_ONLY = [8, 14];
const IO_ERROR = 10;
const FULL = 13;
const DAMAGED = [11, 26];
const NOT_PERMITTED = ['EACCES', 'EPERM'];
const OF_ANOTHER_KIND = ['EEXIST', 'ENOTDIR', 'EISDIR'];

/** What it costs to go on without what was kept. */
export function anew(path: string): string {
  return `to begin anew, move ${path}* away: calls in progress are then left to their homeservers' own timers`;
}

export function damaged(path: string, why: string): StoreUnusable {
  const lines = why.replace(/\s+/g, ' ');
  return new StoreUnusable(`the store ${path} is damaged: ${lines}. Bring the whole folder back from a backup; or, ${anew(path)}`);
}

/** What opening the file has come to. */
export function unopened(path: string, error: unknown): StoreUnusable {
  if (DAMAGED.includes(resultCode(error))) return damaged(path, messageOf(error));
  return new StoreUnusable(`the store ${path} can not be opened: ${messageOf(error)}${advice(error, path)}`, { cause: error });
}

/** @throws StoreUnusable when there is none and none can be made. */
export function makeFolder(folder: string): void {
  const path = resolve(folder);
  try {
    makeAll(path);
  } catch (error) {
    throw new StoreUnusable(`the data folder ${path} can not be made: ${messageOf(error)}${advice(error, path)}`, { cause: error });
  }
}

/** One after the other: Node's own way to make all of them never ends under /proc. */
function makeAll(path: string): void {
  if (isFolder(path)) return;
  makeAll(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    // Another process may have made it.
    if (!isFolder(path)) throw error;
  }
}

const isFolder = (path: string): boolean => existsSync(path) && statSync(path).isDirectory();

function advice(error: unknown, path: string): string {
  const [code, sqlite] = [codeOf(error), resultCode(error)];
  if (BUSY.includes(sqlite)) return ' (is another lastwill running on it?)';
  if (NOT_PERMITTED.includes(code) || READ_ONLY.includes(sqlite)) {
    return `. The folder and all in it must be writable for the user that runs lastwill (uid ${process.getuid?.() ?? 'unknown'})`;
  }
  if (code === 'EROFS') {
    return '. LASTWILL_DATA_DIR must be where it is mounted for writing, in a container a volume; a disk that has become read-only by itself has failed: look at the log of the system';
  }
  if (code === 'ENOSPC' || sqlite === FULL) return '. Nothing is lost: make room on the disk, and start again';
  if (OF_ANOTHER_KIND.includes(code))
    return '. A file is where a folder should be, or the other way round: LASTWILL_DATA_DIR names a folder';
  if (code === 'ENOENT') return '. Is LASTWILL_DATA_DIR right, is it mounted, and may it be written to?';
  if (sqlite === IO_ERROR) return '. The disk fails: look at it, and at the log of the system, before anything is changed';
  return sqlite === 0 ? '' : `. It may be another program's, or damaged: bring it back from a backup; or, ${anew(path)}`;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Of the system. */
function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** 0: not of SQLite. */
function resultCode(error: unknown): number {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : 0;
}
