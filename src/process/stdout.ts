// Where the lines of the log go: those of one turn of the event loop together at its end, for a line that waits longer in memory is lost in
// the crash it would explain, and the last ones when the process ends, also by an error that nobody caught.
//
// What can't be written is lost, and counted: a full disk under the log, or a reader that has gone, is no reason for a ghost.
import { writeSync } from 'node:fs';
import { standStill } from '../clock.ts';

export interface StdoutDeps {
  readonly onLost: (lines: number) => void;
  readonly write?: (bytes: Buffer, from: number) => number;
}

const STDOUT = 1;
/** A reader that is slow is waited for, until it has not read for a tenth of a second; then not again before it has read. */
const WAIT_MS = 10;
const MOST_WAITS = 10;
const LINE_END = 0x0a;

export function createStdout({ onLost, write = (bytes, from) => writeSync(STDOUT, bytes, from) }: StdoutDeps): (line: string) => void {
  let lines = '';
  let waits = MOST_WAITS;
  /** The last line that was written has no end. */
  let torn = false;

  /** How many of the bytes. */
  function written(bytes: Buffer): number {
    let at = 0;
    while (at < bytes.length) {
      try {
        at += write(bytes, at);
        waits = MOST_WAITS;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || waits === 0) return at;
        waits -= 1;
        standStill(WAIT_MS);
      }
    }
    return at;
  }

  function flush(): void {
    if (lines === '') return;
    const bytes = Buffer.from(torn ? `\n${lines}` : lines);
    lines = '';
    const at = written(bytes);
    if (at < bytes.length) onLost(linesIn(bytes.subarray(torn ? Math.max(at, 1) : at)));
    if (at > 0) torn = bytes[at - 1] !== LINE_END;
  }

  process.once('exit', flush);
  return (line) => {
    if (lines === '') setImmediate(flush);
    lines += line;
  };
}

function linesIn(bytes: Buffer): number {
  return bytes.reduce((count, byte) => (byte === LINE_END ? count + 1 : count), 0);
}
