// From LiveKit's closing a session to the leave that the homeserver took, step by step: what is spent beyond the wait, and on what.
import type { Evidence } from './evidence.ts';
import type { Departure } from './judge.ts';

export interface Step {
  readonly step: string;
  readonly inOrderMs: readonly number[];
}

/** A line of the service's log about a delegation. */
interface Moved {
  readonly msg: string;
  readonly time: string;
  readonly sid: string | null;
  readonly to: string;
}

const STEPS = [
  "LiveKit's webhook is committed",
  'after the wait: the SFU is asked, and what it says is committed',
  'the call reaches Synapse',
  'Synapse takes the leave',
] as const;

export function addedBy(evidence: Evidence, departures: readonly Departure[], serviceLog: string, waitMs: number): Step[] {
  const moved = movedIn(serviceLog);
  const each = departures.flatMap((departure) => {
    const marks = marksOf(evidence, departure, moved, waitMs);
    return marks === null ? [] : [marks];
  });
  const column = (of: (marks: number[]) => number): number[] => each.map(of).toSorted((a, b) => a - b);
  return [
    ...STEPS.map((step, place) => ({ step, inOrderMs: column((marks) => (marks[place + 1] ?? 0) - (marks[place] ?? 0)) })),
    { step: '**in all**', inOrderMs: column((marks) => (marks.at(-1) ?? 0) - (marks[0] ?? 0)) },
  ];
}

/** When each step was done, the wait taken out. */
function marksOf(
  evidence: Evidence,
  { identity, goneMs, leftMs }: Departure,
  moved: ReadonlyMap<string, number>,
  waitMs: number,
): number[] | null {
  const session = evidence.sessions.find((one) => one.identity === identity && one.toMs === goneMs);
  const ours = new Set(evidence.handOvers.filter((one) => one.identity === identity).map(({ delayId }) => delayId));
  const act = evidence.acts.findLast(
    ({ delayId, action, beganMs }) => ours.has(delayId) && action === 'send' && beganMs > goneMs && beganMs <= (leftMs ?? 0) + 1,
  );
  const [settlingMs, leavingMs] = ['settling', 'leaving'].map((to) => moved.get(`${session?.sid} ${to}`));
  if (leftMs === null || act === undefined || settlingMs === undefined || leavingMs === undefined) return null;
  return [goneMs, settlingMs, ...[leavingMs, act.beganMs, leftMs].map((atMs) => atMs - waitMs)];
}

/** When a delegation came to be in a state, by the session and the state. */
function movedIn(log: string): Map<string, number> {
  const lines = log.split('\n').flatMap((line) => (line.includes('"delegation moved"') ? [JSON.parse(line) as Moved] : []));
  return new Map(lines.map(({ sid, to, time }) => [`${sid} ${to}`, Date.parse(time)]));
}
