// Row ⇄ text. Checked in both directions: what could not be read back is not written, what was damaged is not acted upon.
import { dueAtMs } from '../delegation/decide.ts';
import type { Delegation, Handles, State } from '../delegation/state.ts';
import { isSealed, type Seal } from './seal.ts';

export interface Encoded {
  readonly body: string;
  /** Null with the end of the delegation. */
  readonly handles: string | null;
}

const KINDS: Readonly<Record<State['kind'], true>> = {
  awaiting: true,
  connected: true,
  settling: true,
  leaving: true,
  cancelling: true,
  ended: true,
};

/** @throws Error on a row that breaks an invariant; the caller's transaction must not contain it. */
export function encode(row: Delegation, seal: Seal | null): Encoded {
  check(row);
  const { handles, ...rest } = row;
  if (handles === null) return { body: JSON.stringify(rest), handles: null };
  const text = JSON.stringify(handles);
  return { body: JSON.stringify(rest), handles: seal === null ? text : seal.close(text) };
}

/** @throws Error on text that is no row: damaged, of another version, or sealed with another key. */
export function decode(encoded: Encoded, seal: Seal | null): Delegation {
  const row = { ...JSON.parse(encoded.body), handles: openHandles(encoded.handles, seal) } as Delegation;
  check(row);
  return row;
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
  const due = dueAtMs(state);
  const sound =
    Object.hasOwn(KINDS, state.kind) &&
    ended === (row.handles === null) &&
    (ended ? due === null : Number.isSafeInteger(due)) &&
    Number.isSafeInteger(expiry.earliestMs) &&
    Number.isSafeInteger(expiry.latestMs) &&
    expiry.earliestMs <= expiry.latestMs &&
    row.delayMs > 0 &&
    row.identities.length > 0;
  if (!sound) throw new Error(`row ${row.id} breaks an invariant in state ${state.kind}`);
}
