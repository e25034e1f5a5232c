// The trade that each wait is: how many of the returns that were recorded it bridges, which would be false leaves otherwise, by how many
// seconds it makes everybody who does not return a ghost for longer.
import { defaultWaits } from '../stack/defaults.ts';
import type { Played } from './record.ts';

type Wait = 'left' | 'lost' | 'replaced' | 'sfuDown';

const TRADED: readonly { readonly wait: Wait; readonly variable: string; readonly reason: RegExp | null }[] = [
  { wait: 'left', variable: 'LASTWILL_WAIT_LEFT_MS', reason: /\[CLIENT_INITIATED\]/ },
  { wait: 'lost', variable: 'LASTWILL_WAIT_LOST_MS', reason: /\[(CONNECTION_TIMEOUT|SIGNAL_CLOSE)\]/ },
  { wait: 'replaced', variable: 'LASTWILL_WAIT_REPLACED_MS', reason: /\[(DUPLICATE_IDENTITY|MIGRATION)\]/ },
  { wait: 'sfuDown', variable: 'LASTWILL_WAIT_SFU_DOWN_MS', reason: null },
];
/** Seconds; the defaults are among them. */
const CANDIDATES = [0, 1, 2, 3, 5, 10, 15, 20, 30] as const;

export function tradeOf(played: readonly Played[]): string[] {
  const defaults = defaultWaits();
  const rows = TRADED.map(({ wait, variable, reason }) => {
    const returns = played.flatMap((one) => returnOf(one, reason) ?? []);
    const bridged = CANDIDATES.map((seconds) => {
      const count = returns.filter(({ afterMs }) => afterMs <= seconds * 1_000).length;
      return seconds * 1_000 === defaults[wait] ? `**${count}**` : `${count}`;
    });
    const names = [...new Set(returns.map(({ name }) => name))].join(', ');
    return `| \`${variable}\` | ${names || 'none'} | ${returns.length} | ${bridged.join(' | ')} |`;
  });
  const head = CANDIDATES.map((seconds) => `+${seconds} s`).join(' | ');
  return [`| Wait | Returns after | in all | ${head} |`, `|---|---|---|${CANDIDATES.map(() => '---|').join('')}`, ...rows];
}

/** How long it took to be back, from the first word of the departure; after an SFU without one, from the moment that it answered again. */
function returnOf({ name, told, gapMs, sfuBackMs }: Played, reason: RegExp | null): { name: string; afterMs: number } | null {
  if (reason === null) {
    const joined = told.findLast(({ what }) => what.startsWith('joined'));
    return sfuBackMs === null || joined === undefined ? null : { name, afterMs: joined.afterMs - sfuBackMs };
  }
  const left = told.find(({ what }) => what.startsWith('left'));
  return left !== undefined && gapMs !== null && reason.test(left.what) ? { name, afterMs: gapMs } : null;
}
