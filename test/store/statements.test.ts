// Statements of the embedded store are prepared once; whatever SQLite compiles it asks an authorizer about.
import { constants, DatabaseSync, type StatementSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { migrate } from '../../src/store/sqlite/migrations.ts';
import { prepareAll } from '../../src/store/sqlite/statements.ts';

const db = new DatabaseSync(':memory:');
migrate(db).commit();
let questions = 0;
const { begin: _, commit: __, rollback: ___, dueRestarts, ...others } = prepareAll(db);
// By another authorizer each is to be compiled once more.
db.setAuthorizer(() => {
  questions += 1;
  return constants.SQLITE_OK;
});

test.each(Object.entries({ ...others, ...dueRestarts }))('%s is not compiled anew when it is run with other values', (_, statement) => {
  expect(compiledBy(statement, 1)).toBe(true);
  expect(compiledBy(statement, 2)).toBe(false);
});

function compiledBy(statement: StatementSync, value: number): boolean {
  const { sourceSQL } = statement;
  const numbers = [...sourceSQL.matchAll(/\?(\d)/g)].map(([, number]) => Number(number));
  const count = Math.max(sourceSQL.split('?').length - 1 - numbers.length, ...numbers);
  questions = 0;
  try {
    statement.all(...Array.from({ length: count }, (_, nth) => (sourceSQL.includes(`json_each(?${nth + 1})`) ? '[]' : value)));
  } catch (error) {
    if (!/constraint/.test(String(error))) throw error;
  }
  return questions > 0;
}
