// What an operator reads when the store can't be used: each says the path, and how to go on.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createSeal } from '../../src/store/seal.ts';
import { sqliteFile } from '../../src/store/sqlite/file.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { makeFolder, unopened } from '../../src/store/sqlite/unusable.ts';
import { StoreUnusable } from '../../src/store/store.ts';
import { row } from '../support/fixtures.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const ANEW = "move .*lastwill\\.sqlite\\* away: calls in progress are then left to their homeservers' own timers";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-unusable-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const open = (key: string | null = null) => {
  makeFolder(folder);
  return openSqliteStore({ path: sqliteFile(folder), clock: createVirtualClock(), seal: key === null ? null : createSeal(key) });
};
function told(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(StoreUnusable);
    return (error as Error).message;
  }
  throw new Error('it can be used');
}

describe('a file', () => {
  test('that is none of SQLite: bring it back, or begin anew, with what that costs', () => {
    writeFileSync(sqliteFile(folder), 'not a database at all, but long enough to be looked at '.repeat(100));
    expect(told(open)).toMatch(new RegExp(`${folder}/lastwill\\.sqlite is damaged: .*backup; or, .*${ANEW}$`));
  });

  test("that is another program's", () => {
    const db = new DatabaseSync(sqliteFile(folder));
    db.exec('CREATE TABLE delegation (other TEXT)');
    db.close();
    expect(told(open)).toMatch(new RegExp(`another program's.*${ANEW}$`));
  });

  test.each([null, 'another key of letters'])('that is sealed with another key than %j', async (key) => {
    const store = open('the first key of letters');
    await store.update({ by: 'id', room: row(1).room, id: row(1).id }, null, () => ({
      writes: [{ row: row(1), leaseMs: 0 }],
      value: null,
    }));
    await store.close();
    expect(told(() => open(key))).toMatch(new RegExp(`LASTWILL_STORE_KEY.*Set the key .*${ANEW}$`));
  });

  test('of a newer version is named', async () => {
    await open().close();
    const db = new DatabaseSync(sqliteFile(folder));
    db.exec('PRAGMA user_version = 99');
    db.close();
    expect(told(open)).toContain(`${folder}/lastwill.sqlite`);
  });

  test('that is a folder', () => {
    mkdirSync(sqliteFile(folder));
    expect(told(open)).toMatch(/A file is where a folder should be, or the other way round/);
  });

  test.each([
    [{ code: 'EACCES' }, /writable for the user that runs lastwill \(uid \d+\)/],
    [{ code: 'EROFS' }, /mounted for writing, in a container a volume/],
    [{ code: 'ERR_SQLITE_ERROR', errcode: 1_032 }, /writable for the user/],
    [{ code: 'ENOSPC' }, /make room on the disk/],
    [{ code: 'ERR_SQLITE_ERROR', errcode: 13 }, /make room on the disk/],
    [{ code: 'ERR_SQLITE_ERROR', errcode: 778 }, /The disk fails/],
    [{}, /can not be opened: the reason$/],
  ])('that %j keeps from being opened', (fields, advice) => {
    expect(unopened('/data/lastwill.sqlite', Object.assign(new Error('the reason'), fields)).message).toMatch(advice);
  });
});

describe('a folder', () => {
  test('is made where it is missing', async () => {
    rmSync(folder, { recursive: true });
    await open().close();
  });

  test('that is a file, or below one, is named in full', () => {
    writeFileSync(`${folder}/file`, '');
    for (const name of ['file', 'file/below']) {
      const message = told(() => makeFolder(path.relative(process.cwd(), `${folder}/${name}`)));
      expect(message).toMatch(new RegExp(`^the data folder ${folder}/${name} can not be made: .*LASTWILL_DATA_DIR names a folder$`));
    }
  });

  test.skipIf(process.platform !== 'linux')('where none can be made at all', () => {
    expect(told(() => makeFolder('/proc/lastwill/data'))).toMatch(/^the data folder \/proc\/lastwill\/data can not be made: ENOENT/);
  });

  test('on a disk that is read-only', ({ skip }) => {
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder], { stdio: 'ignore' });
    } catch {
      return skip('nothing can be mounted here');
    }
    try {
      expect(told(open)).toMatch(/EROFS.*mounted for writing.*has failed: look at the log of the system$/);
      // Node says ENOENT here.
      expect(told(() => makeFolder(`${folder}/data`))).toMatch(/may it be written to|mounted for writing/);
    } finally {
      execFileSync('umount', ['--lazy', folder]);
    }
  });
});
