// Row ⇄ text. Checked in both directions: what could not be read back is not written, what was damaged is not acted upon. SQLite does
// not notice a flipped bit inside a text, and a homeserver's name with one is still a name; hence the checksum over all of it.
import { crc32 } from 'node:zlib';
import { dueAtMs } from '../delegation/decide.ts';
import type { Delegation, Handles, State } from '../delegation/state.ts';
import { isSealed, type Seal } from './seal.ts';

export interface Encoded {
  /** The checksum of what follows and of the handles, a space, JSON. */
  readonly body: string;
  /** Null with the end of the delegation. */
  readonly handles: string | null;
}

/** What decisions reckon with in each state. What lacks one was written by another version, and would be acted upon at no time at all. */
const TIMES: { readonly [K in State['kind']]: readonly (keyof Extract<State, { kind: K }>)[] } = {
  awaiting: ['connectByMs', 'nextAskMs'],
  connected: ['seenAtMs', 'restartDueMs'],
  settling: ['untilMs', 'nextAskMs'],
  leaving: ['onTimeUntilMs', 'confirmedAtMs', 'nextTryMs'],
  cancelling: ['sinceMs', 'nextTryMs'],
  ended: ['atMs'],
};

/**
 * `known`: the handles of this row as they were written before; they never change, and need not be sealed anew.
 * @throws Error on a row that breaks an invariant; the caller's transaction must not contain it.
 */
export function encode(row: Delegation, seal: Seal | null, known: string | null = null): Encoded {
  check(row);
  const { handles, ...rest } = row;
  const json = JSON.stringify(rest);
  const isKept = known !== null && isSealed(known) === (seal !== null);
  const text = handles === null ? null : isKept ? known : closeHandles(handles, seal);
  return { body: `${checksum(json, text)} ${json}`, handles: text };
}

/** @throws Error on text that is no row: damaged, of another version, or sealed with another key. */
export function decode({ body, handles }: Encoded, seal: Seal | null): Delegation {
  const json = body.slice(CHECKSUM_LENGTH + 1);
  if (body.slice(0, CHECKSUM_LENGTH + 1) !== `${checksum(json, handles)} `) throw new Error('damaged: its checksum is wrong');
  const row = completed({ ...JSON.parse(json), handles: openHandles(handles, seal) });
  check(row);
  return row;
}

/**
 * Versions before 25 November 2026 did not write when a departure was confirmed or a delegation superseded: a moment before its state began,
 * which is what its history tells last.
 */
function completed(row: Delegation): Delegation {
  const { state, history, createdAtMs } = row;
  const beganAtMs = history.at(-1)?.atMs ?? createdAtMs;
  if (state.kind === 'leaving') return { ...row, state: { ...state, confirmedAtMs: state.confirmedAtMs ?? beganAtMs } } as Delegation;
  if (state.kind === 'cancelling') return { ...row, state: { ...state, sinceMs: state.sinceMs ?? beganAtMs } } as Delegation;
  return row;
}

const CHECKSUM_LENGTH = 8;

function checksum(json: string, handles: string | null): string {
  return crc32(`\n${handles ?? ''}`, crc32(json))
    .toString(16)
    .padStart(CHECKSUM_LENGTH, '0');
}

function closeHandles(handles: Handles, seal: Seal | null): string {
  const text = JSON.stringify(handles);
  return seal === null ? text : seal.close(text);
}

function openHandles(text: string | null, seal: Seal | null): Handles | null {
  if (text === null) return null;
  if (!isSealed(text)) return JSON.parse(text) as Handles;
  if (seal === null) throw new Error('sealed, and LASTWILL_STORE_KEY is not set');
  return JSON.parse(seal.open(text)) as Handles;
}

function check(row: Delegation): void {
  const { state, expiry } = row;
  const ended = state.kind === 'ended';
  const due = hasTimes(state) ? dueAtMs(state) : undefined;
  const sound =
    due !== undefined &&
    ended === (row.handles === null) &&
    (ended ? due === null : Number.isSafeInteger(due)) &&
    Number.isSafeInteger(expiry.earliestMs) &&
    Number.isSafeInteger(expiry.latestMs) &&
    expiry.earliestMs <= expiry.latestMs &&
    row.delayMs > 0 &&
    row.identities.length > 0;
  if (!sound) throw new Error(`row ${row.id} breaks an invariant in state ${state.kind}`);
}

function hasTimes(state: State): boolean {
  const moments = state as unknown as Readonly<Record<string, unknown>>;
  return Object.hasOwn(TIMES, state.kind) && TIMES[state.kind].every((name) => Number.isFinite(moments[name]));
}
