// `npm run bench -- soak`: 200 webhooks, 50 hand-overs and 50 departures a second, with restarts of all who are there, for as long as is
// asked. Memory, file and latencies are printed each minute: what grows, leaks.
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { short } from './report.ts';
import { counter } from './shared.ts';
import { type Minute, soakPicture } from './soak-plot.ts';
import { checkAnswers, delegate, fail, pause, quantile, staged } from './stage.ts';
import { type Load, once, openLoop, written } from './wire.ts';

const [PER_SECOND, TRACKS_PER_SECOND, STAY_SECONDS] = [50, 150, 40];
const DELAY_MS = 40_000;
const DRAWN = ['RSS (MB)', 'database (MB)', 'its log (MB)', 'ended, kept', 'webhook p99 (ms)', 'hand-over p99 (ms)'];
const COUNTED = ['leaves', 'restarts'];

/** `folder`: where the table and the picture are left; null: nowhere. */
export async function soak(minutes: number, folder: string | null): Promise<void> {
  const seconds = Math.max(1, Math.round(minutes * 60));
  const members = PER_SECOND * seconds;
  const lines = [`| minute | ${[...DRAWN, ...COUNTED].join(' | ')} |`, `|---|${'---|'.repeat(DRAWN.length + COUNTED.length)}`];
  process.stdout.write(`${lines.join('\n')}\n`);
  const drawn: Minute[] = [];
  const setting = { kind: 'lastwill', command: null, profileDir: null, scale: 1 } as const;
  const { failures } = await staged(setting, { members, rooms: 200, delayMs: DELAY_MS }, async (stage) => {
    const { subject, world, failures } = stage;
    const { shared } = world;
    const recent: { webhooks: Load[]; handOvers: Load[] } = { webhooks: [], handOvers: [] };
    for (let second = 0; second < seconds; second += 1) {
      const [from, leaving] = [second * PER_SECOND, (second - STAY_SECONDS) * PER_SECOND];
      const tracks = openLoop(subject.port, TRACKS_PER_SECOND, TRACKS_PER_SECOND, (nth) =>
        subject.webhook('track_published', from + (nth % PER_SECOND)),
      );
      const handOvers = delegate(stage, from, from + PER_SECOND, { perSecond: PER_SECOND });
      const departures =
        leaving < 0
          ? null
          : openLoop(subject.port, PER_SECOND, PER_SECOND, (nth) => {
              world.gone(leaving + nth, leaving + nth + 1);
              return subject.webhook('participant_left', leaving + nth, 'CLIENT_INITIATED');
            });
      const webhooks = (await Promise.all([tracks, departures])).filter((load) => load !== null);
      for (const load of webhooks) checkAnswers(failures, load, 200, 'webhooks');
      recent.webhooks.push(...webhooks);
      recent.handOvers.push(await handOvers);
      if ((second + 1) % 60 !== 0 && second + 1 !== seconds) continue;
      const figures = [
        ...[subject.rssMb(), megabytes(subject.dataDir, '.sqlite'), megabytes(subject.dataDir, '-wal'), await endedAt(subject.port)],
        ...[p99(recent.webhooks), p99(recent.handOvers)],
      ];
      const minute = (second + 1) / 60;
      drawn.push({ minute, figures });
      lines.push(`| ${[minute, ...figures, counter(shared, 'sends'), counter(shared, 'restarts')].map(short).join(' | ')} |`);
      process.stdout.write(`${lines.at(-1)}\n`);
      recent.webhooks.length = 0;
      recent.handOvers.length = 0;
    }
    await pause(5_000);
    const left = Math.max(0, seconds - STAY_SECONDS) * PER_SECOND;
    fail(failures, left - counter(shared, 'sends'), 'leaves lost');
    fail(failures, counter(shared, 'sendsAgain'), 'leaves sent twice');
  });
  if (folder !== null) {
    writeFileSync(join(folder, 'soak.md'), `${lines.join('\n')}\n`);
    writeFileSync(join(folder, 'soak.svg'), soakPicture(DRAWN, drawn));
  }
  process.stdout.write(failures.length === 0 ? '\nNothing was lost.\n' : `\n**FAILED**: ${[...new Set(failures)].join('; ')}\n`);
}

function p99(loads: readonly Load[]): number {
  return quantile(
    loads.flatMap(({ latencies }) => [...latencies]),
    0.99,
  );
}

function megabytes(folder: string, ending: string): number {
  const sizes = readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .map((name) => statSync(join(folder, name)).size);
  return sizes.reduce((sum, size) => sum + size, 0) / 1e6;
}

/** How many ended delegations it says it still has. */
async function endedAt(port: number): Promise<number> {
  const { body } = await once(port, written('GET', '/metrics', {}, ''));
  return Number(/^lastwill_delegations\{state="ended"\} (\d+)$/m.exec(body)?.[1]);
}
