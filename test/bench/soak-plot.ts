// A soak as a picture: each figure by the minute, on an axis that begins at nothing, so that what grows is seen to grow.
import { short } from './report.ts';
import { drawing, text, WIDTH } from './svg.ts';

export interface Minute {
  readonly minute: number;
  readonly figures: readonly number[];
}

const [HEIGHT, LEFT, RIGHT, GAP] = [74, 190, 80, 26];

export function soakPicture(labels: readonly string[], minutes: readonly Minute[]): string {
  const last = Math.max(...minutes.map(({ minute }) => minute), 1);
  const x = (minute: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * minute) / last;
  const panels = labels.map((label, nth) => {
    const values = minutes.map(({ minute, figures }) => ({ minute, value: figures[nth] ?? Number.NaN }));
    const most = Math.max(...values.map(({ value }) => value), Number.MIN_VALUE);
    const bottom = GAP + nth * (HEIGHT + GAP) + HEIGHT;
    const y = (value: number): number => bottom - (HEIGHT * value) / most;
    const line = values.map(({ minute, value }) => `${x(minute).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
    return [
      `<path d="M${LEFT} ${bottom}H${WIDTH - RIGHT}" stroke="#bbb"/>`,
      `<polyline points="${line}" fill="none" stroke="#2a7f4f" stroke-width="1.5"/>`,
      text(LEFT - 10, bottom - HEIGHT / 2, 'end', label),
      text(WIDTH - RIGHT + 8, y(most) + 4, 'start', short(most)),
      text(WIDTH - RIGHT + 8, bottom, 'start', '0'),
    ].join('');
  });
  const height = GAP + labels.length * (HEIGHT + GAP) + 10;
  return drawing(height, [...panels, text(WIDTH - RIGHT, height - 12, 'end', `minute ${short(last)}`)]);
}
