// `npm run bench -- [row…]`: figures, never verdicts of a test. Prints a table in Markdown and leaves the same as JSON; rows that lost
// anything are marked as failed.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { orUsage } from '../support/usage.ts';
import { micro } from './micro.ts';
import { type Line, picture, short, table } from './report.ts';
import { headroom, ROWS } from './rows.ts';
import { soak } from './soak.ts';
import type { Figure, Row } from './stage.ts';
import type { SubjectKind } from './subject.ts';

const USAGE = `npm run bench -- [row…] [--runs N] [--quick] [--peer "<command>"] [--cpu-prof <folder>] [--write <folder>]
npm run bench -- --store redis [--members N] [--runs N]
npm run bench -- micro [--keep]
npm run bench -- soak [--minutes N] [--write <folder>]

--quick     a fifth of everything, once: a first impression
--peer      another service with the MatrixRTC authorization API, measured in turn on the same fakes
--cpu-prof  leaves CPU profiles of lastwill
--write     writes the table and a picture (bench.md, bench.svg; soak.md, soak.svg)
--store     redis: what the store of several replicas costs, on a real redis-server
micro       decisions and commits, as ratios to a calibration loop; --keep makes them the ones to compare with
soak        a steady load, and whether memory, file and latencies stay what they were

Rows:
${ROWS.map(({ name, help }) => `  ${name.padEnd(17)} ${help}\n`).join('')}`;
const { values: options, positionals } = orUsage(USAGE, () =>
  parseArgs({
    allowPositionals: true,
    options: {
      runs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      peer: { type: 'string' },
      'cpu-prof': { type: 'string' },
      write: { type: 'string' },
      store: { type: 'string', default: 'sqlite' },
      members: { type: 'string' },
      keep: { type: 'boolean', default: false },
      minutes: { type: 'string', default: '30' },
      help: { type: 'boolean' },
    },
  }),
);
const wanted = positionals.length === 0 ? ROWS : ROWS.filter(({ name }) => positionals.includes(name));
const scale = options.quick ? 0.2 : 1;
const runs = Math.max(1, Math.floor(Number(options.runs ?? (options.quick ? 1 : 3))) || 1);
const peer = options.peer ?? null;

const lines = new Map<string, Line>();
function add(kind: SubjectKind, figures: readonly Figure[], failures: readonly string[]): void {
  for (const { label, unit, value, wanted = null } of figures) {
    const fresh: Line = { label, unit, wanted, values: { lastwill: [], peer: [] }, failures: { lastwill: [], peer: [] } };
    const line = lines.get(label) ?? fresh;
    line.values[kind].push(value);
    line.failures[kind].push(...failures);
    lines.set(label, line);
  }
}

async function runOnce(row: Row, kind: SubjectKind): Promise<void> {
  try {
    const { figures, failures } = await row.run({ kind, command: peer, profileDir: options['cpu-prof'] ?? null, scale });
    add(kind, figures, failures);
    const told = figures.map(({ label, unit, value }) => `${label} ${short(value)}${unit}`).join('; ');
    process.stderr.write(`${row.name} ${kind}: ${told}${failures.length > 0 ? ` FAILED: ${failures.join(', ')}` : ''}\n`);
  } catch (error) {
    process.stderr.write(`${row.name} ${kind}: ${String(error)}\n`);
    add(kind, [{ label: `${row.name} (no figure)`, unit: '', value: Number.NaN }], [String(error)]);
  }
}

async function compare(): Promise<void> {
  const [cpu] = cpus();
  process.stderr.write(`${cpus().length} × ${cpu?.model ?? 'an unknown CPU'}, node ${process.version}, ${runs} runs\n`);
  const empty = await headroom();
  for (let run = 1; run <= runs; run += 1) {
    for (const row of wanted) {
      await runOnce(row, 'lastwill');
      if (peer !== null && row.peer) await runOnce(row, 'peer');
    }
  }
  const all = [...lines.values()];
  const generator = empty.map(({ label, unit, value }) => `${label}: ${short(value)}${unit}`).join('; ');
  const parts = `${options.quick ? 'A fifth of everything. ' : ''}Minimum / median / maximum of ${runs}; ${cpus().length} cores, shared with the generator`;
  const text = `${table(all, peer !== null)}\n\n${parts}. ${generator}.\n`;
  process.stdout.write(text);
  if (options.write !== undefined) {
    writeFileSync(join(options.write, 'bench.md'), text);
    if (peer !== null) writeFileSync(join(options.write, 'bench.svg'), picture(all));
  }
  const file = join(mkdtempSync(join(tmpdir(), 'lastwill-bench-')), 'bench.json');
  writeFileSync(file, JSON.stringify({ runs, scale, cpus: cpus().length, model: cpu?.model, headroom: empty, lines: all }, null, 2));
  process.stderr.write(`${file}\n`);
}

// A folder that can't be made is found out now, not after half an hour of measuring.
if (options.write !== undefined) mkdirSync(options.write, { recursive: true });
if (options.store === 'redis') await import('./redis.ts');
else if (positionals[0] === 'micro') await micro(options.keep);
else if (positionals[0] === 'soak') await soak(Number(options.minutes), options.write ?? null);
else if (wanted.length < new Set(positionals).size || options.store !== 'sqlite') {
  process.stderr.write(USAGE);
  process.exitCode = 2;
} else await compare();
