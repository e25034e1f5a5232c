// `node test/store/record.ts`: when a migration was added, records what this version writes, for versions.test.ts.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import { live, RECORDED, recordedAs } from './recording.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'lastwill-record-'));
const file = path.join(folder, 'lastwill.sqlite');
await live(file);
const db = new DatabaseSync(file);
const asked = (sql: string, ...words: string[]) => db.prepare(sql).all(...words);
const literal = (value: SQLOutputValue | undefined): string =>
  typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value ?? 'NULL');

const schema = asked('SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type DESC, name');
const rows = schema.flatMap(({ type, name }) => {
  if (type !== 'table') return [];
  const columns = asked('SELECT name FROM pragma_table_info(?)', String(name)).map((column) => String(column.name));
  return asked(`SELECT ${columns.join(', ')} FROM ${name}`).map(
    (row) => `INSERT INTO ${name} (${columns.join(', ')}) VALUES (${columns.map((column) => literal(row[column])).join(', ')});`,
  );
});
const version = Number(asked('PRAGMA user_version')[0]?.user_version);
db.close();
rmSync(folder, { recursive: true });
const day = new Date().toLocaleDateString('en-GB', { day: 'numeric', month: 'long', year: 'numeric' });
const lines = [
  `-- The file of a lastwill of ${day}, which was killed 4.55 s after START_MS (test/support/virtual-clock.ts).`,
  ...schema.map(({ sql }) => `${String(sql).replace(/\s+/g, ' ')};`),
  ...rows,
  `PRAGMA user_version = ${version};`,
];
writeFileSync(path.join(RECORDED, recordedAs(version)), `${lines.join('\n')}\n`);
process.exit();
