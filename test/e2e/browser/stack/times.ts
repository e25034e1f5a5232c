// The table of the browser stories; a line per story, gathered from all workers.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryDir } from '../../stack/processes.ts';
import type { Time } from '../../stack/times.ts';
import { underTest } from './service.ts';

export function printTimes(file: string): void {
  if (!existsSync(file)) return;
  const times = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Time)
    .sort((one, other) => one.story.localeCompare(other.story));
  const folder = join(repositoryDir, 'node_modules/.cache/lastwill');
  mkdirSync(folder, { recursive: true });
  const kept = join(folder, 'browser-times.json');
  writeFileSync(kept, `${JSON.stringify({ underTest, times }, null, 2)}\n`);
  const heading = `browsers with ${underTest}, departure to leave`;
  const width = Math.max(heading.length, ...times.map(({ story }) => story.length));
  console.log(`\n${heading.padEnd(width)}  took ms  after webhook ms`);
  for (const { story, tookMs, afterWebhookMs, note } of times) {
    const after = afterWebhookMs === null ? '–' : afterWebhookMs.toFixed(0);
    console.log(`${story.padEnd(width)}  ${tookMs.toFixed(0).padStart(7)}  ${after.padStart(16)}  ${note}`);
  }
  console.log(`kept in ${kept}`);
}
