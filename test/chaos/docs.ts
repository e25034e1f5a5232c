// What a run leaves in the documentation: a table in the README and a plot beside it; beside lastwill the peer that went through the same.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryDir } from '../e2e/stack/processes.ts';
import { writeBetween } from '../e2e/stack/written.ts';
import { BY_TIMER, type Departure, outageMs, type Sin } from './judge.ts';
import { type Row, rowsOf, spread } from './report.ts';
import type { Run } from './run.ts';

export interface Judged {
  readonly name: string;
  readonly runs: readonly Run[];
}

const DISTURBED = 'any of these, while a server was down or a webhook lost';

export function writeDocs(judged: readonly Judged[]): void {
  writeBetween('README.md', 'chaos', [...tableOf(judged), '', ...judged.map(sentenceOf)]);
  writeFileSync(join(repositoryDir, 'deploy/chaos.svg'), plotOf(judged));
}

/** One line for each cause, and one for whatever was disturbed. */
function linesOf({ runs }: Judged): Map<string, Row> {
  const named = runs.flatMap(({ verdict }) =>
    verdict.departures.map((one): Departure => (one.disturbed.length > 0 ? { ...one, cause: DISTURBED } : one)),
  );
  return new Map(rowsOf(named).map((row) => [row.cause, row]));
}

function sinsOf({ runs }: Judged): { ghosts: Sin[]; falseLeaves: Sin[] } {
  return {
    ghosts: runs.flatMap(({ verdict }) => verdict.ghosts),
    falseLeaves: runs.flatMap(({ verdict }) => verdict.falseLeaves),
  };
}

function tableOf(judged: readonly Judged[]): string[] {
  const lines = judged.map(linesOf);
  const causes = [...new Set(lines.flatMap((of) => [...of.keys()]))].toSorted((a, b) => Number(a === DISTURBED) - Number(b === DISTURBED));
  const cells = (of: Map<string, Row>, cause: string): string => {
    const row = of.get(cause);
    return row === undefined ? '– | – | – ' : `${row.fromNotice.length} | ${spread(row.fromDeparture)} | ${spread(row.fromNotice)} `;
  };
  const head = judged.map(({ name }) => `${name}: leaves in time | from the departure | from LiveKit's word `).join('| ');
  const sums = judged.map((one, place) => {
    const { ghosts, falseLeaves } = sinsOf(one);
    const leaves = [...(lines[place]?.values() ?? [])].reduce((sum, { fromNotice }) => sum + fromNotice.length, 0);
    return `${leaves} | **${ghosts.length} ghosts** | **${falseLeaves.length} false leaves** `;
  });
  return [
    `| Seconds: min / median / max | ${head}|`,
    `|---|${judged.map(() => '---|---|---|').join('')}`,
    ...causes.map((cause) => `| ${cause} | ${lines.map((of) => cells(of, cause)).join('| ')}|`),
    `| in all | ${sums.join('| ')}|`,
  ];
}

/** What a service went through. */
function sentenceOf(judged: Judged): string {
  const { name, runs } = judged;
  const seeds = runs.map(({ seed }) => seed).join(', ');
  const played = runs.length === 1 ? `one run (seed ${seeds})` : `${runs.length} runs (seeds ${seeds})`;
  const sum = (of: (run: Run) => number): number => runs.reduce((total, run) => total + of(run), 0);
  const down = (['service', 'SFU', 'homeserver'] as const).map((part) => {
    const times = sum(({ evidence }) => evidence.outages.filter((one) => one.part === part).length);
    const seconds = sum(({ evidence }) => outageMs(evidence.outages, part)) / 1_000;
    return `the ${part} ${part === 'homeserver' ? 'stopped' : 'killed'} ${times} times (${seconds.toFixed(0)} s)`;
  });
  const sessions = sum(({ evidence }) => evidence.sessions.length);
  const hooks = `${sum(({ webhooks }) => webhooks.dropped)} webhooks dropped and ${sum(({ webhooks }) => webhooks.doubled)} doubled`;
  const byTimer = sinsOf(judged).falseLeaves.filter(({ what }) => what.startsWith(BY_TIMER)).length;
  const timers =
    byTimer === 0
      ? ''
      : ` Of its false leaves ${byTimer} were sent by Synapse's own timer: events that nobody restarted, or cancelled when a newer one was handed over.`;
  return `- ${name}: ${played}, ${sessions} sessions; ${down.join(', ')}, ${hooks}.${timers}`;
}

const WIDTH = 940;
const LEFT = 370;
const LINE = 26;
const [SOONEST_MS, LATEST_MS] = [20, 120_000];
const COLOURS = ['#0b7285', '#e8590c'];

/** Each leave is a dot: how long after the departure it was taken, on a logarithmic scale. */
function plotOf(judged: readonly Judged[]): string {
  const lines = judged.map(linesOf);
  const causes = [...new Set(lines.flatMap((of) => [...of.keys()]))].toSorted((a, b) => Number(a === DISTURBED) - Number(b === DISTURBED));
  const height = causes.length * LINE + 90;
  const x = (ms: number): number => {
    const part = Math.log(Math.max(ms, SOONEST_MS) / SOONEST_MS) / Math.log(LATEST_MS / SOONEST_MS);
    return LEFT + part * (WIDTH - LEFT - 20);
  };
  const ticks = [0.1, 0.3, 1, 2, 5, 10, 20, 60].map((seconds) => {
    const at = x(seconds * 1_000).toFixed(1);
    const line = `<line x1="${at}" y1="40" x2="${at}" y2="${height - 40}" stroke="#dee2e6"/>`;
    return `${line}<text x="${at}" y="${height - 22}" text-anchor="middle">${seconds} s</text>`;
  });
  const rows = causes.map((cause, place) => {
    const y = 58 + place * LINE;
    const dots = lines.flatMap((of, which) =>
      (of.get(cause)?.fromDeparture ?? []).map(
        (ms) => `<circle cx="${x(ms).toFixed(1)}" cy="${y - 4 + which * 8}" r="3" fill="${COLOURS[which]}" fill-opacity="0.55"/>`,
      ),
    );
    return `<text x="${LEFT - 12}" y="${y + 4}" text-anchor="end">${cause}</text>${dots.join('')}`;
  });
  const legend = judged.map((one, which) => {
    const { ghosts, falseLeaves } = sinsOf(one);
    const text = `${one.name}, ${one.runs.length === 1 ? 'one run' : `${one.runs.length} runs`}: ${ghosts.length} ghosts, ${falseLeaves.length} false leaves`;
    return `<circle cx="${LEFT + which * 290}" cy="18" r="4" fill="${COLOURS[which]}"/><text x="${LEFT + 10 + which * 290}" y="22">${text}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12" fill="#212529">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    ...legend,
    ...ticks,
    ...rows,
    '</svg>',
    '',
  ].join('\n');
}
