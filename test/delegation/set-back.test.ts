// The wall clock was set back between two runs: what the rows say to have happened lies ahead of now, and so does all that they wait for.
import { describe, expect, it } from 'vitest';
import { decide, dueAtMs } from '../../src/delegation/decide.ts';
import type { Event, LiveState } from '../../src/delegation/state.ts';
import { EVENTS, type EventName, NOW, POLICY, ROWS, type RowName, rowIn } from './cases.ts';

const now = { nowMs: NOW, roll: 0.5 };
const run = (state: LiveState, event: Event) => decide(rowIn(state), event, now, POLICY);

/** The row as a clock would have written it that was ahead by `byMs`. What the SFU's clock told stays. */
function ahead(state: LiveState, byMs: number) {
  const moved = (key: string, value: unknown): unknown =>
    typeof value === 'number' && key.endsWith('Ms') && key !== 'delayMs' && key !== 'joinedAtMs' ? value + byMs : value;
  return JSON.parse(JSON.stringify(rowIn(state)), (key, value) => moved(key, value)) as ReturnType<typeof rowIn>;
}

const HOURS_MS = 2 * 3_600_000;
const later = (row: RowName, event: EventName) => decide(ahead(ROWS[row], HOURS_MS), EVENTS[event], now, POLICY);

describe('a clock that was set back while nobody ran', () => {
  it.each([
    ['awaiting', { ...ROWS['awaiting, not asked yet'], nextAskMs: NOW + HOURS_MS }],
    ['connected', { ...ROWS['connected, just seen'], restartDueMs: NOW + HOURS_MS, failures: 9 }],
    ['settling', { ...ROWS['settling, A left'], untilMs: NOW + HOURS_MS, nextAskMs: NOW + HOURS_MS }],
  ])('is noticed where a run by a clock that was ahead has put off nothing but what is waited for: %s', (_kind, state) => {
    const { next } = run(state as LiveState, EVENTS.due);
    expect(dueAtMs(next.state)).toBeLessThanOrEqual(NOW);
    const { state: gone } = run(state as LiveState, EVENTS['list: nobody']).next;
    expect(dueAtMs(gone) ?? NOW).toBeLessThanOrEqual(NOW + Math.max(...Object.values(POLICY.waitMs)));
  });

  it('is noticed by a restart in the future: who is there is restarted at once', () => {
    const restartedIn = (ms: number) => {
      const row = rowIn({ ...ROWS['connected, just seen'], seenAtMs: NOW + ms, restartDueMs: NOW + ms + 80_000 });
      const endsMs = NOW + ms + row.delayMs;
      return decide({ ...row, expiry: { earliestMs: endsMs, latestMs: endsMs } }, EVENTS['list: A'], now, POLICY).effects;
    };
    expect(restartedIn(20_000)).toMatchObject([{ kind: 'restart' }]);
    expect(restartedIn(0)).toEqual([]);
  });

  it('does not keep a list from showing that somebody is gone, and nobody is restarted upon what was seen ahead of now', () => {
    const { next } = later('connected, just seen', 'list: nobody');
    expect(next.state).toMatchObject({ kind: 'settling', departure: { cause: 'missing', atMs: NOW }, untilMs: NOW + 4_000 });
    const seen = later('connected, just seen', 'list: A').next;
    expect(seen.state).toMatchObject({ kind: 'connected', seenAtMs: NOW - 2_000, restartDueMs: NOW });
    expect(seen.expiry.latestMs).toBeLessThanOrEqual(NOW + seen.delayMs);
  });

  it('makes no wait longer: who is not back is gone, and who is back is there', () => {
    expect(later('settling, A left', 'list: nobody')).toMatchObject({ next: { state: { kind: 'leaving' } }, effects: [{ kind: 'send' }] });
    const back = later('settling, A left', 'list: B');
    expect(back.next.state.kind).toBe('connected');
    expect(back.effects).toContainEqual({ kind: 'restart' });
  });

  it('does not put off a leave that is owed, which still wants to know that nobody is there; nor the end of a superseded event', () => {
    const { state } = later('leaving', 'list: nobody').next;
    expect(state).toMatchObject({ kind: 'leaving', confirmedAtMs: NOW - 2_000 });
    expect(dueAtMs(state)).toBeLessThanOrEqual(NOW);
    expect(later('leaving', 'list: B').next.state).toMatchObject({ kind: 'connected' });
    const owed = { ...ROWS.leaving, departure: { ...ROWS.leaving.departure, atMs: NOW - 4_000_000 }, confirmedAtMs: NOW - 4_000_000 };
    expect(run({ ...owed, nextTryMs: NOW + HOURS_MS }, EVENTS['list: nobody']).next.state).toMatchObject({ nextTryMs: NOW });
    expect(later('cancelling', 'due').effects).toMatchObject([{ kind: 'cancel' }]);
  });

  it.each(Object.keys(ROWS) as RowName[])('leaves no row behind: %s', (name) => {
    const { next } = later(name, 'list: nobody');
    // Who was handed over, and not seen since, has the whole time to connect again.
    const mostMs = next.state.kind === 'awaiting' ? next.delayMs : POLICY.waitMs.missing;
    expect(dueAtMs(next.state) ?? NOW).toBeLessThanOrEqual(NOW + mostMs);
    expect(decide(next, EVENTS['list: nobody'], now, POLICY).next.createdAtMs).toBe(next.createdAtMs);
  });
});
