// Cases played several times, as a table of Markdown; times are min–max.
import type { Played } from './record.ts';

export function tableOf(played: readonly Played[]): string[] {
  const names = [...new Set(played.map(({ name }) => name))];
  const rows = names.flatMap((name) =>
    (['rtc-node', 'livekit-client'] as const).flatMap((kind) => {
      const runs = played.filter((one) => one.name === name && one.kind === kind);
      return runs.length === 0
        ? []
        : [
            `| ${name} | ${kind} | ${webhooksOf(runs)} | ${range(runs.map(({ gapMs }) => gapMs))} | ${range(runs.map(({ backMs }) => backMs))} |`,
          ];
    }),
  );
  return ['| What happens | Client | Webhooks, after | Left to joined | Client is back after |', '|---|---|---|---|---|', ...rows];
}

/** Runs that were told the same things share their times; others follow. */
function webhooksOf(runs: readonly Played[]): string {
  const groups = Map.groupBy(runs, ({ told }) => told.map(({ what }) => what).join());
  return [...groups.values()]
    .map((group) => {
      const [first] = group;
      const times = first?.told.map(({ what }, place) => `${what} ${range(group.map(({ told }) => told[place]?.afterMs ?? null))}`) ?? [];
      const share = groups.size > 1 ? ` (${group.length} of ${runs.length})` : '';
      return `${times.join('; ') || 'none'}${share}`;
    })
    .join(', or: ');
}

export function range(all: readonly (number | null)[]): string {
  const times = all.filter((ms) => ms !== null);
  if (times.length === 0) return '–';
  const [least, most] = [Math.min(...times), Math.max(...times)];
  const most10 = most >= 10_000;
  const text = (ms: number): string => (most >= 1_000 ? (ms / 1_000).toFixed(most10 ? 1 : 2) : ms.toFixed(0));
  const [from, to] = [text(least), text(most)];
  return `${from === to ? to : `${from}–${to}`} ${most >= 1_000 ? 's' : 'ms'}${times.length < all.length ? ` (${times.length} of ${all.length})` : ''}`;
}
