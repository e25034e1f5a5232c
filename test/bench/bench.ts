// `npm run bench -- [row…] [--runs N] [--peer "<command>"] [--cpu-prof <folder>]`: figures, never verdicts. Prints a table in Markdown,
// and leaves the same as JSON. Rows that lost anything are marked as failed.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Figure, headroom, ROWS, type Row } from './rows.ts';
import type { SubjectKind } from './subject.ts';

interface Line {
  readonly label: string;
  readonly unit: string;
  readonly values: Record<SubjectKind, number[]>;
  readonly failures: Record<SubjectKind, string[]>;
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { runs: { type: 'string', default: '3' }, peer: { type: 'string' }, 'cpu-prof': { type: 'string' }, help: { type: 'boolean' } },
});
const wanted = positionals.length === 0 ? ROWS : ROWS.filter(({ name }) => positionals.includes(name));
if (options.help === true || wanted.length < new Set(positionals).size) {
  process.stdout.write('npm run bench -- [row…] [--runs N] [--peer "<command>"] [--cpu-prof <folder>]\n\nRows:\n');
  for (const { name, help } of ROWS) process.stdout.write(`  ${name.padEnd(14)} ${help}\n`);
  process.exit(options.help === true ? 0 : 2);
}
const runs = Math.max(1, Math.floor(Number(options.runs)) || 1);
const peer = options.peer ?? null;

const lines = new Map<string, Line>();
function add(kind: SubjectKind, figures: readonly Figure[], failures: readonly string[]): void {
  for (const { label, unit, value } of figures) {
    const line: Line = lines.get(label) ?? { label, unit, values: { lastwill: [], peer: [] }, failures: { lastwill: [], peer: [] } };
    line.values[kind].push(value);
    line.failures[kind].push(...failures);
    lines.set(label, line);
  }
}

async function runOnce(row: Row, kind: SubjectKind): Promise<void> {
  try {
    const { figures, failures } = await row.run({ kind, command: peer, profileDir: options['cpu-prof'] ?? null });
    add(kind, figures, failures);
    const told = figures.map(({ label, unit, value }) => `${label} ${short(value)}${unit}`).join('; ');
    process.stderr.write(`${row.name} ${kind}: ${told}${failures.length > 0 ? ` FAILED: ${failures.join(', ')}` : ''}\n`);
  } catch (error) {
    process.stderr.write(`${row.name} ${kind}: ${String(error)}\n`);
    add(kind, [{ label: `${row.name} (no figure)`, unit: '', value: Number.NaN }], [String(error)]);
  }
}

function short(value: number): string {
  if (Number.isNaN(value)) return '–';
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1);
}

function spread(values: readonly number[]): string {
  if (values.length === 0) return '–';
  const sorted = values.toSorted((a, b) => a - b);
  const median = sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
  if (sorted.length === 1) return short(median);
  return `${short(sorted[0] ?? Number.NaN)} / **${short(median)}** / ${short(sorted.at(-1) ?? Number.NaN)}`;
}

const middle = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? Number.NaN;

function cell({ values, failures }: Line, kind: SubjectKind): string {
  const failed = failures[kind].length > 0 ? ` **FAILED** (${[...new Set(failures[kind])].join('; ')})` : '';
  return `${spread(values[kind])}${failed}`;
}

function table(): string {
  const head = peer === null ? '| | lastwill |\n|---|---|' : '| | lastwill | peer | lastwill : peer |\n|---|---|---|---|';
  const body = [...lines.values()].map((line) => {
    const name = line.unit === '' ? line.label : `${line.label} (${line.unit})`;
    if (peer === null) return `| ${name} | ${cell(line, 'lastwill')} |`;
    const ratio = short(middle(line.values.lastwill) / middle(line.values.peer));
    return `| ${name} | ${cell(line, 'lastwill')} | ${cell(line, 'peer')} | ${ratio} |`;
  });
  return [head, ...body].join('\n');
}

const [cpu] = cpus();
process.stderr.write(`${cpus().length} × ${cpu?.model ?? 'an unknown CPU'}, node ${process.version}, ${runs} runs\n`);
const empty = await headroom();
for (let run = 1; run <= runs; run += 1) {
  for (const row of wanted) {
    await runOnce(row, 'lastwill');
    if (peer !== null && row.peer) await runOnce(row, 'peer');
  }
}

const note = empty.map(({ label, unit, value }) => `${label}: ${short(value)}${unit}`).join('; ');
process.stdout.write(`${table()}\n\nMinimum / median / maximum of ${runs}; ${cpus().length} cores, shared with the generator. ${note}.\n`);
const file = join(mkdtempSync(join(tmpdir(), 'lastwill-bench-')), 'bench.json');
writeFileSync(file, JSON.stringify({ runs, cpus: cpus().length, model: cpu?.model, headroom: empty, lines: [...lines.values()] }, null, 2));
process.stderr.write(`${file}\n`);
