// From the departure to the leave that others see: one line per story, gathered from all workers and printed at the end.
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryDir } from './processes.ts';

export interface Time {
  readonly story: string;
  /** From the departure to the event in the room. */
  readonly tookMs: number;
  /** From LiveKit's own notice (its webhook) to the event in the room, where there was one. */
  readonly afterWebhookMs: number | null;
  readonly note: string;
}

export const recordTime = (file: string, time: Time): void => appendFileSync(file, `${JSON.stringify(time)}\n`);

/** Once for each of the projects. */
export function printTimes(file: string, project: string): void {
  if (!existsSync(file)) return;
  const times = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Time)
    .sort((one, other) => one.story.localeCompare(other.story));
  const folder = join(repositoryDir, 'node_modules/.cache/lastwill');
  mkdirSync(folder, { recursive: true });
  const kept = join(folder, `${project}-times.json`);
  writeFileSync(kept, `${JSON.stringify(times, null, 2)}\n`);
  const width = Math.max(...times.map((time) => time.story.length));
  console.log(`\n${'from departure to the event in the room'.padEnd(width)}  took ms  after webhook ms`);
  for (const time of times) {
    const after = time.afterWebhookMs === null ? '–' : time.afterWebhookMs.toFixed(0);
    console.log(`${time.story.padEnd(width)}  ${time.tookMs.toFixed(0).padStart(7)}  ${after.padStart(16)}  ${time.note}`);
  }
  console.log(`kept in ${kept}`);
}
