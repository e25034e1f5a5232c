// What a run is summed up to: the sins one by one, and the time to leave by cause.
import { type Departure, outageMs } from './judge.ts';
import type { Run } from './run.ts';

export interface Row {
  readonly cause: string;
  readonly disturbed: boolean;
  /** From the departure, and from the SFU's notice, to the leave that the homeserver took; ms, in order. */
  readonly fromDeparture: readonly number[];
  readonly fromNotice: readonly number[];
}

export function rowsOf(departures: readonly Departure[]): Row[] {
  const left = departures.filter(({ leftMs }) => leftMs !== null);
  const groups = Map.groupBy(left, ({ cause, disturbed }) => `${disturbed.length === 0 ? 'a' : 'b'} ${cause}`);
  return [...groups.entries()]
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([, group]) => ({
      cause: group[0]?.cause ?? '',
      disturbed: (group[0]?.disturbed.length ?? 0) > 0,
      fromDeparture: inOrder(group.map(({ departedMs, leftMs }) => (leftMs ?? 0) - departedMs)),
      fromNotice: inOrder(group.map(({ goneMs, leftMs }) => (leftMs ?? 0) - goneMs)),
    }));
}

export function reportOf({ evidence, verdict, webhooks }: Run): string[] {
  const { sessions, acts, outages } = evidence;
  const lines = rowsOf(verdict.departures).map(
    ({ cause, disturbed, fromDeparture, fromNotice }) =>
      `${(disturbed ? `${cause}, with parts down or webhooks lost` : cause).padEnd(62)} ${String(fromNotice.length).padStart(4)}  ${spread(fromDeparture).padStart(24)}  ${spread(fromNotice).padStart(24)}`,
  );
  const down = (['service', 'SFU', 'homeserver', 'machine'] as const).map((part) => {
    const times = outages.filter((one) => one.part === part).length;
    return `${part} ${times} times, ${(outageMs(outages, part) / 1000).toFixed(1)} s`;
  });
  const stayed = verdict.departures.filter(({ leftMs }) => leftMs === null).length;
  return [
    '',
    `${'time to leave, s: min / median / max'.padEnd(62)}    n  ${'from the departure'.padStart(24)}  ${"from the SFU's notice".padStart(24)}`,
    ...lines,
    '',
    `${sessions.length} sessions; ${verdict.departures.length} departures with a leave handed over, ${stayed} of them back in time`,
    `the service restarted ${acts.filter(({ action }) => action === 'restart').length} times and sent ${acts.filter(({ action, status }) => action === 'send' && status === 200).length} leaves`,
    `down or stopped: ${down.join('; ')}`,
    `webhooks: ${webhooks.passed} passed on, ${webhooks.dropped} dropped, ${webhooks.doubled} doubled`,
    `leaves overtaken by a return while the homeserver was stopped: ${verdict.overtaken}`,
    ...verdict.ghosts.map(({ identity, what }) => `GHOST ${identity}: ${what}`),
    ...verdict.falseLeaves.map(({ identity, what }) => `FALSE LEAVE ${identity}: ${what}`),
    `${verdict.ghosts.length} ghosts, ${verdict.falseLeaves.length} false leaves`,
  ];
}

export function spread(inOrderMs: readonly number[]): string {
  const at = (part: number): string => ((inOrderMs[Math.round((inOrderMs.length - 1) * part)] ?? Number.NaN) / 1000).toFixed(2);
  return `${at(0)} / ${at(0.5)} / ${at(1)}`;
}

const inOrder = (ms: readonly number[]): number[] => ms.toSorted((a, b) => a - b);
