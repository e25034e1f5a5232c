import { execFileSync } from 'node:child_process';
import { getPriority } from 'node:os';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';

const PRIORITY = resolve(import.meta.dirname, '../../src/process/priority.ts');
/** Of whoever runs the tests. */
const OURS = getPriority();
/** What a process of its own says last, started so much nicer than we are. */
function said(nice: number, script: string): string {
  const lines = `import { getPriority, setPriority } from 'node:os'; ${script}`;
  return execFileSync('nice', ['-n', String(nice), process.execPath, '--input-type=module', '-e', lines], { encoding: 'utf8' }).trim();
}
const goesFirst = `const { goFirst } = await import('${PRIORITY}'); goFirst(); console.log(getPriority());`;

test('goes before ordinary work where that is allowed, and starts all the same where it is not', () => {
  const isAllowed = said(0, `try { setPriority(-7); console.log('yes'); } catch { console.log('no'); }`) === 'yes';
  expect(said(-OURS, goesFirst)).toBe(isAllowed ? '-7' : String(Math.max(OURS, 0)));
});

test('a priority that somebody has chosen stays', () => {
  expect(said(3, goesFirst)).toBe(String(OURS + 3));
});
