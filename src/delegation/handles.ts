// Which delayed events a hand-over is about, whoever hands them over.
import { type EventHash, sha256 } from './ids.ts';
import type { Delegation, Handles } from './state.ts';

/** What sends each ending; a group of futures may have two. */
function sendersOf(handles: Handles): readonly string[] {
  if (handles.kind === 'delay') return [handles.delayId];
  const { leave, lost } = handles;
  return lost === null || lost.send === leave.send ? [leave.send] : [leave.send, lost.send];
}

/** A group of futures has one with another group if they share any: that one would be cancelled. */
export function haveOneEvent(one: Handles, other: Handles): boolean {
  const senders = sendersOf(other);
  return one.kind === other.kind && sendersOf(one).some((sender) => senders.includes(sender));
}

/** So much of a hash is too much for two to meet by chance. */
const HASH_LENGTH = 22;

/** None of a delegation that has ended. */
export function eventHashesOf({ homeserver, handles }: Pick<Delegation, 'homeserver' | 'handles'>): readonly EventHash[] {
  const senders = handles === null ? [] : sendersOf(handles);
  return senders.map((sender) => sha256(JSON.stringify([homeserver, sender])).slice(0, HASH_LENGTH) as EventHash);
}
