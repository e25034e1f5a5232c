// Figures as a table in Markdown and as a picture: minimum, median and maximum of each, beside a peer's, and whether what is wanted holds.
import type { Wanted } from './stage.ts';
import type { SubjectKind } from './subject.ts';
import { drawing, text, WIDTH } from './svg.ts';

export interface Line {
  readonly label: string;
  readonly unit: string;
  readonly wanted: Wanted | null;
  readonly values: Record<SubjectKind, number[]>;
  readonly failures: Record<SubjectKind, string[]>;
}

export function short(value: number): string {
  if (Number.isNaN(value)) return '–';
  if (!Number.isFinite(value)) return '∞';
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1);
}

export function middle(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? Number.NaN;
}

function spread(values: readonly number[]): string {
  if (values.length === 0) return '–';
  const sorted = values.toSorted((a, b) => a - b);
  if (sorted.length === 1) return short(middle(values));
  return `${short(sorted[0] ?? Number.NaN)} / **${short(middle(values))}** / ${short(sorted.at(-1) ?? Number.NaN)}`;
}

function cell({ values, failures }: Line, kind: SubjectKind): string {
  const failed = failures[kind].length > 0 ? ` **FAILED** (${[...new Set(failures[kind])].join('; ')})` : '';
  return `${spread(values[kind])}${failed}`;
}

const ratioOf = ({ values }: Line): number => middle(values.lastwill) / middle(values.peer);

function inWords(wanted: Wanted | null): string {
  if (wanted === null) return '';
  if ('ratioAtLeast' in wanted) return `≥ ${short(wanted.ratioAtLeast)} ×`;
  if ('ratioAtMost' in wanted) return `≤ ${short(wanted.ratioAtMost)} ×`;
  return 'atMost' in wanted ? `≤ ${short(wanted.atMost)}` : `≥ ${short(wanted.atLeast)}`;
}

/** Null: nothing is wanted, or there was nobody to compare with. Otherwise of each run; if anything was lost in one, nothing holds in any. */
function heldIn({ wanted, values, failures }: Line): readonly boolean[] | null {
  const lost = failures.lastwill.length > 0;
  if (wanted === null || (!lost && isRatio(wanted) && values.peer.length === 0)) return null;
  return values.lastwill.map((own, run) => !lost && isMet(wanted, own, values.peer[run] ?? Number.NaN));
}

const isRatio = (wanted: Wanted): boolean => 'ratioAtLeast' in wanted || 'ratioAtMost' in wanted;

function isMet(wanted: Wanted, own: number, peer: number): boolean {
  if ('atMost' in wanted) return own <= wanted.atMost;
  if ('atLeast' in wanted) return own >= wanted.atLeast;
  // Twice nothing is nothing: there is no ratio, and nothing to be better at.
  if (peer === 0) return own === 0;
  return 'ratioAtLeast' in wanted ? own / peer >= wanted.ratioAtLeast : own / peer <= wanted.ratioAtMost;
}

/** What is wanted is to hold in run after run, not only in the middle. */
function mark(line: Line): string {
  const runs = heldIn(line);
  if (runs === null) return '';
  const held = runs.filter((one) => one).length;
  return held === runs.length ? ' ✓' : ` ✗${held > 0 ? ` (${held} of ${runs.length})` : ''}`;
}

function colourOf(line: Line): string {
  const runs = heldIn(line);
  if (runs === null) return '#7d8894';
  return runs.every((one) => one) ? '#2a7f4f' : '#b23b3b';
}

export function table(lines: readonly Line[], withPeer: boolean): string {
  const head = withPeer ? '| | lastwill | peer | ratio | wanted |\n|---|---|---|---|---|' : '| | lastwill | wanted |\n|---|---|---|';
  const body = lines.map((line) => {
    const name = line.unit === '' ? line.label : `${line.label} (${line.unit})`;
    const cells = withPeer ? [cell(line, 'lastwill'), cell(line, 'peer'), short(ratioOf(line))] : [cell(line, 'lastwill')];
    return `| ${[name, ...cells, `${inWords(line.wanted)}${mark(line)}`].join(' | ')} |`;
  });
  return [head, ...body].join('\n');
}

const [ROW, LEFT, RIGHT, TOP] = [22, 400, 150, 34];
const DECADES = 2;

/** Each figure of lastwill against the peer's as a bar from 1 : 1, to the right where it is more and to the left where it is less. */
export function picture(lines: readonly Line[]): string {
  const shown = lines.filter((line) => Number.isFinite(ratioOf(line)) && ratioOf(line) > 0);
  const [unit, zero] = [(WIDTH - LEFT - RIGHT) / (2 * DECADES), LEFT + (WIDTH - LEFT - RIGHT) / 2];
  const at = (ratio: number): number => zero + Math.min(Math.max(Math.log10(ratio), -DECADES), DECADES) * unit;
  const height = TOP + shown.length * ROW + 10;
  const grid = [0.01, 0.1, 1, 10, 100].map(
    (ratio) => `<path d="M${at(ratio)} ${TOP - 8}V${height - 6}" stroke="#bbb"/>${text(at(ratio), TOP - 14, 'middle', `${ratio} ×`)}`,
  );
  const bars = shown.map((line, nth) => {
    const [y, ratio] = [TOP + nth * ROW, ratioOf(line)];
    const [from, to] = [Math.min(at(ratio), zero), Math.max(at(ratio), zero)];
    const name = line.unit === '' ? line.label : `${line.label} (${line.unit})`;
    const figures = `${short(middle(line.values.lastwill))} : ${short(middle(line.values.peer))}`;
    const bar = `<rect x="${from}" y="${y}" width="${Math.max(to - from, 1)}" height="${ROW - 8}" fill="${colourOf(line)}"/>`;
    return `${bar}${text(LEFT - 10, y + 11, 'end', name)}${text(WIDTH - RIGHT + 10, y + 11, 'start', figures)}`;
  });
  return drawing(height, [...grid, ...bars]);
}
