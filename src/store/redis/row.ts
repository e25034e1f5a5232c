// Row ⇄ bytes. What codec.ts makes, packed: a row is mostly words that every row has, and memory is what a Redis runs out of first. The
// words lie in a dictionary that is part of the format; another one needs another mark.
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Delegation } from '../../delegation/state.ts';
import { decode, encode } from '../codec.ts';
import type { Seal } from '../seal.ts';

const MARK = 0x31;
const WORDS = Buffer.from(
  [
    '"outcome":"already-sent","cancelled","expired","handed-back","rejected","superseded","tookMs":null,"sin":"ghost","false-leave"}',
    '{"kind":"futures","leave":{"send":"","refresh":"","cancel":""},"lost":null}{"kind":"ended","outcome":"sent","cause":"left","atMs":17',
    '"kind":"cancelling","nextTryMs":17,"attempts":0}"kind":"leaving","action":"leave","onTimeUntilMs":17,"last":"none","unsure"',
    '"removed","room_deleted","replaced","sfu_down","missing","aborted","never_connected","lost","restart_answered","send_answered"',
    '"kind":"settling","departure":{"cause":"left","atMs":17,"fence":"PA_","certain":true},"untilMs":17,"nextAskMs":17,"failures":0',
    '"kind":"awaiting","connectByMs":17,"nextAskMs":17,"failures":0,"seenAbsent":false,"departed":null}}',
    '{"id":"dg_","owner":"proxied:","owner":"participant:","owner":"member:","room":"","identities":["@user:matrix.org:","@',
    '"],"homeserver":"https://matrix-client.matrix.org","homeserver":"https://matrix.example.com","userId":"@","userId":null,',
    '"handlesHash":"","delayMs":10000,"delayMs":3600000,"createdAtMs":17,"expiry":{"earliestMs":17,"latestMs":17},"history":[',
    '{"atMs":17,"event":"delegated","to":"awaiting","detail":null},{"atMs":17,"event":"joined","to":"connected","detail":null},',
    '{"atMs":17,"event":"left","to":"settling","detail":"left"},{"atMs":17,"event":"snapshot","to":"leaving","detail":"left"}],',
    '"state":{"kind":"connected","session":{"identity":"","sid":"PA_","joinedAtMs":17,"roomSid":"RM_","established":true},',
    '"seenAtMs":17,"restartDueMs":17,"failures":0,"attempted":null}}\n{"kind":"delay","delayId":"syd_',
  ].join(''),
);
const OPTIONS = { dictionary: WORDS, windowBits: 12, memLevel: 6, level: 6 } as const;

export interface Stored {
  readonly row: Delegation;
  /** Unlike any other's: who finds it unchanged has the very row. */
  readonly rev: number;
}

/** @throws Error on a row that breaks an invariant. */
export function pack(row: Delegation, rev: number, seal: Seal | null): Buffer {
  const { body, handles } = encode(row, seal);
  const text = handles === null ? body : `${body}\n${handles}`;
  return Buffer.concat([Buffer.from(`${rev} `), Buffer.of(MARK), deflateRawSync(text, OPTIONS)]);
}

/** @throws Error on bytes that are no row: damaged, of another version, or sealed with another key. */
export function unpack(bytes: Buffer, seal: Seal | null): Stored {
  const space = bytes.indexOf(' ');
  const rev = Number(bytes.toString('latin1', 0, space));
  if (space < 1 || !Number.isSafeInteger(rev) || bytes[space + 1] !== MARK) throw new Error('no row of this version');
  const text = inflateRawSync(bytes.subarray(space + 2), { dictionary: WORDS, windowBits: 12 }).toString('utf8');
  // JSON has no line break outside its escapes.
  const end = text.indexOf('\n');
  const encoded = end === -1 ? { body: text, handles: null } : { body: text.slice(0, end), handles: text.slice(end + 1) };
  return { row: decode(encoded, seal), rev };
}
